//! Hosts on one machine: each has a base directory and a bridge process of its own, and they talk over loopback.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "loopback/configured.rs"]
mod configured;
#[path = "loopback/dns.rs"]
mod dns;
#[path = "loopback/hosts.rs"]
mod hosts;
#[path = "../../parlour-cli/tests/common/openmetrics.rs"]
mod openmetrics;
#[path = "loopback/transports.rs"]
mod transports;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use hosts::{Hosts, ROLE};
use parlour::{ConnectOptions, Connection, Error, ErrorKind, Server, inspect};
use parlour_bridge::status::{Direction, FlowStatus, HostState, ImportState, Status, TrafficStatus};
use rustix::process::{Resource, Rlimit, getrlimit};

/// The time within which a loss that the kernel reports is known. Far more than is usual, for loaded machines, and less
/// than the lease of 30 seconds.
const SOON: Duration = Duration::from_secs(15);

/// The time for what is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs this executable as a server, if the environment says so. It sends each message back, but for `count`, which it
/// answers with numbers without end, `who`, which it answers with its address, and `from`, which it answers with the
/// origin of its client.
#[test]
fn role() {
    let Ok(address) = std::env::var(ROLE) else { return };
    let server = Server::bind(&address).unwrap();
    for client in server.incoming() {
        // At the end of a test, its directory is removed.
        let Ok(mut client) = client else { return };
        let address = address.clone();
        std::thread::spawn(move || {
            let end = loop {
                match client.recv() {
                    Ok(Some(message)) if &*message == b"count" => {
                        for number in 0u64.. {
                            let mut message = number.to_be_bytes().to_vec();
                            message.resize(8 + (number % 5000) as usize, 7);
                            if client.send(&message).is_err() {
                                return;
                            }
                        }
                    }
                    Ok(Some(message)) if &*message == b"who" => drop(client.send(&*address)),
                    Ok(Some(message)) if &*message == b"from" => {
                        let from = client.peer().origin().map_or("here".to_owned(), ToString::to_string);
                        drop(client.send(from.as_bytes()));
                    }
                    Ok(Some(message)) => drop(client.send(&*message)),
                    Ok(None) => break "clean",
                    Err(_) => break "error",
                }
            };
            let _ = std::fs::write(std::env::var("PARLOUR_TEST_END").unwrap(), end);
            let _ = client.send("the end");
        });
    }
}

/// Asserts that the client gets its messages back.
fn assert_echo(client: &mut Connection) {
    for len in [0, 1, 5, 70_000, 3_000_000] {
        let message = vec![len as u8; len];
        client.send(&message).unwrap();
        assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap()[..], message[..]);
    }
}

fn assert_lost(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Truncated | ErrorKind::Disconnected), "{error}");
}

#[test]
fn a_client_reaches_a_server_of_another_host_under_the_same_name() {
    let hosts = Hosts::start(&["a"]);
    let mut clients: Vec<_> = (0..5).map(|_| hosts.client()).collect();
    clients.iter_mut().for_each(assert_echo);
    assert_echo(&mut hosts.client());
}

#[test]
fn the_answer_to_the_end_of_a_client_arrives_and_then_the_end() {
    let hosts = Hosts::start(&["a"]);
    let (mut sender, mut receiver) = hosts.client().split();
    sender.send("hello").unwrap();
    drop(sender);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap(), b"hello");
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap(), b"the end");
    assert!(receiver.recv_timeout(PATIENCE).unwrap().is_none());
    assert_eq!(hosts.server_saw(), "clean");
}

#[test]
fn a_killed_server_is_known_at_once_and_the_name_comes_back_with_the_next_one() {
    let mut hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    let begin = Instant::now();
    hosts.kill("server a");
    // As for a client on the same host: the kernel has ended the socket between two messages.
    assert!(client.recv_timeout(PATIENCE).is_ok_and(|message| message.is_none()));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    hosts.wait_until_nobody_holds_the_name();
    hosts.start_server("a");
    assert_echo(&mut hosts.client());
}

