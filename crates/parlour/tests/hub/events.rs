//! The events of a hub, and their order.

use std::os::fd::AsFd;

use parlour::hub::{DisconnectReason, Event, HubOptions};
use parlour::{ConnectOptions, ErrorKind, Payload, ServerOptions, Transport};

use super::room::{Room, failure};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_client_joins_sends_and_leaves,
        every_message_comes_before_the_end,
        every_message_of_a_killed_client_comes_before_the_end,
        a_message_truncated_by_a_killed_client_disconnects_only_that_client,
        a_message_that_is_too_long_disconnects_only_its_client,
        a_client_that_has_finished_still_receives,
        the_hub_still_receives_after_it_has_finished,
        finishing_waits_until_everything_was_written,
        a_client_that_disconnects_after_it_has_finished_leaves,
        a_client_that_does_not_receive_any_more_is_still_received_from,
        disconnecting_ends_a_client_after_what_was_sent_to_it,
        a_client_number_is_never_reused,
        clients_are_those_that_have_joined_and_not_left,
        descriptors_arrive_with_their_message_where_they_are_allowed,
        a_client_has_the_capabilities_of_its_transport;
}

fn a_client_joins_sends_and_leaves(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let peer = room.hub.peer(client).unwrap();
    assert_eq!(peer.uid(), Some(rustix::process::geteuid().as_raw()));
    assert_eq!(peer.pid(), Some(std::process::id()));
    assert_eq!(room.hub.transport(client), Some(transport));
    connection.send(b"hello").unwrap();
    assert_eq!(room.message(client), b"hello");
    room.hub.send(client, b"welcome").unwrap();
    room.assert_quiet();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"welcome");
    connection.close().unwrap();
    room.closed(client);
    room.assert_quiet();
    assert_eq!(room.hub.peer(client), None);
}

fn every_message_comes_before_the_end(transport: Transport) {
    const MESSAGES: usize = 300;
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for number in 0..MESSAGES {
        connection.feed(data::message(number, number % 50)).unwrap();
    }
    connection.close().unwrap();
    for number in 0..MESSAGES {
        data::check(&room.message(client), number, number % 50);
    }
    room.closed(client);
}

fn every_message_of_a_killed_client_comes_before_the_end(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut child) = room.join_child();
    let filled = child.ask("fill 1000");
    child.kill();
    // The last message may have been sent in part.
    let count: usize = filled.strip_prefix("filled ").unwrap().parse().unwrap();
    for number in 0..count - 1 {
        data::check(&room.message(client), number, 1000);
    }
    match room.event() {
        Event::Message(from, message) if from == client => {
            data::check(&message, count - 1, 1000);
            assert!(matches!(room.left(client), DisconnectReason::Closed));
        }
        Event::Left(from, why) if from == client => assert_eq!(failure(why), ErrorKind::Truncated),
        other => panic!("{other:?}"),
    }
}

fn a_message_truncated_by_a_killed_client_disconnects_only_that_client(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut child) = room.join_child();
    let (other, mut connection) = room.join();
    assert_eq!(child.ask("try-send 8000000"), "sent");
    child.kill();
    assert_eq!(failure(room.left(client)), ErrorKind::Truncated);
    connection.send(b"still here").unwrap();
    assert_eq!(room.message(other), b"still here");
}

fn a_message_that_is_too_long_disconnects_only_its_client(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().message_max(1000).into());
    let (client, mut connection) = room.join();
    let (other, mut others) = room.join();
    connection.send(data::message(1, 1000)).unwrap();
    data::check(&room.message(client), 1, 1000);
    connection.send(data::message(2, 1001)).unwrap();
    let why = room.left(client);
    assert!(why.to_string().contains("1001 bytes and 1000 are allowed"), "{why}");
    assert_eq!(failure(why), ErrorKind::MessageTooLong);
    others.send(b"still here").unwrap();
    assert_eq!(room.message(other), b"still here");
}

fn a_client_that_has_finished_still_receives(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    connection.send(b"all that I have to say").unwrap();
    connection.finish().unwrap();
    assert_eq!(room.message(client), b"all that I have to say");
    assert!(matches!(room.event(), Event::Finished(who) if who == client));
    room.assert_quiet();
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [client]);
    for number in 0..3 {
        room.hub.send(client, data::message(number, 5)).unwrap();
        room.assert_quiet();
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 5);
    }
    room.hub.send(client, b"the last").unwrap();
    room.hub.finish(client).unwrap();
    assert!(matches!(room.left(client), DisconnectReason::Closed));
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"the last");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    room.assert_quiet();
}

