//! Sending: the moment of writing, and the receivers.

use std::thread;

use parlour::hub::{Event, HubOptions, SlowClientPolicy};
use parlour::{ErrorKind, ServerOptions, Transport, TryRecvError};

use super::room::{Room, echo};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        messages_are_buffered_and_written_before_the_hub_sleeps,
        buffered_messages_are_written_when_they_reach_64_kib,
        flushing_writes_immediately,
        a_broadcast_reaches_every_client_that_has_joined,
        a_message_for_some_clients_reaches_these_alone,
        a_broadcast_except_one_reaches_all_others,
        a_message_for_some_clients_returns_those_that_did_not_get_it,
        sending_to_a_client_that_has_left_does_nothing,
        a_message_that_is_too_long_is_an_error_and_nothing_is_sent,
        every_length_is_sent_whole_and_in_order,
        a_client_that_sends_requests_faster_than_it_reads_replies_is_delayed_and_not_slow;
}

fn messages_are_buffered_and_written_before_the_hub_sleeps(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for number in 0..10 {
        room.hub.send(client, data::message(number, 100)).unwrap();
    }
    assert_eq!(room.hub.write_buffer_len(client), 10 * 104);
    assert!(matches!(connection.try_recv(), Err(TryRecvError::Empty)), "nothing was written yet");
    room.assert_quiet();
    assert_eq!(room.hub.write_buffer_len(client), 0);
    for number in 0..10 {
        data::check(&connection.try_recv().unwrap().unwrap(), number, 100);
    }
}

fn buffered_messages_are_written_when_they_reach_64_kib(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for number in 0..64 {
        room.hub.send(client, data::message(number, 1020)).unwrap();
    }
    assert_eq!(room.hub.write_buffer_len(client), 64 * 1024);
    assert!(matches!(connection.try_recv(), Err(TryRecvError::Empty)), "nothing was written yet");
    room.hub.send(client, data::message(64, 1020)).unwrap();
    assert!(room.hub.write_buffer_len(client) < 64 * 1024);
    data::check(&connection.try_recv().unwrap().unwrap(), 0, 1020);
    for number in 1..65 {
        room.assert_quiet();
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 1020);
    }
}

fn flushing_writes_immediately(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    room.hub.send(client, b"now").unwrap();
    room.hub.flush().unwrap();
    assert_eq!(room.hub.write_buffer_len(client), 0);
    assert_eq!(connection.try_recv().unwrap().unwrap(), b"now");
}

fn a_broadcast_reaches_every_client_that_has_joined(transport: Transport) {
    let mut room = Room::new(transport);
    let (gone, leaving) = room.join();
    let mut connections: Vec<_> = (0..5).map(|_| room.join().1).collect();
    drop(leaving);
    room.closed(gone);
    for number in 0..3 {
        assert_eq!(room.hub.broadcast(data::message(number, 10 * number)).unwrap(), []);
    }
    room.assert_quiet();
    for connection in &mut connections {
        for number in 0..3 {
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 10 * number);
        }
    }
    assert!(connections.iter().all(|connection| !connection.has_message()));
}

fn a_message_for_some_clients_reaches_these_alone(transport: Transport) {
    let mut room = Room::new(transport);
    let (gone, leaving) = room.join();
    let (clients, mut connections): (Vec<_>, Vec<_>) = (0..4).map(|_| room.join()).unzip();
    drop(leaving);
    room.closed(gone);
    let some = [clients[0], gone, clients[2], clients[2]];
    assert_eq!(room.hub.send_to(some, b"for some").unwrap(), []);
    assert_eq!(room.hub.send_to([], b"for nobody").unwrap(), []);
    let handle = room.hub.handle().unwrap();
    handle.send_to(clients[1..3].iter().copied(), b"of another thread").unwrap();
    room.assert_quiet();
    for (connection, times) in connections.iter_mut().zip([1, 0, 2, 0]) {
        for _ in 0..times {
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"for some");
        }
    }
    for connection in &mut connections[1..3] {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"of another thread");
    }
    assert!(connections.iter().all(|connection| !connection.has_message()));
}

