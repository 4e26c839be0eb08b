//! Hosts in network namespaces: each has a network, a base directory and a bridge process of its own. Every fault that
//! docs/bridge.md describes happens to them, mostly while numbered messages flow in both directions.
//!
//! Each test is skipped where the namespaces cannot be made.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[path = "namespaces/by_hand.rs"]
mod by_hand;
#[path = "namespaces/certificates.rs"]
mod certificates;
#[path = "loopback/hosts.rs"]
mod hosts;
#[path = "namespaces/languages.rs"]
mod languages;
#[path = "namespaces/network.rs"]
mod network;
#[path = "namespaces/talk.rs"]
mod talk;

use std::thread;
use std::time::{Duration, Instant};

use hosts::{Hosts, ROLE};
use network::{Network, inside};
use parlour::{Connection, ErrorKind, Server};
use parlour_bridge::status::HostState;
use talk::{End, Talk, assert_complete, assert_prefixes, assert_talk};

/// The time for everything that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lease that is over only if a host is lost: no test waits for its end.
const LONG: &str = "60s";

/// A lease for tests that wait for its end, after which everybody is lost.
const SHORT: &str = "2s";

/// A lease for tests that wait for its end, while others must not be lost, on a machine that may be busy meanwhile.
const ENOUGH: &str = "10s";

/// Runs this executable as a server, if the environment says so. It sends messages back, but for `talk`, which it
/// serves and reports, `flood`, which it answers with messages without end, `hush`, which it never answers, and `who`,
/// which it answers with its address.
#[test]
fn role() {
    let Ok(address) = std::env::var(ROLE) else { return };
    let report = std::env::var("PARLOUR_TEST_END").unwrap();
    let server = Server::bind(&address).unwrap();
    for client in server.incoming() {
        let Ok(client) = client else { return };
        let (address, report) = (address.clone(), report.clone());
        thread::spawn(move || serve(client, &address, &report));
    }
}

fn serve(mut client: Connection, address: &str, report: &str) {
    let end = loop {
        let message = match client.recv() {
            Ok(Some(message)) => message,
            Ok(None) => break "clean",
            Err(_) => break "error",
        };
        match &*message {
            b"who" => drop(client.send(address)),
            b"hush" => loop {
                thread::park();
            },
            b"flood" => while client.send(&[7; 10_000]).is_ok() {},
            [b't', b'a', b'l', b'k', b' ', number @ ..] => {
                return talk::write(report, std::str::from_utf8(number).unwrap(), &talk::serve(client));
            }
            message => drop(client.send(message)),
        }
    };
    std::fs::write(report, end).unwrap();
}

fn assert_echo(client: &mut Connection) {
    for len in [0, 1, 70_000] {
        let message = vec![len as u8; len];
        client.send(&message).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap()[..], message[..]);
    }
}

