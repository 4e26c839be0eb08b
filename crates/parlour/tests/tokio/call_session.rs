//! Sessions of calls for tasks, and servers that hand their name over.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parlour::tokio::{Call, CallSession, Connection, Server};
use parlour::{ConnectOptions, ErrorKind, Operation, Reconnect, ServerOptions, Transport, TryRecvError};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use super::forking::{fork_among_threads, join, take_in_child};
use crate::call_bytes::{CALLER_GREETING, ITEM, LEAVE, PUSH, REPLY, SERVER_GREETING, message, parse};
use crate::support::{Base, DEADLINE, assert_tells, data, failure, trials};
use crate::tasks::{polled, run};

/// Passes while a call of the test waits.
const SHORT: Duration = Duration::from_millis(20);

trials! {
    for transport in Transport::ALL =>
        an_idle_session_goes_to_the_next_server_without_an_error,
        an_open_call_and_a_stream_are_lost_once_and_the_next_call_connects_again,
        calls_that_are_dropped_at_any_poll_leave_connecting_to_others,
        the_hook_of_calls_that_are_dropped_at_any_poll_runs_once_for_each_connection,
        an_error_of_the_hook_ends_the_calls_that_wait,
        pushed_messages_go_on_after_the_gap_is_reported_once,
        a_server_that_asks_to_leave_answers_what_was_sent,
        tasks_lose_no_call_while_their_server_is_handed_over,
        every_call_returns_in_a_forked_child;
}

fn session(address: &str) -> CallSession {
    let reconnect = Reconnect::new().delay_min(Duration::from_millis(1)).delay_max(Duration::from_millis(20));
    ConnectOptions::new().call_session_tokio(address, &reconnect).unwrap()
}

/// A server of calls in a task, which answers with its number and the request.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<parlour::Result<parlour::tokio::Served>>,
}

impl Serving {
    async fn start(address: &str, number: u8) -> Self {
        let options = ServerOptions::new().take_over(DEADLINE);
        // Taking a name over blocks, and the old server is in this thread.
        let (address, runtime) = (address.to_owned(), tokio::runtime::Handle::current());
        let bound = tokio::task::spawn_blocking(move || {
            let _inside = runtime.enter();
            options.bind_tokio(&address)
        });
        let server: Server = bound.await.unwrap().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let answer = move |call: Call| async move {
            let answer = [&[number][..], &**call.request()].concat();
            drop(call.reply(&answer));
        };
        let serve = async move { server.serve_calls(answer, async { drop(stopped.await) }, DEADLINE).await };
        Self { stop, task: tokio::spawn(serve) }
    }

    async fn end(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }
}

/// A server that is written by hand, with one client.
struct Hand(Connection);

impl Hand {
    async fn accept(server: &Server) -> Self {
        let mut client = server.accept().await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), CALLER_GREETING);
        client.send(SERVER_GREETING).await.unwrap();
        Self(client)
    }

    async fn request(&mut self) -> (u32, Vec<u8>) {
        let (_, id, request) = parse(&self.0.recv().await.unwrap().expect("a message"));
        (id, request)
    }

    async fn send(&mut self, kind: u8, id: u32, payload: &[u8]) {
        self.0.send(&message(kind, id, payload)).await.unwrap();
    }
}

fn an_idle_session_goes_to_the_next_server_without_an_error(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let session = session(&address);
        assert!(timeout(SHORT, session.call("early")).await.is_err());
        for number in 0..5 {
            let serving = Serving::start(&address, number).await;
            assert_eq!(session.call("x").await.unwrap(), &[number, b'x']);
            assert_eq!(session.transport(), Some(transport));
            serving.end().await;
            // The task of the session notices the end.
            while session.try_next_push().is_err_and(|error| error.is_empty()) {
                yield_now().await;
            }
        }
    });
}

