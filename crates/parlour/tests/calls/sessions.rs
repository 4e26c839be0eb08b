//! Sessions of calls, whose servers come and go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::calls::{Call, CallServer, CallerOptions};
use parlour::{CallSession, ConnectOptions, ErrorKind, Reconnect, Server, ServerOptions, Transport, TryRecvError};

use super::scene::echo;
use crate::call_bytes::{HandServer, LEAVE, PUSH, REPLY};
use crate::support::wait::{Sleeper, pass};
use crate::support::{Base, DEADLINE, SOON, assert_tells, data, eventually, trials};

/// Passes while a call of the test waits.
const SHORT: Duration = Duration::from_millis(20);

/// After this time a session looks whether its server has gone.
const LOOK_AFTER: Duration = Duration::from_millis(2);

trials! {
    a_malformed_address_is_an_error_of_creation;

    for transport in Transport::ALL =>
        calls_without_a_server_end_at_their_deadlines,
        a_session_starts_before_its_server,
        an_idle_session_goes_to_the_next_server_without_an_error,
        a_request_that_a_server_refuses_at_its_end_goes_to_the_next_server,
        an_open_call_is_lost_once_and_the_next_call_connects_again,
        a_stream_that_is_cut_off_ends_with_the_loss,
        a_request_that_was_not_sent_goes_to_the_next_server,
        one_thread_connects_for_all_and_each_keeps_its_deadline,
        a_thread_that_gives_up_leaves_connecting_to_another,
        the_hook_runs_once_for_each_connection_before_any_other_call,
        an_error_of_the_hook_ends_the_calls_that_wait,
        a_panic_in_the_hook_leaves_the_session_usable,
        a_server_that_does_not_call_is_an_error_of_each_call,
        pushed_messages_go_on_after_the_gap_is_reported_once,
        pushed_messages_that_nobody_takes_are_bounded,
        a_server_that_asks_to_leave_answers_what_was_sent,
        a_server_that_asks_to_leave_again_and_again_does_not_make_a_session_spin,
        a_thread_that_waits_for_pushed_messages_goes_to_the_next_server,
        threads_lose_no_call_while_their_server_is_handed_over,
        requests_are_executed_at_most_once_over_many_restarts;
}

/// Starts to serve calls with a server of this name.
pub fn serve(address: &str, handler: impl FnMut(Call) + Send + 'static) -> Serving {
    let server = CallServer::new(ServerOptions::new().take_over(DEADLINE).bind(address).unwrap()).unwrap();
    let (pusher, shutdown) = (server.pusher(), server.shutdown_handle());
    Serving { pusher, shutdown, thread: thread::spawn(move || server.serve(handler).unwrap()) }
}

pub struct Serving {
    pusher: parlour::calls::Pusher,
    shutdown: parlour::ShutdownHandle,
    thread: thread::JoinHandle<()>,
}

impl Serving {
    pub fn end(self) {
        self.shutdown.shutdown();
        self.thread.join().unwrap();
    }
}

pub fn session(address: &str) -> CallSession {
    let reconnect = Reconnect::new().delay_min(Duration::from_millis(1)).delay_max(Duration::from_millis(20));
    ConnectOptions::new().call_session(address, &reconnect).unwrap()
}

/// Accepts the session as a server that is written by hand.
pub fn accept(server: &Server) -> HandServer {
    HandServer::greet(server.accept_timeout(DEADLINE).unwrap())
}

fn a_malformed_address_is_an_error_of_creation() {
    assert_eq!(CallSession::new("").unwrap_err().kind(), ErrorKind::InvalidName);
}

