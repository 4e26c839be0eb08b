//! A hub whose messages are values.

use parlour::hub::{Client, Event, Hub, HubOptions};
use parlour::{ConnectOptions, Connection, ErrorKind, Transport, Typed, TypedEvent, TypedHub};
use serde::{Deserialize, Serialize};

use super::room::Room;
use crate::support::{DEADLINE, assert_tells, trials};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Said {
    Text(String),
    Number(u64),
}

trials! {
    for transport in Transport::ALL =>
        values_are_received_and_sent_format(format in FORMATS),
        a_message_that_is_no_value_is_an_event_and_its_client_stays_format(format in FORMATS),
        a_value_that_is_too_long_is_sent_to_nobody;
}

/// Functions that make a hub and a client of values, in the same format.
type Format = (&'static str, fn(Hub) -> TypedHub<Said, Said>, fn(Connection) -> Typed<Said, Said>);

const FORMATS: [Format; 2] =
    [("in_postcard", Hub::typed, Connection::typed), ("in_json", Hub::typed_json, Connection::typed_json)];

fn message(hub: &mut TypedHub<Said, Said>) -> (Client, parlour::Result<Said>) {
    match hub.next_event_timeout(DEADLINE).unwrap() {
        TypedEvent::Message(client, value) => (client, value),
        TypedEvent::Other(other) => panic!("not a message: {other:?}"),
    }
}

fn values_are_received_and_sent_format(transport: Transport, (_, hub_of, client_of): Format) {
    let mut room = Room::new(transport);
    let ((one, first), (two, second), (_, third)) = (room.join(), room.join(), room.join());
    let [mut first, mut second, mut third] = [first, second, third].map(client_of);
    let mut hub = hub_of(room.hub);
    first.send(&Said::Number(1)).unwrap();
    let (client, value) = message(&mut hub);
    assert_eq!((client, value.unwrap()), (one, Said::Number(1)));
    let text = |text: &str| Said::Text(text.to_owned());
    hub.send(one, &text("to one")).unwrap();
    assert_eq!(hub.send_to([one, two], &text("to two")).unwrap(), []);
    assert_eq!(hub.broadcast_except(one, &text("to the others")).unwrap(), []);
    assert_eq!(hub.broadcast(&text("to all")).unwrap(), []);
    hub.hub_mut().subscribe(two, "news").unwrap();
    assert_eq!(hub.publish("news/local", &text("to subscribers")).unwrap(), []);
    hub.hub_mut().flush().unwrap();
    let heard = |client: &mut Typed<Said, Said>, expected: &[&str]| {
        for expected in expected {
            assert_eq!(client.recv_timeout(DEADLINE).unwrap(), Some(text(expected)));
        }
    };
    heard(&mut first, &["to one", "to two", "to all"]);
    heard(&mut second, &["to two", "to the others", "to all", "to subscribers"]);
    heard(&mut third, &["to the others", "to all"]);
    drop((first, second, third));
    let mut left = 0;
    while left < 3 {
        match hub.next_event_timeout(DEADLINE).unwrap() {
            TypedEvent::Other(Event::Left(..)) => left += 1,
            TypedEvent::Other(Event::Finished(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(hub.try_next_event().unwrap_err().is_empty());
    hub.close().unwrap();
}

fn a_message_that_is_no_value_is_an_event_and_its_client_stays_format(
    transport: Transport,
    (_, hub_of, client_of): Format,
) {
    let mut room = Room::new(transport);
    let (client, mut connection) = room.join();
    let mut hub = hub_of(room.hub);
    connection.send(b"\xff no value").unwrap();
    let (from, value) = message(&mut hub);
    let error = value.unwrap_err();
    assert_eq!((from, error.kind()), (client, ErrorKind::Encoding));
    assert_tells(&error);
    assert!(error.to_string().contains("client 1 of 'room'"), "{error}");
    let mut connection = client_of(connection);
    connection.send(&Said::Number(2)).unwrap();
    assert_eq!(message(&mut hub).1.unwrap(), Said::Number(2));
}

fn a_value_that_is_too_long_is_sent_to_nobody(transport: Transport) {
    let options = HubOptions::from(parlour::ServerOptions::new().message_max(100));
    let mut room = Room::with(transport, &options);
    let (client, connection) = room.join_with(&ConnectOptions::new().message_max(100));
    let mut hub = room.hub.typed::<Said, Said>();
    let error = hub.broadcast(&Said::Text("x".repeat(200))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLong);
    assert_tells(&error);
    hub.send(client, &Said::Number(3)).unwrap();
    hub.hub_mut().flush().unwrap();
    let mut connection = connection.typed::<Said, Said>();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap(), Some(Said::Number(3)));
}
