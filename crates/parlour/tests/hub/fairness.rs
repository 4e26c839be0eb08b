//! Fairness: no client and no flood of clients excludes the other ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parlour::hub::{Client, Event, HubOptions};
use parlour::{Connection, ServerOptions, Transport};

use super::room::{Room, event};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_client_that_sends_without_pause_takes_turns_with_the_others,
        a_client_that_sends_large_messages_takes_turns_with_the_others,
        a_new_client_is_accepted_while_others_send_without_pause,
        a_reply_is_written_while_others_send_without_pause,
        a_client_that_called_quickly_is_heard_while_another_sends_without_pause,
        messages_that_arrived_together_are_returned_one_by_one,
        a_message_that_arrives_during_a_turn_is_received,
        a_message_behind_a_long_one_is_received,
        a_crowd_of_new_clients_does_not_delay_messages unless has_no_queue(transport);
}

/// Sends without pause until the hub ends the connection or the test is over.
fn flood(mut connection: Connection, length: usize, is_over: &AtomicBool) {
    let message = vec![b'f'; length];
    while !is_over.load(Ordering::SeqCst) && connection.send(&message).is_ok() {}
}

/// Sends until the channel is full.
fn fill(connection: &mut Connection, length: usize) {
    let message = vec![b'f'; length];
    while connection.try_send(&message).is_ok() {}
}

fn a_client_that_sends_without_pause_takes_turns_with_the_others(transport: Transport) {
    in_turn(transport, 100, 16);
}

fn a_client_that_sends_large_messages_takes_turns_with_the_others(transport: Transport) {
    // Two messages are a turn.
    in_turn(transport, 40_000, 2);
}

/// While a client calls quickly over `shm`, the hub looks at its ring and requests no wake-up. The other client has
/// always sent a message before the hub looks for the next event, so the hub is never idle.
fn a_client_that_called_quickly_is_heard_while_another_sends_without_pause(transport: Transport) {
    let mut room = Room::new(transport);
    let (caller, mut connection) = room.join();
    let (other, mut talker) = room.join();
    for number in 0..50 {
        connection.send(&[number]).unwrap();
        assert_eq!(room.message(caller), [number][..]);
    }
    for _ in 0..10 {
        talker.send(b"and on").unwrap();
        room.message(other);
    }
    connection.send(b"now I").unwrap();
    let heard = (0..1000).any(|_| {
        talker.send(b"and on").unwrap();
        matches!(room.event(), Event::Message(client, _) if client == caller)
    });
    assert!(heard);
}

/// The descriptor is edge-triggered, so the hub has to know whether a read has left data.
fn a_message_behind_a_long_one_is_received(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for length in [5_000, 65_531, 65_532, 65_533, 69_628, 69_629, 5_000, 65_536, 5_000, 130_000] {
        let message = data::message(1, length);
        connection.send(message).unwrap();
        connection.send(b"behind").unwrap();
        assert_eq!(room.message(client), *message);
        assert_eq!(room.message(client), b"behind"[..]);
    }
}

/// The hub polls between the messages of one read, more often than there are messages in a turn.
fn a_message_that_arrives_during_a_turn_is_received(transport: Transport) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    for together in 2..40u8 {
        for number in 0..together {
            connection.feed(&[number]).unwrap();
        }
        connection.flush().unwrap();
        for number in 0..together {
            assert_eq!(room.message(client), [number][..]);
            if number == together - 2 {
                connection.send(b"late").unwrap();
            }
        }
        assert_eq!(room.message(client), b"late"[..], "after {together} messages that arrived together");
    }
}

