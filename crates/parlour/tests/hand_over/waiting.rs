//! Hand-overs while the old server's program does not accept, but waits for one of its clients.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::{Event, HubOptions, SlowClientPolicy};
use parlour::{Caller, ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, TryRecvError};

use super::moving::{replace, successor};
use crate::by_hand::candidate::Candidate;
use crate::by_hand::cost;
use crate::by_hand::generation::ONE_AT_A_TIME;
use crate::call_bytes::{HandServer, PUSH, REPLY};
use crate::forking::{fork_among_threads, join, take_in_child};
use crate::support::{Base, Child, DEADLINE, SOON, trials, wait};

trials! {
    a_thread_that_works_on_a_hand_over_handles_signals_afterwards,
    a_candidate_that_says_nothing_is_dismissed_by_a_waiting_thread,
    a_shutdown_that_no_thread_has_noticed_ends_the_offer;

    for transport in Transport::ALL =>
        a_name_moves_while_its_program_waits_in_step(
            step in ["recv", "recv_timeout", "recv_into", "iter", "recv_half", "recv_with_feed", "send", "send_timeout",
                "send_half", "flush", "poll_loop"]
        ),
        a_busy_conversation_of_step_does_not_keep_the_name(step in ["echo", "receive", "send"]),
        a_daemon_with_one_client_at_a_time_is_replaced_in_the_middle_of_a_conversation,
        threads_that_accept_and_poll_loops_learn_what_a_waiting_thread_did,
        a_name_moves_while_a_hub_waits_for_a_slow_client,
        many_waiting_threads_hand_the_name_over_once,
        a_name_moves_while_no_task_of_its_server_accepts_in_step(step in ["recv", "send", "sleep"]),
        a_candidate_that_ends_after_its_grant_leaves_the_name_to_a_waiting_program,
        a_name_moves_while_its_program_calls_a_client_in_step(step in ["call", "call_timeout", "next_push"]),
        the_connections_of_a_closed_server_wait_as_before,
        a_forked_child_waits_for_its_connection_alone;
}

/// Connects a client to a server of this process.
fn meet(server: &Server, address: &str) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap());
        let accepted = server.accept_timeout(DEADLINE).unwrap();
        (client.join().unwrap(), accepted)
    })
}

/// Longer than any channel.
const LONG: usize = 8 << 20;

/// Waits in this call of the library, until the client sends `done` or receives a long message.
fn wait_in(step: &str, mut connection: Connection) {
    let long = vec![7; LONG];
    match step {
        "recv" => assert_eq!(connection.recv().unwrap().unwrap(), b"done"),
        "recv_timeout" => assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"done"),
        "recv_into" => {
            let mut message = Vec::new();
            assert_eq!(connection.recv_into(&mut message).unwrap(), Some(4));
        }
        "iter" => assert_eq!(connection.iter().next().unwrap().unwrap(), b"done"),
        "recv_half" => {
            let (sender, mut receiver) = connection.split();
            assert_eq!(receiver.recv().unwrap().unwrap(), b"done");
            drop(sender);
        }
        // Waits for both directions.
        "recv_with_feed" => {
            connection.send_timeout(&long, Duration::from_millis(10)).unwrap();
            assert_eq!(connection.recv().unwrap().unwrap(), b"done");
            connection.flush().unwrap();
        }
        "poll_loop" => loop {
            match connection.spin_recv() {
                Ok(message) => break assert_eq!(message.unwrap(), b"done"),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Failed(error)) => panic!("{error}"),
            }
            let fds = [Some(connection.recv_fd()), connection.hand_over_fd()];
            assert!(wait::any_readable(fds.into_iter().flatten()));
            connection.serve_hand_over();
        },
        "send" => connection.send(&long).unwrap(),
        "send_timeout" => connection.send_timeout(&long, DEADLINE).unwrap(),
        "send_half" => {
            let (mut sender, receiver) = connection.split();
            sender.send(&long).unwrap();
            drop(receiver);
        }
        "flush" => {
            connection.send_timeout(&long, Duration::from_millis(10)).unwrap();
            connection.flush().unwrap();
        }
        other => panic!("unknown step {other:?}"),
    }
}

