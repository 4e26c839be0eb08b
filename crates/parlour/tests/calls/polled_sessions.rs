//! Sessions of calls in a loop of events, which connects and logs in by itself.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use parlour::{CallSession, Caller, ErrorKind, Server, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::scene::{by_hand, echo};
use super::sessions::{accept, serve, session};
use crate::call_bytes::{LEAVE, PUSH, REPLY};
use crate::support::wait::Sleeper;
use crate::support::{Base, DEADLINE, assert_tells, trials};

trials! {
    for transport in Transport::ALL =>
        a_loop_of_events_calls_each_server_by_its_own_caller,
        the_descriptor_of_a_session_of_calls_tells_when_the_first_server_appears,
        a_login_of_calls_that_fails_is_repeated_or_returned,
        a_caller_that_the_server_asks_to_leave_is_used_for_its_open_calls_only,
        pushed_messages_of_the_connection_before_come_before_the_gap,
        a_session_of_calls_with_a_connection_dials_no_other;
}

/// Waits until a descriptor is readable.
fn wait(fd: impl AsFd) {
    let limit = Timespec { tv_sec: i64::try_from(DEADLINE.as_secs()).unwrap(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ready, 1, "the descriptor is not ready in time");
}

fn dial(session: &CallSession) -> Caller {
    loop {
        match session.try_dial().unwrap() {
            Some(caller) => return caller,
            None => wait(session.dial_fd().unwrap()),
        }
    }
}

/// Receives until the caller is not present any more.
fn wait_until_left(session: &CallSession, caller: &Caller) {
    while session.is_present(caller).unwrap() {
        if !caller.advance().unwrap() {
            wait(caller.recv_fd());
        }
    }
}

fn a_loop_of_events_calls_each_server_by_its_own_caller(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    for number in 0..3 {
        let serving = serve(&address, move |call| drop(call.reply(&format!("server {number}"))));
        let caller = dial(&session);
        assert!(!session.is_present(&caller).unwrap(), "it is logging in");
        assert_eq!(caller.call_timeout("log in", DEADLINE).unwrap(), format!("server {number}").as_bytes());
        session.welcome(Ok(&caller)).unwrap();
        assert!(session.is_present(&caller).unwrap());
        assert_eq!(caller.call_timeout("x", DEADLINE).unwrap(), format!("server {number}").as_bytes());
        // The blocking calls use the same connection.
        assert_eq!(session.call_timeout("x", DEADLINE).unwrap(), format!("server {number}").as_bytes());
        serving.end();
        wait_until_left(&session, &caller);
        assert_eq!(caller.call_timeout("x", DEADLINE).unwrap_err().kind(), ErrorKind::Disconnected, "not sent");
    }
}

fn the_descriptor_of_a_session_of_calls_tells_when_the_first_server_appears(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let session = session(&address);
    assert!(session.try_dial().unwrap().is_none());
    let dialing = Sleeper::start(move || {
        let caller = dial(&session);
        session.welcome(Ok(&caller)).unwrap();
        caller.call_timeout("hello", DEADLINE).unwrap()
    });
    let serving = serve(&address, echo);
    assert_eq!(dialing.result().0, b"hello");
    serving.end();
}

fn a_login_of_calls_that_fails_is_repeated_or_returned(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let serving = serve(&address, echo);
    let session = session(&address);
    drop(dial(&session));
    session.welcome(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    drop(dial(&session));
    let error = session.welcome(Err(io::Error::other("wrong\npassword"))).unwrap_err();
    assert_tells(&error);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(r"wrong\npassword"), "{error}");
    let caller = dial(&session);
    session.welcome(Ok(&caller)).unwrap();
    assert_eq!(caller.call_timeout("at last", DEADLINE).unwrap(), b"at last");
    serving.end();
}

fn a_caller_that_the_server_asks_to_leave_is_used_for_its_open_calls_only(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    thread::scope(|scope| {
        let dialing = scope.spawn(|| dial(&session));
        let mut old = accept(&server);
        let caller = dialing.join().unwrap();
        session.welcome(Ok(&caller)).unwrap();
        let mut nobody = Context::from_waker(Waker::noop());
        let mut early = loop {
            match caller.poll_call("early", &mut nobody) {
                Poll::Ready(begun) => break begun.unwrap(),
                Poll::Pending if caller.advance().unwrap() => {}
                Poll::Pending => wait(caller.recv_fd()),
            }
        };
        let (id, _) = old.request();
        old.send(LEAVE, 0, b"");
        wait_until_left(&session, &caller);
        let dialing = scope.spawn(|| dial(&session));
        let mut new = accept(&server);
        let next = Arc::new(dialing.join().unwrap());
        let calling = Arc::clone(&next);
        session.welcome(Ok(&next)).unwrap();
        old.send(REPLY, id, b"from the old one");
        assert_eq!(early.next_timeout(DEADLINE).unwrap().unwrap(), b"from the old one");
        assert!(session.is_present(&next).unwrap() && !session.is_present(&caller).unwrap());
        // Leaving the old one again does not concern the new one.
        session.leave(&caller).unwrap();
        let late = scope.spawn(move || calling.call_timeout("late", DEADLINE));
        let (id, _) = new.request();
        drop(new);
        let error = late.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "request {id} was sent: {error}");
    });
}

fn pushed_messages_of_the_connection_before_come_before_the_gap(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let server = Server::bind(&address).unwrap();
    let session = session(&address);
    assert!(session.earlier_push().unwrap().is_none());
    thread::scope(|scope| {
        let dialing = scope.spawn(|| dial(&session));
        let mut served = accept(&server);
        let caller = dialing.join().unwrap();
        session.welcome(Ok(&caller)).unwrap();
        served.send(PUSH, 0, b"the last");
        drop(served);
        wait_until_left(&session, &caller);
    });
    assert_eq!(session.earlier_push().unwrap().unwrap(), b"the last");
    let error = session.earlier_push().unwrap_err();
    assert_tells(&error);
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(session.earlier_push().unwrap().is_none());
}

fn a_session_of_calls_with_a_connection_dials_no_other(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "calls");
    let serving = serve(&address, echo);
    let session = session(&address);
    let (plain, _server, _base) = by_hand(transport);
    assert_eq!(session.welcome(Ok(&plain)).unwrap_err().kind(), ErrorKind::Unsupported, "it reports no loss");
    let (one, other) = (dial(&session), dial(&session));
    session.welcome(Ok(&one)).unwrap();
    let error = session.try_dial().unwrap_err();
    assert_tells(&error);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(session.welcome(Ok(&other)).unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(session.is_present(&one).unwrap() && !session.is_present(&other).unwrap());
    serving.end();
}
