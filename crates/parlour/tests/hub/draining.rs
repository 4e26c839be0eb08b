//! A hub that lets no further client in and goes on with those that are connected.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parlour::hub::{Event, Hub};
use parlour::{ConnectOptions, Connection, ErrorKind, Server, Transport, TryRecvError};

use super::room::{Room, event};
use crate::by_hand::cost;
use crate::support::wait::{Sleeper, readable};
use crate::support::{Base, DEADLINE, data, failure, trials};

trials! {
    for transport in Transport::ALL =>
        a_draining_hub_frees_its_name_and_serves_its_clients_until_they_leave,
        a_draining_hub_without_clients_has_ended,
        clients_that_had_connected_before_join unless needs_an_answer(transport),
        a_shutdown_ends_a_draining_hub_at_once,
        a_draining_hub_sleeps_whatever_the_next_server_does,
        a_poll_loop_sees_the_end_of_a_draining_hub,
        threads_still_send_through_a_draining_hub,
        hubs_that_drain_under_load_lose_no_client;
}

fn needs_an_answer(transport: Transport) -> Option<&'static str> {
    matches!(transport, Transport::Shm | Transport::Fifo)
        .then_some("a client is connected when the server has answered it")
}

fn a_draining_hub_frees_its_name_and_serves_its_clients_until_they_leave(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let (other, mut others) = room.join();
    room.hub.drain().unwrap();
    assert_eq!(Connection::connect(&room.address).unwrap_err().kind(), ErrorKind::NoServer);
    let next = Server::bind(&room.address).unwrap();
    for number in 0..3 {
        connection.send(data::message(number, 100)).unwrap();
        data::check(&room.message(client), number, 100);
        assert_eq!(room.hub.broadcast(data::message(number, 200)).unwrap(), []);
        room.assert_quiet();
        for connection in [&mut connection, &mut others] {
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 200);
        }
        room.hub.drain().unwrap();
    }
    drop(connection);
    room.closed(client);
    room.assert_quiet();
    drop(others);
    room.closed(other);
    for _ in 0..2 {
        let error = room.hub.next_event().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shutdown);
        assert!(error.to_string().contains("the last one has left"), "{error}");
        assert_eq!(failure(room.hub.try_next_event()).kind(), ErrorKind::Shutdown);
    }
    room.hub.close().unwrap();
    assert!(next.path().join(transport.to_string()).exists(), "the files of the next server stay");
    next.close().unwrap();
}

fn a_draining_hub_without_clients_has_ended(transport: Transport) {
    let mut room = Room::new(transport);
    room.hub.drain().unwrap();
    assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(room.base.files(), [""; 0], "the directory of the name is gone");
    drop(room.hub);
}

fn clients_that_had_connected_before_join(transport: Transport) {
    const CLIENTS: usize = 40;
    let mut room = Room::new(transport);
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| Connection::connect(&room.address).unwrap()).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(data::message(number, 50)).unwrap();
    }
    room.hub.drain().unwrap();
    let next = Server::bind(&room.address).unwrap();
    let mut joined = 0;
    while joined < CLIENTS {
        match room.event() {
            Event::Joined(..) => joined += 1,
            Event::Message(client, message) => room.hub.send(client, &message).unwrap(),
            other => panic!("{other:?}"),
        }
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            for (number, mut connection) in connections.into_iter().enumerate() {
                data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 50);
            }
        });
        serve(&mut room.hub, || {});
    });
    drop(next);
}

/// Echoes until the hub ends.
fn serve(hub: &mut Hub, mut on_join: impl FnMut()) {
    loop {
        match hub.next_event() {
            Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
            Ok(Event::Joined(..)) => on_join(),
            Ok(Event::Finished(client)) => hub.finish(client).unwrap(),
            Ok(_) => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Shutdown, "{error}"),
        }
    }
}

