//! Nothing is left after a peer was killed.

use std::collections::BTreeSet;
use std::fs;

use parlour::{Connection, Server, Transport};

use crate::support::baseline::Baseline;
use crate::support::{Base, Child, DEADLINE, Role, data, eventually, trials};

trials! {
    nothing_is_left_of_a_server_that_is_killed_in_mid_stream,
    nothing_is_left_of_a_client_that_is_killed_in_mid_stream,
    an_idle_connection_costs_one_descriptor,
}

pub const STREAM: Role = Role { name: "stream", play: stream };

/// `stream ADDRESS`: connects, prints `streaming`, and sends messages without end.
fn stream(arguments: &[String]) {
    let mut connection = Connection::connect(&arguments[0]).unwrap();
    println!("streaming");
    for number in 0.. {
        if connection.send(data::message(number, 30_000)).is_err() {
            return;
        }
    }
}

fn shared_memory() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return BTreeSet::new() };
    // Other programs may have files in /dev/shm.
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("parlour")).collect()
}

fn nothing_is_left_of_a_server_that_is_killed_in_mid_stream() {
    let before = shared_memory();
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let mut client = Connection::connect(&address).unwrap();
    for number in 0..100 {
        client.send(data::message(number, 50_000)).unwrap();
        data::check(&client.recv().unwrap().unwrap(), number, 50_000);
    }
    let _ = client.try_send(data::message(0, 1 << 20));
    server.kill();
    while let Ok(Some(_)) = client.recv_timeout(DEADLINE) {}
    assert!(client.send(b"too late").is_err());
    assert_eq!(shared_memory(), before);
    // The name is free, and the next server removes the socket of the dead server.
    Server::bind(&address).unwrap().close().unwrap();
    assert_eq!(base.files(), [""; 0]);
}

fn nothing_is_left_of_a_client_that_is_killed_in_mid_stream() {
    let before = shared_memory();
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    // When the server has answered, all of its threads except those of later clients exist.
    let mut early = Connection::connect(&address).unwrap();
    early.send(b"hello").unwrap();
    assert_eq!(early.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    let held = Baseline::of(server.pid());
    for _ in 0..5 {
        let mut client = Child::spawn("stream", &[&address]);
        client.expect("streaming");
        client.kill();
    }
    held.assert_restored(server.pid());
    assert_eq!(shared_memory(), before);
    eventually("no file of a client is left", || {
        base.files() == ["hall/", "hall/c/", "hall/control", "hall/lock", "hall/shm"]
    });
    server.finish();
}

fn an_idle_connection_costs_one_descriptor() {
    let base = Base::new();
    let address = base.address(Transport::Shm, "hall");
    let mut server = Child::spawn("echo-server", &[&address]);
    server.expect("ready");
    let before = Baseline::of(server.pid()).descriptors.len();
    let mut clients: Vec<_> = (0..4).map(|_| Connection::connect(&address).unwrap()).collect();
    for client in &mut clients {
        client.send(b"hello").unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    }
    assert_eq!(Baseline::of(server.pid()).descriptors.len(), before + clients.len());
    server.finish();
}
