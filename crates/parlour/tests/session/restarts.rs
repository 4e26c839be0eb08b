//! Streams of restarts.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, ErrorKind, Reconnect, Server, Session, Transport};

use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, SOON, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        a_session_finds_a_server_that_comes_back_after_a_second,
        a_server_that_is_killed_while_the_session_connects_is_followed_by_the_next_one,
        two_restarts_in_one_pause_are_one_loss,
        all_of_fifty_sessions_find_the_next_server,
        a_shutdown_loses_nothing_that_was_answered,
        a_session_survives_a_hundred_restarts;
}

/// Sends a message and receives its echo.
fn exchange(session: &mut Session, text: &str) -> parlour::Result<()> {
    session.send_timeout(text, DEADLINE)?;
    assert_eq!(session.recv_timeout(DEADLINE)?, text.as_bytes());
    Ok(())
}

/// Exchanges a message, which must be possible after the report of one loss.
fn exchange_after_a_loss(session: &mut Session, text: &str) {
    match exchange(session, text) {
        Ok(()) => panic!("no loss was reported"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Lost, "{error}"),
    }
    exchange(session, text).unwrap();
}

fn echo_server(address: &str) -> Child {
    let mut server = Child::spawn("echo-server", &[address]);
    server.expect("ready");
    server
}

fn a_session_finds_a_server_that_comes_back_after_a_second(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = echo_server(&address);
    let mut session = Session::new(&address).unwrap();
    exchange(&mut session, "before").unwrap();
    server.kill();
    let killed = Instant::now();
    let going_on = Sleeper::start(move || {
        exchange_after_a_loss(&mut session, "after");
        session
    });
    eventually("a second has passed", || killed.elapsed() > Duration::from_secs(1));
    let began = Instant::now();
    let mut server = echo_server(&address);
    let (_session, at) = going_on.result();
    assert!(at.saturating_duration_since(began) < SOON);
    server.finish();
}

fn a_server_that_is_killed_while_the_session_connects_is_followed_by_the_next_one(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    // Servers that accept nobody, and die. Where there is no handshake, the session is connected to them.
    let connecting = Sleeper::start(move || {
        let mut losses = 0;
        while let Err(error) = exchange(&mut session, "here") {
            assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
            losses += 1;
        }
        losses
    });
    for _ in 0..5 {
        let mut server = Child::spawn("hold", &[&address]);
        server.expect("ready");
        server.kill();
    }
    let mut server = echo_server(&address);
    let losses = connecting.result().0;
    // A socket of a dying process may take a connection, too.
    assert!(losses <= 10, "{losses} losses");
    server.finish();
}

fn two_restarts_in_one_pause_are_one_loss(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let reconnect = Reconnect::new().delay_min(Duration::from_secs(1));
    let mut session = ConnectOptions::new().session(&address, &reconnect).unwrap();
    let mut server = echo_server(&address);
    exchange(&mut session, "before").unwrap();
    for _ in 0..2 {
        server.kill();
        server = echo_server(&address);
    }
    exchange_after_a_loss(&mut session, "after");
    exchange(&mut session, "and again").unwrap();
    server.finish();
}

fn all_of_fifty_sessions_find_the_next_server(transport: Transport) {
    const SESSIONS: usize = 50;
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut server = echo_server(&address);
    let connected = std::sync::Barrier::new(SESSIONS + 1);
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let (address, connected) = (&address, &connected);
                scope.spawn(move || {
                    let mut session = Session::new(address).unwrap();
                    exchange(&mut session, &format!("{number} before")).unwrap();
                    connected.wait();
                    let error = session.recv_timeout(DEADLINE).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                    // A message may be lost with the socket of a process that is dying.
                    let tries = (1..).find(|_| exchange(&mut session, &format!("{number} after")).is_ok()).unwrap();
                    assert!(tries < 5, "{tries} tries");
                })
            })
            .collect();
        connected.wait();
        server.kill();
        server = echo_server(&address);
        for session in sessions {
            session.join().unwrap();
        }
    });
    server.finish();
}

fn a_shutdown_loses_nothing_that_was_answered(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    for round in 0..3 {
        let mut server = echo_server(&address);
        if round > 0 {
            let error = session.recv_timeout(DEADLINE).unwrap_err();
            let loss = error.loss().unwrap_or_else(|| panic!("{error}"));
            assert_eq!((loss.sent(), loss.received(), loss.sent_since_received(), loss.unread()), (10, 10, 0, false));
        }
        for number in 0..10 {
            exchange(&mut session, &format!("{round} {number}")).unwrap();
        }
        server.finish();
    }
}

fn a_session_survives_a_hundred_restarts(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "notes");
    let mut session = Session::new(&address).unwrap();
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let restarting = scope.spawn({
            let address = &address;
            move || {
                for _ in 0..100 {
                    let server = Server::bind(address).unwrap();
                    let mut served = server.accept_timeout(DEADLINE).unwrap();
                    while let Ok(Some(message)) = served.recv_timeout(DEADLINE) {
                        served.send(&message).unwrap();
                        if told.try_recv().is_ok() {
                            break;
                        }
                    }
                    // In this order, no connection is made to a server that ends.
                    server.close().unwrap();
                    drop(served);
                }
            }
        });
        let mut losses = 0;
        let mut number = 0;
        while losses < 100 {
            match exchange(&mut session, &format!("{number}")) {
                Ok(()) => {
                    number += 1;
                    let _ = tell.send(());
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                    losses += 1;
                }
            }
        }
        restarting.join().unwrap();
        assert!(number >= 100, "{number} messages were answered");
    });
}
