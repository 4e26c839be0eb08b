//! Sessions for tasks: streams of restarts, and futures that are dropped at each of their polls.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parlour::tokio::{Connection, Server, Session};
use parlour::{ConnectOptions, ErrorKind, Reconnect, ServerOptions, Transport, TrySendError};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::support::{Base, Child, data, trials};
use crate::tasks::{counted, polled, run};

trials! {
    for transport in Transport::ALL =>
        a_session_receives_over_many_restarts_although_its_futures_are_dropped_at_any_poll,
        each_message_of_sends_that_are_dropped_at_any_poll_arrives_once_or_is_in_the_report,
        a_hook_that_is_dropped_at_any_poll_runs_once_for_each_connection,
        a_hook_that_finds_no_server_is_called_again_and_another_error_is_returned,
        a_killed_server_is_reported_once_and_followed_by_the_next_one,
        a_send_that_finds_the_end_keeps_what_had_arrived,
        fifty_sessions_find_the_next_server,
        a_session_that_waits_for_a_server_is_not_polled,
        calls_without_waiting_report_the_end_and_do_not_connect;
}

/// Completes a call, and drops its future at the first poll, then at the second, and so on. Returns the outcome and
/// adds the number of drops.
macro_rules! dropping {
    ($drops:expr, $call:expr) => {{
        let mut times = 1;
        loop {
            match polled(times, $call).await {
                Some(outcome) => break outcome,
                None => $drops += 1,
            }
            // Several polls may be needed before anything has happened.
            times = times % 5 + 1;
            yield_now().await;
        }
    }};
}

fn a_session_receives_over_many_restarts_although_its_futures_are_dropped_at_any_poll(transport: Transport) {
    const RESTARTS: usize = 10;
    const EACH: usize = 5;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let serving = async {
            for round in 0..RESTARTS {
                let server = Server::bind(&address).unwrap();
                let mut served = server.accept().await.unwrap();
                for number in 0..EACH {
                    served.send(data::message(round * EACH + number, 70_001)).await.unwrap();
                }
                // In this order, no connection is made to a server that ends.
                server.close().unwrap();
                served.close().await.unwrap();
            }
        };
        let receiving = async {
            let reconnect = Reconnect::new().delay_min(Duration::from_millis(1));
            let mut session = ConnectOptions::new().session_tokio(&address, &reconnect).unwrap();
            let (mut received, mut losses, mut drops) = (0, 0, 0);
            while losses < RESTARTS {
                match dropping!(drops, session.recv()) {
                    Ok(message) => {
                        data::check(&message, received, 70_001);
                        received += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                        losses += 1;
                        assert_eq!(error.loss().unwrap().received(), EACH as u64, "{error}");
                        assert_eq!(received, losses * EACH);
                    }
                }
            }
            drops
        };
        let (drops, ()) = tokio::join!(receiving, serving);
        assert!(drops > RESTARTS, "{drops} futures were dropped");
    });
}

fn each_message_of_sends_that_are_dropped_at_any_poll_arrives_once_or_is_in_the_report(transport: Transport) {
    const RESTARTS: usize = 5;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let arrived = RefCell::new(Vec::new());
        let is_over = Cell::new(false);
        let serving = async {
            for round in 0..=RESTARTS {
                let server = ServerOptions::new().ring_size(1 << 16).bind_tokio(&address).unwrap();
                let mut served = server.accept().await.unwrap();
                while round == RESTARTS || arrived.borrow().len() < (round + 1) * 20 {
                    match served.recv().await.unwrap() {
                        Some(message) => {
                            arrived.borrow_mut().push(u64::from_be_bytes(*message.first_chunk().unwrap()));
                            is_over.set(arrived.borrow().len() >= (RESTARTS + 1) * 20);
                        }
                        None => return,
                    }
                }
                server.close().unwrap();
                drop(served);
            }
        };
        let sending = async {
            let options = ConnectOptions::new().ring_size(1 << 16);
            let reconnect = Reconnect::new().delay_min(Duration::from_millis(1));
            let mut session = options.session_tokio(&address, &reconnect).unwrap();
            let (mut sent, mut all, mut may_be_lost) = (Vec::new(), Vec::new(), Vec::new());
            let taken = |session: &Session| session.connection().map_or(0, Connection::messages_taken);
            let (mut number, mut drops, mut losses) = (0_u64, 0, 0);
            while !is_over.get() {
                let mut message = vec![1; 50_001];
                message[..8].copy_from_slice(&number.to_be_bytes());
                let before = taken(&session);
                let outcome = polled(1 + number as usize % 3, session.send(&message)).await;
                if taken(&session) > before {
                    sent.push(number);
                    all.push(number);
                }
                match outcome {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
                        assert_eq!(loss.sent(), sent.len() as u64, "{error}");
                        may_be_lost.append(&mut sent);
                        losses += 1;
                    }
                    None => drops += 1,
                }
                number += 1;
                yield_now().await;
            }
            session.close().await.unwrap();
            assert!(losses >= RESTARTS && drops > 0, "{losses} losses and {drops} drops");
            (all, may_be_lost)
        };
        let ((all, may_be_lost), ()) = tokio::join!(sending, serving);
        let arrived = arrived.into_inner();
        let mut distinct = arrived.clone();
        distinct.dedup();
        assert_eq!(arrived, distinct, "a message arrived twice");
        assert!(arrived.is_sorted());
        for number in &all {
            assert!(arrived.contains(number) || may_be_lost.contains(number), "message {number} is in no report");
        }
        assert!(arrived.iter().all(|number| all.contains(number)), "a message arrived although it did not count");
    });
}

