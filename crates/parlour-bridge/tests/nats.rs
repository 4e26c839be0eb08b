//! Hosts that find each other through a real NATS server on loopback. The trials are skipped where there is none:
//! `$PARLOUR_NATS_SERVER`, `nats-server` in `$PATH`, or `nats/bin/nats-server` in the target directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "loopback/hosts.rs"]
mod hosts;
#[path = "nats/registry.rs"]
mod registry;
#[path = "nats/server.rs"]
mod server;

use std::cell::OnceCell;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use hosts::{Hosts, ROLE, wait_for};
use libtest_mimic::{Arguments, Trial};
use parlour::{Connection, Server};
use parlour_bridge::files::certificates;
use parlour_bridge::identity::Host;
use parlour_bridge::status::{HostState, Status};
use registry::Client;
use server::NatsServer;

const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the trials with the names of their functions.
macro_rules! trials {
    ($($trial:ident),+ $(,)?) => { vec![$((stringify!($trial), $trial as fn())),+] };
}

fn main() -> ExitCode {
    if let Ok(address) = std::env::var(ROLE) {
        serve(&address);
        return ExitCode::SUCCESS;
    }
    let missing = server::missing();
    let trials = trials![
        two_hosts_find_each_other_and_their_names_come_and_go,
        an_exporter_that_is_killed_is_forgotten_and_found_again,
        a_registry_that_is_killed_harms_no_conversation_and_no_known_host,
        a_registry_that_is_stopped_harms_no_conversation_and_no_known_host,
        a_registry_that_has_lost_its_contents_gets_them_again,
        a_registry_that_is_configured_anew_takes_no_known_host_away,
        a_registry_that_is_not_there_at_the_start_is_used_when_it_comes,
        a_password_that_is_refused_is_told_and_read_again,
        a_bridge_logs_in_with_its_certificate_and_few_permissions,
        junk_in_the_registry_is_refused_told_once_and_harms_nothing,
        an_entry_that_lies_leads_to_no_other_host,
    ];
    let trial = |(name, run): (&str, fn())| match &missing {
        None => Trial::test(name, move || {
            run();
            Ok(())
        }),
        Some(reason) => Trial::test(name, || Ok(())).with_kind(format!("skipped: {reason}")).with_ignored_flag(true),
    };
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().map(trial).collect()).exit_code()
}

/// Sends each message back, but for `who`, which is answered with the address.
fn serve(address: &str) {
    let server = Server::bind(address).unwrap();
    for client in server.incoming() {
        let (Ok(mut client), address) = (client, address.to_owned()) else { return };
        std::thread::spawn(move || {
            while let Ok(Some(message)) = client.recv() {
                let answer = if &*message == b"who" { address.as_bytes() } else { &message };
                if client.send(answer).is_err() {
                    return;
                }
            }
        });
    }
}

fn assert_echo(client: &mut Connection) {
    for len in [0, 5, 300_000] {
        let message = vec![7; len];
        client.send(&message).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap()[..], message[..]);
    }
}

/// The lines of a configuration, with a time that is short for tests.
fn part(server: &NatsServer, more: &str) -> String {
    format!("[discovery.nats]\nservers = [\"nats://{}\"]\nttl = \"2s\"\n{more}", server.address())
}

/// A time after which entries expire that is far longer than a test. The server may take a tenth of it for an answer.
const LASTING: &str = "ttl = \"100s\"";

/// The lines of a configuration for tests in which nothing expires.
fn lasting(server: &NatsServer) -> String {
    format!("[discovery.nats]\nservers = [\"nats://{}\"]\n{LASTING}\n", server.address())
}

fn is_connected(status: &Status) -> bool {
    status.registry.as_ref().is_some_and(|registry| registry.connected_seconds.is_some())
}

fn found(status: &Status) -> usize {
    status.registry.as_ref().map_or(0, |registry| registry.hosts_found)
}

/// Returns the state of a host, as `b` sees it.
fn state(status: &Status, host: &str) -> HostState {
    status.hosts.iter().find(|other| other.host == host).unwrap().state
}