fn the_hub_still_receives_after_it_has_finished(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    room.hub.send(client, b"the last").unwrap();
    room.hub.finish(client).unwrap();
    room.hub.send(client, b"too late").unwrap();
    room.assert_quiet();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"the last");
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    connection.send(b"and I have more to say").unwrap();
    assert_eq!(room.message(client), b"and I have more to say");
    connection.finish().unwrap();
    assert!(matches!(room.left(client), DisconnectReason::Closed));
}

fn finishing_waits_until_everything_was_written(transport: Transport) {
    const LENGTH: usize = 16_000_000;
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    room.hub.send(client, data::message(7, LENGTH)).unwrap();
    assert!(room.hub.write_buffer_len(client) > 0, "the kernel does not take the whole message");
    room.hub.finish(client).unwrap();
    let reading = std::thread::spawn(move || {
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), 7, LENGTH);
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    });
    room.closed(client);
    reading.join().unwrap();
}

fn a_client_that_disconnects_after_it_has_finished_leaves(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    connection.finish().unwrap();
    assert!(matches!(room.event(), Event::Finished(who) if who == client));
    room.assert_quiet();
    drop(connection);
    assert!(matches!(room.left(client), DisconnectReason::Closed));
    room.assert_quiet();
}

fn a_client_that_does_not_receive_any_more_is_still_received_from(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, connection) = room.join();
    let (mut sender, receiver) = connection.split();
    drop(receiver);
    for number in 0..3 {
        room.hub.send(client, b"not received").unwrap();
        room.assert_quiet();
        sender.send(data::message(number, 100)).unwrap();
        data::check(&room.message(client), number, 100);
    }
    drop(sender);
    // The end of the client reports that something was not received, where the transport can tell.
    match room.left(client) {
        DisconnectReason::Failed(error) => assert_eq!(error.kind(), ErrorKind::Disconnected),
        why => panic!("{why:?}"),
    }
}

fn disconnecting_ends_a_client_after_what_was_sent_to_it(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    connection.send(b"not received").unwrap();
    room.hub.send(client, b"goodbye").unwrap();
    room.hub.disconnect(client).unwrap();
    assert!(matches!(room.left(client), DisconnectReason::Disconnected));
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"goodbye");
    // The client sees that its message was not received, where the transport can tell.
    match connection.recv_timeout(DEADLINE) {
        Ok(end) => assert_eq!(end, None),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected),
    }
    room.hub.disconnect(client).unwrap();
    room.assert_quiet();
}

fn a_client_number_is_never_reused(transport: Transport) {
    let mut room = Room::new(transport);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (client, connection) = room.join();
        assert!(seen.last().is_none_or(|last| *last < client), "{client} after {seen:?}");
        for &gone in &seen {
            room.hub.send(gone, b"for a client that has left").unwrap();
            room.hub.finish(gone).unwrap();
            room.hub.disconnect(gone).unwrap();
            assert_eq!((room.hub.peer(gone), room.hub.write_buffer_len(gone)), (None, 0));
        }
        room.assert_quiet();
        assert!(!connection.has_message());
        drop(connection);
        room.closed(client);
        seen.push(client);
    }
    assert_eq!(seen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
}

fn clients_are_those_that_have_joined_and_not_left(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new());
    let (first, one) = room.join_with(&ConnectOptions::new());
    let (second, _two) = room.join();
    let (third, _three) = room.join();
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [first, second, third]);
    drop(one);
    room.closed(first);
    let (fourth, _four) = room.join();
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [second, third, fourth]);
}

fn descriptors_arrive_with_their_message_where_they_are_allowed(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().fds_max(2).into());
    let (client, mut connection) = room.join();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let sent = connection.send(Payload::new(b"take this").fds(&[writer.as_fd()]));
    if !room.hub.capabilities(client).unwrap().descriptors {
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Unsupported);
        return;
    }
    sent.unwrap();
    connection.send(b"and no more").unwrap();
    let mut message = room.message(client);
    assert_eq!(message, b"take this");
    assert_eq!(room.message(client).fds().len(), 0);
    drop((writer, connection));
    let [fd] = <[_; 1]>::try_from(message.take_fds()).unwrap();
    assert_eq!(rustix::io::write(fd, b"x"), Ok(1));
    assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(1));
    assert_eq!(rustix::io::read(&reader, &mut [0; 2]), Ok(0), "the descriptor was the last copy");
    room.closed(client);
}

fn a_client_has_the_capabilities_of_its_transport(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().message_max(1000).into());
    let (client, connection) = room.join_with(&ConnectOptions::new().message_max(1000));
    assert_eq!(room.hub.capabilities(client), Some(connection.capabilities()));
    drop(connection);
    room.closed(client);
    assert_eq!(room.hub.capabilities(client), None);
}