#[test]
fn a_server_that_is_restarted_while_the_bridge_has_no_descriptors_stays_exported() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    let plenty = getrlimit(Resource::Nofile);
    hosts.limit_descriptors("a", Rlimit { current: Some(3), ..plenty });
    hosts.kill("server a");
    hosts.start_server("a");
    let server = hosts.path("a").join("wc");
    assert_echo(&mut ConnectOptions::new().wait_for_server(PATIENCE).connect(server.display().to_string()).unwrap());
    // The bridge has heard of a change by then, and could not look.
    hosts.wait_for_line("a", "the server of wc cannot be looked for: ");
    let imported = inspect::resolve(hosts.path("b").join("wc").display().to_string()).unwrap();
    assert!(imported.found().is_some(), "the name was given up: {imported:?}");
    hosts.limit_descriptors("a", Rlimit { current: plenty.maximum, ..plenty });
    assert_echo(&mut hosts.client());
}

#[test]
fn a_killed_exporter_is_an_error_at_once() {
    let mut hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    let begin = Instant::now();
    hosts.kill("bridge a");
    assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    hosts.wait_until_nobody_holds_the_name();
    hosts.start_bridge("a");
    assert_echo(&mut hosts.client());
}

#[test]
fn a_stopped_exporter_is_an_error_after_the_lease() {
    let hosts = Hosts::start_with_lease(&["a"], "3s");
    let mut client = hosts.client();
    assert_echo(&mut client);
    let begin = Instant::now();
    hosts.stop("bridge a");
    assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
    let elapsed = begin.elapsed();
    assert!(elapsed < Duration::from_secs(3) + SOON, "{elapsed:?}");
    // The line states a time that is at least the lease.
    hosts.wait_for_line("b", "a.example is lost: nothing arrived for ");
}

#[test]
fn a_killed_importer_is_an_error_for_the_server_and_the_next_one_serves() {
    let mut hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    hosts.kill("bridge b");
    assert_eq!(hosts.server_saw(), "error");
    hosts.start_bridge("b");
    assert_echo(&mut hosts.client());
}

#[test]
fn a_bridge_that_ends_in_order_is_an_error_for_both_sides() {
    for process in ["bridge a", "bridge b"] {
        let mut hosts = Hosts::start(&["a"]);
        let mut client = hosts.client();
        assert_echo(&mut client);
        let other = if process == "bridge a" { "b" } else { "a" };
        hosts.terminate(process);
        assert_lost(&client.recv_timeout(PATIENCE).unwrap_err());
        assert_eq!(hosts.server_saw(), "error");
        hosts.wait_for_line(other, "is lost: the bridge there has ended the link in order");
        assert_eq!(hosts.wait_for_status(other, |_| true).counts.links_lost, 0);
        hosts.wait_until_nobody_holds_the_name();
        hosts.start_bridge(&process[7..]);
        assert_echo(&mut hosts.client());
    }
}

#[test]
fn a_bridge_without_conversations_announces_its_end_and_no_host_counts_as_lost() {
    for (ends, stays) in [("a", "b"), ("b", "a")] {
        let mut hosts = Hosts::start(&["a"]);
        for host in ["a", "b"] {
            hosts.wait_for_status(host, |status| status.hosts[0].state == HostState::Up);
        }
        hosts.terminate(&format!("bridge {ends}"));
        hosts.wait_for_line(stays, "is lost: the bridge there has ended the link in order");
        assert_eq!(hosts.wait_for_status(stays, |_| true).counts.links_lost, 0);
    }
}

fn served_by(client: &mut Connection) -> String {
    client.send("who").unwrap();
    String::from_utf8(client.recv_timeout(PATIENCE).unwrap().unwrap().to_vec()).unwrap()
}