fn a_shutdown_ends_a_draining_hub_at_once(transport: Transport) {
    for is_released in [true, false] {
        let mut room = Room::new(transport);
        let (_, connection) = room.join();
        let shutdown = room.hub.shutdown_handle();
        if is_released {
            room.hub.drain().unwrap();
        }
        let waiting = Sleeper::start(move || {
            let error = room.hub.next_event().unwrap_err();
            if !is_released {
                room.hub.drain().unwrap_err();
            }
            (error, room)
        });
        shutdown.shutdown();
        let ((error, room), _) = waiting.result();
        assert_eq!(error.kind(), ErrorKind::Shutdown);
        assert!(!error.to_string().contains("has left"), "{error}");
        room.hub.close().unwrap();
        drop(connection);
    }
}

/// The next server creates and removes files in the directory that the hub has watched.
fn a_draining_hub_sleeps_whatever_the_next_server_does(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, connection) = room.join();
    room.hub.drain().unwrap();
    let address = &room.address;
    let hub = &mut room.hub;
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            tell.send(cost::this_thread()).unwrap();
            serve(hub, || {});
        });
        let task = told.recv().unwrap();
        for _ in 0..3 {
            Server::bind(address).unwrap().close().unwrap();
        }
        cost::until_asleep(&task);
        let cost = cost::of_thread(&task, Duration::from_millis(300));
        drop(connection);
        assert!(cost.sleeps <= 5 && cost.ran < Duration::from_millis(20), "cost of 0.3 seconds: {cost:?}");
    });
}

fn a_poll_loop_sees_the_end_of_a_draining_hub(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, mut connection) = room.join();
    room.hub.drain().unwrap();
    let talking = thread::spawn(move || {
        for number in 0..50 {
            connection.send(data::message(number, 100)).unwrap();
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 100);
        }
    });
    let error = 'ended: loop {
        loop {
            match room.hub.try_next_event() {
                Ok(Event::Message(client, message)) => room.hub.send(client, &message).unwrap(),
                Ok(_) => {}
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Failed(error)) => break 'ended error,
            }
        }
        assert!(readable(&room.hub), "the hub became idle before its client had left");
    };
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    talking.join().unwrap();
}

fn threads_still_send_through_a_draining_hub(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            handle.wake();
            handle.send(client, b"while it drains").unwrap();
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"while it drains");
            drop(connection);
        });
        // A signal handler or another thread asks for the drain by a wake.
        assert!(matches!(event(&mut room.hub), Event::Woken));
        room.hub.drain().unwrap();
        serve(&mut room.hub, || {});
    });
}

/// A client whose attempt to connect fails knows that and tries again. A client that has connected gets its answers
/// from the hub that it is connected to, and that hub ends only after it.
fn hubs_that_drain_under_load_lose_no_client(transport: Transport) {
    const HUBS: usize = 20;
    const TALKERS: usize = 4;
    let base = Base::new();
    let address = base.address(transport, "room");
    let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let talkers: Vec<_> = (0..TALKERS)
            .map(|_| {
                scope.spawn(|| {
                    let options = ConnectOptions::new().wait_for_server(Duration::from_millis(500));
                    while !is_over.load(Ordering::SeqCst) {
                        let Ok(mut connection) = options.connect(&address) else { continue };
                        for number in 0..3 {
                            connection.send(data::message(number, 500)).unwrap();
                            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 500);
                        }
                        calls.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut ending = Vec::new();
        for _ in 0..HUBS {
            // A hub that could not release its name within its call of `drain` does so soon.
            let mut hub = crate::support::wait::eventually_some(|| Hub::bind(&address).ok()).expect("a free name");
            let before = calls.load(Ordering::SeqCst);
            while calls.load(Ordering::SeqCst) < before + 5 {
                match hub.next_event_timeout(DEADLINE) {
                    Ok(Event::Message(client, message)) => hub.send(client, &message).unwrap(),
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            hub.drain().unwrap();
            ending.push(scope.spawn(move || serve(&mut hub, || {})));
        }
        is_over.store(true, Ordering::SeqCst);
        talkers.into_iter().for_each(|talker| talker.join().unwrap());
        ending.into_iter().for_each(|ending| ending.join().unwrap());
    });
}
