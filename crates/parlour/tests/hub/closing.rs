//! Closing and dropping a hub.

use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::{Event, HubOptions};
use parlour::{Connection, ErrorKind, Server, ServerOptions, Transport};

use super::room::Room;
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        closing_writes_buffered_messages_and_ends_every_connection,
        closing_waits_for_clients_to_receive,
        closing_releases_the_name_before_it_waits,
        closing_gives_up_at_its_deadline_and_reports_what_is_lost,
        ending_releases_the_name_and_keeps_what_was_not_written,
        dropping_writes_what_the_channels_take,
        dropping_does_not_wait;
}

fn closing_writes_buffered_messages_and_ends_every_connection(transport: Transport) {
    let mut room = Room::new(transport);
    let mut connections: Vec<Connection> = (0..5).map(|_| room.join().1).collect();
    room.hub.broadcast(b"goodbye").unwrap();
    room.hub.close().unwrap();
    for connection in &mut connections {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"goodbye");
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    }
    Server::bind(&room.address).unwrap();
}

/// Returns a hub with more data for two clients than the kernel takes, and none for a third client.
fn with_much_to_send(transport: Transport) -> (Room, Vec<Connection>) {
    let server = ServerOptions::new().ring_size(64 * 1024);
    let mut room = Room::with(transport, &HubOptions::from(server).write_buffer_max(10_000_000));
    let mut connections = Vec::new();
    for _ in 0..2 {
        let (client, connection) = room.join();
        connections.push(connection);
        for number in 0..10 {
            room.hub.send(client, data::message(number, 400_000)).unwrap();
        }
        assert!(room.hub.write_buffer_len(client) > 0);
    }
    connections.push(room.join().1);
    (room, connections)
}

/// Receives all that a client of [`with_much_to_send`] gets, and the end.
fn receive_all(connection: &mut Connection, count: usize) {
    for number in 0..count {
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 400_000);
    }
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
}

fn closing_waits_for_clients_to_receive(transport: Transport) {
    let (room, connections) = with_much_to_send(transport);
    thread::scope(|scope| {
        for (mut connection, count) in connections.into_iter().zip([10, 10, 0]) {
            scope.spawn(move || receive_all(&mut connection, count));
        }
        room.hub.close().unwrap();
    });
}

fn closing_releases_the_name_before_it_waits(transport: Transport) {
    let (room, connections) = with_much_to_send(transport);
    let Room { hub, address, base } = room;
    thread::scope(|scope| {
        let closing = scope.spawn(move || hub.close_timeout(DEADLINE));
        crate::support::eventually("the name is free", || Server::bind(&address).is_ok());
        drop(connections);
        closing.join().unwrap().unwrap();
    });
    drop(base);
}

fn closing_gives_up_at_its_deadline_and_reports_what_is_lost(transport: Transport) {
    let (room, connections) = with_much_to_send(transport);
    let timeout = Duration::from_millis(100);
    let begin = Instant::now();
    let error = room.hub.close_timeout(timeout).unwrap_err();
    assert!(begin.elapsed() >= timeout && begin.elapsed() < DEADLINE);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("for 2 clients"), "{error}");
    Server::bind(&room.address).unwrap();
    drop(connections);
}

fn ending_releases_the_name_and_keeps_what_was_not_written(transport: Transport) {
    let (mut room, mut connections) = with_much_to_send(transport);
    for _ in 0..2 {
        let error = room.hub.end_timeout(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    connections[2].send("still here").unwrap();
    assert!(matches!(room.event(), Event::Message(_, message) if message == b"still here"));
    let Room { mut hub, address, base } = room;
    drop(Server::bind(&address).unwrap());
    thread::scope(|scope| {
        for (mut connection, count) in connections.into_iter().zip([10, 10, 0]) {
            scope.spawn(move || receive_all(&mut connection, count));
        }
        hub.end_timeout(DEADLINE).unwrap();
        drop(hub);
    });
    drop(base);
}

fn dropping_writes_what_the_channels_take(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for number in 0..10 {
        room.hub.send(client, data::message(number, 1000)).unwrap();
    }
    drop(room.hub);
    for number in 0..10 {
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 1000);
    }
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
}

fn dropping_does_not_wait(transport: Transport) {
    let (room, mut connections) = with_much_to_send(transport);
    drop(room.hub);
    for connection in &mut connections {
        let end = loop {
            match connection.recv_timeout(DEADLINE) {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        match end {
            Ok(end) => assert_eq!(end, None),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated),
        }
    }
}