#[test]
fn a_server_of_the_own_host_takes_an_imported_name_and_the_bridge_takes_it_again() {
    let mut hosts = Hosts::start(&["a"]);
    let [far, near] = ["a", "b"].map(|host| hosts.path(host).join("wc").to_str().unwrap().to_owned());
    let mut before = hosts.client();
    assert_eq!(served_by(&mut before), far);
    for round in 0..2 {
        hosts.start_server("b");
        // A client that has connected to the bridge a moment before is served by the other host.
        let deadline = Instant::now() + PATIENCE;
        let mut client = hosts.client();
        while served_by(&mut client) != near {
            assert!(Instant::now() < deadline, "the server of the own host does not get the name");
            client = hosts.client();
        }
        hosts.wait_for_status("b", |status| status.imports[0].state == ImportState::Local);
        if round == 0 {
            // One that is restarted at once finds its name free.
            hosts.kill("server b");
            hosts.start_server("b");
            let mut client = hosts.client();
            assert_eq!(served_by(&mut client), near);
        }
        // The bridge may have seen the name without a server, and may be about to take it.
        hosts.wait_for_status("b", |status| status.imports[0].state == ImportState::Local);
        assert_echo(&mut before);
        let begin = Instant::now();
        hosts.kill("server b");
        assert_eq!(served_by(&mut hosts.client()), far);
        assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
        hosts.wait_for_status("b", |status| status.imports[0].state == ImportState::Held);
    }
    assert_echo(&mut before);
    assert_eq!(served_by(&mut before), far);
    hosts.wait_for_line("b", "wc has a server on this host, which has taken it");
}

#[test]
fn a_server_learns_the_host_of_a_client_and_what_that_host_claims() {
    let hosts = Hosts::start(&["a"]);
    let from = |client: &mut Connection| {
        client.send("from").unwrap();
        String::from_utf8(client.recv_timeout(PATIENCE).unwrap().unwrap().to_vec()).unwrap()
    };
    let (uid, pid) = (rustix::process::geteuid().as_raw(), std::process::id());
    let program = std::fs::read_to_string("/proc/self/comm").unwrap();
    let claims = format!("claims uid {uid}, pid {pid}, program {}", program.trim_end());
    assert_eq!(from(&mut hosts.client()), format!("host b.example ({claims})"));
    let mut near = Connection::connect(hosts.path("a").join("wc").to_str().unwrap()).unwrap();
    assert_eq!(from(&mut near), "here");
    let files = std::fs::read_dir(hosts.path("a").join("wc/c")).unwrap();
    assert_eq!(files.count(), 0);
}

#[test]
fn the_views_of_both_hosts_and_both_bridges_show_a_conversation_with_its_traffic() {
    let hosts = Hosts::start(&["a"]);
    let mut clients = [hosts.client(), hosts.client()];
    clients.iter_mut().for_each(assert_echo);
    let bytes = 2 * (1 + 5 + 70_000 + 3_000_000);
    // `a` sees the clients of another host, and `b` sees its own ones.
    for host in ["a", "b"] {
        let address = hosts.path(host).join("wc").display().to_string();
        let stats = hosts::wait_for(|| {
            inspect::stats(&address).ok().filter(|stats| (stats.received.messages, stats.sent.messages) == (10, 10))
        });
        assert_eq!((stats.open, stats.received.bytes, stats.sent.bytes), (2, bytes, bytes), "{host}");
        for client in &stats.clients {
            let from = client.origin.as_ref().map(|origin| (origin.host(), origin.pid()));
            assert_eq!(from, (host == "a").then_some(("b.example", Some(std::process::id()))), "{host}");
            assert_eq!((client.received.messages, client.sent.messages), (5, 5), "{host}");
        }
        let flow = FlowStatus { messages: 10, bytes };
        let traffic = TrafficStatus { received: flow, sent: flow };
        let status = hosts.wait_for_status(host, |status| status.hosts[0].traffic == traffic);
        assert_eq!(status.hosts[0].conversations, 2);
        let of_name = status.imports.first().map(|import| import.traffic);
        assert_eq!(of_name.or(status.exports.first().map(|export| export.traffic)), Some(traffic), "{host}");
    }
}

#[test]
fn a_name_that_another_bridge_holds_is_not_exported() {
    let hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    let address = hosts.path("a").join("other").to_str().unwrap().to_owned();
    let stand_in = parlour::ServerOptions::new().yields(true).bind(&address).unwrap();
    hosts.reconfigure("a", "[[export]]\n", "[[export]]\nname = \"other\"\nto = [\"b.example\"]\n[[export]]\n");
    let is_other = |status: &Status, has_server: bool| {
        status.exports.iter().any(|export| export.name == "other" && export.has_server == has_server)
    };
    hosts.wait_for_status("a", |status| is_other(status, false));
    stand_in.close().unwrap();
    let _server = Server::bind(&address).unwrap();
    hosts.wait_for_status("a", |status| is_other(status, true));
}

