use std::sync::mpsc;
use std::thread;

use parlour::{ConnectOptions, ErrorKind, RefusalReason, ServerOptions, Transport};

use super::api::{Connection, Error, Result, Setting, settings};
use super::link::ShutDownAtEnd;
use crate::support::wait::{answered, eventually_some};
use crate::support::{Base, DEADLINE, trials};

trials! {
    for setting in socket_settings() =>
        a_refused_client_that_way_learns_the_reason(way in WAYS),
        a_client_of_a_full_server_that_way_learns_that_it_is_busy(way in WAYS),
        a_client_beyond_those_of_its_user_that_way_learns_that_the_server_is_busy(way in WAYS);

    for setting in settings() =>
        a_client_that_the_server_leaves_without_a_word_gets_the_end;
}

/// Returns the settings in which connecting does not involve the server. In the others, connecting reports the refusal.
fn socket_settings() -> Vec<Setting> {
    let connects_alone = |setting: &Setting| matches!(setting.transport, Transport::Packet | Transport::Unix);
    settings().into_iter().filter(connects_alone).collect()
}

/// The calls in which a client learns that it was refused.
const WAYS: [&str; 7] = [
    "receives",
    "receives-into",
    "receives-on-a-half",
    "sends",
    "sends-on-a-half",
    "flushes",
    "sends-and-then-receives",
];

fn a_refused_client_that_way_learns_the_reason(setting: Setting, way: &str) {
    let options = ServerOptions::new().allow(|_| false);
    learns(setting, way, &options, 0, ErrorKind::Refused, "do not admit this client", RefusalReason::Policy);
}

fn a_client_of_a_full_server_that_way_learns_that_it_is_busy(setting: Setting, way: &str) {
    let options = ServerOptions::new().connections_max(1);
    learns(setting, way, &options, 1, ErrorKind::Busy, "cannot accept more clients", RefusalReason::Limit);
}

fn a_client_beyond_those_of_its_user_that_way_learns_that_the_server_is_busy(setting: Setting, way: &str) {
    let options = ServerOptions::new().connections_per_uid_max(2);
    learns(setting, way, &options, 2, ErrorKind::Busy, "cannot accept more clients", RefusalReason::Limit);
}

/// Starts a server, lets `before` clients in, and checks what the next one learns.
fn learns(
    setting: Setting,
    way: &str,
    options: &ServerOptions,
    before: usize,
    kind: ErrorKind,
    text: &str,
    reason: RefusalReason,
) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind_with(options, &address).unwrap();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let (hand_over, accepted) = mpsc::channel();
        scope.spawn(|| {
            let hand_over = hand_over;
            server.incoming().for_each(|connection| drop(hand_over.send(connection.unwrap())));
        });
        let mut held = Vec::new();
        for _ in 0..before {
            let client = setting.connect(&address).unwrap();
            held.push((client, accepted.recv_timeout(DEADLINE).expect("the server accepts the client")));
        }
        let connected = answered(|time| setting.connect_with(&ConnectOptions::new().timeout(time), &address));
        let error = match connected {
            Err(error) => error,
            Ok(connection) => learn(connection, way),
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(server.stats().refused_by(reason) >= 1, "{:?}", server.stats());
        // Those who were accepted are not affected.
        for (client, served) in &mut held {
            client.send(b"still here").unwrap();
            assert_eq!(served.recv().unwrap().expect("a message"), b"still here");
        }
    });
}

/// Uses a connection in this way until it fails.
fn learn(mut connection: Connection, way: &str) -> Error {
    let received = |result: Result<_>| result.expect_err("the client was refused");
    match way {
        "receives" => {
            let error = received(connection.recv_timeout(DEADLINE).map(drop));
            // The reason is final.
            assert_eq!(received(connection.recv_timeout(DEADLINE).map(drop)).kind(), error.kind());
            assert_eq!(first_error(|| connection.send(b"again")).kind(), error.kind());
            error
        }
        "receives-into" => received(connection.recv_into(&mut Vec::new()).map(drop)),
        "receives-on-a-half" => received(connection.split().1.recv_timeout(DEADLINE).map(drop)),
        "sends" => {
            let error = first_error(|| connection.send(b"hello"));
            assert_eq!(first_error(|| connection.send(b"hello")).kind(), error.kind());
            // Receiving reports the same, and not the end.
            assert_eq!(received(connection.recv_timeout(DEADLINE).map(drop)).kind(), error.kind());
            error
        }
        "sends-on-a-half" => {
            let (mut sender, mut receiver) = connection.split();
            let error = first_error(|| sender.send(b"hello"));
            assert_eq!(received(receiver.recv_timeout(DEADLINE).map(drop)).kind(), error.kind());
            error
        }
        "flushes" => first_error(|| connection.feed(b"hello").and_then(|()| connection.flush())),
        // The server closes without having read this.
        "sends-and-then-receives" => {
            let sent = connection.send(b"hello");
            let error = received(connection.recv_timeout(DEADLINE).map(drop));
            assert!(sent.is_ok() || sent.unwrap_err().kind() == error.kind());
            error
        }
        other => panic!("unknown way {other:?}"),
    }
}

fn first_error(mut act: impl FnMut() -> Result<()>) -> Error {
    eventually_some(|| act().err()).expect("the client was refused")
}

fn a_client_that_the_server_leaves_without_a_word_gets_the_end(setting: Setting) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind(&address).unwrap();
    thread::scope(|scope| {
        let leaving = scope.spawn(|| drop(server.accept_timeout(DEADLINE).unwrap()));
        let mut client = setting.connect(&address).unwrap();
        leaving.join().unwrap();
        assert_eq!(client.recv_timeout(DEADLINE).unwrap(), None);
        assert_eq!(first_error(|| client.send(b"hello")).kind(), ErrorKind::Disconnected);
    });
}
