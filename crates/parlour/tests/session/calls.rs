//! Timeouts, calls that never block, errors of single messages, and forks.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Reconnect, Server, Session, Transport, TryRecvError, TrySendError};

use super::ends::serve;
use super::forking::{fork_among_threads, join, take_in_child};
use crate::support::wait::Sleeper;
use crate::support::{Base, DEADLINE, SOON, assert_tells, eventually, trials};

trials! {
    a_malformed_address_or_option_is_an_error_of_creation,
    the_timeout_error_names_the_last_failure;

    for transport in Transport::ALL =>
        calls_without_a_server_end_at_their_deadlines,
        calls_that_never_block_connect_step_by_step,
        a_session_can_end_in_order_as_a_connection,
        a_message_that_is_too_long_does_not_end_the_connection,
        every_call_returns_in_a_forked_child,
        a_connection_is_shared_with_a_forked_child_and_each_connects_again_for_itself;
}

fn a_malformed_address_or_option_is_an_error_of_creation() {
    assert_eq!(Session::new("").unwrap_err().kind(), ErrorKind::InvalidName);
    let options = ConnectOptions::new().message_max(usize::MAX);
    assert_eq!(options.session("notes", &Reconnect::new()).unwrap_err().kind(), ErrorKind::InvalidOption);
    let reconnect = Reconnect::new().delay_min(Duration::ZERO);
    assert_eq!(ConnectOptions::new().session("notes", &reconnect).unwrap_err().kind(), ErrorKind::InvalidOption);
}

fn the_timeout_error_names_the_last_failure() {
    let base = Base::new();
    let mut session = Session::new(base.address(Transport::Unix, "notes")).unwrap();
    let error = session.recv_timeout(Duration::from_millis(10)).unwrap_err();
    assert_tells(&error);
    assert!(error.to_string().contains("no server has this name"), "{error}");
    assert!(error.loss().is_none());
}

fn calls_without_a_server_end_at_their_deadlines(transport: Transport) {
    let base = Base::new();
    let mut session = Session::new(base.address(transport, "notes")).unwrap();
    let timeout = Duration::from_millis(60);
    let mut check = |call: &dyn Fn(&mut Session) -> ErrorKind| {
        let began = Instant::now();
        assert_eq!(call(&mut session), ErrorKind::TimedOut);
        assert!((timeout..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    };
    check(&|session| session.connect_timeout(timeout).unwrap_err().kind());
    check(&|session| session.send_timeout(b"x", timeout).unwrap_err().kind());
    check(&|session| session.feed_timeout(b"x", timeout).unwrap_err().kind());
    check(&|session| session.recv_timeout(timeout).unwrap_err().kind());
    assert_eq!(session.recv_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
    // Nothing is buffered, so there is nothing to write.
    session.flush().unwrap();
    session.flush_timeout(timeout).unwrap();
    session.close_timeout(timeout).unwrap();
}

fn calls_that_never_block_connect_step_by_step(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    assert!(matches!(session.try_recv(), Err(TryRecvError::Empty)));
    match session.try_send(b"payload") {
        Err(TrySendError::Full(_)) => {}
        other => panic!("{other:?}"),
    }
    let server = Server::bind(&address).unwrap();
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let mut served = server.accept_timeout(DEADLINE).unwrap();
            assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"payload");
            served.send(b"answer").unwrap();
            // Until the session has gone.
            assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
        });
        eventually("the session sends", || session.try_send(b"payload").is_ok());
        eventually("the answer arrives", || match session.try_recv() {
            Ok(answer) => answer == b"answer",
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Failed(error)) => panic!("{error}"),
        });
        assert!(matches!(session.try_recv(), Err(TryRecvError::Empty)));
        session.close().unwrap();
        serving.join().unwrap();
    });
}

fn a_session_can_end_in_order_as_a_connection(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    assert!(Session::new(&address).unwrap().into_connection().is_none());
    let server = Server::bind(&address).unwrap();
    let mut session = Session::new(&address).unwrap();
    let mut served = serve(&server, &mut session);
    session.feed(b"buffered").unwrap();
    let mut connection = session.into_connection().unwrap();
    connection.finish().unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"buffered");
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
    served.send(b"answer").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"answer");
}

fn a_message_that_is_too_long_does_not_end_the_connection(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let mut session = ConnectOptions::new().message_max(1000).session(&address, &Reconnect::new()).unwrap();
    let mut served = serve(&server, &mut session);
    for _ in 0..2 {
        let error = session.send(&[0; 1001]).unwrap_err();
        assert_eq!((error.kind(), error.loss()), (ErrorKind::MessageTooLong, None));
    }
    session.send(b"short").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"short");
    // A message that cannot be received ends the connection. The error keeps its kind.
    served.send(&[0; 1001]).unwrap();
    let error = session.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLong);
    assert_eq!(error.loss().expect("the connection has ended").sent(), 1);
    serve(&server, &mut session);
}

/// Calls everything that a session has, in a forked child without a server.
fn use_every_call(mut session: Session) {
    let timeout = Duration::from_millis(5);
    assert_eq!(session.connect_timeout(timeout).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(session.send_timeout(b"x", timeout).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(session.feed_timeout(b"x", timeout).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(session.recv_timeout(timeout).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(matches!(session.try_recv(), Err(TryRecvError::Empty)));
    assert!(session.try_send(b"x").is_err_and(|error| error.is_full()));
    session.flush().unwrap();
    assert!(session.connection().is_none() && session.take_unreceived().is_empty());
    let _debug = format!("{session:?}");
    session.close().unwrap();
}

/// The parent is in the middle of connecting, and its attempt goes on.
fn every_call_returns_in_a_forked_child(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    assert!(session.try_recv().is_err_and(|error| error.is_empty()));
    join(fork_among_threads(|| use_every_call(take_in_child(&session))));
    let server = Server::bind(&address).unwrap();
    // The first step of a handshake, where there is one.
    eventually("the session asks the server", || {
        assert!(session.try_recv().is_err_and(|error| error.is_empty()));
        transport == Transport::Fifo && base.files().iter().any(|file| file.ends_with("s2c"))
            || session.connection().is_some()
            || transport == Transport::Shm
    });
    if session.connection().is_none() {
        join(fork_among_threads(|| drop(take_in_child(&session))));
    }
    let mut served = serve(&server, &mut session);
    session.send(b"here").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"here");
}

fn a_connection_is_shared_with_a_forked_child_and_each_connects_again_for_itself(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let mut session = Session::new(&address).unwrap();
    let mut served = serve(&server, &mut session);
    join(fork_among_threads(|| {
        let mut session = take_in_child(&session);
        session.send(b"from the child").unwrap();
    }));
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"from the child");
    drop(served);
    let serving = Sleeper::start(move || {
        let served = [(); 2].map(|()| {
            let mut served = server.accept_timeout(DEADLINE).unwrap();
            let message = served.recv_timeout(DEADLINE).unwrap().unwrap().into_vec();
            served.send(&message).unwrap();
            (message, served)
        });
        let mut messages = served.map(|(message, _)| message);
        messages.sort_unstable();
        messages
    });
    let again = |session: &mut Session, text: &[u8]| {
        assert_eq!(session.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Lost);
        session.send_timeout(text, DEADLINE).unwrap();
        assert_eq!(session.recv_timeout(DEADLINE).unwrap(), text);
    };
    let child = fork_among_threads(|| again(&mut take_in_child(&session), b"child"));
    again(&mut session, b"parent");
    join(child);
    assert_eq!(serving.result().0, [b"child".to_vec(), b"parent".to_vec()]);
}
