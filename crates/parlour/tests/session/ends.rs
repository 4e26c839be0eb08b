//! The end of a connection is reported once, with what may be lost.

use std::thread;

use parlour::{Connection, ErrorKind, Server, Session, Transport};

use crate::support::wait::{Sleeper, readable};
use crate::support::{Base, Child, DEADLINE, SOON, assert_tells, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        the_end_is_reported_once_and_the_next_call_connects_again,
        the_death_of_the_server_wakes_a_session_that_receives,
        a_server_that_is_killed_while_the_session_sends_is_reported_with_the_number_of_messages,
        a_send_that_finds_the_end_keeps_what_had_arrived,
        fed_messages_count_as_sent,
        a_server_that_closes_without_reading_all_is_reported,
        a_message_that_was_cut_off_is_not_continued_over_the_next_connection,
        the_message_of_the_call_that_fails_does_not_count;
}

/// A server in this process, and the session of its only client.
fn pair(base: &Base, transport: Transport) -> (Server, Connection, Session) {
    let address = base.address(transport, "notes");
    let server = Server::bind(&address).unwrap();
    let mut session = Session::new(&address).unwrap();
    let served = serve(&server, &mut session);
    (server, served, session)
}

/// Connects the session to the server.
pub fn serve(server: &Server, session: &mut Session) -> Connection {
    thread::scope(|scope| {
        let accepting = scope.spawn(|| server.accept_timeout(DEADLINE).unwrap());
        session.connect_timeout(DEADLINE).unwrap();
        accepting.join().unwrap()
    })
}

fn the_end_is_reported_once_and_the_next_call_connects_again(transport: Transport) {
    let base = Base::new();
    let (server, mut served, mut session) = pair(&base, transport);
    for _ in 0..3 {
        session.send(b"a note").unwrap();
        assert_eq!(served.recv().unwrap().unwrap(), b"a note");
        served.send(b"seen").unwrap();
        assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"seen");
        drop(served);
        let error = session.recv_timeout(DEADLINE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
        assert_tells(&error);
        let loss = error.loss().expect("a report");
        assert_eq!((loss.sent(), loss.received(), loss.sent_since_received()), (1, 1, 0));
        assert!(!loss.unread() && !loss.unwritten() && loss.unreceived() == 0);
        assert!(session.connection().is_none());
        served = serve(&server, &mut session);
    }
}

fn the_death_of_the_server_wakes_a_session_that_receives(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    for _ in 0..2 {
        let mut server = Child::spawn("echo-server", &[&address]);
        server.expect("ready");
        session.send(b"hello").unwrap();
        assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"hello");
        let receiving = Sleeper::start(move || (session.recv().unwrap_err(), session));
        server.kill();
        let (error, same) = receiving.result().0;
        assert_eq!((error.kind(), error.loss().unwrap().sent_since_received()), (ErrorKind::Lost, 0), "{error}");
        session = same;
    }
}

fn a_server_that_is_killed_while_the_session_sends_is_reported_with_the_number_of_messages(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = Child::spawn("server", &[&address]);
    server.expect("ready");
    let mut session = Session::new(&address).unwrap();
    server.say("accept");
    session.connect_timeout(DEADLINE).unwrap();
    assert!(server.line().starts_with("accepted"));
    let sending = Sleeper::start(move || {
        let mut sent = 0;
        loop {
            match session.send(&[7; 5000]) {
                Ok(()) => sent += 1,
                Err(error) => return (error, sent, session),
            }
        }
    });
    server.kill();
    let ((error, sent, mut session), _) = sending.result();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    let loss = error.loss().unwrap();
    assert_eq!((loss.sent(), loss.sent_since_received(), loss.received()), (sent, sent, 0), "{error}");
    assert!(sent > 0 && (loss.unread() || transport == Transport::Fifo || loss.unwritten()), "{error}");
    // The name is free, and the session goes on with the next server.
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    session.send(b"again").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"again");
    server.finish();
}