fn a_hook_that_is_dropped_at_any_poll_runs_once_for_each_connection(transport: Transport) {
    const CONNECTIONS: usize = 5;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let server = Server::bind(&address).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let reconnect = Reconnect::new().delay_min(Duration::from_millis(1));
        let session = ConnectOptions::new().session_tokio(&address, &reconnect).unwrap();
        let mut session = session.on_connect(move |mut connection| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                for _ in 0..5 {
                    yield_now().await;
                }
                connection.send("log in").await?;
                assert_eq!(connection.recv().await?.expect("an answer"), b"welcome");
                Ok(connection)
            }
        });
        let serving = async {
            for _ in 0..CONNECTIONS {
                let mut served = server.accept().await.unwrap();
                assert_eq!(served.recv().await.unwrap().unwrap(), b"log in");
                served.send("welcome").await.unwrap();
                assert_eq!(served.recv().await.unwrap().unwrap(), b"a note");
                served.close().await.unwrap();
            }
        };
        let sending = async {
            let mut drops = 0;
            for _ in 0..CONNECTIONS {
                dropping!(drops, session.connect().then_drop()).unwrap();
                session.send("a note").await.unwrap();
                let error = dropping!(drops, session.recv()).unwrap_err();
                assert_eq!(error.loss().unwrap().sent(), 1, "{error}");
            }
            drops
        };
        let (drops, ()) = tokio::join!(sending, serving);
        assert!(drops > CONNECTIONS, "{drops} futures were dropped");
        assert_eq!(calls.load(Ordering::Relaxed), CONNECTIONS);
    });
}

/// A result without the borrow of the session.
trait ThenDrop {
    fn then_drop(self) -> impl Future<Output = parlour::Result<()>>;
}

impl<'a, F: Future<Output = parlour::Result<&'a Connection>>> ThenDrop for F {
    async fn then_drop(self) -> parlour::Result<()> {
        self.await.map(drop)
    }
}

fn a_hook_that_finds_no_server_is_called_again_and_another_error_is_returned(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let mut server = Child::spawn("echo-server", &[&address]);
        server.expect("ready");
        let mut call = 0;
        let mut session = Session::new(&address).unwrap().on_connect(move |connection| {
            call += 1;
            let outcome = match call {
                1 => Err(io::ErrorKind::TimedOut.into()),
                2 => Err(io::ErrorKind::PermissionDenied.into()),
                _ => Ok(connection),
            };
            async { outcome }
        });
        let error = session.send("x").await.unwrap_err();
        assert_eq!((error.kind(), error.loss()), (ErrorKind::Denied, None), "{error}");
        session.send("at last").await.unwrap();
        assert_eq!(session.recv().await.unwrap(), b"at last");
        session.close().await.unwrap();
        server.finish();
    });
}

fn a_killed_server_is_reported_once_and_followed_by_the_next_one(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let mut session = Session::new(&address).unwrap();
        for _ in 0..3 {
            let mut server = Child::spawn("echo-server", &[&address]);
            server.expect("ready");
            session.send("here").await.unwrap();
            assert_eq!(session.recv().await.unwrap(), b"here");
            let (error, ()) = tokio::join!(biased; session.recv(), async { server.kill() });
            let error = error.unwrap_err();
            assert_eq!((error.kind(), error.loss().unwrap().sent_since_received()), (ErrorKind::Lost, 0), "{error}");
        }
        assert!(timeout(Duration::from_millis(50), session.recv()).await.is_err(), "the end was reported before");
    });
}