/// Each of the processes between a client and its server, and the server itself, is killed under full load.
#[test]
fn what_arrives_before_a_kill_is_whole_and_in_order() {
    for process in ["server a", "bridge a", "bridge b"] {
        let mut hosts = Hosts::start(&["a"]);
        let mut client = hosts.client();
        client.send("count").unwrap();
        let mut next = 0u64;
        let end = loop {
            if next == 5000 {
                hosts.kill(process);
            }
            match client.recv_timeout(PATIENCE) {
                Ok(Some(message)) => {
                    assert_eq!(message[..8], next.to_be_bytes(), "{process}");
                    assert_eq!(message.len(), 8 + (next % 5000) as usize, "{process}");
                    next += 1;
                }
                Ok(None) => break "clean",
                Err(error) => {
                    assert_lost(&error);
                    break "error";
                }
            }
        };
        assert!(next >= 5000);
        // The end of a killed server, and of the bridge of this host, may fall between two messages.
        assert!(end == "error" || process != "bridge a", "{process}");
    }
}

#[test]
fn the_clients_of_two_exporters_are_shared_and_the_other_one_takes_over() {
    let mut hosts = Hosts::start(&["a", "c"]);
    let (of_a, of_c) = (hosts.path("a").join("wc"), hosts.path("c").join("wc"));
    let who = || {
        let mut client = hosts.client();
        client.send("who").unwrap();
        let server = client.recv_timeout(PATIENCE).unwrap().unwrap().to_vec();
        (client, server)
    };
    // The first clients may come before the second link is up.
    let mut clients: Vec<(Connection, Vec<u8>)> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    for path in [&of_a, &of_c] {
        while !clients.iter().any(|(_, server)| *server == path.as_os_str().as_encoded_bytes()) {
            assert!(Instant::now() < deadline, "nobody is served by {}", path.display());
            clients.push(who());
        }
    }
    // From now on they are shared.
    let count = clients.len();
    clients.extend((0..count + 4).map(|_| who()));
    hosts.kill("server a");
    for (client, server) in &mut clients {
        if *server == of_a.as_os_str().as_encoded_bytes() {
            assert!(client.recv_timeout(SOON).unwrap().is_none());
        } else {
            assert_echo(client);
        }
    }
    (0..4).for_each(|_| assert_echo(&mut hosts.client()));
}

#[test]
fn junk_and_strangers_are_refused_and_harm_nobody() {
    let hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    for junk in [&b""[..], b"\x00", b"GET / HTTP/1.1\r\n\r\n", &[0x16; 600], &[0xff; 70_000]] {
        let mut stranger = TcpStream::connect(hosts.address("a")).unwrap();
        let _ = stranger.write_all(junk);
        let _ = stranger.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer);
        assert!(answer.len() < 64, "{answer:?}");
    }
    // A crowd that says nothing has to wait for itself only as long as a handshake may take.
    let _silent: Vec<_> = (0..100).map(|_| TcpStream::connect(hosts.address("a")).unwrap()).collect();
    assert_echo(&mut client);
    assert_echo(&mut hosts.client());
}

/// If each of them could keep its place for as long as a handshake may take, a client would be aborted meanwhile.
#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    let silent: Vec<_> = (0..600).map(|_| TcpStream::connect(hosts.address("a")).unwrap()).collect();
    (0..3).for_each(|_| assert_echo(&mut hosts.client()));
    hosts.wait_for_line("a", "128 connections have not begun");
    drop(silent);
}

