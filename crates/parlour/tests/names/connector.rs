//! A connector connects to the server that a new client would find.

use std::fs;
use std::thread;

use parlour::{ConnectOptions, Connection, Connector, ErrorKind, Server, Transport};

use crate::support::{Base, DEADLINE, trials};

trials! {
    a_connector_keeps_few_descriptors_and_releases_them;

    for transport in Transport::ALL =>
        a_connector_finds_the_next_server,
        a_connector_finds_the_server_that_replaces_the_directory,
        a_connector_finds_the_server_that_replaces_the_base,
        a_connector_waits_for_a_server,
        threads_share_a_connector_while_servers_come_and_go;
}

/// Connects, and checks that this server accepts.
fn meet(connector: &Connector, server: &Server) {
    thread::scope(|scope| {
        let client = scope.spawn(|| connector.connect().unwrap());
        let mut accepted = server.accept_timeout(DEADLINE).unwrap();
        accepted.send("hello").unwrap();
        let mut client = client.join().unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    });
}

fn meet_often(connector: &Connector, server: &Server) {
    (0..3).for_each(|_| meet(connector, server));
}

fn a_connector_finds_the_next_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "next");
    let connector = ConnectOptions::new().connector(&address).unwrap();
    for _ in 0..3 {
        let error = connector.connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
        assert_eq!(error.to_string(), Connection::connect(&address).unwrap_err().to_string());
        let server = Server::bind(&address).unwrap();
        meet_often(&connector, &server);
        server.close().unwrap();
    }
}

/// Moves a directory away, for another one to take its place while its server lives, and removes it at the end.
fn replaced(transport: Transport, what: &str) {
    let base = Base::with_foreign_files();
    fs::create_dir(base.path().join("base")).unwrap();
    let path = base.path().join("base/name");
    let address = format!("{transport}:{}", path.display());
    let connector = ConnectOptions::new().connector(&address).unwrap();
    let old = Server::bind(&address).unwrap();
    meet_often(&connector, &old);
    fs::rename(base.path().join(what), base.path().join("moved")).unwrap();
    assert_eq!(connector.connect().unwrap_err().kind(), ErrorKind::NoServer);
    fs::create_dir_all(base.path().join("base")).unwrap();
    let new = Server::bind(&address).unwrap();
    meet_often(&connector, &new);
    assert!(old.try_accept().is_err(), "nobody has connected to the server in the other directory");
}

fn a_connector_finds_the_server_that_replaces_the_directory(transport: Transport) {
    replaced(transport, "base/name");
}

fn a_connector_finds_the_server_that_replaces_the_base(transport: Transport) {
    replaced(transport, "base");
}

fn a_connector_waits_for_a_server(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "late");
    let connector = ConnectOptions::new().wait_for_server(DEADLINE).connector(&address).unwrap();
    for _ in 0..3 {
        thread::scope(|scope| {
            let client = scope.spawn(|| connector.connect().unwrap());
            let server = Server::bind(&address).unwrap();
            let _accepted = server.accept_timeout(DEADLINE).unwrap();
            client.join().unwrap();
        });
    }
}

fn threads_share_a_connector_while_servers_come_and_go(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "busy");
    let connector = ConnectOptions::new().wait_for_server(DEADLINE).timeout(DEADLINE).connector(&address).unwrap();
    const CLIENTS: usize = 10;
    for _ in 0..4 {
        let server = Server::bind(&address).unwrap();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| connector.connect().unwrap())).collect();
            let mut accepted: Vec<_> = (0..CLIENTS).map(|_| server.accept_timeout(DEADLINE).unwrap()).collect();
            accepted.iter_mut().for_each(|connection| connection.send("hello").unwrap());
            for client in clients {
                assert_eq!(client.join().unwrap().recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
            }
        });
        server.close().unwrap();
    }
}

fn a_connector_keeps_few_descriptors_and_releases_them() {
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let base = Base::new();
    let server = Server::bind(base.name("few").display().to_string()).unwrap();
    let connector = Connector::new(base.name("few").display().to_string()).unwrap();
    let before = count();
    for _ in 0..20 {
        meet(&connector, &server);
    }
    let kept = count() - before;
    assert!((2..=5).contains(&kept), "{kept} descriptors");
    drop(connector);
    assert_eq!(count(), before);
}
