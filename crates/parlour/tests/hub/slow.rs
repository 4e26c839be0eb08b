//! Clients that do not receive what is sent to them.

use std::thread;
use std::time::{Duration, Instant};

use parlour::hub::{Client, DisconnectReason, Event, HubOptions, SlowClientPolicy};
use parlour::{Connection, ErrorKind, ServerOptions, Transport, TryRecvError};

use super::room::{Room, echo};
use crate::support::wait::Sleeper;
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        the_write_buffer_holds_exactly_its_limit,
        a_message_for_an_empty_write_buffer_is_always_accepted,
        a_slow_client_is_disconnected_and_that_is_reported,
        a_message_for_a_slow_client_is_refused_until_it_receives,
        a_broadcast_returns_the_clients_that_did_not_get_it,
        the_hub_waits_for_a_slow_client_and_nothing_is_lost,
        the_hub_waits_for_a_slow_client_no_longer_than_its_timeout,
        shutdown_ends_the_wait_for_a_slow_client,
        a_client_that_sends_without_ever_receiving_does_not_block_others;
}

const WRITE_BUFFER_MAX: usize = 100_000;

fn options(slow_client_policy: SlowClientPolicy) -> HubOptions {
    // The smallest rings, so that they are full soon.
    let server = ServerOptions::new().ring_size(64 * 1024);
    HubOptions::from(server).write_buffer_max(WRITE_BUFFER_MAX).slow_client_policy(slow_client_policy)
}

/// Sends messages until one is refused. Returns how many were accepted.
fn fill(room: &mut Room, client: Client, length: usize) -> usize {
    let mut count = 0;
    loop {
        match room.hub.send(client, data::message(count, length)) {
            Ok(()) => count += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                assert!(error.to_string().contains(&format!("write buffer of client {client} is full")), "{error}");
                return count;
            }
        }
        assert!(count < 1_000_000, "the write buffer is never full");
    }
}

fn receive(connection: &mut Connection, count: usize, length: usize) {
    for number in 0..count {
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
    }
}

fn the_write_buffer_holds_exactly_its_limit(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = room.join();
    let mut count = 0;
    while room.hub.write_buffer_len(client) + 2 * 1004 <= WRITE_BUFFER_MAX {
        room.hub.send(client, data::message(count, 1000)).unwrap();
        count += 1;
    }
    // The longest message that still fits. Each message takes four bytes for its length.
    let fits = WRITE_BUFFER_MAX - room.hub.write_buffer_len(client) - 4;
    assert_eq!(room.hub.send(client, data::message(1, fits + 1)).unwrap_err().kind(), ErrorKind::Busy);
    room.hub.send(client, data::message(2, fits)).unwrap();
    assert_eq!(room.hub.write_buffer_len(client), WRITE_BUFFER_MAX);
    assert_eq!(room.hub.send(client, b"").unwrap_err().kind(), ErrorKind::Busy);
    // When the client has received some messages, the next one fits.
    let mut received = 0;
    while room.hub.write_buffer_len(client) > WRITE_BUFFER_MAX - 4 {
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), received, 1000);
        received += 1;
        room.assert_quiet();
    }
    room.hub.send(client, b"").unwrap();
    let hub = &mut room.hub;
    thread::scope(|scope| {
        let shutdown = hub.shutdown_handle();
        scope.spawn(move || {
            for number in received..count {
                data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, 1000);
            }
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), 2, fits);
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"");
            shutdown.shutdown();
        });
        assert!(echo(hub).is_empty());
    });
}

fn a_message_for_an_empty_write_buffer_is_always_accepted(transport: Transport) {
    const LONG: usize = 16_000_000;
    for write_buffer_max in [0, 10] {
        let mut room = Room::with(
            transport,
            &HubOptions::new().write_buffer_max(write_buffer_max).slow_client_policy(SlowClientPolicy::Refuse),
        );
        let (client, mut connection) = room.join();
        room.hub.send(client, data::message(1, LONG)).unwrap();
        assert!(room.hub.write_buffer_len(client) > 0, "the kernel does not take the whole message");
        assert_eq!(room.hub.send(client, b"one more").unwrap_err().kind(), ErrorKind::Busy);
        let reading = thread::spawn(move || {
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), 1, LONG);
            connection
        });
        while room.hub.write_buffer_len(client) > 0 {
            assert!(room.hub.next_event_timeout(Duration::from_millis(10)).is_err());
        }
        let mut connection = reading.join().unwrap();
        room.hub.send(client, b"one more").unwrap();
        room.assert_quiet();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"one more");
    }
}

