//! One hand-over, step by step.

use std::thread;
use std::time::Duration;

use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, Transport, TryRecvError};

use crate::support::{Base, DEADLINE, eventually, trials};

trials! {
    taking_over_a_free_name_is_binding_it,
    a_server_that_does_not_hand_over_keeps_its_name,
    a_server_that_does_not_accept_is_reported_as_busy;

    for transport in Transport::ALL =>
        a_client_in_the_queue_is_accepted_by_the_next_server,
        connections_stay_with_their_server;
}

pub fn successor() -> ServerOptions {
    ServerOptions::new().take_over(DEADLINE)
}

/// Takes the name over while the old server accepts in another thread. Returns the new server, and the old one with the
/// clients that it has accepted meanwhile.
pub fn replace(old: Server, options: &ServerOptions, address: &str) -> (Server, Server, Vec<Connection>) {
    let (new, accepted) = thread::scope(|scope| {
        let leaving = scope.spawn(|| {
            let mut accepted = Vec::new();
            loop {
                match old.accept_timeout(DEADLINE) {
                    Ok(connection) => accepted.push(connection),
                    Err(error) if error.kind() == ErrorKind::HandedOver => return accepted,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let new = options.bind(address).unwrap();
        (new, leaving.join().unwrap())
    });
    (new, old, accepted)
}

fn a_client_in_the_queue_is_accepted_by_the_next_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (new, old, accepted) = replace(old, &successor(), &address);
    assert!(accepted.is_empty());
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut client = ConnectOptions::new().timeout(DEADLINE).connect(&address).unwrap();
            client.send("hello").unwrap();
            assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
        });
        let mut connection = new.accept_timeout(DEADLINE).unwrap();
        let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
        connection.send(&message).unwrap();
        client.join().unwrap();
    });
    assert_eq!(old.accept().unwrap_err().kind(), ErrorKind::HandedOver);
    // The old server has nothing to remove.
    let before = base.files();
    old.close().unwrap();
    assert_eq!(base.files(), before);
    new.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn connections_stay_with_their_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "name");
    let old = Server::bind(&address).unwrap();
    let (mut client, mut connection) = thread::scope(|scope| {
        let client = scope.spawn(|| Connection::connect(&address).unwrap());
        let connection = old.accept_timeout(DEADLINE).unwrap();
        (client.join().unwrap(), connection)
    });
    let (new, old, _) = replace(old, &successor(), &address);
    old.close().unwrap();
    client.send("still there?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"still there?");
    connection.send("yes").unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"yes");
    assert!(matches!(new.try_accept(), Err(TryRecvError::Empty)));
}

fn taking_over_a_free_name_is_binding_it() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let server = successor().bind(&address).unwrap();
    assert_eq!(Server::bind(&address).unwrap_err().kind(), ErrorKind::NameInUse);
    server.close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn a_server_that_does_not_hand_over_keeps_its_name() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let server = ServerOptions::new().hand_over(false).bind(&address).unwrap();
    let error = successor().bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error}");
    assert_eq!(error.holder().unwrap().pid, std::process::id());
    assert!(!server.path().join("control").exists());
}

fn a_server_that_does_not_accept_is_reported_as_busy() {
    let base = Base::new();
    let address = base.name("name").display().to_string();
    let server = Server::bind(&address).unwrap();
    let error = ServerOptions::new().take_over(Duration::from_millis(100)).bind(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("neither accepts nor waits"), "{error}");
    // The candidate that gave up is forgotten.
    assert!(matches!(server.try_accept(), Err(TryRecvError::Empty)));
    let (new, ..) = replace(server, &successor(), &address);
    eventually("the new server accepts", || {
        let _client = Connection::connect(&address);
        new.try_accept().is_ok()
    });
}