/// Returns the number of lines of a bridge that have a text.
fn lines(hosts: &Hosts, host: &str, text: &str) -> usize {
    fs::read_to_string(hosts.path(&format!("{host}.log"))).unwrap().matches(text).count()
}

fn two_hosts_find_each_other_and_their_names_come_and_go() {
    let server = NatsServer::start("");
    let mut hosts = Hosts::start_all_with(&["a", "c"], &lasting(&server), |_| {});
    let mut client = hosts.client();
    assert_echo(&mut client);
    let status = hosts.wait_for_status("b", |status| found(status) == 2 && is_connected(status));
    let registry = status.registry.unwrap();
    assert_eq!((registry.names_put, registry.names_watched, registry.losses), (0, 1, 0));
    assert_eq!(hosts.wait_for_status("a", is_connected).registry.unwrap().names_put, 1);
    hosts.kill("server c");
    hosts.wait_for_status("b", |status| found(status) == 1);
    hosts.start_server("c");
    hosts.wait_for_status("b", |status| found(status) == 2);
    // A bridge that ends in order takes its entries back.
    hosts.terminate("bridge c");
    hosts.wait_for_status("b", |status| found(status) == 1 && state(status, "c.example") == HostState::Down);
    hosts.start_bridge("c");
    hosts.wait_for_status("b", |status| found(status) == 2 && state(status, "c.example") == HostState::Up);
    for (arguments, expected) in [
        (&[][..], format!("registry nats://{}\n  connected for ", server.address())),
        (&["--openmetrics"], "parlour_bridge_registry_up 1\n".to_owned()),
        (&["--json"], "\"hosts_found\":2".to_owned()),
    ] {
        let told = String::from_utf8(hosts.status("b", arguments).stdout).unwrap();
        assert!(told.contains(&expected), "{told}");
    }
    assert_eq!(lines(&hosts, "b", "the registry is there"), 1);
}

fn an_exporter_that_is_killed_is_forgotten_and_found_again() {
    let server = NatsServer::start("");
    let mut hosts = Hosts::start_all_with(&["a"], &part(&server, ""), |_| {});
    assert_echo(&mut hosts.client());
    hosts.wait_for_status("b", |status| found(status) == 1);
    hosts.kill("bridge a");
    let gone = hosts.wait_for_status("b", |status| found(status) == 0);
    assert!(is_connected(&gone) && state(&gone, "a.example") == HostState::Down);
    // It comes back at another address.
    let (old, new) = (hosts.address("a"), hosts::own_address());
    hosts.reconfigure_stopped("a", &old.to_string(), &new.to_string());
    hosts.start_bridge("a");
    assert_echo(&mut hosts.client());
}

#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Killed,
    Stopped,
    Emptied,
}

fn a_registry_that_is_killed_harms_no_conversation_and_no_known_host() {
    outage(Outage::Killed);
}

fn a_registry_that_is_stopped_harms_no_conversation_and_no_known_host() {
    outage(Outage::Stopped);
}

fn a_registry_that_has_lost_its_contents_gets_them_again() {
    outage(Outage::Emptied);
}

fn outage(outage: Outage) {
    let mut server = NatsServer::start("");
    let mut hosts = Hosts::start_all_with(&["a"], &part(&server, ""), |_| {});
    let mut client = hosts.client();
    assert_echo(&mut client);
    hosts.wait_for_status("b", |status| found(status) == 1);
    match outage {
        Outage::Stopped => server.stop(),
        Outage::Killed | Outage::Emptied => server.kill(),
    }
    for host in ["a", "b"] {
        hosts.wait_for_status(host, |status| !is_connected(status));
        hosts.wait_for_line(host, "the registry cannot be used: ");
    }
    assert_echo(&mut client);
    assert_echo(&mut hosts.client());
    // A known host that is started again needs no registry.
    hosts.kill("bridge a");
    hosts.wait_until_nobody_holds_the_name();
    hosts.start_bridge("a");
    let mut client = hosts.client();
    assert_echo(&mut client);
    assert_eq!(found(&hosts.wait_for_status("b", |status| !is_connected(status))), 1);
    match outage {
        Outage::Killed => server.restart(),
        Outage::Stopped => server.go_on(),
        Outage::Emptied => {
            server.empty();
            server.restart();
        }
    }
    for host in ["a", "b"] {
        hosts.wait_for_status(host, is_connected);
    }
    hosts.wait_for_line("b", "the registry is there");
    let registry = hosts.wait_for_status("b", |status| found(status) == 1 && is_connected(status)).registry.unwrap();
    assert!(registry.losses >= 1 && registry.problem.is_some(), "{registry:?}");
    // Far more tries than lines were made. The server may end a session while it starts.
    assert!((1..=5).contains(&lines(&hosts, "b", "the registry cannot be used")));
    assert_echo(&mut client);
    // The entry is good now: the host moves.
    hosts.kill("bridge a");
    hosts.wait_until_nobody_holds_the_name();
    let (old, new) = (hosts.address("a"), hosts::own_address());
    hosts.reconfigure_stopped("a", &old.to_string(), &new.to_string());
    hosts.start_bridge("a");
    assert_echo(&mut hosts.client());
}

