//! Counts of a server's clients.

use parlour::{ErrorKind, RefusalReason, ServerOptions};

use super::api::{Setting, settings};
use super::link::{Link, connect_pair};
use crate::support::{DEADLINE, eventually, trials};

trials! {
    for setting in settings() =>
        a_server_counts_accepted_and_open_connections,
        a_server_counts_refusals_by_reason,
        a_server_returns_its_refusals_one_by_one unless setting.is_a_hub("a hub has an event for each refusal");
}

fn a_server_counts_accepted_and_open_connections(setting: Setting) {
    let Link { client, served, server, address, base: _base } = Link::new(setting);
    assert_eq!((server.stats().accepted, server.stats().open), (1, 1));
    let (second, second_served) = connect_pair(setting, &server, &address, &Default::default());
    assert_eq!((server.stats().accepted, server.stats().open), (2, 2));
    drop((client, served));
    eventually("the first connection is not counted any more", || server.stats().open == 1);
    drop((second, second_served));
    eventually("no connection is open", || server.stats().open == 0);
    assert_eq!((server.stats().accepted, server.stats().refused), (2, 0));
}

fn a_server_counts_refusals_by_reason(setting: Setting) {
    let base = crate::support::Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind_with(&ServerOptions::new().allow(|_| false), &address).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            if let Ok(mut connection) = setting.connect(&address) {
                let _ = connection.recv_timeout(DEADLINE);
            }
        });
        eventually("the refusal is counted", || {
            assert!(server.try_accept().is_err());
            server.stats().refused > 0
        });
        client.join().unwrap();
    });
    let stats = server.stats();
    assert_eq!((stats.accepted, stats.open), (0, 0), "{stats:?}");
    assert_eq!(stats.refused_by(RefusalReason::Policy), stats.refused, "{stats:?}");
    assert_eq!(stats.refused_by(RefusalReason::Limit), 0, "{stats:?}");
    let last = stats.last_refusal.unwrap();
    assert_eq!((last.reason, last.transport), (RefusalReason::Policy, setting.transport), "{last:?}");
}

fn a_server_returns_its_refusals_one_by_one(setting: Setting) {
    let base = crate::support::Base::new();
    let address = setting.address(&base, "room");
    let server = setting.bind_with(&ServerOptions::new().allow(|_| false), &address).unwrap();
    assert!(server.next_refusal().is_none());
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| setting.connect(&address)?.recv_timeout(DEADLINE).map(drop));
            let mut refusal = None;
            eventually("the refusal is returned", || {
                assert!(server.try_accept().is_err());
                refusal = server.next_refusal();
                refusal.is_some()
            });
            let refusal = refusal.unwrap();
            assert_eq!((refusal.reason, refusal.transport), (RefusalReason::Policy, setting.transport), "{refusal}");
            assert!(server.next_refusal().is_none());
            assert_eq!(client.join().unwrap().unwrap_err().kind(), ErrorKind::Refused);
        });
    }
}
