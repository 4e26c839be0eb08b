//! Limits at their edge: the last client that fits is admitted, and one more is refused. Both sides see the reason, as
//! far as the transport can tell it. When a client has left, the next one is admitted.

use std::thread;
use std::time::Duration;

use parlour::hub::{Client, DisconnectReason, Event, HubOptions};
use parlour::{ConnectOptions, Connection, ErrorKind, Refusal, ServerOptions, Transport};

use super::room::{Room, event};
use crate::by_hand::shm as hand;
use crate::by_hand::user::{new_uid, no_other_users};
use crate::by_hand::{FifoClient, place::chmod};
use crate::support::wait::answered;
use crate::support::{Base, Child, DEADLINE, trials};

trials! {
    for transport in Transport::ALL =>
        the_total_number_of_connections_is_limited,
        the_number_of_connections_of_a_user_is_limited,
        a_client_that_the_policy_rejects_is_refused_and_both_sides_see_the_reason,
        a_client_whose_message_is_too_long_receives_the_end,
        an_incomplete_message_beyond_the_memory_limit_ends_its_connection,
        the_number_of_pending_handshakes_is_limited unless has_no_handshake(transport),
        a_lost_name_is_reported_once_even_if_a_handshake_times_out unless has_no_handshake(transport),
        the_number_of_waiting_clients_is_limited unless has_no_queue(transport),
        one_user_cannot_use_up_the_connections_of_another unless serves_one_user(transport);
}

/// Connects a client that is refused. Returns the hub's event, and the error or the outcome that the client saw.
fn turned_away(room: &mut Room) -> (Refusal, String) {
    let address = room.address.clone();
    let coming = thread::spawn(move || {
        match answered(|time| ConnectOptions::new().timeout(time).connect(&address)) {
            Err(error) => error.to_string(),
            // Over a transport without a handshake, the first receive reports the refusal.
            Ok(mut connection) => format!("{:?}", connection.recv_timeout(DEADLINE)),
        }
    });
    let mut refusals = Vec::new();
    while !coming.is_finished() || refusals.is_empty() {
        match room.hub.next_event_timeout(Duration::from_millis(10)) {
            Ok(Event::Refused(refusal)) => refusals.push(refusal),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
    }
    // A client that may retry does so until its timeout, and then removes its file or disconnects.
    let has_given_up =
        |reason: &str| reason == "the client has no file of its own" || reason.ends_with("the client has disconnected");
    let expected = |reason: &str| reason == refusals[0].detail || has_given_up(reason);
    assert!(refusals.iter().all(|refusal| expected(&refusal.detail)), "{refusals:?}");
    (refusals.swap_remove(0), coming.join().unwrap())
}

const ALL_TAKEN: &str = "cannot accept more clients at present";

fn at_most_two(transport: Transport, options: ServerOptions, reason: &str) {
    let mut room = Room::with(transport, &options.into());
    let mut inside: Vec<(Client, Connection)> = (0..2).map(|_| room.join()).collect();
    for _ in 0..2 {
        let before = room.hub.stats().refused;
        let (refusal, told) = turned_away(&mut room);
        assert!(refusal.detail.contains(reason), "{refusal}");
        assert_eq!(refusal.transport, transport);
        assert_eq!(refusal.peer.unwrap().uid(), Some(rustix::process::geteuid().as_raw()));
        assert!(room.hub.stats().refused > before);
        assert!(told.contains(ALL_TAKEN), "{told}");
        // When a client has left, the next one is admitted.
        let (client, connection) = inside.remove(0);
        drop(connection);
        room.closed(client);
        inside.push(room.join());
    }
    // Disconnecting a client makes room, too.
    let (client, _connection) = inside.remove(0);
    room.hub.disconnect(client).unwrap();
    room.left(client);
    room.join();
    assert_eq!(room.hub.clients().len(), 2);
}

fn the_total_number_of_connections_is_limited(transport: Transport) {
    at_most_two(transport, ServerOptions::new().connections_max(2), "all 2 connections are in use");
}

fn the_number_of_connections_of_a_user_is_limited(transport: Transport) {
    at_most_two(transport, ServerOptions::new().connections_per_uid_max(2), "user has all 2 connections");
}

fn serves_one_user(transport: Transport) -> Option<String> {
    match transport {
        Transport::Fifo => Some("it serves one user only".to_owned()),
        _ => no_other_users(),
    }
}

fn one_user_cannot_use_up_the_connections_of_another(transport: Transport) {
    let server = ServerOptions::new().connections_per_uid_max(1).connections_max(2).mode(0o666);
    let base = Base::new();
    chmod(base.path(), 0o755);
    let address = base.address(transport, "room");
    let hub = HubOptions::from(server).bind(&address).unwrap();
    let mut room = Room { hub, address, base };
    let (ours, _connection) = room.join();
    let (refusal, told) = turned_away(&mut room);
    assert!(refusal.detail.contains("user has all 1 connections"), "{refusal}");
    assert!(told.contains(ALL_TAKEN), "{told}");
    // Another user has connections of its own.
    let uid = new_uid();
    let arguments = [format!("address={}", room.address), format!("uid={uid}"), "server_uid=0".to_owned()];
    let mut other = Child::spawn("reach", &arguments);
    let theirs = match event(&mut room.hub) {
        Event::Joined(client, peer) => {
            assert_eq!(peer.uid(), Some(uid));
            client
        }
        other => panic!("{other:?}"),
    };
    assert!(other.line().starts_with("connected "));
    // Now all connections are taken, for every user.
    let (refusal, _) = turned_away(&mut room);
    assert!(refusal.detail.contains("all 2 connections are in use"), "{refusal}");
    assert_eq!(room.hub.clients().collect::<Vec<_>>(), [ours, theirs]);
}

fn a_client_that_the_policy_rejects_is_refused_and_both_sides_see_the_reason(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().allow(|_| false).into());
    let (refusal, told) = turned_away(&mut room);
    assert_eq!(refusal.detail.split(": ").last(), Some("the policy does not admit the client"), "{refusal}");
    assert!(told.contains("do not admit this client"), "{told}");
}

