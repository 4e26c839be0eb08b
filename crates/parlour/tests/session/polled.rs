//! Sessions in a loop of events: connecting step by step, with a login that the program runs by itself.

use std::io;

use parlour::{Connection, ErrorKind, Server, Session, Transport, TryRecvError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, assert_tells, trials};

trials! {
    for transport in Transport::ALL =>
        a_loop_of_events_connects_to_each_server_by_its_descriptors,
        the_descriptor_tells_when_the_first_server_appears,
        a_login_that_finds_no_server_is_repeated_and_another_failure_is_returned,
        a_session_with_a_connection_dials_no_other;
}

/// Waits until a descriptor is readable.
fn wait(fd: impl std::os::fd::AsFd) {
    let limit = Timespec { tv_sec: i64::try_from(DEADLINE.as_secs()).unwrap(), tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ready, 1, "the descriptor is not ready in time");
}

fn dial(session: &mut Session) -> Connection {
    loop {
        match session.try_dial().unwrap() {
            Some(connection) => return connection,
            None => wait(session.dial_fd().unwrap()),
        }
    }
}

/// Receives a message, or the error that ends the connection.
fn recv(session: &mut Session) -> parlour::Result<parlour::Message> {
    loop {
        match session.try_recv() {
            Ok(message) => return Ok(message),
            Err(TryRecvError::Failed(error)) => return Err(error),
            Err(TryRecvError::Empty) => wait(session.connection().unwrap().recv_fd()),
        }
    }
}

fn a_loop_of_events_connects_to_each_server_by_its_descriptors(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    for restart in 0..3 {
        let mut server = Child::spawn("echo-server", &[&address]);
        server.expect("ready");
        let mut connection = dial(&mut session);
        connection.send(b"log in").unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"log in");
        session.welcome(Ok(connection)).unwrap();
        session.try_send(format!("note {restart}").as_bytes()).unwrap();
        assert_eq!(recv(&mut session).unwrap(), format!("note {restart}").as_bytes());
        server.kill();
        let error = recv(&mut session).unwrap_err();
        let loss = error.loss().unwrap();
        assert_eq!((loss.sent(), loss.received()), (1, 1), "the login does not count: {error}");
        assert!(session.connection().is_none());
    }
}

fn the_descriptor_tells_when_the_first_server_appears(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    assert!(session.try_dial().unwrap().is_none());
    let dialing = Sleeper::start(move || {
        let connection = dial(&mut session);
        session.welcome(Ok(connection)).unwrap();
        session.send(b"a note").unwrap();
    });
    let server = Server::bind(&address).unwrap();
    let mut served = server.accept_timeout(DEADLINE).unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"a note");
    dialing.result();
}

fn a_login_that_finds_no_server_is_repeated_and_another_failure_is_returned(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut session = Session::new(&address).unwrap();
    drop(dial(&mut session));
    session.welcome(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    assert!(session.try_dial().unwrap().is_none(), "the next attempt is made after a pause");
    drop(dial(&mut session));
    let error = session.welcome(Err(io::Error::other("wrong\npassword"))).unwrap_err();
    assert_tells(&error);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(r"wrong\npassword"), "{error}");
    let connection = dial(&mut session);
    session.welcome(Ok(connection)).unwrap();
    session.send(b"at last").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"at last");
    drop(session);
    server.finish();
}

fn a_session_with_a_connection_dials_no_other(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut session = Session::new(&address).unwrap();
    let connection = dial(&mut session);
    session.welcome(Ok(connection)).unwrap();
    let error = session.try_dial().unwrap_err();
    assert_tells(&error);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let (other, _end) = Connection::pair(Transport::Unix).unwrap();
    assert_eq!(session.welcome(Ok(other)).unwrap_err().kind(), ErrorKind::Unsupported);
    session.send(b"still there").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"still there");
    drop(session);
    server.finish();
}