fn calls_without_a_server_end_at_their_deadlines(transport: Transport) {
    let base = Base::new();
    let session = CallSession::new(base.address(transport, "calls")).unwrap();
    let timeout = Duration::from_millis(60);
    let check = |call: &dyn Fn() -> parlour::Error| {
        let began = Instant::now();
        let error = call();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_tells(&error);
        assert!((timeout..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    };
    check(&|| session.connect_timeout(timeout).unwrap_err());
    check(&|| session.call_timeout("x", timeout).unwrap_err());
    check(&|| session.call_stream_timeout("x", timeout).unwrap_err());
    check(&|| session.next_push_timeout(timeout).unwrap_err());
    assert!(matches!(session.try_next_push(), Err(TryRecvError::Empty)));
    assert!(session.peer().is_none() && session.transport().is_none());
}

fn a_session_starts_before_its_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = Arc::new(CallSession::new(&address).unwrap());
    let calling = Sleeper::start({
        let session = Arc::clone(&session);
        move || session.call("hello")
    });
    let serving = serve(&address, echo);
    assert_eq!(calling.result().0.unwrap(), b"hello");
    assert_eq!(session.transport(), Some(transport));
    serving.end();
}

fn an_idle_session_goes_to_the_next_server_without_an_error(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    for number in 0..5_u8 {
        let serving = serve(&address, move |call| drop(call.reply(&[number])));
        assert_eq!(session.call_timeout("who", DEADLINE).unwrap(), &[number]);
        serving.end();
        pass(LOOK_AFTER);
    }
}

fn a_request_that_a_server_refuses_at_its_end_goes_to_the_next_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = Arc::new(session(&address));
    let mut old = CallServer::new(Server::bind(&address).unwrap()).unwrap();
    thread::scope(|scope| {
        let calling = scope.spawn(|| session.call_timeout("warm", DEADLINE).unwrap());
        old.next_call_timeout(DEADLINE).unwrap().reply("warm").unwrap();
        while !calling.is_finished() {
            assert_eq!(old.next_call_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        }
        // The request is on its way when the old server ends.
        old.shutdown_handle().shutdown();
        let calling = Sleeper::start({
            let session = Arc::clone(&session);
            move || session.call_timeout("who", DEADLINE)
        });
        old.close().unwrap();
        let new = serve(&address, |call| drop(call.reply("the next one")));
        assert_eq!(calling.result().0.unwrap(), b"the next one");
        new.end();
    });
}

fn an_open_call_is_lost_once_and_the_next_call_connects_again(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    for _ in 0..3 {
        thread::scope(|scope| {
            let calls: Vec<_> =
                (0..3).map(|_| scope.spawn(|| session.call_timeout("work", DEADLINE).unwrap_err())).collect();
            let mut served = accept(&server);
            for _ in 0..3 {
                served.request();
            }
            drop(served);
            for call in calls {
                let error = call.join().unwrap();
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Lost, parlour::Operation::Call), "{error}");
                assert!(error.to_string().contains("may have executed the call"), "{error}");
                assert_tells(&error);
            }
        });
        thread::scope(|scope| {
            let calling = scope.spawn(|| session.call_timeout("again", DEADLINE).unwrap());
            let mut served = accept(&server);
            let (id, request) = served.request();
            assert_eq!(request, b"again", "a lost request is not sent again");
            served.send(REPLY, id, b"done");
            assert_eq!(calling.join().unwrap(), b"done");
        });
    }
}

fn a_stream_that_is_cut_off_ends_with_the_loss(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    thread::scope(|scope| {
        let calling = scope.spawn(|| session.call_stream_timeout("list", DEADLINE).unwrap().collect::<Vec<_>>());
        let mut served = accept(&server);
        let (id, _) = served.request();
        served.send(crate::call_bytes::ITEM, id, b"one");
        drop(served);
        let mut items = calling.join().unwrap();
        assert_eq!(items.pop().unwrap().unwrap_err().kind(), ErrorKind::Lost);
        assert_eq!(items.pop().unwrap().unwrap(), b"one");
        assert!(items.is_empty());
    });
}

/// The first servers end before they greet, so that no request is sent to them.
fn a_request_that_was_not_sent_goes_to_the_next_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    thread::scope(|scope| {
        let calling = scope.spawn(|| session.call_timeout("at last", DEADLINE).unwrap());
        for _ in 0..3 {
            drop(server.accept_timeout(DEADLINE).unwrap());
        }
        let mut served = accept(&server);
        let (id, request) = served.request();
        assert_eq!(request, b"at last");
        served.send(REPLY, id, b"done");
        assert_eq!(calling.join().unwrap(), b"done");
    });
}