/// Sends half of a message from each of four clients. The hub ends the connection of the one for which there is no
/// memory.
fn an_incomplete_message_beyond_the_memory_limit_ends_its_connection(transport: Transport) {
    // More than any channel takes at once.
    const LENGTH: usize = 12 << 20;
    const LIMIT: usize = 16 << 20;
    let options = ServerOptions::new().ring_size(1 << 16).memory_max(LIMIT);
    let mut room = Room::with(transport, &options.into());
    let mut inside: Vec<(Client, Connection)> =
        (0..4).map(|_| room.join_with(&ConnectOptions::new().ring_size(1 << 16))).collect();
    for (_, connection) in &mut inside {
        connection.try_send(&vec![7u8; LENGTH]).unwrap();
    }
    let mut sent = Vec::new();
    let mut failed = 0;
    while sent.len() + failed < 4 {
        for (_, connection) in &mut inside {
            // `Full` means that the rest is still buffered.
            let _ = connection.try_flush();
        }
        match room.hub.next_event_timeout(Duration::from_millis(10)) {
            Ok(Event::Message(client, message)) => {
                assert_eq!(message.len(), LENGTH);
                sent.push(client);
            }
            Ok(Event::Left(_, DisconnectReason::Failed(error))) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                failed += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}"),
        }
        assert!(room.hub.stats().memory <= LIMIT, "{:?}", room.hub.stats());
    }
    assert!(failed >= 1 && !sent.is_empty(), "{failed} of four");
    // The others are served.
    let (client, connection) = inside.iter_mut().find(|(client, _)| sent.contains(client)).unwrap();
    connection.send(b"still here").unwrap();
    assert_eq!(room.message(*client), b"still here"[..]);
}

fn a_client_whose_message_is_too_long_receives_the_end(transport: Transport) {
    let mut room = Room::with(transport, &ServerOptions::new().message_max(100).into());
    let (client, mut connection) = room.join();
    connection.send(&[1; 100]).unwrap();
    assert_eq!(room.message(client).len(), 100);
    connection.send(&[2; 101]).unwrap();
    assert_eq!(super::room::failure(room.left(client)), ErrorKind::MessageTooLong);
    match connection.recv_timeout(DEADLINE) {
        Ok(end) => assert_eq!(end, None),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}"),
    }
}