fn a_name_moves_while_its_program_waits_in_step(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (mut client, connection) = meet(&old, &address);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_in(step, connection));
        let new = successor().bind(&address).unwrap();
        assert!(!waiting.is_finished(), "the conversation goes on");
        // The conversation of the old server and one of the new one.
        let (mut second, mut accepted) = meet(&new, &address);
        if !step.contains("send") && step != "flush" {
            client.send("done").unwrap();
        }
        if !matches!(step, "recv" | "recv_timeout" | "recv_into" | "iter" | "recv_half" | "poll_loop") {
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap().len(), LONG);
        }
        waiting.join().unwrap();
        second.send("to the new one").unwrap();
        assert_eq!(accepted.recv_timeout(DEADLINE).unwrap().unwrap(), b"to the new one");
        assert_eq!(old.accept_timeout(SOON).unwrap_err().kind(), ErrorKind::HandedOver);
        old.close().unwrap();
        new.close().unwrap();
    });
    assert_eq!(base.files(), [""; 0]);
}

/// Keeps the thread busy for as long as a server works on a message.
fn work() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(30) {}
}

/// The thread of the old server is slower than its client, so that it never has to wait.
fn a_busy_conversation_of_step_does_not_keep_the_name(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (mut client, mut connection) = meet(&old, &address);
    let (done, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let serving = scope.spawn(|| match step {
            "echo" => {
                while let Ok(Some(message)) = connection.recv() {
                    work();
                    if connection.send(&message).is_err() {
                        break;
                    }
                }
            }
            "receive" => {
                while connection.recv().unwrap().is_some() {
                    work();
                }
            }
            _ => {
                while connection.send(&[1; 32]).is_ok() {
                    work();
                }
            }
        });
        let calling = scope.spawn(|| {
            // Some messages are on their way all the time.
            let mut ahead = 0;
            while !done.load(Ordering::Relaxed) {
                if step != "send" {
                    client.send(&[1; 32]).unwrap();
                    ahead += 1;
                }
                if step == "send" || (step == "echo" && ahead > 50) {
                    assert_eq!(*client.recv_timeout(DEADLINE).unwrap().unwrap(), [1; 32]);
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            drop(client);
        });
        let new = successor().bind(&address);
        let before = count.load(Ordering::Relaxed);
        let went_on = wait::eventually_some(|| (count.load(Ordering::Relaxed) > before + 1000).then_some(()));
        done.store(true, Ordering::Relaxed);
        assert!(went_on.is_some(), "the conversation goes on");
        let new = new.unwrap();
        calling.join().unwrap();
        drop(serving.join());
        assert_eq!(old.accept_timeout(SOON).unwrap_err().kind(), ErrorKind::HandedOver);
        drop(new);
    });
}

fn a_daemon_with_one_client_at_a_time_is_replaced_in_the_middle_of_a_conversation(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "daemon");
    let next = || {
        let mut daemon = Child::spawn(ONE_AT_A_TIME.name, &[&address]);
        daemon.expect("ready");
        daemon
    };
    let talk = |client: &mut Connection, daemon: &Child| {
        client.send("who?").unwrap();
        let answer = client.recv_timeout(DEADLINE).unwrap().unwrap();
        assert_eq!(answer, daemon.pid().to_string().as_bytes());
    };
    let connect = || ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
    let mut first = next();
    let mut early = connect();
    talk(&mut early, &first);
    let mut second = next();
    talk(&mut early, &first);
    let mut late = connect();
    talk(&mut late, &second);
    let mut third = next();
    talk(&mut early, &first);
    talk(&mut late, &second);
    let mut last = connect();
    talk(&mut last, &third);
    for (daemon, client) in [(&mut first, early), (&mut second, late)] {
        assert!(daemon.is_running(), "its client is connected");
        client.close().unwrap();
        daemon.expect("handed over");
        assert!(daemon.wait().success());
    }
    last.close().unwrap();
    third.end_input();
    third.expect("shut down");
    assert!(third.wait().success());
    assert_eq!(base.files(), [""; 0]);
}