fn one_thread_connects_for_all_and_each_keeps_its_deadline(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    thread::scope(|scope| {
        let began = Instant::now();
        let short: Vec<_> = (1..=4)
            .map(|number| {
                let (session, timeout) = (&session, SHORT * number);
                scope.spawn(move || {
                    let error = session.call_timeout("early", timeout).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    assert!(began.elapsed() >= timeout);
                })
            })
            .collect();
        let long: Vec<_> = (0..4_u8)
            .map(|number| {
                let session = &session;
                scope.spawn(move || assert_eq!(session.call_timeout(&[number], DEADLINE).unwrap(), &[number]))
            })
            .collect();
        for thread in short {
            thread.join().unwrap();
        }
        assert!(began.elapsed() < SOON);
        let server = Server::bind(&address).unwrap();
        let mut served = accept(&server);
        for _ in 0..4 {
            let (id, request) = served.request();
            served.send(REPLY, id, &request);
        }
        for thread in long {
            thread.join().unwrap();
        }
        assert!(server.try_accept().is_err_and(|error| error.is_empty()), "one connection is enough");
    });
}

fn a_thread_that_gives_up_leaves_connecting_to_another(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    thread::scope(|scope| {
        // It connects until its deadline.
        let first = scope.spawn(|| session.call_timeout("first", SHORT).unwrap_err().kind());
        let second = scope.spawn(|| session.call("second"));
        assert_eq!(first.join().unwrap(), ErrorKind::TimedOut);
        let serving = serve(&address, echo);
        assert_eq!(second.join().unwrap().unwrap(), b"second");
        serving.end();
    });
}

fn the_hook_runs_once_for_each_connection_before_any_other_call(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let mut number = 0;
    let session = session(&address).on_connect(move |caller| {
        number += 1;
        assert_eq!(caller.call_timeout(&format!("log in {number}"), DEADLINE)?, b"welcome");
        Ok(())
    });
    for number in 1..=3 {
        thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| session.call_timeout("work", DEADLINE))).collect();
            let mut served = accept(&server);
            let (id, request) = served.request();
            assert_eq!(request, format!("log in {number}").as_bytes());
            served.send(REPLY, id, b"welcome");
            for _ in 0..4 {
                let (id, request) = served.request();
                assert_eq!(request, b"work");
                served.send(REPLY, id, b"done");
            }
            for call in calls {
                assert_eq!(call.join().unwrap().unwrap(), b"done");
            }
        });
        pass(LOOK_AFTER);
    }
}

fn an_error_of_the_hook_ends_the_calls_that_wait(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let serving = serve(&address, |call| match &*call.to_vec() {
        b"log in" => drop(call.fail("wrong password")),
        _ => echo(call),
    });
    let is_wrong = Arc::new(AtomicBool::new(true));
    let tries = Arc::new(AtomicUsize::new(0));
    let session = session(&address).on_connect({
        let (is_wrong, tries) = (Arc::clone(&is_wrong), Arc::clone(&tries));
        move |caller| match tries.fetch_add(1, Ordering::Relaxed) {
            // The server is not ready, which passes.
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ if is_wrong.load(Ordering::Relaxed) => Ok(caller.call_timeout("log in", DEADLINE).map(drop)?),
            _ => Ok(()),
        }
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let error = session.call_timeout("work", DEADLINE).unwrap_err();
                assert_eq!(
                    (error.kind(), error.failure()),
                    (ErrorKind::CallFailed, Some("wrong password; the hook after connecting failed")),
                    "{error}"
                );
                assert_tells(&error);
            });
        }
    });
    is_wrong.store(false, Ordering::Relaxed);
    assert_eq!(session.call_timeout("work", DEADLINE).unwrap(), b"work");
    serving.end();
}

fn a_panic_in_the_hook_leaves_the_session_usable(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let serving = serve(&address, echo);
    let mut tries = 0;
    let session = session(&address).on_connect(move |_| {
        tries += 1;
        if tries == 1 {
            // Without a message and a backtrace.
            std::panic::resume_unwind(Box::new("a test panics on purpose"));
        }
        Ok(())
    });
    thread::scope(|scope| {
        let panicked = scope.spawn(|| session.call_timeout("x", DEADLINE)).join();
        assert!(panicked.is_err());
    });
    assert_eq!(session.call_timeout("x", DEADLINE).unwrap(), b"x");
    serving.end();
}

fn a_server_that_does_not_call_is_an_error_of_each_call(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    for _ in 0..2 {
        thread::scope(|scope| {
            let calling = scope.spawn(|| session.call_timeout("rm everything", DEADLINE).unwrap_err());
            let mut client = server.accept_timeout(DEADLINE).unwrap();
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap().len(), 8);
            client.send("hello").unwrap();
            let error = calling.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            assert_tells(&error);
            assert!(!matches!(client.recv_timeout(SHORT), Ok(Some(_))));
        });
    }
}

