//! The handle of a hub: other threads wake it, and send through it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use parlour::hub::{Client, DisconnectReason, Event, HubHandle, HubOptions, SlowClientPolicy};
use parlour::{Connection, ErrorKind, Payload, ServerOptions, Transport, TrySendError};

use super::room::Room;
use crate::support::wait::{Sleeper, readable, readable_within};
use crate::support::{DEADLINE, assert_tells, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_wake_ends_a_blocked_wait,
        wakes_before_the_wait_cause_one_event,
        no_wake_is_lost,
        a_wake_follows_the_messages_that_its_thread_sent_before,
        a_wake_ends_a_poll_loop_once,
        a_storm_of_wakes_does_not_keep_clients_from_being_served,
        messages_of_another_thread_are_sent_while_the_hub_waits,
        messages_of_eight_threads_arrive_complete_and_in_order,
        a_broadcast_of_another_thread_reaches_everybody_who_has_joined,
        a_full_queue_returns_the_message_and_accepts_it_later,
        a_message_that_no_hub_sends_is_refused_at_once,
        a_message_for_a_client_that_has_left_is_no_error,
        a_storm_of_messages_does_not_keep_clients_from_being_served,
        a_handle_whose_hub_has_ended_says_so,
        closing_delivers_what_was_queued_with_each_policy(policy in ["disconnect", "refuse", "wait"]),
        dropping_delivers_what_the_channels_take,
        a_slow_client_of_another_thread_is_disconnected,
        a_slow_client_that_misses_messages_of_another_thread_is_reported,
        the_hub_waits_for_a_slow_client_of_another_thread_and_nothing_is_lost,
        a_shutdown_during_that_wait_loses_and_repeats_nothing;
}

/// The smallest rings, so that they are full soon.
fn options(slow_client_policy: SlowClientPolicy) -> HubOptions {
    let server = ServerOptions::new().ring_size(64 * 1024);
    HubOptions::from(server).write_buffer_max(100_000).slow_client_policy(slow_client_policy)
}

/// Sends, and tries again while the queue is full.
fn send(handle: &HubHandle, client: Client, bytes: &[u8]) {
    crate::support::eventually("the queue has room", || match handle.send(client, bytes) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => false,
        Err(TrySendError::Failed(error)) => panic!("{error}"),
    });
}

#[track_caller]
fn failed<T: std::fmt::Debug>(result: Result<(), TrySendError<T>>) -> parlour::Error {
    match result {
        Err(TrySendError::Failed(error)) => {
            assert_tells(&error);
            error
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn receive(connection: &mut Connection, number: usize, length: usize) {
    data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), number, length);
}

fn a_wake_ends_a_blocked_wait(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let waiting = Sleeper::start(move || (room.hub.next_event().unwrap(), room));
    handle.wake();
    let ((event, mut room), _) = waiting.result();
    assert!(matches!(event, Event::Woken), "{event:?}");
    room.assert_quiet();
    drop(connection);
}

fn wakes_before_the_wait_cause_one_event(transport: Transport) {
    let mut room = Room::new(transport);
    let handle = room.hub.handle().unwrap();
    let other = room.hub.handle().unwrap();
    for _ in 0..3 {
        handle.wake();
        other.clone().wake();
    }
    assert!(matches!(room.event(), Event::Woken));
    room.assert_quiet();
}

fn no_wake_is_lost(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..2000_usize {
                // A message of the client is on its way at the same time.
                if number % 3 == 0 {
                    connection.send(b"hello").unwrap();
                }
                handle.wake();
                told.recv_timeout(DEADLINE).expect("the hub was woken");
            }
            connection
        });
        let (mut woken, mut heard) = (0, 0);
        while woken < 2000 || heard < 667 {
            match room.event() {
                Event::Woken => {
                    woken += 1;
                    tell.send(()).unwrap();
                }
                Event::Message(from, _) if from == client => heard += 1,
                other => panic!("{other:?}"),
            }
        }
    });
}

fn a_wake_follows_the_messages_that_its_thread_sent_before(transport: Transport) {
    const MESSAGES: usize = 2000;
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..MESSAGES {
                send(&handle, client, &number.to_be_bytes());
            }
            handle.wake();
        });
        scope.spawn(move || {
            for number in 0..MESSAGES {
                assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), number.to_be_bytes()[..]);
            }
            assert!(connection.recv_timeout(DEADLINE).unwrap().is_none(), "the hub has finished");
        });
        assert!(matches!(room.event(), Event::Woken));
        room.hub.finish(client).unwrap();
        while !matches!(room.event(), Event::Left(..)) {}
    });
}

