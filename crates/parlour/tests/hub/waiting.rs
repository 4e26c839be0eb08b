//! Waiting for events, with and without a deadline and in a poll loop, and shutdown.

use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::Event;
use parlour::{ErrorKind, Server, Transport, TrySendError};

use super::room::{Room, echo};
use crate::by_hand::cost;
use crate::support::wait::{Sleeper, readable, readable_within};
use crate::support::{DEADLINE, SOON, data, failure, trials};

trials! {
    for transport in Transport::ALL =>
        waiting_ends_at_the_deadline,
        a_hub_with_idle_clients_sleeps,
        a_client_that_sends_a_byte_at_a_time_does_not_extend_the_timeout,
        a_poll_loop_misses_nothing_and_does_not_spin,
        a_client_that_called_quickly_and_then_paused_wakes_the_hub,
        shutdown_ends_a_blocked_call_and_every_later_one,
        shutdown_is_reported_while_messages_arrive_without_pause,
        a_lost_name_is_reported_once_and_connected_clients_go_on;
}

fn waiting_ends_at_the_deadline(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, _connection) = room.join();
    let begin = Instant::now();
    assert!(room.hub.next_event_timeout(Duration::from_millis(50)).is_err());
    assert!(begin.elapsed() >= Duration::from_millis(50) && begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(room.hub.next_event_timeout(Duration::ZERO).is_err());
}

fn a_hub_with_idle_clients_sleeps(transport: Transport) {
    let mut room = Room::new(transport);
    let mut connections: Vec<_> = (0..10).map(|_| room.join().1).collect();
    // One client has finished, and the channel of another one is full.
    connections[0].finish().unwrap();
    assert!(matches!(room.event(), Event::Finished(_)));
    let full = room.hub.clients().nth(1).unwrap();
    while room.hub.write_buffer_len(full) < 500_000 {
        room.hub.send(full, &[0; 50_000]).unwrap();
    }
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let hub = &mut room.hub;
        scope.spawn(move || {
            tell.send(cost::this_thread()).unwrap();
            echo(hub);
        });
        let task = told.recv().unwrap();
        cost::until_asleep(&task);
        let cost = cost::of_thread(&task, Duration::from_millis(500));
        shutdown.shutdown();
        assert!(cost.sleeps <= 5 && cost.ran < Duration::from_millis(20), "cost of half a second: {cost:?}");
    });
}

fn a_client_that_sends_a_byte_at_a_time_does_not_extend_the_timeout(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let message = data::message(1, 8_000_000);
    thread::scope(|scope| {
        scope.spawn(move || {
            // Sends one long message in parts, as fast as the channel takes them.
            connection.try_send(message).unwrap();
            while stopped.try_recv().is_err() && !matches!(connection.try_flush(), Err(TrySendError::Failed(_))) {}
        });
        for _ in 0..20 {
            let begin = Instant::now();
            let event = room.hub.next_event_timeout(Duration::from_millis(1));
            assert!(begin.elapsed() < SOON);
            match event {
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
                Ok(Event::Message(from, message)) => {
                    assert_eq!(from, client);
                    data::check(&message, 1, 8_000_000);
                }
                Ok(other) => panic!("{other:?}"),
            }
        }
        stop.send(()).unwrap();
        room.hub.disconnect(client).unwrap();
    });
}

fn a_poll_loop_misses_nothing_and_does_not_spin(transport: Transport) {
    const MESSAGES: usize = 200;
    let mut room = Room::new(transport);
    let address = room.address.clone();
    let clients = thread::spawn(move || {
        for client in 0..3 {
            let mut connection = parlour::Connection::connect(&address).unwrap();
            for number in 0..MESSAGES {
                connection.send(data::message(number, 100 * client)).unwrap();
                data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 100 * client);
            }
        }
    });
    let (mut left, mut heard, mut woken) = (0, 0, 0);
    while left < 3 {
        assert!(readable(&room.hub), "the hub became idle before every client had left");
        woken += 1;
        while let Ok(event) = room.hub.try_next_event() {
            match event {
                Event::Message(client, message) => {
                    heard += 1;
                    room.hub.send(client, &message).unwrap();
                }
                Event::Left(..) => left += 1,
                Event::Refused(refusal) => panic!("{refusal}"),
                _ => {}
            }
        }
    }
    assert_eq!(heard, 3 * MESSAGES);
    assert!(woken < 20 * 3 * MESSAGES, "woken {woken} times");
    clients.join().unwrap();
    assert!(!readable_within(&room.hub, Duration::from_millis(50)), "the hub has nothing to do");
}

/// Sends messages one after the other and receives each back, so that the hub expects the next one.
fn call_quickly(connection: &mut parlour::Connection) {
    for number in 0..50 {
        connection.send(&[number]).unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), [number][..]);
    }
}

fn a_client_that_called_quickly_and_then_paused_wakes_the_hub(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, mut connection) = room.join();
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let hub = &mut room.hub;
        scope.spawn(move || {
            tell.send(cost::this_thread()).unwrap();
            echo(hub);
        });
        let task = told.recv().unwrap();
        for _ in 0..3 {
            call_quickly(&mut connection);
            cost::until_asleep(&task);
        }
        connection.send(b"still there?").unwrap();
        let answer = connection.recv_timeout(DEADLINE);
        shutdown.shutdown();
        assert_eq!(answer.unwrap().unwrap(), b"still there?");
    });
}

fn shutdown_ends_a_blocked_call_and_every_later_one(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, connection) = room.join();
    let shutdown = room.hub.shutdown_handle();
    let waiting = Sleeper::start(move || (room.hub.next_event().unwrap_err(), room));
    shutdown.shutdown();
    let ((error, mut room), _) = waiting.result();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    assert!(error.to_string().contains("'room'"), "{error}");
    assert_eq!(failure(room.hub.try_next_event()).kind(), ErrorKind::Shutdown);
    assert_eq!(room.hub.next_event_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Shutdown);
    assert!(readable(&room.hub), "a poll loop is woken, too");
    drop(connection);
}

fn shutdown_is_reported_while_messages_arrive_without_pause(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        scope.spawn(move || while connection.send(b"and on").is_ok() {});
        for _ in 0..100 {
            room.message(client);
        }
        shutdown.shutdown();
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
        room.hub.disconnect(client).unwrap();
    });
}

fn a_lost_name_is_reported_once_and_connected_clients_go_on(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    std::fs::remove_file(room.base.name("room").join(transport.to_string())).unwrap();
    let error = room.hub.next_event_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameLost, "{error}");
    for number in 0..3 {
        room.assert_quiet();
        connection.send(data::message(number, 10)).unwrap();
        data::check(&room.message(client), number, 10);
    }
    room.assert_quiet();
    assert!(!readable_within(&room.hub, Duration::from_millis(50)), "the hub has nothing to do");
    room.hub.close().unwrap();
    Server::bind(&room.address).unwrap();
}
