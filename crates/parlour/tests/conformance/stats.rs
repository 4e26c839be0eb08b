//! Counts of a server's clients.

use std::thread;
use std::time::{Duration, Instant};

use parlour::inspect::{self, NameStats};
use parlour::{ClientStats, ErrorKind, RefusalReason, ServerOptions, WaitReason};

use super::api::{Setting, settings};
use super::link::{Link, connect_pair};
use crate::support::{DEADLINE, data, eventually, trials};

trials! {
    for setting in settings() =>
        a_server_counts_accepted_and_open_connections,
        messages_and_bytes_of_both_directions_are_shown_to_other_processes,
        messages_of_connections_that_have_ended_stay_in_the_totals,
        a_client_that_does_not_read_is_shown_as_stuck_until_it_reads,
        a_client_that_reads_a_little_now_and_then_is_stuck_all_the_while,
        a_client_that_does_not_read_is_shown_as_stuck_while_the_server_receives,
        a_client_that_stops_inside_a_message_is_shown_as_stuck_until_it_goes_on,
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

/// Reads the counters as another process does, with the only client.
fn read(address: &str) -> (NameStats, ClientStats) {
    let mut stats = inspect::stats(address).unwrap();
    assert_eq!((stats.clients.len(), stats.open, stats.unlisted), (1, 1, 0), "{stats:?}");
    let client = stats.clients.remove(0);
    (stats, client)
}

fn messages_and_bytes_of_both_directions_are_shown_to_other_processes(setting: Setting) {
    let Link { mut client, mut served, server, address, base: _base } = Link::new(setting);
    let (_, before) = read(&address);
    assert_eq!((before.received.messages, before.sent.messages, before.transport), (0, 0, Some(setting.transport)));
    assert_eq!((before.pid, before.number), (Some(std::process::id()), 1));
    assert_eq!(before.uid, Some(rustix::process::geteuid().as_raw()));
    for length in [5, 0, 40_000] {
        client.send(data::message(1, length)).unwrap();
        assert_eq!(served.recv().unwrap().unwrap().len(), length);
    }
    client.send(b"fed").unwrap();
    assert_eq!(served.recv_into(&mut Vec::new()).unwrap(), Some(3));
    // Two messages of one read.
    client.feed(b"ab").unwrap();
    client.feed(b"cd").unwrap();
    client.flush().unwrap();
    for _ in 0..2 {
        assert_eq!(served.recv_into(&mut Vec::new()).unwrap(), Some(2));
    }
    served.send(data::message(2, 700)).unwrap();
    served.feed(b"fed").unwrap();
    served.flush().unwrap();
    served.try_send(b"tried").unwrap();
    served.flush().unwrap();
    let (stats, shown) = read(&address);
    assert_eq!((shown.received.messages, shown.received.bytes), (6, 40_012));
    assert_eq!((shown.sent.messages, shown.sent.bytes), (3, 708));
    assert_eq!((stats.received, stats.sent, stats.accepted), (shown.received, shown.sent, 1));
    assert!(shown.stuck().is_none() && shown.held == 0, "{shown:?}");
    let own = server.stats();
    assert_eq!((own.received, own.sent), (stats.received, stats.sent));
}

fn messages_of_connections_that_have_ended_stay_in_the_totals(setting: Setting) {
    let Link { mut client, mut served, server, address, base: _base } = Link::new(setting);
    client.send(b"hello").unwrap();
    served.recv().unwrap().unwrap();
    let first = inspect::stats(&address).unwrap();
    drop((client, served));
    eventually("the connection has ended", || server.stats().open == 0);
    let stats = inspect::stats(&address).unwrap();
    assert_eq!((stats.clients.len(), stats.open, stats.accepted), (0, 0, 1));
    assert_eq!((stats.received, stats.sent), (first.received, first.sent));
    let (_client, _served) = connect_pair(setting, &server, &address, &Default::default());
    let (stats, shown) = read(&address);
    assert_eq!((shown.number, shown.received.messages, stats.received.messages), (2, 0, 1));
}

/// Returns the reason for which the only client is stuck.
fn stuck(address: &str) -> Option<WaitReason> {
    read(address).1.stuck().map(|waiting| waiting.reason)
}

fn a_client_that_does_not_read_is_shown_as_stuck_until_it_reads(setting: Setting) {
    const COUNT: usize = 6;
    const LENGTH: usize = 1 << 20;
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    assert_eq!(stuck(&address), None);
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            for number in 0..COUNT {
                served.send(data::message(number, LENGTH)).unwrap();
            }
            served.flush().unwrap();
            served
        });
        eventually("the client is stuck", || stuck(&address) == Some(WaitReason::Space));
        for number in 0..COUNT {
            data::check(&client.recv().unwrap().unwrap(), number, LENGTH);
        }
        let served = sending.join().unwrap();
        let (_, shown) = read(&address);
        assert!(shown.stuck().is_none() && shown.held == 0, "{shown:?}");
        assert_eq!((shown.sent.messages, shown.sent.bytes), (COUNT as u64, (COUNT * LENGTH) as u64));
        drop(served);
    });
}

