use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport};

use crate::support::wait::Sleeper;
use crate::support::{Base, Child, DEADLINE, SOON, roles};

pub fn without_a_server_connecting_fails_at_once(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let assert_nobody = |what: &str| {
        let before = Instant::now();
        let error = Connection::connect(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer, "{what}: {error}");
        assert!(before.elapsed() < SOON, "{what}: after {:?}", before.elapsed());
    };
    assert_nobody("there never was one");
    Server::bind(&address).unwrap().close().unwrap();
    assert_nobody("it was closed");
    let mut server = Child::spawn("hold", &[&address]);
    server.expect("ready");
    server.kill();
    assert_nobody("it was killed");

    let missing = format!("{transport}:{}", base.path().join("no/such/base/room").display());
    assert_eq!(Connection::connect(missing).unwrap_err().kind(), ErrorKind::NoServer);
}

pub fn waiting_for_a_server_ends_at_its_deadline(transport: Transport) {
    let base = Base::new();
    let patience = Duration::from_millis(100);
    let before = Instant::now();
    let error = ConnectOptions::new().wait_for_server(patience).connect(base.address(transport, "room")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer);
    let took = before.elapsed();
    assert!((patience..SOON).contains(&took), "it gave up after {took:?}");
}

pub fn a_client_waits_for_a_server_that_starts_later(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    a_waiting_client_finds(&address, || Server::bind(&address).unwrap());
}

pub fn a_client_waits_where_not_even_the_base_exists(transport: Transport) {
    let base = Base::new();
    let address = format!("{transport}:{}", base.path().join("above/base/room").display());
    a_waiting_client_finds(&address, || {
        DirBuilder::new().mode(0o700).create(base.path().join("above")).unwrap();
        Server::bind(&address).unwrap()
    });
}

pub fn a_client_waits_while_its_server_restarts(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let mut server = Server::bind(&address).unwrap();
    for _ in 0..10 {
        server.close().unwrap();
        server = a_waiting_client_finds(&address, || Server::bind(&address).unwrap());
    }
}

pub fn a_client_waits_while_a_killed_server_is_replaced(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    for _ in 0..3 {
        let mut server = Child::spawn("hold", &[&address]);
        server.expect("ready");
        server.kill();
        a_waiting_client_finds(&address, || Server::bind(&address).unwrap());
    }
}

/// Starts a client, starts the server when the client sleeps, and has them talk.
fn a_waiting_client_finds(address: &str, start: impl FnOnce() -> Server) -> Server {
    let waiting = Sleeper::start({
        let address = address.to_owned();
        move || {
            let connected = ConnectOptions::new().wait_for_server(DEADLINE).connect(address);
            let at = Instant::now();
            let mut connection = connected.unwrap();
            connection.send(b"found you").unwrap();
            assert_eq!(connection.recv().unwrap().expect("a reply"), b"found you");
            at
        }
    });
    let started = Instant::now();
    let server = start();
    roles::echo(server.accept_timeout(DEADLINE).unwrap());
    let took = waiting.result().0.saturating_duration_since(started);
    assert!(took < SOON, "the server was found after {took:?}");
    server
}