fn a_wake_ends_a_poll_loop_once(transport: Transport) {
    let mut room = Room::new(transport);
    let (_, _connection) = room.join();
    let handle = room.hub.handle().unwrap();
    room.assert_quiet();
    assert!(!readable_within(&room.hub, Duration::from_millis(20)), "the hub has nothing to do");
    for _ in 0..3 {
        handle.wake();
        assert!(readable(&room.hub));
        assert!(matches!(room.hub.try_next_event(), Ok(Event::Woken)));
        room.assert_quiet();
        assert!(!readable_within(&room.hub, Duration::from_millis(20)), "the hub has nothing to do");
    }
}

/// A client gets its answers while `storm` runs in another thread.
fn serve_during(transport: Transport, storm: impl Fn(&HubHandle, Client) + Sync) {
    const MESSAGES: usize = 200;
    let mut room = Room::with(transport, &HubOptions::new().slow_client_policy(SlowClientPolicy::Wait(DEADLINE)));
    let (target, mut sink) = room.join();
    let (_, mut asking) = room.join();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                storm(&handle, target);
            }
        });
        // Takes what the storm sends.
        scope.spawn(move || while matches!(sink.recv_timeout(DEADLINE), Ok(Some(_))) {});
        let is_over = &is_over;
        scope.spawn(move || {
            for number in 0..MESSAGES {
                asking.send(data::message(number, 100)).unwrap();
                receive(&mut asking, number, 100);
            }
            is_over.store(true, Ordering::SeqCst);
            shutdown.shutdown();
        });
        let mut woken = 0_usize;
        loop {
            match room.hub.next_event() {
                Ok(Event::Message(client, message)) => room.hub.send(client, &message).unwrap(),
                Ok(Event::Woken) => woken += 1,
                Ok(other) => panic!("{other:?} after {woken} wakes"),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::Shutdown, "{error}"),
            }
        }
        is_over.store(true, Ordering::SeqCst);
        room.hub.close().unwrap();
    });
}

fn a_storm_of_wakes_does_not_keep_clients_from_being_served(transport: Transport) {
    serve_during(transport, |handle, _| handle.wake());
}

fn a_storm_of_messages_does_not_keep_clients_from_being_served(transport: Transport) {
    serve_during(transport, |handle, target| match handle.send(target, b"storm") {
        Ok(()) | Err(TrySendError::Full(_)) => thread::yield_now(),
        Err(TrySendError::Failed(error)) => assert_eq!(error.kind(), ErrorKind::Shutdown, "{error}"),
    });
}

fn messages_of_another_thread_are_sent_while_the_hub_waits(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    let waiting = Sleeper::start(move || (room.hub.next_event().unwrap_err(), room));
    for number in 0..100 {
        handle.send(client, data::message(number, number)).unwrap();
        receive(&mut connection, number, number);
    }
    let parts = [std::io::IoSlice::new(b"in "), std::io::IoSlice::new(b"parts")];
    handle.send(client, &parts[..]).unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"in parts");
    shutdown.shutdown();
    let ((error, _room), _) = waiting.result();
    assert_eq!(error.kind(), ErrorKind::Shutdown, "no event was returned meanwhile");
}

fn messages_of_eight_threads_arrive_complete_and_in_order(transport: Transport) {
    const THREADS: u8 = 8;
    const MESSAGES: u32 = 300;
    let options = HubOptions::new().handle_queue_max(20_000).slow_client_policy(SlowClientPolicy::Wait(DEADLINE));
    let mut room = Room::with(transport, &options);
    let (clients, connections): (Vec<_>, Vec<_>) = (0..3).map(|_| room.join()).unzip();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (handle, clients) = (handle.clone(), &clients);
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let mut message = vec![thread];
                    message.extend(number.to_le_bytes());
                    message.resize(5 + (number as usize * 7) % 400, thread);
                    for &client in clients {
                        send(&handle, client, &message);
                    }
                }
            });
        }
        let receiving: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                scope.spawn(move || {
                    let mut next = [0; THREADS as usize];
                    for _ in 0..u32::from(THREADS) * MESSAGES {
                        let message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
                        let (thread, number) = (message[0], u32::from_le_bytes(message[1..5].try_into().unwrap()));
                        assert_eq!(number, next[usize::from(thread)], "of thread {thread}");
                        assert_eq!(message.len(), 5 + (number as usize * 7) % 400);
                        assert!(message[5..].iter().all(|&byte| byte == thread));
                        next[usize::from(thread)] += 1;
                    }
                    connection
                })
            })
            .collect();
        scope.spawn(move || {
            let connections: Vec<_> = receiving.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(connections.iter().all(|connection| !connection.has_message()));
            shutdown.shutdown();
        });
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    });
}

