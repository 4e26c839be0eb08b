use std::sync::mpsc;
use std::thread;

use parlour::{ConnectOptions, ErrorKind, ServerOptions};

use super::api::{Server, Setting, settings};
use super::link::ShutDownAtEnd;
use crate::support::wait::{answered, eventually_some};
use crate::support::{Base, DEADLINE, eventually, trials};

const PLACES: &str = "a hub frees the slot of a client when it leaves; hub/limits.rs tests its limits";

trials! {
    for setting in settings() =>
        a_client_beyond_connections_max_is_turned_away unless setting.is_a_hub(PLACES),
        a_client_beyond_connections_per_uid_max_is_turned_away unless setting.is_a_hub(PLACES);
}

fn a_client_beyond_connections_max_is_turned_away(setting: Setting) {
    turns_the_third_away(setting, &ServerOptions::new().connections_max(2), "all 2 connections are in use");
}

fn a_client_beyond_connections_per_uid_max_is_turned_away(setting: Setting) {
    let options = ServerOptions::new().connections_per_uid_max(2);
    turns_the_third_away(setting, &options, "user has all 2 connections");
}

fn turns_the_third_away(setting: Setting, options: &ServerOptions, reason: &str) {
    let base = Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind_with(options, &address).unwrap();
    thread::scope(|scope| {
        let _end = ShutDownAtEnd(server.shutdown_handle());
        let (hand_over, accepted) = mpsc::channel();
        let serving = scope.spawn(|| {
            let hand_over = hand_over;
            server.incoming().for_each(|connection| hand_over.send(connection.unwrap()).unwrap());
        });
        let come = || {
            let client = setting.connect(&address).unwrap();
            (client, accepted.recv_timeout(DEADLINE).expect("the server accepts the client"))
        };
        let (mut first, mut first_served) = come();
        let (second, second_served) = come();

        is_turned_away(setting, &server, &address, reason);
        first.send(b"accepted clients are not affected").unwrap();
        assert_eq!(first_served.recv().unwrap().expect("a message"), b"accepted clients are not affected");

        // The slot is free only after the server has dropped both halves.
        let (sender, receiver) = second_served.split();
        drop((second, sender));
        is_turned_away(setting, &server, &address, reason);
        drop(receiver);
        let (mut third, mut third_served) = come();
        third_served.send(b"welcome").unwrap();
        assert_eq!(third.recv().unwrap().expect("a message"), b"welcome");
        is_turned_away(setting, &server, &address, reason);

        server.shutdown_handle().shutdown();
        serving.join().unwrap();
        assert!(accepted.try_recv().is_err(), "the server accepted another client");
    });
}

/// Connects, checks that the server rejects the connection, and checks the statistics of the server.
fn is_turned_away(setting: Setting, server: &Server, address: &str, reason: &str) {
    let before = server.stats().refused;
    // Refusals of earlier clients.
    while server.next_refusal().is_some() {}
    match answered(|time| setting.connect_with(&ConnectOptions::new().timeout(time), address)) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
        Ok(mut connection) => assert_eq!(connection.recv_timeout(DEADLINE).unwrap_err().kind(), ErrorKind::Busy),
    }
    eventually("the refusal is counted", || server.stats().refused > before);
    assert!(server.stats().last_refusal.is_some());
    // A client that tries again until its deadline may disconnect in its last attempt, which is another reason.
    let refused = || std::iter::from_fn(|| server.next_refusal()).find(|refusal| refusal.detail.contains(reason));
    let refusal = eventually_some(refused).expect("a refusal for this reason");
    assert!(refusal.to_string().contains(&refusal.detail), "{refusal}");
    assert!(address.starts_with(&format!("{}:", refusal.transport)), "{refusal}");
}