fn threads_that_accept_and_poll_loops_learn_what_a_waiting_thread_did(transport: Transport) {
    for is_polled in [false, true] {
        let base = Base::new();
        let address = base.address(transport, "name");
        let old = Server::bind(&address).unwrap();
        let (client, mut connection) = meet(&old, &address);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(connection.recv().unwrap(), None));
            let learning = scope.spawn(|| match is_polled {
                true => loop {
                    assert!(wait::readable(&old), "the descriptor of the server tells of the hand-over");
                    match old.try_accept() {
                        Err(TryRecvError::Failed(error)) => break error.kind(),
                        Err(TryRecvError::Empty) => {}
                        Ok(client) => panic!("{client:?}"),
                    }
                },
                false => old.accept_timeout(DEADLINE).unwrap_err().kind(),
            });
            let _new = successor().bind(&address).unwrap();
            assert_eq!(learning.join().unwrap(), ErrorKind::HandedOver);
            drop(client);
        });
    }
}

fn a_name_moves_while_a_hub_waits_for_a_slow_client(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let options = HubOptions::new().write_buffer_max(1).slow_client_policy(SlowClientPolicy::Wait(DEADLINE));
    let mut old = options.bind(&address).unwrap();
    thread::scope(|scope| {
        let joining = scope.spawn(|| ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap());
        let Event::Joined(slow, _) = old.next_event_timeout(DEADLINE).unwrap() else { panic!("no client") };
        let mut client = joining.join().unwrap();
        let serving = scope.spawn(move || {
            for _ in 0..2 {
                old.send(slow, &vec![7; LONG]).unwrap();
            }
            loop {
                if let Err(error) = old.next_event_timeout(DEADLINE) {
                    break error.kind();
                }
            }
        });
        let _new = successor().bind(&address).unwrap();
        assert!(!serving.is_finished());
        for _ in 0..2 {
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap().len(), LONG);
        }
        drop(client);
        assert_eq!(serving.join().unwrap(), ErrorKind::HandedOver);
    });
}

/// The runtime runs one task of the program, which waits for something else than a client that connects.
fn a_name_moves_while_no_task_of_its_server_accepts_in_step(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let (is_bound, bound) = std::sync::mpsc::channel();
    let (is_accepted, accepted) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = parlour::tokio::Server::bind(&address).unwrap();
                is_bound.send(()).unwrap();
                let mut client = server.accept().await.unwrap();
                is_accepted.send(()).unwrap();
                match step {
                    "recv" => assert_eq!(client.recv().await.unwrap().unwrap(), b"done"),
                    "send" => client.send(&vec![7; LONG]).await.unwrap(),
                    _ => {
                        // Nothing of this library.
                        stopped.await.unwrap();
                    }
                }
                server.accept().await.unwrap_err().kind()
            })
        });
        bound.recv().unwrap();
        let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
        accepted.recv().unwrap();
        let new = successor().bind(&address).unwrap();
        let (_second, _accepted) = meet(&new, &address);
        match step {
            "recv" => client.send("done").unwrap(),
            "send" => assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap().len(), LONG),
            _ => stop.send(()).unwrap(),
        }
        assert_eq!(serving.join().unwrap(), ErrorKind::HandedOver);
    });
}

fn many_waiting_threads_hand_the_name_over_once(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let pairs: Vec<_> = (0..40).map(|_| meet(&old, &address)).collect();
    let (clients, connections): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    thread::scope(|scope| {
        for mut connection in connections {
            scope.spawn(move || {
                assert_eq!(connection.recv().unwrap().unwrap(), b"hello");
                connection.send("hello").unwrap();
            });
        }
        let new = successor().bind(&address).unwrap();
        let error = Server::bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NameInUse);
        for mut client in clients {
            client.send("hello").unwrap();
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
        }
        drop(new);
    });
    assert_eq!(old.accept_timeout(SOON).unwrap_err().kind(), ErrorKind::HandedOver);
}

