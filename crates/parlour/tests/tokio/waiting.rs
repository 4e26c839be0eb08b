//! Waiting of tasks: a task is woken when there is something to do and not otherwise, and gives way to other tasks when
//! there always is.

use std::cell::Cell;
use std::time::Duration;

use parlour::Transport;
use parlour::tokio::{Connection, Server};
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::support::{Base, data, trials};
use crate::tasks::{Link, counted, polled, run};

const QUIET: Duration = Duration::from_millis(100);

trials! {
    for transport in Transport::ALL =>
        an_idle_connection_is_not_polled,
        a_task_that_waits_for_the_end_of_its_peer_is_not_polled,
        a_sender_to_a_full_channel_is_not_polled,
        a_server_without_clients_is_not_polled,
        a_dialogue_polls_a_few_times_per_message,
        try_recv_receives_what_the_runtime_has_not_noticed_yet,
        a_receiver_that_always_has_a_message_gives_way_to_others,
        a_sender_that_always_has_room_gives_way_to_others,
        a_client_that_connects_without_waiting_gives_way_to_others,
        a_server_that_always_has_a_client_gives_way_to_others;

    for transport in [Transport::Fifo] =>
        a_waiting_task_reads_only_when_data_has_arrived;
}

/// Polls a future that never completes for a while, and returns the number of polls.
async fn polls_in_vain(future: impl Future) -> usize {
    let polls = Cell::new(0);
    assert!(timeout(QUIET, counted(&polls, future)).await.is_err(), "the future completed");
    // The expected polls are one at the beginning, one at the deadline, and one when the runtime reports the initial
    // state of the descriptors.
    polls.get()
}

fn an_idle_connection_is_not_polled(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        for _ in 0..3 {
            let polls = polls_in_vain(client.recv()).await;
            assert!(polls <= 4, "{polls} polls");
            // The message is sent while the task waits, so that the runtime sees it first.
            let (message, sent) = tokio::join!(biased; client.recv(), async {
                yield_now().await;
                served.send(b"something").await
            });
            sent.unwrap();
            assert_eq!(message.unwrap().expect("a message"), b"something");
        }
        // A partial message does not wake the task again once it was read.
        served.try_send(data::message(1, 8 << 20)).unwrap();
        assert!(served.try_flush().unwrap_err().is_full());
        let _ = timeout(QUIET, client.recv()).await;
        let polls = polls_in_vain(client.recv()).await;
        assert!(polls <= 4, "{polls} polls");
    });
}

/// Messages wait, the peer has ended sending, and this side has: none of that is the end of the peer.
fn a_task_that_waits_for_the_end_of_its_peer_is_not_polled(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        served.send(b"unread").await.unwrap();
        let polls = polls_in_vain(client.closed()).await;
        assert!(polls <= 4, "{polls} polls beside a message");
        served.finish().await.unwrap();
        let polls = polls_in_vain(client.closed()).await;
        assert!(polls <= 4, "{polls} polls beside the end of a direction");
        assert_eq!(client.recv().await.unwrap().expect("a message"), b"unread");
        assert_eq!(client.recv().await.unwrap(), None);
        let polls = polls_in_vain(client.closed()).await;
        assert!(polls <= 4, "{polls} polls after the end of a direction");
        drop(served);
        client.closed().await.unwrap();
        assert!(client.is_closed());
    });
}

fn a_sender_to_a_full_channel_is_not_polled(transport: Transport) {
    run(async {
        let Link { mut client, served: _served, .. } = Link::new(transport).await;
        client.try_send(data::message(1, 8 << 20)).unwrap();
        let polls = polls_in_vain(client.send(b"x")).await;
        assert!(polls <= 4, "{polls} polls");
        // Both directions wait now.
        let polls = polls_in_vain(client.recv()).await;
        assert!(polls <= 4, "{polls} polls");
    });
}

fn a_server_without_clients_is_not_polled(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "room");
        let server = Server::bind(&address).unwrap();
        for _ in 0..3 {
            let polls = polls_in_vain(server.accept()).await;
            assert!(polls <= 4, "{polls} polls");
            let (accepted, connected) = tokio::join!(biased; server.accept(), async {
                yield_now().await;
                Connection::connect(&address).await
            });
            drop((accepted.unwrap(), connected.unwrap()));
        }
    });
}

fn a_dialogue_polls_a_few_times_per_message(transport: Transport) {
    const MESSAGES: usize = 200;
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        let polls = Cell::new(0);
        let asking = async {
            for seed in 0..MESSAGES {
                client.send(data::message(seed, 100)).await.unwrap();
                data::check(&client.recv().await.unwrap().expect("a reply"), seed, 100);
            }
            client.close().await.unwrap();
        };
        let answering = async {
            while let Some(message) = served.recv().await.unwrap() {
                served.send(&message).await.unwrap();
            }
        };
        // Both futures run in one task, so the wakers of both count.
        counted(&polls, async { tokio::join!(asking, answering) }).await;
        assert!(polls.get() < 6 * MESSAGES, "{} polls for {MESSAGES} messages each way", polls.get());
    });
}