fn a_slow_client_is_disconnected_and_that_is_reported(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Disconnect));
    let (slow, mut stopped) = room.join();
    let (other, mut connection) = room.join();
    let mut sent = 0;
    let why = loop {
        assert_eq!(room.hub.broadcast(data::message(sent, 1000)).unwrap(), []);
        sent += 1;
        // The other client keeps up.
        room.hub.flush().unwrap();
        let event = room.hub.try_next_event();
        data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), sent - 1, 1000);
        match event {
            Err(TryRecvError::Empty) => assert!(sent < 1_000_000, "the client never counts as slow"),
            Ok(Event::Left(client, why)) if client == slow => break why,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(why, DisconnectReason::Slow), "{why:?}");
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [other]);
    // The client receives what the kernel had buffered, and then the end.
    let mut received = 0;
    let end = loop {
        match stopped.recv_timeout(DEADLINE) {
            Ok(Some(message)) => data::check(&message, received, 1000),
            end => break end,
        }
        received += 1;
    };
    assert!(received > 0 && received < sent);
    // The last message may have been sent in part.
    match end {
        Ok(end) => assert_eq!(end, None),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Truncated);
            assert!(error.to_string().contains("received too slowly"), "{error}");
        }
    }
}

fn a_message_for_a_slow_client_is_refused_until_it_receives(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (client, mut connection) = room.join();
    let (other, mut others) = room.join();
    let count = fill(&mut room, client, 1000);
    room.hub.send(other, b"not disturbed").unwrap();
    room.assert_quiet();
    assert_eq!(others.recv_timeout(DEADLINE).unwrap().unwrap(), b"not disturbed");
    // Every accepted message is received while the hub runs.
    let hub = &mut room.hub;
    let shutdown = hub.shutdown_handle();
    thread::scope(|scope| {
        scope.spawn(move || {
            receive(&mut connection, count, 1000);
            assert!(!connection.has_message());
            connection.send(b"and back").unwrap();
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"and back");
            shutdown.shutdown();
        });
        assert!(echo(hub).is_empty());
    });
}

fn a_broadcast_returns_the_clients_that_did_not_get_it(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (first, mut one) = room.join();
    let (slow, _stopped) = room.join();
    let (third, mut three) = room.join();
    fill(&mut room, slow, 10_000);
    assert_eq!(room.hub.broadcast(&[b'b'; 10_000]).unwrap(), [slow]);
    room.assert_quiet();
    for connection in [&mut one, &mut three] {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), [b'b'; 10_000].as_slice());
    }
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [first, slow, third]);
}

fn the_hub_waits_for_a_slow_client_and_nothing_is_lost(transport: Transport) {
    const MESSAGES: usize = 1000;
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(DEADLINE)));
    let (client, mut connection) = room.join();
    let (other, mut others) = room.join();
    // A message for another client is not delayed.
    room.hub.send(other, b"before the wait").unwrap();
    let hub = &mut room.hub;
    thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(others.recv_timeout(DEADLINE).unwrap().unwrap(), b"before the wait");
            // The client receives only now, so the message was sent while the hub waited.
            receive(&mut connection, MESSAGES, 3000);
            (connection, others)
        });
        for number in 0..MESSAGES {
            hub.send(client, data::message(number, 3000)).unwrap();
            assert!(hub.write_buffer_len(client) <= WRITE_BUFFER_MAX);
        }
        while hub.write_buffer_len(client) > 0 {
            // The clients may disconnect as soon as they have everything.
            drop(hub.next_event_timeout(Duration::from_millis(10)));
        }
    });
}

fn the_hub_waits_for_a_slow_client_no_longer_than_its_timeout(transport: Transport) {
    let timeout = Duration::from_millis(200);
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(timeout)));
    let (client, _stopped) = room.join();
    let begin = Instant::now();
    let mut sent = 0;
    while room.hub.peer(client).is_some() {
        room.hub.send(client, &[1; 10_000]).unwrap();
        sent += 1;
        assert!(sent < 100_000, "the client is never disconnected");
    }
    assert!(begin.elapsed() >= timeout && begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());
    assert!(matches!(room.left(client), DisconnectReason::Slow));
}

fn shutdown_ends_the_wait_for_a_slow_client(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(Duration::MAX)));
    let (client, stopped) = room.join();
    let shutdown = room.hub.shutdown_handle();
    let waiting = Sleeper::start(move || {
        let error = loop {
            if let Err(error) = room.hub.send(client, &[1; 10_000]) {
                break error;
            }
        };
        (error, room)
    });
    shutdown.shutdown();
    let ((error, room), _) = waiting.result();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [client], "shutdown does not disconnect the client");
    drop(stopped);
}

/// The other clients are served, whatever the policy does with the slow one.
fn a_client_that_sends_without_ever_receiving_does_not_block_others(transport: Transport) {
    for slow_client_policy in
        [SlowClientPolicy::Disconnect, SlowClientPolicy::Refuse, SlowClientPolicy::Wait(Duration::from_millis(300))]
    {
        let mut room = Room::with(transport, &options(slow_client_policy));
        let (_, mut flooding) = room.join();
        let (_, mut polite) = room.join();
        let hub = &mut room.hub;
        let shutdown = hub.shutdown_handle();
        thread::scope(|scope| {
            scope.spawn(move || {
                // Send until the hub stops reading from this client, or disconnects it.
                let message = [b'x'; 5000];
                while flooding.send_timeout(&message, Duration::from_millis(700)).is_ok() {}
                for number in 0..20 {
                    polite.send(data::message(number, 1000)).unwrap();
                    data::check(&polite.recv_timeout(DEADLINE).unwrap().unwrap(), number, 1000);
                }
                shutdown.shutdown();
                drop(flooding);
            });
            echo(hub);
        });
    }
}