fn an_open_call_and_a_stream_are_lost_once_and_the_next_call_connects_again(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = Server::bind(&address).unwrap();
        let session = session(&address);
        for _ in 0..3 {
            let serving = async {
                let mut served = Hand::accept(&server).await;
                let (id, _) = served.request().await;
                served.request().await;
                served.send(ITEM, id, b"one").await;
                drop(served);
                // Neither request comes again.
                let mut served = Hand::accept(&server).await;
                let (id, request) = served.request().await;
                assert_eq!(request, b"again");
                served.send(REPLY, id, b"done").await;
                served
            };
            let calling = async {
                let mut stream = session.call_stream("list").await.unwrap();
                let error = session.call("work").await.unwrap_err();
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Lost, Operation::Call), "{error}");
                assert!(error.to_string().contains("may have executed the call"), "{error}");
                assert_tells(&error);
                assert_eq!(stream.next().await.unwrap().unwrap(), b"one");
                assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::Lost);
                assert!(stream.next().await.is_none());
                assert_eq!(session.call("again").await.unwrap(), b"done");
            };
            let (served, ()) = tokio::join!(serving, calling);
            drop(served);
            // Until the session has noticed the end, which it reports here.
            while session.transport().is_some() {
                let pushed = session.try_next_push();
                assert!(pushed.is_err());
                yield_now().await;
            }
        }
    });
}

fn calls_that_are_dropped_at_any_poll_leave_connecting_to_others(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let session = Arc::new(session(&address));
        let patient: Vec<_> = (0..4u8)
            .map(|number| {
                let session = Arc::clone(&session);
                tokio::spawn(async move { assert_eq!(session.call(&[number]).await.unwrap(), &[number]) })
            })
            .collect();
        let over = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicUsize::new(0));
        let impatient = tokio::spawn({
            let (session, over, rounds) = (Arc::clone(&session), Arc::clone(&over), Arc::clone(&rounds));
            async move {
                for times in 0.. {
                    rounds.store(times, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    polled(1 + times % 5, session.connect()).await;
                    yield_now().await;
                }
            }
        });
        while rounds.load(Ordering::Relaxed) == 0 {
            yield_now().await;
        }
        let server = Server::bind(&address).unwrap();
        let mut served = Hand::accept(&server).await;
        for _ in 0..4 {
            let (id, request) = served.request().await;
            served.send(REPLY, id, &request).await;
        }
        for task in patient {
            task.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        impatient.await.unwrap();
        assert!(timeout(SHORT, server.accept()).await.is_err(), "one connection is enough");
    });
}

fn the_hook_of_calls_that_are_dropped_at_any_poll_runs_once_for_each_connection(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = Server::bind(&address).unwrap();
        let tries = Arc::new(AtomicUsize::new(0));
        let session = session(&address).on_connect({
            let tries = Arc::clone(&tries);
            move |caller| {
                tries.fetch_add(1, Ordering::Relaxed);
                async move {
                    assert_eq!(caller.call("log in").await?, b"welcome");
                    Ok(())
                }
            }
        });
        for round in 1..=3 {
            let serving = async {
                let mut served = Hand::accept(&server).await;
                let (id, request) = served.request().await;
                assert_eq!(request, b"log in");
                for _ in 0..50 {
                    yield_now().await;
                }
                served.send(REPLY, id, b"welcome").await;
                let (id, request) = served.request().await;
                assert_eq!(request, b"work");
                served.send(REPLY, id, b"done").await;
            };
            let calling = async {
                let mut times = 0;
                while polled(1 + times % 5, session.connect()).await.transpose().unwrap().is_none() {
                    times += 1;
                    yield_now().await;
                }
                assert_eq!(session.call("work").await.unwrap(), b"done");
                times
            };
            let ((), times) = tokio::join!(serving, calling);
            assert!(times > 3, "{times}");
            assert_eq!(tries.load(Ordering::Relaxed), round);
            assert_eq!(session.next_push().await.unwrap_err().kind(), ErrorKind::Lost);
        }
    });
}

fn an_error_of_the_hook_ends_the_calls_that_wait(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let serving = Serving::start(&address, 7).await;
        let tries = Arc::new(AtomicUsize::new(0));
        let session = session(&address).on_connect(move |_| {
            let outcome = match tries.fetch_add(1, Ordering::Relaxed) {
                // The server is not ready, which passes.
                0 => Err(io::ErrorKind::TimedOut.into()),
                1 => Err(io::ErrorKind::PermissionDenied.into()),
                _ => Ok(()),
            };
            async { outcome }
        });
        let (one, other) = tokio::join!(session.call("x"), session.call("x"));
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert_tells(&error);
        }
        assert_eq!(session.call("x").await.unwrap(), &[7, b'x']);
        serving.end().await;
    });
}

