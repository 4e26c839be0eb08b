//! How tasks wait: woken when there is something to do and not otherwise, and giving way to others when there always is.

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
        a_sender_to_a_full_channel_is_not_polled,
        a_server_without_clients_is_not_polled,
        a_conversation_polls_a_few_times_for_each_message,
        what_the_runtime_has_not_noticed_yet_is_received_by_a_try,
        a_receiver_that_always_has_a_message_gives_way_to_others,
        a_sender_that_always_has_room_gives_way_to_others,
        a_client_that_connects_at_once_gives_way_to_others,
        a_server_that_always_has_a_client_gives_way_to_others;

    for transport in [Transport::Fifo] =>
        a_task_that_waits_reads_when_something_has_come_and_not_before;
}

/// Lets the future wait in vain, and gives how often it was polled.
async fn polls_in_vain(future: impl Future) -> usize {
    let polls = Cell::new(0);
    assert!(timeout(QUIET, counted(&polls, future)).await.is_err(), "there was something to wait for");
    // Once at the beginning and once at the deadline; and the runtime tells once what state the descriptors were in.
    polls.get()
}

fn an_idle_connection_is_not_polled(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        for _ in 0..3 {
            let polls = polls_in_vain(client.recv()).await;
            assert!(polls <= 4, "{polls} polls");
            // While it waits, so that it is the runtime that sees it first.
            let (message, sent) = tokio::join!(biased; client.recv(), async {
                yield_now().await;
                served.send(b"something").await
            });
            sent.unwrap();
            assert_eq!(message.unwrap().expect("a message"), b"something");
        }
        // Part of a message is nothing to wake up for once it has been taken in.
        served.try_send(data::message(1, 8 << 20)).unwrap();
        assert!(served.try_flush().unwrap_err().is_full());
        let _ = timeout(QUIET, client.recv()).await;
        let polls = polls_in_vain(client.recv()).await;
        assert!(polls <= 4, "{polls} polls");
    });
}

fn a_sender_to_a_full_channel_is_not_polled(transport: Transport) {
    run(async {
        let Link { mut client, served: _served, .. } = Link::new(transport).await;
        client.try_send(data::message(1, 8 << 20)).unwrap();
        let polls = polls_in_vain(client.send(b"x")).await;
        assert!(polls <= 4, "{polls} polls");
        // Both directions at once.
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

fn a_conversation_polls_a_few_times_for_each_message(transport: Transport) {
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
        // The two are polled together, so by the wakers of both.
        counted(&polls, async { tokio::join!(asking, answering) }).await;
        assert!(polls.get() < 6 * MESSAGES, "{} polls for {MESSAGES} messages each way", polls.get());
    });
}

fn what_the_runtime_has_not_noticed_yet_is_received_by_a_try(transport: Transport) {
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        for number in 0..100 {
            served.send(data::message(number, 1000)).await.unwrap();
            // Whether the runtime looks between the send and the one poll is up to it.
            let message = match polled(1, client.recv()).await {
                Some(received) => received.unwrap(),
                None => client.try_recv().unwrap(),
            };
            data::check(&message.expect("a message"), number, 1000);
        }
    });
}

/// Reads are counted by the kernel for each thread. (Of a FIFO: what is received from a socket is no read(2). Where they wait
/// all transports but `shm` do the same.)
fn a_task_that_waits_reads_when_something_has_come_and_not_before(transport: Transport) {
    const MESSAGES: u64 = 200;
    run(async {
        let Link { mut client, mut served, .. } = Link::new(transport).await;
        let mut message = Vec::new();
        let before = reads_of_this_thread();
        for _ in 0..MESSAGES {
            // It waits before there is anything.
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

/// How often another task comes to its turn while this one works without ever having to wait.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let is_over = Cell::new(false);
    let turns = async {
        let mut turns = 0;
        while !is_over.get() {
            turns += 1;
            // As a task of its own would: what is joined here is polled in one task, with one budget.
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
            // As many at a time as one channel holds for certain.
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

/// A server that lets everybody into its queue.
fn a_client_that_connects_at_once_gives_way_to_others(transport: Transport) {
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

/// Clients that come and go without end.
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