/// Starts a network with these hosts, and `b`, which imports from them.
fn start(exporters: &[&'static str], lease: &'static str) -> (Network, Hosts) {
    let network = Network::new(exporters);
    let hosts = Hosts::start_in(&network.places(), lease);
    (network, hosts)
}

/// Waits until `b` has a link to host `a`.
fn wait_for_link(hosts: &Hosts) {
    hosts.wait_for_status("b", |status| status.hosts.iter().any(|host| host.state == HostState::Up));
}

#[test]
fn a_killed_server_ends_its_talk_and_the_next_one_serves() {
    inside("a_killed_server_ends_its_talk_and_the_next_one_serves", || {
        let (_network, mut hosts) = start(&["a"], LONG);
        let talk = Talk::start(&hosts);
        hosts.kill("server a");
        // As on one host, the end may fall between two messages.
        let (client, _) = talk.end();
        assert!(!matches!(client.end, End::Wrong(_)), "{client:?}");
        hosts.wait_until_nobody_holds_the_name();
        hosts.start_server("a");
        assert_talk(&hosts);
    });
}

#[test]
fn a_killed_exporter_is_an_error_for_the_client_and_its_next_run_serves() {
    inside("a_killed_exporter_is_an_error_for_the_client_and_its_next_run_serves", || {
        let (_network, mut hosts) = start(&["a"], LONG);
        let before = hosts.wait_for_status("a", |_| true).instance;
        let (talk, mut idle) = (Talk::start(&hosts), hosts.client());
        assert_echo(&mut idle);
        hosts.kill("bridge a");
        let (client, number) = talk.end();
        assert_prefixes(&client, &talk::server(&hosts, number));
        assert_eq!(client.end, End::Error);
        assert!(idle.recv_timeout(PATIENCE).is_err_and(|error| error.kind() != ErrorKind::TimedOut));
        hosts.start_bridge("a");
        assert_talk(&hosts);
        assert_ne!(hosts.wait_for_status("a", |_| true).instance, before);
    });
}

#[test]
fn a_killed_importer_is_an_error_for_the_server_and_its_next_run_serves() {
    inside("a_killed_importer_is_an_error_for_the_server_and_its_next_run_serves", || {
        let (_network, mut hosts) = start(&["a"], LONG);
        let talk = Talk::start(&hosts);
        hosts.kill("bridge b");
        let (client, number) = talk.end();
        let server = talk::server(&hosts, number);
        assert_prefixes(&client, &server);
        assert_eq!(server.end, End::Error);
        hosts.start_bridge("b");
        assert_talk(&hosts);
    });
}

#[test]
fn a_stopped_server_loses_nothing() {
    inside("a_stopped_server_loses_nothing", || {
        // The bridges are there, so that nobody is lost, for however long it is.
        let (_network, hosts) = start(&["a"], ENOUGH);
        let talk = Talk::start(&hosts);
        hosts.stop("server a");
        thread::sleep(Duration::from_secs(11));
        assert!(talk.goes_on());
        hosts.go_on("server a");
        talk.wait_for_more();
        let (client, server) = talk.finish(&hosts);
        assert_complete(&client, &server);
    });
}

#[test]
fn a_stopped_exporter_is_an_error_for_both_sides_and_serves_again_when_it_goes_on() {
    inside("a_stopped_exporter_is_an_error_for_both_sides_and_serves_again_when_it_goes_on", || {
        let (_network, hosts) = start(&["a"], SHORT);
        let talk = Talk::start(&hosts);
        hosts.stop("bridge a");
        let (client, number) = talk.end();
        hosts.wait_until_nobody_holds_the_name();
        hosts.go_on("bridge a");
        let server = talk::server(&hosts, number);
        assert_prefixes(&client, &server);
        assert_eq!((client.end, server.end), (End::Error, End::Error));
        assert_talk(&hosts);
    });
}

#[test]
fn a_stopped_importer_is_an_error_for_both_sides_and_serves_again_when_it_goes_on() {
    inside("a_stopped_importer_is_an_error_for_both_sides_and_serves_again_when_it_goes_on", || {
        let (_network, hosts) = start(&["a"], SHORT);
        let talk = Talk::start(&hosts);
        hosts.stop("bridge b");
        hosts.wait_for_line("a", "b.example is lost: nothing arrived for");
        hosts.go_on("bridge b");
        let (client, number) = talk.end();
        let server = talk::server(&hosts, number);
        assert_prefixes(&client, &server);
        assert_eq!((client.end, server.end), (End::Error, End::Error));
        assert_talk(&hosts);
    });
}

#[test]
fn a_cut_that_is_shorter_than_the_lease_loses_nothing() {
    inside("a_cut_that_is_shorter_than_the_lease_loses_nothing", || {
        let (network, hosts) = start(&["a"], LONG);
        let (talk, mut idle) = (Talk::start(&hosts), hosts.client());
        assert_echo(&mut idle);
        for _ in 0..2 {
            network.cut("a");
            idle.send("on its way").unwrap();
            thread::sleep(Duration::from_millis(500));
            assert!(talk.goes_on());
            network.mend("a");
            talk.wait_for_more();
            assert_eq!(idle.recv_timeout(PATIENCE).unwrap().unwrap(), b"on its way");
        }
        let (client, server) = talk.finish(&hosts);
        assert_complete(&client, &server);
        assert_eq!(hosts.wait_for_status("b", |_| true).counts.links_lost, 0);
    });
}

#[test]
fn a_cut_that_is_longer_than_the_lease_is_an_error_for_both_sides() {
    inside("a_cut_that_is_longer_than_the_lease_is_an_error_for_both_sides", || {
        let (network, hosts) = start(&["a"], SHORT);
        let (talk, mut idle) = (Talk::start(&hosts), hosts.client());
        assert_echo(&mut idle);
        network.cut("a");
        let (client, number) = talk.end();
        let server = talk::server(&hosts, number);
        assert_prefixes(&client, &server);
        assert_eq!((client.end, server.end), (End::Error, End::Error));
        assert!(idle.recv_timeout(PATIENCE).is_err_and(|error| error.kind() != ErrorKind::TimedOut));
        assert_eq!(hosts.server_saw(), "error");
        hosts.wait_until_nobody_holds_the_name();
        network.mend("a");
        assert_talk(&hosts);
    });
}

/// Returns the address of the server that serves a client.
fn who(client: &mut Connection) -> Vec<u8> {
    client.send("who").unwrap();
    client.recv_timeout(PATIENCE).unwrap().unwrap().to_vec()
}

#[test]
fn of_two_exporters_one_is_killed_or_cut_off_and_the_other_one_goes_on() {
    inside("of_two_exporters_one_is_killed_or_cut_off_and_the_other_one_goes_on", || {
        let (network, mut hosts) = start(&["a", "c"], ENOUGH);
        for is_cut in [false, true] {
            hosts.wait_for_status("b", |status| status.imports[0].exporters.len() == 2);
            // Of two clients, each exporter gets one.
            let mut clients = [hosts.client(), hosts.client()];
            let of_c = hosts.path("c").join("wc");
            let mut talks: Vec<(bool, Talk)> = Vec::new();
            for mut client in clients.iter_mut().map(|client| std::mem::replace(client, hosts.client())) {
                let is_of_c = who(&mut client) == of_c.as_os_str().as_encoded_bytes();
                talks.push((is_of_c, Talk::with(client)));
            }
            drop(clients);
            talks.sort_by_key(|(is_of_c, _)| *is_of_c);
            let [(false, of_a), (true, of_c)] = <[_; 2]>::try_from(talks).map_err(|_| ()).unwrap() else {
                panic!("one exporter has got both clients")
            };
            if is_cut {
                network.cut("c")
            } else {
                hosts.kill("bridge c")
            }
            let (client, number) = of_c.end();
            assert_prefixes(&client, &talk::server(&hosts, number));
            assert_eq!(client.end, End::Error);
            of_a.wait_for_more();
            assert_talk(&hosts);
            let (client, server) = of_a.finish(&hosts);
            assert_complete(&client, &server);
            if is_cut { network.mend("c") } else { hosts.start_bridge("c") }
        }
        hosts.wait_for_status("b", |status| status.imports[0].exporters.len() == 2);
    });
}

#[test]
fn stalled_conversations_hold_up_nobody() {
    inside("stalled_conversations_hold_up_nobody", || {
        const STALLED: usize = 200;
        let (_network, hosts) = start(&["a"], LONG);
        // Each server sends until nobody takes more.
        let flooded = || {
            let mut client = hosts.client();
            client.send("flood").unwrap();
            assert_eq!(*client.recv_timeout(PATIENCE).unwrap().unwrap(), [7; 10_000]);
            client
        };
        let mut stalled: Vec<Connection> = (0..STALLED).map(|_| flooded()).collect();
        let mut fast = hosts.client();
        let begin = Instant::now();
        for number in 0..500u32 {
            fast.send(&number.to_be_bytes()).unwrap();
            assert_eq!(*fast.recv_timeout(PATIENCE).unwrap().unwrap(), number.to_be_bytes());
        }
        assert!(begin.elapsed() < PATIENCE);
        let status = hosts.wait_for_status("a", |_| true);
        assert_eq!(status.exports[0].conversations, STALLED + 1);
        // They were only slow.
        for client in stalled.iter_mut().step_by(20) {
            for _ in 0..100 {
                assert_eq!(*client.recv_timeout(PATIENCE).unwrap().unwrap(), [7; 10_000]);
            }
        }
        assert_talk(&hosts);
    });
}