fn pushed_messages_go_on_after_the_gap_is_reported_once(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    for number in 0..3_u8 {
        let serving = serve(&address, echo);
        // A call over the new connection, whose pushed messages come after the report.
        assert_eq!(session.call_timeout("x", DEADLINE).unwrap(), b"x");
        serving.pusher.push_all(&[number, 1]).unwrap();
        serving.pusher.push_all(&[number, 2]).unwrap();
        if number > 0 {
            let error = session.next_push_timeout(DEADLINE).unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Lost, parlour::Operation::Receive), "{error}");
            assert_tells(&error);
        }
        assert_eq!(session.next_push_timeout(DEADLINE).unwrap(), &[number, 1]);
        // A call receives the second one, which is taken after the end.
        eventually("the message arrives", || {
            session.call_timeout("x", DEADLINE).unwrap();
            matches!(session.try_next_push(), Ok(message) if message == &[number, 2])
        });
        serving.pusher.push_all(&[number, 3]).unwrap();
        assert_eq!(session.call_timeout("x", DEADLINE).unwrap(), b"x");
        serving.end();
        assert_eq!(session.next_push_timeout(DEADLINE).unwrap(), &[number, 3]);
        pass(LOOK_AFTER);
    }
    assert_eq!(session.next_push_timeout(SOON).unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(session.next_push_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
}

fn pushed_messages_that_nobody_takes_are_bounded(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address).options(&CallerOptions::new().push_buffer_max(1000));
    for number in 0..4_u8 {
        let serving = serve(&address, echo);
        // From the first call on, the server pushes to the session.
        session.call_timeout("x", DEADLINE).unwrap();
        for _ in 0..20 {
            serving.pusher.push_all(&[number; 36]).unwrap();
            session.call_timeout("x", DEADLINE).unwrap();
        }
        serving.end();
        pass(LOOK_AFTER);
    }
    let mut kept = Vec::new();
    loop {
        match session.next_push_timeout(SHORT) {
            Ok(message) => kept.push(message[0]),
            Err(error) if error.kind() == ErrorKind::Lost => kept.push(u8::MAX),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::TimedOut),
        }
    }
    // Those of the first connection and of the last.
    let expected = [&[0; 10][..], &[u8::MAX], &[3; 10], &[u8::MAX]].concat();
    assert_eq!(kept, expected);
    assert!(session.stats().pushes_dropped == 60, "{:?}", session.stats());
}

fn a_server_that_asks_to_leave_answers_what_was_sent(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    thread::scope(|scope| {
        let early = scope.spawn(|| session.call_timeout("early", DEADLINE).unwrap());
        let pushes = scope.spawn(|| (session.next_push_timeout(DEADLINE), session.next_push_timeout(DEADLINE)));
        let mut old = accept(&server);
        let (id, request) = old.request();
        assert_eq!(request, b"early");
        old.send(PUSH, 0, b"the last");
        old.send(LEAVE, 0, b"");
        let (first, second) = pushes.join().unwrap();
        assert_eq!(first.unwrap(), b"the last");
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Lost, "messages may have been missed");
        let late = scope.spawn(|| session.call_timeout("late", DEADLINE).unwrap());
        let mut new = accept(&server);
        let (late_id, request) = new.request();
        assert_eq!(request, b"late");
        new.send(REPLY, late_id, b"from the new one");
        old.send(REPLY, id, b"from the old one");
        assert_eq!(early.join().unwrap(), b"from the old one");
        assert_eq!(late.join().unwrap(), b"from the new one");
        // With its last call, the client has left the old server.
        assert_eq!(old.0.recv_timeout(DEADLINE).unwrap(), None);
        new.send(PUSH, 0, b"the next");
        assert_eq!(session.next_push_timeout(DEADLINE).unwrap(), b"the next");
    });
}

fn a_server_that_asks_to_leave_again_and_again_does_not_make_a_session_spin(transport: Transport) {
    const ROUNDS: u32 = 8;
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = CallSession::new(&address).unwrap();
    let began = Instant::now();
    thread::scope(|scope| {
        let following = scope.spawn(|| {
            for _ in 0..ROUNDS {
                assert_eq!(session.next_push_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Lost);
            }
        });
        for _ in 0..ROUNDS {
            accept(&server).send(LEAVE, 0, b"");
        }
        // The time between two attempts that reach a server.
        assert!(began.elapsed() >= Duration::from_millis(50) * (ROUNDS - 1), "{:?}", began.elapsed());
        following.join().unwrap();
    });
}