/// Two clients have sent more than one turn allows, and then a third client sends one message.
fn in_turn(transport: Transport, length: usize, turn: usize) {
    let mut room = Room::new(transport);
    let (_, mut first) = room.join();
    let (_, mut second) = room.join();
    let (quiet, mut third) = room.join();
    fill(&mut first, length);
    fill(&mut second, length);
    let mut heard: Vec<Client> = Vec::new();
    let mut hear = |room: &mut Room| match room.event() {
        Event::Message(client, message) if client == quiet => {
            assert_eq!(message, b"one message");
            false
        }
        Event::Message(client, _) => {
            heard.push(client);
            true
        }
        other => panic!("{other:?}"),
    };
    assert!(hear(&mut room));
    third.send(b"one message").unwrap();
    // Each ready client had a turn by then, and may have begun another one.
    assert!((0..=4 * turn).any(|_| !hear(&mut room)), "not received after {} messages of others", 4 * turn);
    // The two clients go on taking turns, where a channel holds enough for that.
    if turn > 2 {
        (0..4 * turn).for_each(|_| assert!(hear(&mut room)));
    }
    let longest = heard.chunk_by(|one, next| one == next).map(<[_]>::len).max().unwrap();
    assert!(longest <= turn, "{longest} in a row: {heard:?}");
}

fn a_new_client_is_accepted_while_others_send_without_pause(transport: Transport) {
    let mut room = Room::new(transport);
    let (flooding, first) = room.join();
    let is_over = AtomicBool::new(false);
    let Room { hub, address, .. } = &mut room;
    thread::scope(|scope| {
        scope.spawn(|| flood(first, 10, &is_over));
        scope.spawn(|| drop(Connection::connect(&*address).unwrap()));
        let mut heard = 0;
        loop {
            match event(hub) {
                Event::Message(client, _) if client == flooding => heard += 1,
                Event::Joined(..) => break,
                other => panic!("{other:?}"),
            }
            assert!(heard < 3_000_000, "the new client is not accepted");
        }
        is_over.store(true, Ordering::SeqCst);
        hub.disconnect(flooding).unwrap();
    });
}

fn a_reply_is_written_while_others_send_without_pause(transport: Transport) {
    let mut room = Room::new(transport);
    let (flooding, first) = room.join();
    let (_, mut second) = room.join();
    let is_over = AtomicBool::new(false);
    let hub = &mut room.hub;
    thread::scope(|scope| {
        let (is_over, flooding_thread) = (&is_over, scope.spawn(|| flood(first, 1000, &is_over)));
        scope.spawn(move || {
            for _ in 0..3 {
                second.send(b"ping").unwrap();
                assert_eq!(second.recv_timeout(DEADLINE).unwrap().unwrap(), b"pong");
            }
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) {
            match event(hub) {
                Event::Message(client, _) if client == flooding => {}
                Event::Message(client, _) => hub.send(client, b"pong").unwrap(),
                Event::Finished(_) | Event::Left(..) => {}
                other => panic!("{other:?}"),
            }
        }
        hub.disconnect(flooding).unwrap();
        flooding_thread.join().unwrap();
    });
}

fn messages_that_arrived_together_are_returned_one_by_one(transport: Transport) {
    const MESSAGES: u32 = 2000;
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let sending = thread::spawn(move || {
        (0..MESSAGES).for_each(|number| connection.feed(&number.to_ne_bytes()).unwrap());
        connection.flush().unwrap();
        connection
    });
    for number in 0..MESSAGES {
        assert_eq!(room.message(client), &number.to_ne_bytes());
    }
    room.assert_quiet();
    drop(sending.join().unwrap());
}

fn has_no_queue(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Unix | Transport::Packet => None,
        _ => Some("its clients do not wait in a queue of the kernel"),
    }
}

/// Many clients wait to be accepted while a connected client sends a message.
fn a_crowd_of_new_clients_does_not_delay_messages(transport: Transport) {
    const CROWD: usize = 300;
    let options = ServerOptions::new().spin_limit(0);
    let mut room = Room::with(transport, &HubOptions::from(options));
    let (client, mut connection) = room.join();
    room.assert_quiet();
    let crowd: Vec<Connection> = (0..CROWD).map(|_| Connection::connect(&room.address).unwrap()).collect();
    connection.send(b"one message").unwrap();
    let mut joined = 0;
    loop {
        match room.event() {
            Event::Joined(..) => joined += 1,
            Event::Message(from, _) if from == client => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(joined <= 32, "{joined} clients joined before the message was received");
    for _ in joined..CROWD {
        assert!(matches!(room.event(), Event::Joined(..)));
    }
    assert_eq!(room.hub.clients().len(), CROWD + 1);
    drop(crowd);
}
