//! Tests of clients that stall during the FIFO handshake.

use std::thread;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, ServerOptions, Transport};

use crate::by_hand::line::frame;
use crate::by_hand::place::client_files;
use crate::by_hand::{Driver, FifoClient};
use crate::support::{Base, DEADLINE, SOON, trials};

trials! {
    a_stalled_client_is_dropped_at_the_deadline_and_delays_nobody,
    a_client_that_stalls_within_its_acknowledgement_is_dropped_at_the_deadline,
    surplus_handshakes_are_told_that_the_server_is_busy,
    an_honest_client_gets_busy_until_a_stalled_handshake_ends,
    a_stalled_client_that_dies_frees_its_handshake_slot_immediately,
    only_handshakes_that_are_under_way_count_against_their_limit,
}

fn serve(base: &Base, options: ServerOptions) -> Driver {
    Driver::new(options.bind(base.address(Transport::Fifo, "hall")).unwrap())
}

fn connect(base: &Base, timeout: Duration) -> parlour::Result<Connection> {
    ConnectOptions::new().timeout(timeout).connect(base.address(Transport::Fifo, "hall"))
}

const TIMEOUT: Duration = Duration::from_millis(700);

/// Longer than a busy machine takes to serve a few clients.
const LONG_TIMEOUT: Duration = Duration::from_secs(3);

fn a_stalled_client_is_dropped_at_the_deadline_and_delays_nobody() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().handshake_timeout(LONG_TIMEOUT));
    let begin = Instant::now();
    let clients: Vec<_> = (0..3).map(|_| FifoClient::greeted(driver.server.path())).collect();
    let greeted = Instant::now();
    // Honest clients connect in the meantime.
    for _ in 0..3 {
        let mut theirs = connect(&base, DEADLINE).unwrap();
        let mut ours = driver.client();
        ours.send(b"served").unwrap();
        assert_eq!(theirs.recv().unwrap().unwrap(), b"served");
    }
    assert!(begin.elapsed() < LONG_TIMEOUT, "three clients were served after {:?}", begin.elapsed());
    for client in &clients {
        client.assert_dropped();
        assert!(begin.elapsed() >= LONG_TIMEOUT, "dropped after {:?}", begin.elapsed());
    }
    assert!(greeted.elapsed() < LONG_TIMEOUT + SOON, "dropped after {:?}", greeted.elapsed());
    let reason = driver.refused(3);
    assert!(reason.contains("did not acknowledge in time"), "{reason}");
    assert_eq!(client_files(driver.server.path()), [""; 0]);
}

fn a_client_that_stalls_within_its_acknowledgement_is_dropped_at_the_deadline() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().handshake_timeout(TIMEOUT));
    let begin = Instant::now();
    let mut client = FifoClient::greeted(driver.server.path());
    client.open_c2s();
    for byte in &client.id.ack().as_bytes()[..20] {
        client.write(&[*byte]);
    }
    client.assert_dropped();
    assert!(begin.elapsed() >= TIMEOUT, "{:?}", begin.elapsed());
    driver.refused(1);
}

fn surplus_handshakes_are_told_that_the_server_is_busy() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().half_open_max(2));
    let held: Vec<_> = (0..2).map(|_| FifoClient::greeted(driver.server.path())).collect();
    for count in 1..4 {
        let mut third = FifoClient::asking(driver.server.path());
        assert_eq!(third.answer(), Some(third.id.refused("busy")));
        third.assert_dropped();
        let reason = driver.refused(count);
        assert!(reason.contains("2 handshakes are under way"), "{reason}");
        assert!(!third.has_files());
    }
    assert!(held.iter().all(|client| client.has_files() && !client.is_dropped_within(Duration::ZERO)));
    drop(held);
}

fn an_honest_client_gets_busy_until_a_stalled_handshake_ends() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().half_open_max(2));
    let held: Vec<_> = (0..2).map(|_| FifoClient::greeted(driver.server.path())).collect();
    let begin = Instant::now();
    let error = connect(&base, TIMEOUT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!((TIMEOUT..TIMEOUT + SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    // A client that still tries when a handshake slot becomes free is served.
    thread::scope(|scope| {
        let refused = driver.server.stats().refused;
        let connecting = scope.spawn(|| connect(&base, DEADLINE));
        crate::support::eventually("the client is told that the server is busy", || {
            driver.server.stats().refused > refused
        });
        drop(held);
        connecting.join().unwrap().unwrap();
    });
    driver.client();
}

fn a_stalled_client_that_dies_frees_its_handshake_slot_immediately() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().half_open_max(1));
    for count in 1..4 {
        let mut client = FifoClient::greeted(driver.server.path());
        if count == 2 {
            client.open_c2s();
        }
        drop(client);
        let reason = driver.refused(count);
        assert!(reason.contains("disconnected during the handshake"), "{reason}");
        assert_eq!(client_files(driver.server.path()), [""; 0]);
    }
    connect(&base, DEADLINE).unwrap();
    driver.client();
}

fn only_handshakes_that_are_under_way_count_against_their_limit() {
    let base = Base::new();
    let driver = serve(&base, ServerOptions::new().half_open_max(1));
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut client = FifoClient::greeted(driver.server.path());
        client.open_c2s();
        client.acknowledge();
        client.write(&frame(b"in"));
        let mut ours = driver.client();
        assert_eq!(ours.recv().unwrap().unwrap(), b"in");
        open.push((client, ours));
    }
    assert_eq!(driver.server.stats().refused, 0);
}