#[test]
fn the_status_shows_hosts_names_conversations_and_refusals() {
    let mut hosts = Hosts::start(&["a", "c"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    let importer = hosts.wait_for_status("b", |status| status.imports[0].exporters.len() == 2);
    assert_eq!((importer.host.as_str(), importer.hosts.len(), importer.imports.len()), ("b.example", 2, 1));
    assert!(importer.hosts.iter().all(|host| host.state == HostState::Up && host.direction == Direction::Import));
    assert_eq!((importer.imports[0].state, importer.imports[0].conversations), (ImportState::Held, 1));
    assert_eq!((importer.counts.imported, importer.counts.aborted), (1, 0));
    let of_hosts = |status: &Status| status.hosts.iter().map(|host| host.conversations).sum::<usize>();
    assert_eq!(of_hosts(&importer), 1);
    let exporters = ["a", "c"].map(|host| hosts.wait_for_status(host, |status| status.exports[0].has_server));
    assert_eq!(exporters.iter().map(of_hosts).sum::<usize>(), 1);
    assert_eq!(exporters.iter().map(|status| status.counts.exported).sum::<u64>(), 1);
    assert_eq!(exporters.iter().map(|status| status.exports[0].conversations).sum::<usize>(), 1);
    assert_eq!(exporters[0].hosts[0].direction, Direction::Export);

    drop(client);
    hosts.wait_for_status("b", |status| status.imports[0].conversations == 0 && of_hosts(status) == 0);
    drop(TcpStream::connect(hosts.address("a")).unwrap());
    hosts.wait_for_status("a", |status| status.counts.connections_refused == 1);
    hosts.kill("bridge a");
    let lost = hosts.wait_for_status("b", |status| status.counts.links_lost == 1);
    let host = lost.hosts.iter().find(|host| host.host == "a.example").unwrap();
    assert!(host.state == HostState::Down && host.problem.is_some(), "{host:?}");
    assert!(String::from_utf8(hosts.status("b", &[]).stdout).unwrap().contains("import a.example: down: "));
}

/// Each look at a name with a server reads its owner record.
#[test]
fn a_thousand_exported_names_are_not_looked_at_while_nothing_changes() {
    let hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    let name = |number: usize| hosts.path("a").join(format!("n{number}")).display().to_string();
    let export = |number| format!("[[export]]\nname = \"n{number}\"\nto = [\"b.example\"]\n");
    let exports: String = (0..1000).map(export).collect();
    let mut servers: Vec<Server> = (0..50).map(|number| Server::bind(name(number)).unwrap()).collect();
    hosts.reconfigure("a", "[[export]]\nname = \"wc\"", &format!("{exports}[[export]]\nname = \"wc\""));
    let served = |status: &Status| status.exports.iter().filter(|export| export.has_server).count();
    hosts.wait_for_status("a", |status| status.exports.len() == 1001 && served(status) == 51);
    // Not one of the first names, by any order.
    servers.extend((950..1000).map(|number| Server::bind(name(number)).unwrap()));
    hosts.wait_for_status("a", |status| served(status) == 101);
    let (instances, directories) = hosts.watches("a");
    assert!(instances < 5 && directories < 120, "{instances} instances, {directories} directories");

    // A bridge that looks at all of them, ten times a second, reads 2,000 records meanwhile.
    let before = hosts.reads("a");
    std::thread::sleep(Duration::from_secs(2));
    match (before, hosts.reads("a")) {
        (Some(before), Some(after)) => assert!(after - before < 200, "{} reads", after - before),
        _ => println!("skipped: this kernel does not count system calls (/proc/PID/io)"),
    }
    servers.clear();
    hosts.wait_for_status("a", |status| served(status) == 1);
}

#[test]
fn the_status_is_for_the_user_of_the_bridge_alone() {
    let hosts = Hosts::start(&["a"]);
    hosts.wait_for_status("b", |_| true);
    let name = hosts.path("b").join(parlour_bridge::status::NAME);
    assert_eq!(std::fs::metadata(&name).unwrap().permissions().mode() & 0o077, 0);
    // Not even with the socket itself, if the directory were open.
    assert_eq!(std::fs::metadata(name.join("unix")).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn the_openmetrics_text_is_read_by_a_parser() {
    let hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    let output = hosts.status("b", &["--openmetrics"]);
    assert!(output.status.success(), "{output:?}");
    let families = openmetrics::parse(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        families
            .iter()
            .flat_map(|family| &family.samples)
            .find(|sample| sample.name == name && sample.labels == labels)
            .map(|sample| sample.value)
    };
    assert_eq!(value("parlour_bridge_host_up", &[("direction", "import"), ("host", "a.example")]), Some(1.0));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value("parlour_bridge_info", &[("host", "b.example"), ("version", version)]), Some(1.0));
    assert_eq!(value("parlour_bridge_import_held", &[("name", "wc")]), Some(1.0));
    assert_eq!(value("parlour_bridge_conversations_total", &[("direction", "import")]), Some(1.0));
    assert_eq!(value("parlour_bridge_refused_total", &[("reason", "busy")]), Some(0.0));
}

#[test]
fn without_a_bridge_the_status_tells_the_next_step() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    hosts.terminate("bridge b");
    let output = hosts.status("b", &[]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with("parlour-bridge: status: ") && told.contains("; start the bridge, or ask"), "{told}");
}

/// The importer has a certificate of another realm. At first, it would accept that of the exporter.
#[test]
fn a_host_of_another_realm_gets_no_name() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    hosts.kill("bridge b");
    hosts.wait_for_status("a", |status| status.hosts[0].state == HostState::Down);
    let (before, realm) = (hosts.wait_for_status("a", |_| true).counts.connections_refused, hosts.path("realm"));
    std::fs::rename(realm.join("ca.pem"), realm.join("first.pem")).unwrap();
    for file in ["ca.key", "b.example.pem", "b.example.key"] {
        std::fs::remove_file(realm.join(file)).unwrap();
    }
    parlour_bridge::files::certificates::init(&realm).unwrap();
    let host = parlour_bridge::identity::Host::parse("b.example").unwrap();
    parlour_bridge::files::certificates::host(&realm, &host, Duration::from_secs(36_000)).unwrap();
    let answer = configured::say_hello(&hosts, "first.pem");
    // The alert may be lost, because the hello that follows is not read.
    assert!(answer.as_ref().map_or(true, Vec::is_empty), "{answer:?}");
    hosts.wait_for_status("a", |status| status.counts.connections_refused > before);
    // A bridge with these files does not accept the other one.
    hosts.start_bridge("b");
    hosts.wait_for_line("b", "a.example cannot be reached: ");
    let status = hosts.wait_for_status("b", |status| status.hosts[0].problem.is_some());
    let problem = status.hosts[0].problem.as_ref().unwrap();
    assert!(problem.contains("invalid peer certificate: "), "{problem}");
    assert_eq!((status.hosts[0].state, status.imports[0].exporters.len()), (HostState::Down, 0));
    assert_eq!(hosts.wait_for_status("a", |_| true).hosts[0].state, HostState::Down);
    let address = hosts.path("b").join("wc");
    assert!(Connection::connect(address.to_str().unwrap()).is_err());
}

#[test]
fn a_refusal_is_logged_once_on_both_hosts() {
    let hosts = Hosts::start(&["a"]);
    let mut client = hosts.client();
    assert_echo(&mut client);
    hosts.reconfigure("a", "[[export]]", "[limits]\nconversations = 1\n[[export]]");
    hosts.wait_for_line("a", "were read again");
    for _ in 0..2 {
        assert_lost(&hosts.client().recv_timeout(PATIENCE).unwrap_err());
    }
    let lines = [
        ("b", "a.example has refused a client of wc: a limit "),
        ("a", "a client of b.example for wc was refused: a "),
    ];
    for (host, line) in lines {
        hosts.wait_for_line(host, line);
        let log = std::fs::read_to_string(hosts.path(&format!("{host}.log"))).unwrap();
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
    assert_echo(&mut client);
}

#[test]
fn each_reason_why_a_host_cannot_be_reached_is_logged_once() {
    let mut hosts = Hosts::start(&["a"]);
    assert_echo(&mut hosts.client());
    hosts.kill("bridge a");
    let lines = ["a.example cannot be reached: ", "Connection refused"];
    hosts.wait_for_line("b", lines[1]);
    let stranger = std::net::TcpListener::bind(hosts.address("a")).unwrap();
    // The bridge dials again and again, and nobody answers in its protocol.
    for _ in 0..3 {
        let mut socket = stranger.accept().unwrap().0;
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    drop(stranger);
    hosts.wait_for_line("b", "received corrupt message");
    hosts.start_bridge("a");
    assert_echo(&mut hosts.client());
    let log = std::fs::read_to_string(hosts.path("b.log")).unwrap();
    assert_eq!(log.matches(lines[1]).count(), 1, "{log}");
    assert_eq!(log.matches(lines[0]).count(), log.matches("trying again").count(), "{log}");
    assert!(log.matches(lines[0]).count() <= 4, "{log}");
}
