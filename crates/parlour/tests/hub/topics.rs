//! Topics: subscriptions by prefix, and the last value for those who subscribe later.

use std::thread;

use parlour::hub::{Client, DisconnectReason, Event, Hub, HubOptions, SlowClientPolicy};
use parlour::{ConnectOptions, Connection, ErrorKind, Payload, ServerOptions, SharedBytes, Transport};

use super::room::Room;
use crate::support::{DEADLINE, assert_tells, data, trials};

trials! {
    for transport in Transport::ALL =>
        a_message_reaches_the_subscribers_of_a_prefix_of_its_topic,
        a_late_subscriber_gets_the_last_value_of_each_topic,
        threads_publish_through_a_handle,
        a_slow_subscriber_is_treated_by_the_policy,
        a_late_subscriber_whose_buffer_is_full_is_reported,
        the_subscriptions_of_a_client_end_with_it,
        the_number_of_subscriptions_is_limited,
        a_kept_block_reaches_late_subscribers unless has_no_blocks(transport);
}

fn has_no_blocks(transport: Transport) -> Option<&'static str> {
    (transport == Transport::Fifo).then_some("fifo carries no shared memory")
}

#[track_caller]
fn expect(connection: &mut Connection, messages: &[&str]) {
    for message in messages {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().expect("a message"), message.as_bytes());
    }
    assert!(!connection.has_message());
}

fn publish(hub: &mut Hub, topic: &str, text: &str) -> Vec<Client> {
    hub.publish(topic, text).unwrap()
}

fn a_message_reaches_the_subscribers_of_a_prefix_of_its_topic(transport: Transport) {
    let mut room = Room::new(transport);
    let (clients, mut connections): (Vec<_>, Vec<_>) = (0..4).map(|_| room.join()).unzip();
    publish(&mut room.hub, "weather/vienna", "nobody has subscribed");
    for (client, prefixes) in [(0, vec!["weather/"]), (1, vec!["weather/vienna", "wea", "traffic"]), (2, vec![""])] {
        for prefix in prefixes {
            room.hub.subscribe(clients[client], prefix).unwrap();
        }
    }
    assert_eq!(publish(&mut room.hub, "weather/vienna", "one"), []);
    publish(&mut room.hub, "weather/graz", "two");
    publish(&mut room.hub, "traffic", "three");
    room.hub.unsubscribe(clients[1], "wea").unwrap();
    room.hub.unsubscribe(clients[1], "no such subscription").unwrap();
    room.hub.unsubscribe(clients[3], "weather").unwrap();
    publish(&mut room.hub, "weather/graz", "four");
    room.assert_quiet();
    room.hub.flush().unwrap();
    let expected: [&[&str]; 4] =
        [&["one", "two", "four"], &["one", "two", "three"], &["one", "two", "three", "four"], &[]];
    for (connection, expected) in connections.iter_mut().zip(expected) {
        expect(connection, expected);
    }
}

fn a_late_subscriber_gets_the_last_value_of_each_topic(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new().kept_values_max(2));
    let (early, mut first) = room.join();
    room.hub.subscribe(early, "").unwrap();
    for (topic, text) in [("a", "too old"), ("b", "replaced"), ("c", "kept"), ("b", "last"), ("d/e", "d")] {
        publish(&mut room.hub, topic, text);
    }
    assert!(room.hub.forget("d/e").unwrap());
    let (late, mut second) = room.join();
    room.hub.subscribe(late, "").unwrap();
    room.hub.subscribe(late, "b").unwrap();
    publish(&mut room.hub, "b", "live");
    room.assert_quiet();
    expect(&mut first, &["too old", "replaced", "kept", "last", "d", "live"]);
    expect(&mut second, &["last", "live"]);
}

fn threads_publish_through_a_handle(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new().kept_values_max(10));
    let (client, mut connection) = room.join();
    room.hub.subscribe(client, "sensor/").unwrap();
    let handle = room.hub.handle().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..100 {
                handle.publish("sensor/1", &number.to_string()).unwrap();
                handle.publish("log", "not for the client").unwrap();
            }
            handle.wake();
        });
        while !matches!(room.event(), Event::Woken) {}
    });
    room.assert_quiet();
    for number in 0..100 {
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), number.to_string().as_bytes());
    }
    let (late, mut second) = room.join();
    room.hub.subscribe(late, "sensor/").unwrap();
    room.hub.flush().unwrap();
    expect(&mut second, &["99"]);
    expect(&mut connection, &[]);
}