/// A client that has begun its handshake and does not continue it.
enum HalfOpen {
    Fifo(#[allow(dead_code, reason = "held")] FifoClient),
    Shm(#[allow(dead_code, reason = "held")] rustix::fd::OwnedFd),
}

fn begin(transport: Transport, room: &mut Room) -> HalfOpen {
    let path = room.hub.path().to_owned();
    let coming = thread::spawn(move || match transport {
        Transport::Fifo => HalfOpen::Fifo(FifoClient::greeted(&path)),
        _ => HalfOpen::Shm(hand::dial(&path)),
    });
    while !coming.is_finished() {
        assert!(room.hub.next_event_timeout(Duration::from_millis(10)).is_err());
    }
    room.assert_quiet();
    coming.join().unwrap()
}

fn has_no_handshake(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Shm | Transport::Fifo => None,
        _ => Some("it has no handshake"),
    }
}

fn the_number_of_pending_handshakes_is_limited(transport: Transport) {
    let options = ServerOptions::new().half_open_max(2);
    let mut room = Room::with(transport, &options.into());
    let mut stalled: Vec<HalfOpen> = (0..2).map(|_| begin(transport, &mut room)).collect();
    // An honest `shm` client sends its hello immediately and needs no entry in the table of handshakes. A client that
    // does not is refused.
    if transport == Transport::Shm {
        let surplus = hand::dial(room.hub.path());
        match room.event() {
            Event::Refused(refusal) => assert!(refusal.detail.contains("2 handshakes are under way"), "{refusal}"),
            other => panic!("{other:?}"),
        }
        hand::assert_refused(&surplus);
    } else {
        let (refusal, told) = turned_away(&mut room);
        assert!(refusal.detail.contains("2 handshakes are under way"), "{refusal}");
        assert!(told.contains(ALL_TAKEN), "{told}");
    }
    stalled.pop();
    match room.event() {
        Event::Refused(refusal) => assert!(refusal.detail.contains("disconnected during the handshake"), "{refusal}"),
        other => panic!("{other:?}"),
    }
    // The table has room again, for a client that stalls and then for one that does not.
    stalled.push(begin(transport, &mut room));
    stalled.pop();
    assert!(matches!(room.event(), Event::Refused(_)));
    room.join();
}

/// The handshake's deadline passes after the hub has stopped watching the server.
fn a_lost_name_is_reported_once_even_if_a_handshake_times_out(transport: Transport) {
    // Longer than a busy machine takes until the hub has reported the loss.
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut room = Room::with(transport, &ServerOptions::new().handshake_timeout(TIMEOUT).into());
    let _stalled = begin(transport, &mut room);
    std::fs::remove_file(room.base.name("room").join(transport.to_string())).unwrap();
    assert_eq!(room.hub.next_event_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::NameLost);
    assert!(room.hub.next_event_timeout(TIMEOUT + Duration::from_millis(200)).is_err());
}

fn has_no_queue(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Unix | Transport::Packet => None,
        _ => Some("its clients wait for a handshake, not in a queue"),
    }
}

fn the_number_of_waiting_clients_is_limited(transport: Transport) {
    const BACKLOG: u32 = 2;
    let mut room = Room::with(transport, &ServerOptions::new().backlog(BACKLOG).into());
    let options = ConnectOptions::new().timeout(Duration::from_millis(300));
    for _ in 0..2 {
        let mut waiting = Vec::new();
        let error = loop {
            match options.connect(&room.address) {
                Ok(connection) => waiting.push(connection),
                Err(error) => break error,
            }
        };
        // The kernel queues one more client than the backlog says.
        assert_eq!(waiting.len(), BACKLOG as usize + 1);
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("its queue of waiting clients is full"), "{error}");
        assert!(error.to_string().contains("try again later"), "{error}");
        for _ in &waiting {
            assert!(matches!(room.event(), Event::Joined(..)));
        }
        // Accepted clients have left the queue.
        for (client, connection) in room.hub.clients().zip(waiting) {
            drop(connection);
            room.closed(client);
        }
    }
    // The server itself refused no client.
    assert_eq!(room.hub.stats().refused, 0);
}