fn a_candidate_that_ends_after_its_grant_leaves_the_name_to_a_waiting_program(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "kept");
    let server = Server::bind(&address).unwrap();
    let (client, mut connection) = meet(&server, &address);
    thread::scope(|scope| {
        scope.spawn(move || assert_eq!(connection.recv().unwrap(), None));
        for _ in 0..5 {
            let candidate = Candidate::connect(server.path()).unwrap();
            let (_, descriptors) = candidate.take_grant(server.path());
            assert_eq!(descriptors.len(), 2, "the lock and a listener");
        }
        // The socket is closed at the end of the block. The waiting thread takes the name back, and this one accepts.
        let (mut second, mut accepted) = meet(&server, &address);
        second.send("hello").unwrap();
        assert_eq!(accepted.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
        drop(client);
    });
    server.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn the_connections_of_a_closed_server_wait_as_before(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (mut client, mut connection) = meet(&old, &address);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || connection.recv().unwrap().unwrap());
        old.close().unwrap();
        let new = Server::bind(&address).unwrap();
        let (new, next, _) = replace(new, &successor(), &address);
        client.send("hello").unwrap();
        assert_eq!(waiting.join().unwrap(), b"hello");
        drop((new, next));
    });
}

/// The child has the connection of its parent, and not the name. A process asks for the name while the parent does not
/// wait.
fn a_forked_child_waits_for_its_connection_alone(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (mut client, connection) = meet(&old, &address);
    let child = fork_among_threads(|| {
        let mut connection = take_in_child(&connection);
        for _ in 0..2 {
            let message = connection.recv().unwrap().unwrap();
            connection.send(&message).unwrap();
        }
    });
    drop(connection);
    let mut talk = |text: &str| {
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), text.as_bytes());
    };
    talk("before");
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let timeout = Duration::from_millis(300);
            ServerOptions::new().take_over(timeout).bind(&address).unwrap_err()
        });
        let cost = cost::of_process(child, Duration::from_millis(200));
        assert!(cost.sleeps < 10 && cost.ran < Duration::from_millis(50), "the child is awake: {cost:?}");
        assert_eq!(asking.join().unwrap().kind(), ErrorKind::Busy);
    });
    let (_new, ..) = replace(old, &successor(), &address);
    talk("after");
    join(child);
}

fn a_thread_that_works_on_a_hand_over_handles_signals_afterwards() {
    let blocked = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
    };
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = Server::bind(&address).unwrap();
    let (mut client, mut connection) = meet(&old, &address);
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let before = blocked();
            assert_eq!(connection.recv().unwrap().unwrap(), b"done");
            assert_eq!(blocked(), before);
        });
        let _new = successor().bind(&address).unwrap();
        client.send("done").unwrap();
        waiting.join().unwrap();
    });
}

/// The client is a server of calls: the program of the name calls it.
fn a_name_moves_while_its_program_calls_a_client_in_step(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (client, connection) = meet(&old, &address);
    let caller = Caller::new(connection).unwrap();
    let mut client = HandServer::greet(client);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| match step {
            "call" => caller.call("question").unwrap(),
            "call_timeout" => caller.call_timeout("question", DEADLINE).unwrap(),
            _ => caller.next_push().unwrap().unwrap(),
        });
        let new = successor().bind(&address).unwrap();
        assert!(!waiting.is_finished(), "the call goes on");
        match step {
            "next_push" => client.send(PUSH, 0, b"answer"),
            _ => {
                let (id, question) = client.request();
                assert_eq!(question, b"question");
                client.send(REPLY, id, b"answer");
            }
        }
        assert_eq!(waiting.join().unwrap(), b"answer");
        assert_eq!(old.accept_timeout(SOON).unwrap_err().kind(), ErrorKind::HandedOver);
        old.close().unwrap();
        new.close().unwrap();
    });
}

fn a_candidate_that_says_nothing_is_dismissed_by_a_waiting_thread() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = Server::bind(&address).unwrap();
    let (client, mut connection) = meet(&old, &address);
    thread::scope(|scope| {
        scope.spawn(move || assert_eq!(connection.recv().unwrap(), None));
        let silent = Candidate::connect(old.path()).unwrap();
        let new = successor().bind(&address).unwrap();
        assert_eq!(silent.receive().0, b"");
        drop((new, client));
    });
}

fn a_shutdown_that_no_thread_has_noticed_ends_the_offer() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let old = Server::bind(&address).unwrap();
    let (client, mut connection) = meet(&old, &address);
    thread::scope(|scope| {
        scope.spawn(move || assert_eq!(connection.recv().unwrap(), None));
        old.shutdown_handle().shutdown();
        let error = ServerOptions::new().take_over(Duration::from_millis(100)).bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert_eq!(old.accept_timeout(SOON).unwrap_err().kind(), ErrorKind::Shutdown);
        drop(client);
    });
}