fn a_thread_that_waits_for_pushed_messages_goes_to_the_next_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    let mut serving = serve(&address, echo);
    session.call_timeout("x", DEADLINE).unwrap();
    for _ in 0..3 {
        let old = std::mem::replace(&mut serving, serve(&address, echo));
        // Nothing else happens at the old server, which would serve this client for 30 seconds.
        let began = Instant::now();
        assert_eq!(session.next_push_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Lost);
        session.connect_timeout(DEADLINE).unwrap();
        eventually("the new server pushes to it", || {
            serving.pusher.push_all("a push").unwrap();
            session.next_push_timeout(SHORT).is_ok_and(|message| message == b"a push")
        });
        assert!(began.elapsed() < DEADLINE);
        old.thread.join().unwrap();
        while session.try_next_push().is_ok() {}
    }
    serving.end();
}

fn threads_lose_no_call_while_their_server_is_handed_over(transport: Transport) {
    const REPLACEMENTS: usize = 10;
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    // Each server answers with its number, and the request.
    let serve_numbered = |number: usize| {
        serve(&address, move |call| {
            let answer = [&[number as u8][..], &call].concat();
            drop(call.reply(&answer));
        })
    };
    let (is_over, newest) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut servers = vec![serve_numbered(0)];
    thread::scope(|scope| {
        for thread in 0..4 {
            let (session, is_over, newest) = (&session, &is_over, &newest);
            scope.spawn(move || {
                for number in 0.. {
                    let request = data::message(thread * 100_000 + number, 20 + number % 50);
                    let answer = session.call_timeout(request, DEADLINE).unwrap();
                    assert_eq!(&answer[1..], request);
                    newest.fetch_max(answer[0].into(), Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for number in 1..=REPLACEMENTS {
            servers.push(serve_numbered(number));
            // The session leaves the old server, which would serve it for 30 seconds.
            eventually("the next server answers", || newest.load(Ordering::Relaxed) == number);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(session.stats().late_answers, 0);
    servers.pop().unwrap().end();
    // The old ones have ended by themselves.
    for server in servers {
        server.thread.join().unwrap();
    }
}

fn requests_are_executed_at_most_once_over_many_restarts(transport: Transport) {
    const RESTARTS: usize = 10;
    const THREADS: usize = 4;
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    let executed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let is_over = AtomicBool::new(false);
    let serve_counted = || {
        let executed = Arc::clone(&executed);
        serve(&address, move |call: Call| {
            executed.lock().unwrap().push(call.to_vec());
            echo(call);
        })
    };
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (session, is_over) = (&session, &is_over);
                scope.spawn(move || {
                    let (mut answered, mut lost) = (Vec::new(), Vec::new());
                    while !is_over.load(Ordering::Relaxed) {
                        let request = format!("{thread} {}", answered.len() + lost.len()).into_bytes();
                        match session.call_timeout(&request, DEADLINE) {
                            Ok(answer) => {
                                assert_eq!(*answer, *request);
                                answered.push(request);
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                                lost.push(request);
                            }
                        }
                    }
                    (answered, lost)
                })
            })
            .collect();
        for _ in 0..RESTARTS {
            let before = executed.lock().unwrap().len();
            let serving = serve_counted();
            eventually("calls are executed", || executed.lock().unwrap().len() > before + 20);
            serving.end();
        }
        let serving = serve_counted();
        is_over.store(true, Ordering::Relaxed);
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        serving.end();
        outcomes
    });
    let mut executed = Arc::try_unwrap(executed).unwrap().into_inner().unwrap();
    executed.sort_unstable();
    let count = executed.len();
    executed.dedup();
    assert_eq!(executed.len(), count, "a request was executed twice");
    let mut lost_total = 0;
    for (answered, lost) in outcomes {
        assert!(answered.iter().all(|request| executed.binary_search(request).is_ok()));
        lost_total += lost.len();
    }
    // Each end loses at most the one open call of each thread.
    assert!(lost_total <= RESTARTS * THREADS, "{lost_total} calls lost");
}
