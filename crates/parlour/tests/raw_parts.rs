//! Taking a connection apart into descriptors, and what a connection that cannot be taken apart keeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::File;
use std::io::{ErrorKind as IoKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use parlour::{Connection, ErrorKind, RawFds, RawParts, Server, ServerOptions, Transport};
use support::{Base, DEADLINE, trials};

trials! {
    a_connection_over_unix_is_one_socket,
    a_connection_over_fifo_is_two_fifos,
    what_a_guard_counts_is_in_the_counters_of_the_server,
    a_connection_counts_against_the_limit_until_its_guard_is_dropped;

    for transport in [Transport::Packet, Transport::Shm] =>
        a_connection_that_cannot_be_taken_apart_is_returned_unchanged;

    for transport in [Transport::Unix, Transport::Fifo] =>
        a_connection_with_buffered_bytes_is_returned_and_loses_none;
}

fn main() -> ExitCode {
    support::run(&[], &[trials])
}

fn pair(base: &Base, transport: Transport) -> (Server, Connection, Connection) {
    let address = base.address(transport, "room");
    let server = Server::bind(&address).unwrap();
    let connecting = std::thread::spawn(move || Connection::connect(address).unwrap());
    let served = server.accept_timeout(DEADLINE).unwrap();
    (server, connecting.join().unwrap(), served)
}

fn exchange(reader: &mut impl Read, writer: &mut impl Write, other: &mut Connection) {
    other.send(b"first").unwrap();
    let mut frame = [0; 9];
    // The frame can be read already, because a write to a FIFO or a socket is visible immediately.
    reader.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\0\0\0\x05first");
    writer.write_all(b"\0\0\0\x02ok").unwrap();
    assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"ok");
}

fn a_connection_over_unix_is_one_socket() {
    let base = Base::new();
    let (_server, mut client, served) = pair(&base, Transport::Unix);
    let pid = served.peer().pid();
    let RawParts { fds: RawFds::Unix(socket), peer, .. } = served.into_raw_parts().unwrap() else {
        panic!("the connection has no UNIX socket")
    };
    assert_eq!((peer.pid(), peer.pid()), (pid, Some(std::process::id())));
    let mut socket = UnixStream::from(socket);
    exchange(&mut socket.try_clone().unwrap(), &mut socket, &mut client);
    assert_eq!(socket.read(&mut [0]).unwrap_err().kind(), IoKind::WouldBlock);
    drop(socket);
    assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_connection_over_fifo_is_two_fifos() {
    let base = Base::new();
    let (_server, client, mut served) = pair(&base, Transport::Fifo);
    let RawParts { fds: RawFds::Fifo { recv, send }, .. } = client.into_raw_parts().unwrap() else {
        panic!("the connection has no FIFOs")
    };
    exchange(&mut File::from(recv), &mut File::from(send), &mut served);
    assert_eq!(served.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_connection_that_cannot_be_taken_apart_is_returned_unchanged(transport: Transport) {
    let base = Base::new();
    let (_server, mut client, served) = pair(&base, transport);
    let back = served.into_raw_parts().unwrap_err();
    assert_eq!(back.error.kind(), ErrorKind::Unsupported);
    let mut served = *back.connection;
    client.send(b"still here").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"still here");
}

fn a_connection_with_buffered_bytes_is_returned_and_loses_none(transport: Transport) {
    let base = Base::new();
    let (_server, mut client, mut served) = pair(&base, transport);
    client.send(b"one").unwrap();
    client.send(b"two").unwrap();
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"one");
    let mut served = *served.into_raw_parts().unwrap_err().connection;
    assert_eq!(served.recv_timeout(DEADLINE).unwrap().unwrap(), b"two");
    served.feed(b"three").unwrap();
    let mut served = *served.into_raw_parts().unwrap_err().connection;
    served.flush().unwrap();
    assert_eq!(client.recv_timeout(DEADLINE).unwrap().unwrap(), b"three");
    served.into_raw_parts().expect("all buffers are empty");
}

fn a_connection_counts_against_the_limit_until_its_guard_is_dropped() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let server = ServerOptions::new().connections_max(1).bind(&address).unwrap();
    let _first = Connection::connect(&address).unwrap();
    let RawParts { fds, guard, .. } = server.accept_timeout(DEADLINE).unwrap().into_raw_parts().unwrap();
    drop(fds);
    let _refused = Connection::connect(&address).unwrap();
    assert!(server.try_accept().unwrap_err().is_empty());
    assert_eq!(server.stats().refused, 1);
    drop(guard);
    let _second = Connection::connect(&address).unwrap();
    server.accept_timeout(DEADLINE).unwrap();
}

fn what_a_guard_counts_is_in_the_counters_of_the_server() {
    let base = Base::new();
    let address = base.address(Transport::Unix, "room");
    let server = ServerOptions::new().bind(&address).unwrap();
    let client = Connection::connect(&address).unwrap();
    let RawParts { fds, guard, .. } = server.accept_timeout(DEADLINE).unwrap().into_raw_parts().unwrap();
    guard.count_received(2, 10);
    guard.count_received(1, 5);
    guard.count_sent(1, 7);
    let seen = server.client_stats().remove(0);
    assert_eq!((seen.received.messages, seen.received.bytes), (3, 15));
    assert_eq!((seen.sent.messages, seen.sent.bytes), (1, 7));
    // That of a client counts nothing.
    client.into_raw_parts().unwrap().guard.count_sent(1, 1);
    assert_eq!(server.stats().received.messages, 3);
    drop((fds, guard));
    assert_eq!((server.stats().received.bytes, server.stats().sent.bytes), (15, 7), "the totals stay");
}
