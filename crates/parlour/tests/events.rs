//! The events that a `tracing` subscriber of the host receives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport};
use support::{Base, DEADLINE, trials};

trials! {
    a_refusal_is_traced_with_its_reason,
    a_fallback_to_another_transport_is_traced_with_its_reason;

    for transport in Transport::ALL =>
        names_handshakes_and_disconnects_are_traced;
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

/// The output of a subscriber.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn assert_has(&self, words: &[&str]) {
        let text = self.text();
        let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line contains {words:?}:\n{text}");
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listen(log: &Log) -> tracing::subscriber::DefaultGuard {
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_default(subscriber)
}

fn names_handshakes_and_disconnects_are_traced(transport: Transport) {
    let base = Base::new();
    let log = Log::default();
    let _guard = listen(&log);
    let server = Server::bind(base.address(transport, "heard")).unwrap();
    log.assert_has(&["INFO", "name taken", "heard"]);
    let address = base.name("heard").display().to_string();
    let client = std::thread::spawn(move || Connection::connect(address).unwrap());
    let connection = server.accept_timeout(DEADLINE).unwrap();
    log.assert_has(&["client connected", &transport.to_string(), "uid"]);
    if transport == Transport::Fifo {
        log.assert_has(&["handshake begun"]);
    }
    drop(connection);
    log.assert_has(&["disconnected", &transport.to_string()]);
    drop(client.join().unwrap());
    server.close().unwrap();
    log.assert_has(&["INFO", "name released", "heard"]);
}

fn a_refusal_is_traced_with_its_reason() {
    let base = Base::new();
    let address = base.address(Transport::Fifo, "strict");
    let log = Log::default();
    let _guard = listen(&log);
    let server = ServerOptions::new().allow(|_| false).bind(&address).unwrap();
    let client =
        std::thread::spawn(move || ConnectOptions::new().timeout(DEADLINE).connect(address).map(drop).unwrap_err());
    // The server handles the client only while `accept` runs, so it must run until the client has its answer.
    while !client.is_finished() {
        let error = server.accept_timeout(Duration::from_millis(10)).expect_err("the policy rejects every client");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    assert_eq!(client.join().unwrap().kind(), ErrorKind::Refused);
    log.assert_has(&["WARN", "client refused", "the policy does not admit the client"]);
}

fn a_fallback_to_another_transport_is_traced_with_its_reason() {
    let base = Base::new();
    let address = base.name("busy").display().to_string();
    let _server = ServerOptions::new().transports([Transport::Shm, Transport::Packet]).bind(&address).unwrap();
    let log = Log::default();
    let _guard = listen(&log);
    // The server never accepts. A client of `packet` connects to the kernel's queue without that.
    let connection = ConnectOptions::new().timeout(support::SOON).connect(&address).unwrap();
    assert_eq!(connection.transport(), Transport::Packet);
    log.assert_has(&["INFO", "falling back", "shm", "does not answer"]);
}