fn a_registry_that_is_configured_anew_takes_no_known_host_away() {
    let mut server = NatsServer::start("");
    let mut hosts = Hosts::start_all_with(&["a"], &lasting(&server), |_| {});
    assert_echo(&mut hosts.client());
    server.kill();
    for host in ["a", "b"] {
        hosts.wait_for_status(host, |status| !is_connected(status));
    }
    hosts.reconfigure("b", LASTING, "ttl = \"101s\"");
    hosts.wait_for_line("b", "were read again");
    assert_eq!(found(&hosts.wait_for_status("b", |_| true)), 1);
    // The host is dialled again without a registry.
    hosts.kill("bridge a");
    hosts.wait_until_nobody_holds_the_name();
    hosts.start_bridge("a");
    assert_echo(&mut hosts.client());
    // Another realm has other hosts, and the entry in this one is taken back.
    server.restart();
    hosts.wait_for_status("b", |status| is_connected(status) && found(status) == 1);
    hosts.wait_for_status("a", is_connected);
    hosts.reconfigure("a", LASTING, &format!("{LASTING}\nrealm = \"other\""));
    hosts.wait_for_status("b", |status| is_connected(status) && found(status) == 0);
}

fn a_registry_that_is_not_there_at_the_start_is_used_when_it_comes() {
    let mut server = NatsServer::prepare("");
    let hosts = Hosts::start_all_with(&["a"], &part(&server, ""), |_| {});
    for host in ["a", "b"] {
        hosts.wait_for_line(host, "the registry cannot be used: no server lets this bridge in: ");
    }
    let status = hosts.wait_for_status("b", |status| status.hosts[0].problem.is_some());
    assert!(status.hosts[0].problem.as_ref().unwrap().starts_with("the registry has no entry of it"));
    server.restart();
    assert_echo(&mut hosts.client());
}

fn a_password_that_is_refused_is_told_and_read_again() {
    let server = NatsServer::start("authorization { user: bridges, password: right }\n");
    let more = "user = \"bridges\"\npassword_file = \"password\"\n";
    let hosts = Hosts::start_all_with(&["a"], &part(&server, more), |realm| server::secret(realm, "password", "wrong"));
    for host in ["a", "b"] {
        // One line is logged, with the first reason: on a busy machine it may be another one than the password.
        hosts.wait_for_line(host, "the registry cannot be used: ");
    }
    server::secret(&hosts.path("realm"), "password", "right\n");
    assert_echo(&mut hosts.client());
}