fn a_send_that_finds_the_end_keeps_what_had_arrived(transport: Transport) {
    let base = Base::new();
    let (server, mut served, mut session) = pair(&base, transport);
    session.send(b"one").unwrap();
    session.send(b"two").unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), b"one");
    served.send(b"answer to one").unwrap();
    served.send(b"bye").unwrap();
    drop(served);
    let mut sent = 2;
    // On `shm` a send looks for the end once per millisecond.
    let error = loop {
        match session.send_timeout(b"three", DEADLINE) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((loss.sent(), loss.received(), loss.unreceived()), (sent, 0, 2), "{error}");
    // Where messages are read one by one, the kernel and the ring know that "two" was not.
    assert!(loss.unread() || matches!(transport, Transport::Unix | Transport::Fifo), "{error}");
    assert!(sent == 2 || transport == Transport::Shm);
    let unreceived = session.take_unreceived();
    assert_eq!((unreceived.len(), &*unreceived[0], &*unreceived[1]), (2, &b"answer to one"[..], &b"bye"[..]));
    assert!(session.take_unreceived().is_empty());
    // Nothing of it is mixed with the messages of the next connection.
    let mut served = serve(&server, &mut session);
    served.send(b"welcome").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"welcome");
}

fn fed_messages_count_as_sent(transport: Transport) {
    let base = Base::new();
    let (server, served, mut session) = pair(&base, transport);
    for _ in 0..5 {
        session.feed(b"buffered").unwrap();
    }
    drop(served);
    let error = session.recv_timeout(DEADLINE).unwrap_err();
    let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((loss.sent(), loss.unwritten()), (5, true), "{error}");
    let mut served = serve(&server, &mut session);
    session.feed(b"new").unwrap();
    session.flush_timeout(DEADLINE).unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"new", "what was buffered before is not sent");
    session.feed(b"last").unwrap();
    session.close().unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"last");
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_server_that_closes_without_reading_all_is_reported(transport: Transport) {
    let base = Base::new();
    let (_server, served, mut session) = pair(&base, transport);
    session.send(b"nobody reads this").unwrap();
    drop(served);
    let error = session.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    // A FIFO does not tell.
    assert_eq!(error.loss().unwrap().unread(), transport != Transport::Fifo, "{error}");
}

fn a_message_that_was_cut_off_is_not_continued_over_the_next_connection(transport: Transport) {
    let base = Base::new();
    let (server, served, mut session) = pair(&base, transport);
    // Nobody receives, so the channel takes a part, and the rest is kept.
    let long = vec![1; 12 << 20];
    session.send_timeout(&long, std::time::Duration::ZERO).unwrap();
    drop(served);
    let error = session.recv_timeout(DEADLINE).unwrap_err();
    let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((loss.sent(), loss.unwritten()), (1, true), "{error}");
    let mut served = serve(&server, &mut session);
    session.send(b"whole").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"whole");
    // The other direction.
    served.send_timeout(&long, std::time::Duration::ZERO).unwrap();
    drop(served);
    let error = session.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    let mut served = serve(&server, &mut session);
    served.send(b"whole, too").unwrap();
    assert_eq!(session.recv_timeout(DEADLINE).unwrap(), b"whole, too");
}

fn the_message_of_the_call_that_fails_does_not_count(transport: Transport) {
    let base = Base::new();
    let (server, served, mut session) = pair(&base, transport);
    let recv_fd = session.connection().unwrap().recv_fd().try_clone_to_owned().unwrap();
    drop(served);
    assert!(readable(&recv_fd));
    drop(recv_fd);
    let mut accepted = 0;
    eventually("a send reports the end", || match session.try_send(b"unsent") {
        Ok(()) => {
            accepted += 1;
            false
        }
        Err(parlour::TrySendError::Full(_)) => panic!("the channel is empty"),
        Err(parlour::TrySendError::Failed(error)) => {
            assert_eq!(error.loss().unwrap().sent(), accepted, "{error}");
            true
        }
    });
    let began = std::time::Instant::now();
    let mut served = serve(&server, &mut session);
    assert!(began.elapsed() < SOON);
    session.send(b"first").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"first");
}