fn options(policy: SlowClientPolicy) -> HubOptions {
    let server = ServerOptions::new().ring_size(64 * 1024);
    HubOptions::from(server).write_buffer_max(100_000).slow_client_policy(policy).kept_values_max(10)
}

fn a_slow_subscriber_is_treated_by_the_policy(transport: Transport) {
    for policy in [SlowClientPolicy::Disconnect, SlowClientPolicy::Refuse] {
        let mut room = Room::with(transport, &options(policy));
        let (slow, _stopped) = room.join();
        let (other, mut connection) = room.join();
        for client in [slow, other] {
            room.hub.subscribe(client, "frames").unwrap();
        }
        let mut sent = 0;
        loop {
            let missed = room.hub.publish("frames/1", data::message(sent, 1000)).unwrap();
            room.hub.flush().unwrap();
            data::check(&connection.recv_timeout(DEADLINE).unwrap().unwrap(), sent, 1000);
            sent += 1;
            assert!(sent < 1_000_000, "the client never counts as slow");
            if policy == SlowClientPolicy::Refuse && missed == [slow] {
                break;
            }
            assert_eq!(missed, []);
            if room.hub.peer(slow).is_none() {
                assert!(matches!(room.left(slow), DisconnectReason::Slow));
                break;
            }
        }
        room.assert_quiet();
    }
}

fn a_late_subscriber_whose_buffer_is_full_is_reported(transport: Transport) {
    let mut room = Room::with(transport, &options(SlowClientPolicy::Refuse));
    let (slow, _stopped) = room.join();
    while room.hub.send(slow, &[0; 10_000]).is_ok() {}
    room.hub.publish("a", &[1; 10_000]).unwrap();
    room.hub.publish("b", &[2; 10_000]).unwrap();
    room.hub.subscribe(slow, "").unwrap();
    assert!(matches!(room.event(), Event::Missed(client) if client == slow));
    room.assert_quiet();
}

fn the_subscriptions_of_a_client_end_with_it(transport: Transport) {
    let mut room = Room::new(transport);
    let (gone, connection) = room.join();
    room.hub.subscribe(gone, "a").unwrap();
    drop(connection);
    room.closed(gone);
    room.hub.subscribe(gone, "a").unwrap();
    // The next client takes the slot of the first one, and not its subscriptions.
    let (_, mut next) = room.join();
    assert_eq!(publish(&mut room.hub, "a", "for nobody"), []);
    room.assert_quiet();
    room.hub.broadcast("for all").unwrap();
    room.hub.flush().unwrap();
    expect(&mut next, &["for all"]);
}

fn the_number_of_subscriptions_is_limited(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new().subscriptions_max(2));
    let (client, mut connection) = room.join();
    for prefix in ["a", "b", "a"] {
        room.hub.subscribe(client, prefix).unwrap();
    }
    let error = room.hub.subscribe(client, "c").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_tells(&error);
    publish(&mut room.hub, "c", "not subscribed");
    publish(&mut room.hub, "b", "subscribed");
    room.hub.flush().unwrap();
    expect(&mut connection, &["subscribed"]);
}

fn a_kept_block_reaches_late_subscribers(transport: Transport) {
    let mut room = Room::with(transport, &HubOptions::new().kept_values_max(1));
    let block = SharedBytes::new(data::message(1, 100_000)).unwrap();
    room.hub.publish("frame", Payload::new(b"the last frame").shared(&[&block])).unwrap();
    drop(block);
    let (client, mut connection) = room.join_with(&ConnectOptions::new().fds_max(1));
    room.hub.subscribe(client, "frame").unwrap();
    let mut message = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    assert_eq!(message, b"the last frame");
    data::check(&message.take_shared().unwrap()[0], 1, 100_000);
}