/// The configuration of the guide, with the permissions that it names and no others.
fn a_bridge_logs_in_with_its_certificate_and_few_permissions() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bridge.md")).unwrap();
    let conf = guide.split("```conf\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let toml = guide.split("```toml\n[discovery.nats]\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server::free_port()));
    let replace = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}: {text}");
        text.replace(from, to)
    };
    let url = format!("tls://localhost:{}", address.port());
    let toml = replace(&replace(toml, "tls://n.example:4222", &url), "a.example", "OWN-HOST");
    // The name of the host is no address here.
    let part = format!("[discovery.nats]\n{toml}");
    let server = OnceCell::new();
    let hosts = Hosts::start_all_with(&["a"], &part, |directory| {
        let host = Host::parse("localhost").unwrap();
        certificates::host(directory, &host, certificates::HOST_VALID_DEFAULT).unwrap();
        let file = |name: &str| directory.join(name).display().to_string();
        let text = replace(conf, "0.0.0.0:4222", &address.to_string());
        let text = replace(&text, "/etc/nats/n.example.pem", &file("localhost.pem"));
        let text = replace(&text, "/etc/nats/n.example.key", &file("localhost.key"));
        let text = replace(&text, "/etc/nats/ca.pem", &file("ca.pem"));
        let start = |store: &str| replace(&text, "/var/lib/nats", store);
        let _ = server.set(NatsServer::start_with(address, start));
    });
    assert_echo(&mut hosts.client());
    for host in ["a", "b"] {
        hosts.wait_for_status(host, |status| is_connected(status) && status.registry.as_ref().unwrap().losses == 0);
        hosts.wait_for_line(host, "the registry is there");
    }
}

fn junk_in_the_registry_is_refused_told_once_and_harms_nothing() {
    let server = NatsServer::start("");
    let hosts = Hosts::start_all_with(&["a"], &lasting(&server), |_| {});
    let mut client = hosts.client();
    assert_echo(&mut client);
    let writer = Client::connect(&server);
    let junk: [(&str, Vec<u8>); 4] = [
        ("wc.c/example", b"hello \x1b[31m".to_vec()),
        ("wc.a/example", b"1 2 3".to_vec()),
        ("wc.JUNK", vec![0; 400]),
        ("wc.a//b", b"".to_vec()),
    ];
    assert!(!writer.can_put("names.main.wc.a/example", vec![0; 600]), "the bucket takes long values");
    let mut round = 0;
    let status = wait_for(|| {
        for (key, value) in &junk {
            writer.put(&format!("names.main.{key}"), value.clone());
        }
        writer.put(&format!("names.main.wc.JUNK-{round}"), vec![0xff; 100]);
        round += 1;
        let status = hosts.wait_for_status("b", |_| true);
        let refused = status.registry.as_ref().map_or(0, |registry| registry.entries_refused);
        (refused >= 100).then_some(status)
    });
    assert!(is_connected(&status) && state(&status, "a.example") == HostState::Up);
    let refused = lines(&hosts, "b", "of the registry is refused: ");
    assert!((1..=16).contains(&refused), "{refused}");
    assert_eq!(lines(&hosts, "b", "\u{1b}"), 0);
    assert_echo(&mut client);
    assert_echo(&mut hosts.client());
}

fn an_entry_that_lies_leads_to_no_other_host() {
    let server = NatsServer::start("");
    let mut hosts = Hosts::start_all_with(&["a", "c"], &part(&server, ""), |_| {});
    assert_echo(&mut hosts.client());
    hosts.wait_for_status("b", |status| found(status) == 2);
    hosts.terminate("bridge a");
    hosts.wait_for_status("b", |status| found(status) == 1);
    let (writer, run) = (Client::connect(&server), "00".repeat(16));
    // The entry of a leads to c. A host that nothing may be imported from has one, too.
    let lie = format!("1 {run} {}", hosts.address("c")).into_bytes();
    let refused = hosts.wait_for_status("b", |status| {
        for host in ["a/example", "evil/example"] {
            writer.put(&format!("names.main.wc.{host}"), lie.clone());
        }
        let a = status.hosts.iter().find(|host| host.host == "a.example").unwrap();
        a.problem.as_ref().is_some_and(|problem| problem.contains("invalid peer certificate"))
    });
    assert_eq!((state(&refused, "a.example"), refused.hosts.len()), (HostState::Down, 2));
    for _ in 0..3 {
        let mut client = hosts.client();
        client.send("who").unwrap();
        let answer = client.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(&answer[..], hosts.path("c").join("wc").as_os_str().as_encoded_bytes());
    }
    // The host itself corrects it.
    hosts.start_bridge("a");
    hosts.wait_for_status("b", |status| state(status, "a.example") == HostState::Up);
}