fn a_broadcast_of_another_thread_reaches_everybody_who_has_joined(transport: Transport) {
    let mut room = Room::new(transport);
    let mut connections: Vec<_> = (0..3).map(|_| room.join().1).collect();
    let handle = room.hub.handle().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            handle.broadcast(b"to all").unwrap();
            handle.wake();
        });
        assert!(matches!(room.event(), Event::Woken));
    });
    room.hub.flush().unwrap();
    let (_, late) = room.join();
    for connection in &mut connections {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"to all");
    }
    assert!(!late.has_message());
}

fn a_full_queue_returns_the_message_and_accepts_it_later(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new().handle_queue_max(10_000));
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let mut count = 0;
    let full = loop {
        match handle.send(client, data::message(count, 1000)) {
            Ok(()) => count += 1,
            Err(full) => break full,
        }
        assert!(count < 100, "the queue is never full");
    };
    // Each message counts 64 bytes more.
    assert_eq!(count, 9);
    match full {
        TrySendError::Full(payload) => assert_eq!(payload.to_vec(), data::message(9, 1000)),
        TrySendError::Failed(error) => panic!("{error}"),
    }
    assert!(handle.broadcast(data::message(9, 1000)).unwrap_err().is_full());
    room.assert_quiet();
    handle.send(client, data::message(9, 1000)).unwrap();
    // A message for an empty queue is accepted whatever its length.
    room.assert_quiet();
    handle.send(client, data::message(10, 50_000)).unwrap();
    assert!(handle.send(client, b"").unwrap_err().is_full());
    room.assert_quiet();
    for number in 0..10 {
        receive(&mut connection, number, 1000);
    }
    while room.hub.write_buffer_len(client) > 0 {
        room.hub.flush().unwrap();
    }
    receive(&mut connection, 10, 50_000);
}

fn a_message_that_no_hub_sends_is_refused_at_once(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().message_max(1000).into());
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    assert_eq!(failed(handle.send(client, &[0; 1001])).kind(), ErrorKind::MessageTooLong);
    assert_eq!(failed(handle.broadcast(&[0; 1001])).kind(), ErrorKind::MessageTooLong);
    let null = std::fs::File::open("/dev/null").unwrap();
    let fds = [std::os::fd::AsFd::as_fd(&null)];
    assert_eq!(failed(handle.send(client, Payload::new(b"x").fds(&fds))).kind(), ErrorKind::Unsupported);
    handle.send(client, data::message(1, 1000)).unwrap();
    room.assert_quiet();
    receive(&mut connection, 1, 1000);
}

fn a_message_for_a_client_that_has_left_is_no_error(transport: Transport) {
    let mut room = Room::new(transport);
    let (gone, connection) = room.join();
    let handle = room.hub.handle().unwrap();
    drop(connection);
    room.closed(gone);
    let (_, mut other) = room.join();
    handle.send(gone, b"too late").unwrap();
    handle.broadcast(b"for the others").unwrap();
    room.assert_quiet();
    assert_eq!(other.recv_timeout(DEADLINE).unwrap().unwrap(), b"for the others");
}

fn a_handle_whose_hub_has_ended_says_so(transport: Transport) {
    for is_closed in [true, false] {
        let mut room = Room::new(transport);
        let (client, mut connection) = room.join();
        let handle = room.hub.handle().unwrap();
        room.hub.shutdown_handle().shutdown();
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
        handle.send(client, b"the hub still exists").unwrap();
        if is_closed {
            room.hub.close().unwrap();
        } else {
            drop(room.hub);
        }
        let errors = [failed(handle.send(client, b"too late")), failed(handle.broadcast(b"too late"))];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Shutdown), "{errors:?}");
        assert!(errors[0].to_string().contains("'room'"), "{errors:?}");
        handle.wake();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"the hub still exists");
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    }
}

/// The client receives while the hub closes, and gets everything if the policy does not disconnect it.
fn closing_delivers_what_was_queued_with_each_policy(transport: Transport, policy: &str) {
    const MESSAGES: usize = 400;
    let policy = match policy {
        "refuse" => SlowClientPolicy::Refuse,
        "wait" => SlowClientPolicy::Wait(DEADLINE),
        _ => SlowClientPolicy::Disconnect,
    };
    let mut room = Room::with(transport, &options(policy));
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    for number in 0..MESSAGES {
        handle.send(client, data::message(number, 2000)).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut received = 0;
            while let Ok(Some(message)) = connection.recv_timeout(DEADLINE) {
                data::check(&message, received, 2000);
                received += 1;
            }
            assert!(received == MESSAGES || policy == SlowClientPolicy::Disconnect, "{received} messages");
        });
        room.hub.close_timeout(DEADLINE).unwrap();
    });
}

