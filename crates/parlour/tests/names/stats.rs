//! The counters of a server, as other processes see them.

use std::thread;

use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport, inspect};
use rustix::process::Signal;

use crate::support::{Base, Child, DEADLINE, eventually, trials};

trials! {
    a_name_that_no_server_holds_has_no_counters,
    a_server_that_does_not_count_serves_and_says_so,
    the_counters_of_a_stopped_server_can_be_read,
    the_next_holder_of_a_name_has_counters_of_its_own,
    clients_of_a_server_are_shown_however_many_there_are,
}

fn connect(server: &Server, address: &str) -> (Connection, Connection) {
    thread::scope(|scope| {
        let client = scope.spawn(|| Connection::connect(address).unwrap());
        (server.accept_timeout(DEADLINE).unwrap(), client.join().unwrap())
    })
}

fn a_name_that_no_server_holds_has_no_counters() {
    let base = Base::new();
    let error = inspect::stats(base.address(Transport::Unix, "nobody")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoServer, "{error}");
}

fn a_server_that_does_not_count_serves_and_says_so() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "quiet");
    let server = ServerOptions::new().stats(false).bind(&address).unwrap();
    let (mut served, mut client) = connect(&server, &address);
    client.send("hello").unwrap();
    assert_eq!(served.recv().unwrap().unwrap(), b"hello");
    let error = inspect::stats(&address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("has no counters"), "{error}");
    let own = server.stats();
    assert_eq!((own.accepted, own.received.messages, server.client_stats().len()), (1, 0, 0));
}

fn the_counters_of_a_stopped_server_can_be_read() {
    let base = Base::new();
    let address = base.name("stopped").display().to_string();
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    let mut client = Connection::connect(&address).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    // A message is counted after it was sent.
    eventually("the answer is counted", || inspect::stats(&address).unwrap().sent.messages == 1);
    server.signal(Signal::STOP);
    let stats = inspect::stats(&address).unwrap();
    server.signal(Signal::CONT);
    assert_eq!((stats.owner.pid, stats.open, stats.received.bytes), (server.pid(), 1, 5));
    assert_eq!(stats.clients[0].sent.messages, 1);
}

/// The connections that stay with the old server are counted by it, and not shown for the name any more.
fn the_next_holder_of_a_name_has_counters_of_its_own() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "moving");
    let old = Server::bind(&address).unwrap();
    let (mut served, mut client) = connect(&old, &address);
    let new = thread::scope(|scope| {
        let next = scope.spawn(|| ServerOptions::new().take_over(DEADLINE).bind(&address).unwrap());
        assert_eq!(old.accept_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::HandedOver);
        next.join().unwrap()
    });
    client.send("to the old one").unwrap();
    served.recv().unwrap().unwrap();
    assert_eq!(old.stats().received.messages, 1);
    let before = inspect::stats(&address).unwrap();
    assert_eq!((before.accepted, before.open, before.received.messages), (0, 0, 0));
    let (_served, _client) = connect(&new, &address);
    let after = inspect::stats(&address).unwrap();
    assert_eq!((after.accepted, after.clients.len()), (1, 1));
}

fn clients_of_a_server_are_shown_however_many_there_are() {
    let base = Base::new();
    let address = base.address(Transport::Packet, "crowd");
    let server = Server::bind(&address).unwrap();
    let mut ends: Vec<_> = (0..150).map(|_| connect(&server, &address)).collect();
    for (number, (served, client)) in ends.iter_mut().enumerate() {
        client.send(vec![7; number].as_slice()).unwrap();
        served.recv().unwrap().unwrap();
    }
    ends.drain(..50);
    let stats = inspect::stats(&address).unwrap();
    assert_eq!((stats.clients.len(), stats.open, stats.unlisted), (100, 100, 0));
    assert!(stats.is_exact, "no connection began or ended meanwhile");
    let bytes: Vec<u64> = stats.clients.iter().map(|client| client.received.bytes).collect();
    assert_eq!(bytes, (50..150).collect::<Vec<u64>>());
    assert_eq!(server.client_stats().len(), 100);
    assert_eq!((stats.received.messages, stats.received.bytes), (150, (0..150).sum()));
}
