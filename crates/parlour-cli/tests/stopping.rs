//! Tests of signals to `parlour serve`: it stops accepting, and open connections may finish.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::time::Duration;

use common::{Home, TRANSPORTS, wait_until_gone};
use parlour::Connection;
use rustix::process::Signal;

/// A grace period longer than a test takes. A server that exits earlier has not waited for it.
const LONG: &str = "1000s";

#[test]
fn an_open_connection_continues_after_a_signal_and_the_name_is_free() {
    for (transport, signal) in TRANSPORTS.into_iter().zip([Signal::TERM, Signal::INT].into_iter().cycle()) {
        let home = Home::new();
        for program in [&["--echo"][..], &["--", "cat"]] {
            let mut server = home.serve(&[&["room", "--on", transport, "--grace", LONG], program].concat());
            let mut client = home.start(&["connect", "room"]);
            client.write(b"before\n");
            assert_eq!(client.line(), "before");
            server.signal(signal);
            server.wait_for_stderr("stopping; open connections: 1;");
            assert_eq!(
                home.run(&["call", "room", "hello"]).status.code(),
                Some(3),
                "{transport}: no new client is accepted"
            );
            let next = home.serve(&["room", "--on", transport, "--echo"]);
            client.write(b"after\n");
            assert_eq!(client.line(), "after", "{transport}");
            client.close_stdin();
            assert_eq!(client.wait().code(), Some(0), "{transport}");
            assert_eq!(server.wait().code(), Some(0), "{transport}");
            assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n", "the next server keeps the name");
            drop(next);
        }
    }
}

/// The clients are in the queue of the kernel when the signal arrives.
#[test]
fn clients_that_connected_before_a_signal_are_served() {
    for transport in ["packet", "unix"] {
        for program in [&["--echo"][..], &["--", "cat"]] {
            let home = Home::new();
            let mut server = home.serve(&[&["room", "--on", transport, "--grace", LONG], program].concat());
            server.signal(Signal::STOP);
            let address = format!("{transport}:{}", home.name("room").display());
            let mut clients: Vec<_> = (0..5).map(|_| Connection::connect(&address).unwrap()).collect();
            clients.iter_mut().for_each(|client| client.send(b"waiting").unwrap());
            server.signal(Signal::TERM);
            server.signal(Signal::CONT);
            for client in &mut clients {
                let answer = client.recv_timeout(Duration::from_secs(30)).unwrap();
                assert_eq!(answer.expect("an answer"), b"waiting", "{transport}");
            }
            drop(clients);
            assert_eq!(server.wait().code(), Some(0));
        }
    }
}

#[test]
fn without_open_connections_a_signal_ends_the_server_immediately() {
    for program in [&["--echo"][..], &["--", "cat"]] {
        let home = Home::new();
        let mut server = home.serve(&[&["room", "--grace", LONG], program].concat());
        assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_open_connections() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let home = Home::new();
        let mut server = home.serve(&["room", "--grace", LONG, "--", "sh", "-c", "echo $$; exec sleep 1000"]);
        let mut client = home.start(&["connect", "room"]);
        let program = client.line().parse().unwrap();
        server.signal(first);
        server.wait_for_stderr("until a second signal");
        server.signal(second);
        assert_eq!(server.wait().code(), Some(0));
        wait_until_gone(program);
        assert_eq!(client.wait().code(), Some(7));
    }
}

#[test]
fn a_second_signal_ends_an_echo_server_with_an_idle_client() {
    let home = Home::new();
    let mut server = home.serve(&["room", "--grace", LONG, "--echo"]);
    let mut client = home.start(&["connect", "room"]);
    client.write(b"hello\n");
    assert_eq!(client.line(), "hello");
    server.signal(Signal::TERM);
    server.wait_for_stderr("until a second signal");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(client.wait().code(), Some(7));
}

#[test]
fn the_end_of_the_grace_period_ends_open_connections() {
    for program in [&["--echo"][..], &["--", "cat"]] {
        let home = Home::new();
        let mut server = home.serve(&[&["room", "--grace", "200ms"], program].concat());
        let mut client = home.start(&["connect", "room"]);
        client.write(b"hello\n");
        assert_eq!(client.line(), "hello");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(client.wait().code(), Some(7));
    }
}