fn a_send_that_finds_the_end_keeps_what_had_arrived(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let server = Server::bind(&address).unwrap();
        let mut session = Session::new(&address).unwrap();
        let (served, sent) = tokio::join!(server.accept(), session.send("one"));
        sent.unwrap();
        let mut served = served.unwrap();
        assert_eq!(served.recv().await.unwrap().unwrap(), b"one");
        served.send("answer to one").await.unwrap();
        drop(served);
        let error = loop {
            if let Err(error) = session.send("two").await {
                break error;
            }
            assert_eq!(transport, Transport::Shm, "only a ring takes messages that nobody reads");
        };
        let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
        assert_eq!((loss.received(), loss.unreceived()), (0, 1), "{error}");
        assert_eq!(session.take_unreceived(), [b"answer to one"]);
    });
}

fn fifty_sessions_find_the_next_server(transport: Transport) {
    const SESSIONS: usize = 50;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let mut server = Child::spawn("echo-server", &[&address]);
        server.expect("ready");
        let connected = Rc::new(Cell::new(0));
        let tasks = tokio::task::LocalSet::new();
        for number in 0..SESSIONS {
            let mut session = Session::new(&address).unwrap();
            let connected = Rc::clone(&connected);
            tasks.spawn_local(async move {
                let text = number.to_string();
                session.send(&text).await.unwrap();
                assert_eq!(session.recv().await.unwrap(), text.as_bytes());
                connected.set(connected.get() + 1);
                assert_eq!(session.recv().await.unwrap_err().kind(), ErrorKind::Lost);
                loop {
                    let answer = match session.send(&text).await {
                        Ok(()) => session.recv().await,
                        Err(error) => Err(error),
                    };
                    match answer {
                        Ok(message) => return assert_eq!(message, text.as_bytes()),
                        // A dying process may have taken the connection.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Lost, "{error}"),
                    }
                }
            });
        }
        tasks
            .run_until(async {
                while connected.get() < SESSIONS {
                    yield_now().await;
                }
                server.kill();
                server = Child::spawn("echo-server", &[&address]);
                server.expect("ready");
            })
            .await;
        tasks.await;
        server.finish();
    });
}

fn a_session_that_waits_for_a_server_is_not_polled(transport: Transport) {
    run(async {
        let base = Base::new();
        let day = Duration::from_secs(24 * 60 * 60);
        let reconnect = Reconnect::new().delay_min(day).delay_max(day);
        let mut session = ConnectOptions::new().session_tokio(base.address(transport, "notes"), &reconnect).unwrap();
        let polls = Cell::new(0);
        assert!(timeout(Duration::from_millis(100), counted(&polls, session.recv())).await.is_err());
        assert!(polls.get() <= 5, "{} polls", polls.get());
        // It goes on where it was, and wakes when the name appears.
        let server = Server::bind(base.address(transport, "notes")).unwrap();
        let (served, sent) = tokio::join!(server.accept(), session.send("here"));
        sent.unwrap();
        assert_eq!(served.unwrap().recv().await.unwrap().unwrap(), b"here");
    });
}

fn calls_without_waiting_report_the_end_and_do_not_connect(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "notes");
        let server = Server::bind(&address).unwrap();
        let mut session = Session::new(&address).unwrap();
        assert!(session.try_recv().is_err_and(|error| error.is_empty()));
        assert!(matches!(session.try_send("x"), Err(TrySendError::Full(_))));
        session.flush().await.unwrap();
        let (served, connected) = tokio::join!(server.accept(), session.connect());
        assert_eq!(connected.unwrap().transport(), transport);
        let mut served = served.unwrap();
        session.try_send("x").unwrap();
        assert_eq!(served.recv().await.unwrap().unwrap(), b"x");
        drop(served);
        let error = loop {
            match session.try_recv() {
                Err(parlour::TryRecvError::Failed(error)) => break error,
                Err(parlour::TryRecvError::Empty) => yield_now().await,
                Ok(message) => panic!("{message:?}"),
            }
        };
        assert_eq!((error.kind(), error.loss().unwrap().sent()), (ErrorKind::Lost, 1), "{error}");
        assert!(session.try_recv().is_err_and(|error| error.is_empty()));
    });
}

/// The futures can be spawned on a runtime with several threads.
#[allow(dead_code)]
fn the_futures_are_send(session: &mut Session) -> impl Send {
    async move {
        session.connect().await.map(drop)?;
        session.send("x").await?;
        session.feed("x").await?;
        session.recv().await
    }
}