fn pushed_messages_go_on_after_the_gap_is_reported_once(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = Server::bind(&address).unwrap();
        let session = session(&address);
        assert!(matches!(session.try_next_push(), Err(TryRecvError::Empty)));
        for number in 0..3u8 {
            let serving = async {
                let mut served = Hand::accept(&server).await;
                served.send(PUSH, 0, &[number, 1]).await;
                served.send(PUSH, 0, &[number, 2]).await;
            };
            let receiving = async {
                for expected in [1, 2] {
                    assert_eq!(session.next_push().await.unwrap(), &[number, expected]);
                }
                let error = session.next_push().await.unwrap_err();
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Lost, Operation::Receive), "{error}");
                assert_tells(&error);
            };
            tokio::join!(serving, receiving);
        }
    });
}

fn a_server_that_asks_to_leave_answers_what_was_sent(transport: Transport) {
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let server = Server::bind(&address).unwrap();
        let session = session(&address);
        let serving = async {
            let mut old = Hand::accept(&server).await;
            let (early, request) = old.request().await;
            assert_eq!(request, b"early");
            old.send(LEAVE, 0, b"").await;
            let mut new = Hand::accept(&server).await;
            let (late, request) = new.request().await;
            assert_eq!(request, b"late");
            new.send(REPLY, late, b"from the new one").await;
            old.send(REPLY, early, b"from the old one").await;
            // With its last call, the client has left the old server.
            assert_eq!(old.0.recv().await.unwrap(), None);
            new
        };
        let calling = async {
            let late = async {
                // Reported once the server has asked to leave.
                assert_eq!(session.next_push().await.unwrap_err().kind(), ErrorKind::Lost);
                session.call("late").await.unwrap()
            };
            let (early, late) = tokio::join!(session.call("early"), late);
            assert_eq!(early.unwrap(), b"from the old one");
            assert_eq!(late, b"from the new one");
        };
        let (new, ()) = tokio::join!(serving, calling);
        drop(new);
    });
}

fn tasks_lose_no_call_while_their_server_is_handed_over(transport: Transport) {
    const REPLACEMENTS: u8 = 10;
    run(async {
        let base = Base::new();
        let address = base.address(transport, "calls");
        let session = Arc::new(session(&address));
        let (over, newest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut servers = vec![Serving::start(&address, 0).await];
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let (session, over, newest) = (Arc::clone(&session), Arc::clone(&over), Arc::clone(&newest));
                tokio::spawn(async move {
                    for number in 0.. {
                        let request = data::message(task * 100_000 + number, 20 + number % 50);
                        let answer = session.call(request).await.unwrap();
                        assert_eq!(&answer[1..], request);
                        newest.fetch_max(answer[0].into(), Ordering::Relaxed);
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                })
            })
            .collect();
        for number in 1..=REPLACEMENTS {
            servers.push(Serving::start(&address, number).await);
            while newest.load(Ordering::Relaxed) != usize::from(number) {
                yield_now().await;
            }
        }
        over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        servers.pop().unwrap().end().await;
        // The old ones have ended by themselves.
        for server in servers {
            let served = server.task.await.unwrap().unwrap();
            assert_eq!((served.ended, served.panicked), (0, 0));
        }
    });
}

fn every_call_returns_in_a_forked_child(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let [session, idle] = [(); 2].map(|()| session(&address));
    run(async {
        let serving = Serving::start(&address, 7).await;
        assert_eq!(session.call("x").await.unwrap(), &[7, b'x']);
        // The child has no runtime: each future is ready at its first poll.
        join(fork_among_threads(|| {
            for session in [take_in_child(&session), take_in_child(&idle)] {
                let error = |polled: Poll<parlour::Result<()>>| match polled {
                    Poll::Ready(outcome) => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NameLost),
                    Poll::Pending => panic!("the call waits"),
                };
                let mut cx = Context::from_waker(Waker::noop());
                error(pin!(session.connect()).poll(&mut cx));
                error(pin!(async { session.call("x").await.map(drop) }).poll(&mut cx));
                error(pin!(async { session.call_stream("x").await.map(drop) }).poll(&mut cx));
                error(pin!(async { session.next_push().await.map(drop) }).poll(&mut cx));
                assert_eq!(failure(session.try_next_push()).kind(), ErrorKind::NameLost);
                assert!(session.peer().is_none() && session.transport().is_none());
                assert_eq!(session.stats().open, 0);
            }
        }));
        assert_eq!(session.call("y").await.unwrap(), &[7, b'y']);
        serving.end().await;
    });
}

/// The futures can be spawned on a runtime with several threads.
#[allow(dead_code)]
fn the_futures_are_send(session: &CallSession) -> impl Send {
    async move {
        session.connect().await?;
        drop(session.call_stream("x").await?);
        session.next_push().await?;
        session.call("x").await
    }
}
