//! Tests of signals to `parlour serve`: it stops accepting, and open connections may finish.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, TRANSPORTS, wait_until_gone};
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
