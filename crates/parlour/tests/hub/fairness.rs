//! Nobody keeps the others out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parlour::hub::{Client, Event, HubOptions};
use parlour::{Connection, ServerOptions, Transport};

use super::room::{Room, event};
use crate::support::{DEADLINE, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_client_that_sends_without_pause_is_heard_in_turn_with_the_others,
        a_client_that_sends_large_messages_is_heard_in_turn_with_the_others,
        a_newcomer_is_let_in_while_others_send_without_pause,
        an_answer_goes_out_while_others_send_without_pause,
        many_messages_that_came_at_once_are_handed_out_one_by_one,
        what_comes_while_the_messages_of_one_read_are_handed_out_is_heard,
        what_lies_behind_a_long_message_is_heard,
        a_crowd_of_newcomers_does_not_keep_messages_waiting unless has_no_queue(transport);
}

/// Sends until its channel is full and goes on when it is not; ends when the hub does.
fn flood(mut connection: Connection, length: usize, is_over: &AtomicBool) {
    let message = vec![b'f'; length];
    while !is_over.load(Ordering::SeqCst) && connection.send(&message).is_ok() {}
}

/// Fills a channel.
fn fill(connection: &mut Connection, length: usize) {
    let message = vec![b'f'; length];
    while connection.try_send(&message).is_ok() {}
}

fn a_client_that_sends_without_pause_is_heard_in_turn_with_the_others(transport: Transport) {
    in_turn(transport, 100, 16);
}

fn a_client_that_sends_large_messages_is_heard_in_turn_with_the_others(transport: Transport) {
    // Two of them are a turn.
    in_turn(transport, 40_000, 2);
}

/// The hub learns of what comes once, and so it has to know whether a read has left something.
fn what_lies_behind_a_long_message_is_heard(transport: Transport) {
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

/// Between two of them the hub looks who has something to say, more often than there are messages in a turn.
fn what_comes_while_the_messages_of_one_read_are_handed_out_is_heard(transport: Transport) {
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
        assert_eq!(room.message(client), b"late"[..], "after {together} that came together");
    }
}

/// Two clients have more to say than can be heard at once, and then a third one says a word.
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
            assert_eq!(message, b"a word");
            false
        }
        Event::Message(client, _) => {
            heard.push(client);
            true
        }
        other => panic!("{other:?}"),
    };
    assert!(hear(&mut room));
    third.send(b"a word").unwrap();
    // Each of those who were known had a turn by then, and perhaps began another.
    assert!((0..=4 * turn).any(|_| !hear(&mut room)), "not heard after {} others", 4 * turn);
    // And the two go on in turn, where a channel holds enough for that.
    if turn > 2 {
        (0..4 * turn).for_each(|_| assert!(hear(&mut room)));
    }
    let longest = heard.chunk_by(|one, next| one == next).map(<[_]>::len).max().unwrap();
    assert!(longest <= turn, "{longest} in a row: {heard:?}");
}

fn a_newcomer_is_let_in_while_others_send_without_pause(transport: Transport) {
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
            assert!(heard < 3_000_000, "nobody is let in");
        }
        is_over.store(true, Ordering::SeqCst);
        hub.disconnect(flooding).unwrap();
    });
}

fn an_answer_goes_out_while_others_send_without_pause(transport: Transport) {
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

fn many_messages_that_came_at_once_are_handed_out_one_by_one(transport: Transport) {
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
        _ => Some("its clients do not wait in a queue of the system"),
    }
}

/// Many wait to be let in, and somebody who is in already speaks.
fn a_crowd_of_newcomers_does_not_keep_messages_waiting(transport: Transport) {
    const CROWD: usize = 300;
    let options = ServerOptions::new().spin_limit(0);
    let mut room = Room::with(transport, &HubOptions::from(options));
    let (client, mut connection) = room.join();
    room.assert_quiet();
    let crowd: Vec<Connection> = (0..CROWD).map(|_| Connection::connect(&room.address).unwrap()).collect();
    connection.send(b"a word").unwrap();
    let mut joined = 0;
    loop {
        match room.event() {
            Event::Joined(..) => joined += 1,
            Event::Message(from, _) if from == client => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(joined <= 32, "{joined} came in before a word was heard");
    for _ in joined..CROWD {
        assert!(matches!(room.event(), Event::Joined(..)));
    }
    assert_eq!(room.hub.clients().len(), CROWD + 1);
    drop(crowd);
}