fn dropping_delivers_what_the_channels_take(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    for number in 0..10 {
        handle.send(client, data::message(number, 1000)).unwrap();
    }
    drop(room.hub);
    for number in 0..10 {
        receive(&mut connection, number, 1000);
    }
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
}

fn a_slow_client_of_another_thread_is_disconnected(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Disconnect));
    let (slow, _stopped) = room.join();
    let (other, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let mut sent = 0;
    let why = loop {
        handle.broadcast(data::message(sent, 1000)).unwrap();
        sent += 1;
        let event = room.hub.try_next_event();
        room.hub.flush().unwrap();
        receive(&mut connection, sent - 1, 1000);
        match event {
            Err(parlour::TryRecvError::Empty) => assert!(sent < 1_000_000, "the client never counts as slow"),
            Ok(Event::Left(client, why)) if client == slow => break why,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(why, DisconnectReason::Slow), "{why:?}");
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [other]);
}

fn a_slow_client_that_misses_messages_of_another_thread_is_reported(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (slow, mut stopped) = room.join();
    let (_, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let mut accepted = 0;
    while room.hub.send(slow, data::message(accepted, 10_000)).is_ok() {
        accepted += 1;
    }
    for _ in 0..3 {
        handle.broadcast(data::message(1, 10_000)).unwrap();
    }
    // One event for three messages.
    assert!(matches!(room.event(), Event::Missed(client) if client == slow));
    room.assert_quiet();
    handle.send(slow, data::message(1, 10_000)).unwrap();
    assert!(matches!(room.event(), Event::Missed(client) if client == slow));
    room.assert_quiet();
    for _ in 0..3 {
        receive(&mut connection, 1, 10_000);
    }
    // The client has not missed a message that was accepted, and gets the next one when it has received those.
    thread::scope(|scope| {
        let shutdown = room.hub.shutdown_handle();
        let handle = &handle;
        scope.spawn(move || {
            for number in 0..accepted {
                receive(&mut stopped, number, 10_000);
            }
            send(handle, slow, b"and then this one");
            assert_eq!(stopped.recv_timeout(DEADLINE).unwrap().unwrap(), b"and then this one");
            shutdown.shutdown();
        });
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    });
}

fn the_hub_waits_for_a_slow_client_of_another_thread_and_nothing_is_lost(transport: Transport) {
    const MESSAGES: usize = 1000;
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(DEADLINE)).handle_queue_max(50_000));
    let (client, mut connection) = room.join();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    thread::scope(|scope| {
        scope.spawn(move || (0..MESSAGES).for_each(|number| send(&handle, client, data::message(number, 3000))));
        scope.spawn(move || {
            (0..MESSAGES).for_each(|number| receive(&mut connection, number, 3000));
            shutdown.shutdown();
        });
        assert_eq!(room.hub.next_event().unwrap_err().kind(), ErrorKind::Shutdown);
    });
}

/// A broadcast is interrupted at its second client, and closing continues it there.
fn a_shutdown_during_that_wait_loses_and_repeats_nothing(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Wait(Duration::MAX)));
    let (_, mut first) = room.join();
    let (slow, mut stopped) = room.join();
    let (_, mut third) = room.join();
    let handle = room.hub.handle().unwrap();
    let shutdown = room.hub.shutdown_handle();
    let mut accepted = 0;
    while room.hub.write_buffer_len(slow) + 10_004 <= 100_000 {
        room.hub.send(slow, data::message(accepted, 10_000)).unwrap();
        accepted += 1;
    }
    let waiting = Sleeper::start(move || (room.hub.next_event().unwrap_err(), room));
    handle.broadcast(data::message(accepted, 10_000)).unwrap();
    handle.send(slow, b"the last").unwrap();
    // The hub has written to the first client before it waits for the second one.
    receive(&mut first, accepted, 10_000);
    shutdown.shutdown();
    let ((error, room), _) = waiting.result();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..=accepted {
                receive(&mut stopped, number, 10_000);
            }
            assert_eq!(stopped.recv_timeout(DEADLINE).unwrap().unwrap(), b"the last");
        });
        room.hub.close_timeout(DEADLINE).unwrap();
    });
    receive(&mut third, accepted, 10_000);
    for connection in [&mut first, &mut third] {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), None);
    }
}