fn try_recv_receives_what_the_runtime_has_not_noticed_yet(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        for number in 0..100 {
            served.send(data::message(number, 1000)).await.unwrap();
            // The runtime may or may not notice the message before the single poll.
            let message = match polled(1, client.recv()).await {
                Some(received) => received.unwrap(),
                None => client.try_recv().unwrap(),
            };
            data::check(&message.expect("a message"), number, 1000);
        }
    });
}

/// The kernel counts the reads of each thread. The test uses FIFOs because receiving from a socket does not count as
/// read(2). All transports but `shm` wait in the same way.
fn a_waiting_task_reads_only_when_data_has_arrived(transport: Transport) {
    const MESSAGES: u64 = 200;
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        let mut message = Vec::new();
        let before = reads_of_this_thread();
        for _ in 0..MESSAGES {
            // The task waits before the message is sent.
            let (received, sent) = tokio::join!(biased; client.recv_into(&mut message), served.send(b"something"));
            sent.unwrap();
            assert!(received.unwrap().is_some());
        }
        let reads = reads_of_this_thread() - before;
        assert!((MESSAGES..MESSAGES * 3 / 2).contains(&reads), "{reads} reads for {MESSAGES} messages");
    });
}

fn reads_of_this_thread() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let count = counts.lines().find_map(|line| line.strip_prefix("syscr: ")).expect("the kernel counts reads");
    count.parse().unwrap()
}

/// Returns the number of turns of another task while `work` runs without ever having to wait.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let is_over = Cell::new(false);
    let turns = async {
        let mut turns = 0;
        while !is_over.get() {
            turns += 1;
            // A separate task would yield as well. Joined futures are polled in one task, with one budget.
            yield_now().await;
        }
        turns
    };
    let work = async {
        work.await;
        is_over.set(true);
    };
    tokio::join!(work, turns).1
}

const PLENTY: usize = 10_000;
/// A budget has 128 units; a call may use more than one.
const TURNS_MIN: usize = PLENTY / 128;

fn a_receiver_that_always_has_a_message_gives_way_to_others(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        let turns = turns_of_others(async {
            // Each round sends as many messages as one channel holds for certain.
            for _ in 0..PLENTY / 500 {
                unconstrained(async {
                    for _ in 0..500 {
                        served.feed(b"").await.unwrap();
                    }
                })
                .await;
                served.try_flush().unwrap();
                for _ in 0..500 {
                    assert_eq!(client.recv().await.unwrap().expect("a message"), b"");
                }
            }
        });
        let turns = turns.await;
        assert!(turns >= TURNS_MIN, "others had {turns} turns in {PLENTY} messages");
    });
}

fn a_sender_that_always_has_room_gives_way_to_others(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        for feeds in [false, true] {
            let turns = turns_of_others(async {
                for _ in 0..PLENTY / 50 {
                    for _ in 0..50 {
                        match feeds {
                            true => client.feed(b"").await.unwrap(),
                            false => client.send(b"").await.unwrap(),
                        }
                    }
                    client.try_flush().unwrap();
                    while served.try_recv().is_ok() {}
                }
            });
            let turns = turns.await;
            assert!(turns >= TURNS_MIN, "others had {turns} turns in {PLENTY} messages");
        }
    });
}

/// The server's queue admits every client.
fn a_client_that_connects_without_waiting_gives_way_to_others(transport: Transport) {
    const CONNECTIONS: usize = 500;
    let base = Base::new();
    let address = base.address(transport, "room");
    run(async {
        let server = Server::bind(&address).unwrap();
        let turns = turns_of_others(async {
            for _ in 0..CONNECTIONS {
                tokio::select! {
                    biased;
                    connected = Connection::connect(&address) => drop(connected.unwrap()),
                    _ = unconstrained(server.accept()) => {}
                }
            }
        });
        let turns = turns.await;
        assert!(turns >= CONNECTIONS / 128, "others had {turns} turns in {CONNECTIONS} connections");
    });
}

/// Clients connect and disconnect in a loop.
fn a_server_that_always_has_a_client_gives_way_to_others(transport: Transport) {
    const CLIENTS: usize = 500;
    let base = Base::new();
    let address = base.address(transport, "room");
    run(async {
        let server = Server::bind(&address).unwrap();
        let turns = turns_of_others(async {
            for _ in 0..CLIENTS {
                let (client, served) = tokio::join!(Connection::connect(&address), server.accept());
                drop((client.unwrap(), served.unwrap()));
            }
        });
        let turns = turns.await;
        assert!(turns >= CLIENTS / 128, "others had {turns} turns in {CLIENTS} clients");
    });
}
