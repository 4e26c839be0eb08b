//! Readings for the tests of these modules.

use std::time::Duration;

use super::reading::{Client, Counters, Name, Traffic, Wait};

pub(super) fn traffic(messages: u64, bytes: u64) -> Traffic {
    Traffic { messages, bytes }
}

pub(super) fn client(number: u64, received: Traffic, sent: Traffic) -> Client {
    Client {
        number,
        pid: Some(1000 + number as u32),
        uid: Some(1000),
        transport: "unix".to_owned(),
        connected: Duration::from_secs(number),
        received,
        sent,
        ..Client::default()
    }
}

pub(super) fn stuck(number: u64, seconds: u64) -> Client {
    let wait = Wait::Stuck {
        time: Duration::from_secs(seconds),
        in_short: "not reading",
        reason: "waits for the client to read".to_owned(),
    };
    Client { wait, held: 4096, ..client(number, traffic(0, 0), traffic(0, 0)) }
}

/// A name whose totals are those of its clients.
pub(super) fn name(name: &str, uptime: u64, clients: Vec<Client>) -> Name {
    let sum = |of: fn(&Client) -> Traffic| {
        let add = |sum: Traffic, one: Traffic| traffic(sum.messages + one.messages, sum.bytes + one.bytes);
        clients.iter().map(of).fold(Traffic::default(), add)
    };
    Name {
        place: format!("/base/{name}"),
        name: name.to_owned(),
        server: "pid 77, uid 1000, /usr/bin/server".to_owned(),
        pid: 77,
        state: "live".to_owned(),
        counters: Some(Counters {
            uptime: Duration::from_secs(uptime),
            open: clients.len() as u64,
            accepted: clients.len() as u64,
            received: sum(|client| client.received),
            sent: sum(|client| client.sent),
            clients,
            has_own_pids: true,
            ..Counters::default()
        }),
    }
}