fn a_client_that_reads_a_little_now_and_then_is_stuck_all_the_while(setting: Setting) {
    const LENGTH: usize = 8 << 20;
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            served.send(data::message(1, LENGTH)).unwrap();
            served.flush().unwrap();
            served
        });
        eventually("the client is stuck", || stuck(&address) == Some(WaitReason::Space));
        let seen = Instant::now();
        let mut received = None;
        for _ in 0..5 {
            received = received.or(client.try_recv().ok());
            if received.is_some() {
                break;
            }
            eventually("the client is stuck again, or the channel has taken the rest", || {
                let elapsed = seen.elapsed();
                let Some(waiting) = read(&address).1.stuck() else { return sending.is_finished() };
                assert!(waiting.time >= elapsed, "{waiting:?}, and {elapsed:?} since the first look");
                waiting.reason == WaitReason::Space
            });
        }
        let message = received.unwrap_or_else(|| client.recv().unwrap()).unwrap();
        data::check(&message, 1, LENGTH);
        let _served = sending.join().unwrap();
        assert!(read(&address).1.stuck().is_none());
    });
}

fn a_client_that_does_not_read_is_shown_as_stuck_while_the_server_receives(setting: Setting) {
    const LENGTH: usize = 4 << 20;
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    // The channel takes a part of the message, and the rest stays with the server.
    served.try_send(data::message(1, LENGTH)).unwrap();
    thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            assert_eq!(served.recv().unwrap().unwrap(), b"done");
            served
        });
        eventually("the client is stuck", || stuck(&address) == Some(WaitReason::Space));
        data::check(&client.recv().unwrap().unwrap(), 1, LENGTH);
        client.send(b"done").unwrap();
        let _served = receiving.join().unwrap();
        assert!(read(&address).1.stuck().is_none());
    });
}

fn a_client_that_stops_inside_a_message_is_shown_as_stuck_until_it_goes_on(setting: Setting) {
    const LENGTH: usize = 8 << 20;
    let Link { mut client, mut served, server: _server, address, base: _base } = Link::new(setting);
    // The channel takes a part of the message, and the rest stays here.
    client.send_timeout(data::message(1, LENGTH), Duration::from_millis(20)).unwrap();
    thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            data::check(&served.recv().unwrap().unwrap(), 1, LENGTH);
            served
        });
        eventually("the client is stuck", || stuck(&address) == Some(WaitReason::Rest));
        assert_eq!(read(&address).1.received.messages, 0);
        client.flush().unwrap();
        let served = receiving.join().unwrap();
        let (_, shown) = read(&address);
        assert!(shown.stuck().is_none() && shown.received.messages == 1, "{shown:?}");
        drop(served);
    });
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
    let shown = inspect::stats(&address).unwrap();
    assert_eq!((shown.accepted, shown.refused), (0, stats.refused), "{shown:?}");
    assert_eq!(shown.refused_by(RefusalReason::Policy), stats.refused, "{shown:?}");
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