fn a_broadcast_except_one_reaches_all_others(transport: Transport) {
    let mut room = Room::new(transport);
    let (clients, mut connections): (Vec<_>, Vec<_>) = (0..3).map(|_| room.join()).unzip();
    let handle = room.hub.handle().unwrap();
    assert_eq!(room.hub.broadcast_except(clients[1], b"one").unwrap(), []);
    handle.broadcast_except(clients[0], b"two").unwrap();
    room.assert_quiet();
    let expected: [&[&[u8]]; 3] = [&[b"one"], &[b"two"], &[b"one", b"two"]];
    for (connection, expected) in connections.iter_mut().zip(expected) {
        for message in expected {
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), *message);
        }
        assert!(!connection.has_message());
    }
}

fn a_message_for_some_clients_returns_those_that_did_not_get_it(transport: Transport) {
    let server = ServerOptions::new().ring_size(64 * 1024);
    let options = HubOptions::from(server).write_buffer_max(100_000).slow_client_policy(SlowClientPolicy::Refuse);
    let mut room = Room::with(transport, &options);
    let (first, mut one) = room.join();
    let (slow, _stopped) = room.join();
    let (third, mut three) = room.join();
    while room.hub.send(slow, &[0; 10_000]).is_ok() {}
    assert_eq!(room.hub.send_to([slow, third], &[b'b'; 10_000]).unwrap(), [slow]);
    assert_eq!(room.hub.broadcast_except(third, &[b'b'; 10_000]).unwrap(), [slow]);
    assert_eq!(room.hub.broadcast_except(slow, b"").unwrap(), []);
    room.assert_quiet();
    for connection in [&mut one, &mut three] {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), [b'b'; 10_000].as_slice());
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"");
    }
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [first, slow, third]);
}

fn sending_to_a_client_that_has_left_does_nothing(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, connection) = room.join();
    drop(connection);
    // The caller sees no difference before and after the hub notices the end.
    for _ in 0..3 {
        room.hub.send(client, data::message(1, 100_000)).unwrap();
        room.hub.broadcast(b"broadcast").unwrap();
    }
    loop {
        match room.event() {
            Event::Finished(who) if who == client => {}
            Event::Left(who, _) if who == client => break,
            other => panic!("{other:?}"),
        }
    }
    room.hub.send(client, b"late").unwrap();
    room.assert_quiet();
}

fn a_message_that_is_too_long_is_an_error_and_nothing_is_sent(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().message_max(1000).into());
    let (client, mut connection) = room.join();
    for error in [room.hub.send(client, &[0; 1001]).unwrap_err(), room.hub.broadcast(&[0; 1001]).map(drop).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::MessageTooLong);
        assert!(error.to_string().contains("1001 bytes and 1000 are allowed"), "{error}");
    }
    room.hub.send(client, data::message(1, 1000)).unwrap();
    room.assert_quiet();
    data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), 1, 1000);
}

fn every_length_is_sent_whole_and_in_order(transport: Transport) {
    let lengths = [0, 1, 3, 65_531, 65_532, 65_533, 0, 70_000, 1_000_000, 5_000_000, 7, 16 * 1024 * 1024];
    // All messages are buffered at the same time.
    let mut room = Room::with(transport, &HubOptions::new().write_buffer_max(64 * 1024 * 1024));
    let (client, mut connection) = room.join();
    for (number, &length) in lengths.iter().enumerate() {
        room.hub.send(client, data::message(number, length)).unwrap();
    }
    let reading = thread::spawn(move || {
        for (number, &length) in lengths.iter().enumerate() {
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
        }
    });
    room.closed(client);
    reading.join().unwrap();
}

/// The write buffer holds a small part of what is sent.
fn a_client_that_sends_requests_faster_than_it_reads_replies_is_delayed_and_not_slow(transport: Transport) {
    const MESSAGES: usize = 300;
    const LENGTH: usize = 50_000;
    for slow_client_policy in [SlowClientPolicy::Disconnect, SlowClientPolicy::Refuse] {
        let mut room =
            Room::with(transport, &HubOptions::new().write_buffer_max(200_000).slow_client_policy(slow_client_policy));
        let (client, connection) = room.join();
        let shutdown = room.hub.shutdown_handle();
        let (mut sender, mut receiver) = connection.split();
        thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    sender.send(data::message(number, LENGTH)).unwrap();
                }
                sender.finish().unwrap();
                sender
            });
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    data::check(&receiver.recv_timeout(DEADLINE).unwrap().unwrap(), number, LENGTH);
                }
                assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), None);
                shutdown.shutdown();
            });
            let left = echo(&mut room.hub);
            assert!(left.iter().all(|(who, why)| *who == client && why.to_string().contains("closed")), "{left:?}");
        });
    }
}
