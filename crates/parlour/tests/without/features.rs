//! Without features of the kernel, one at a time.

use std::io::ErrorKind as IoErrorKind;
use std::sync::Arc;
use std::thread;

use libtest_mimic::Trial;
use parlour::{ConnectOptions, Connection, ErrorKind, Server, ServerOptions, SharedBytes, Transport};

use crate::conformance;
use crate::containers;
use crate::forking;
use crate::support::surroundings::{Surroundings, inside};
use crate::support::without::{FEATURES, Missing, cannot_filter, feature};
use crate::support::{Base, Child, DEADLINE, Role, alone, declare};

/// The trials of this file: the core of the contract, and those of [`each`], without each feature.
pub fn trials() -> Vec<Trial> {
    let cannot = if alone::wanted().is_none() { cannot_filter() } else { None };
    let around = |missing: Missing| {
        let cannot = cannot.clone();
        Surroundings {
            prepare: Arc::new(move || missing.remove()),
            skip: Arc::new(move |name| cannot.clone().or_else(|| does_not_apply(missing, name))),
            ..Surroundings::named(missing.word)
        }
    };
    let all = || [declare::all(conformance::CORE), each::trials()].into_iter().flatten().collect();
    let everywhere = FEATURES.iter().flat_map(|&missing| inside(around(missing), all));
    let some = [
        ("without_so_peerpidfd", no_peer_pidfd::trials as declare::TrialList),
        ("with_so_peerpidfd_denied", denied_peer_pidfd::trials),
        ("without_memfd_create", memory::trials),
    ];
    let single = some.iter().flat_map(|(word, declare)| inside(around(feature(word)), declare));
    everywhere.chain(single).chain(client_alone::trials()).chain(document::trials()).collect()
}

/// Returns the reason why a trial of the contract does not apply without a feature.
fn does_not_apply(missing: Missing, name: &str) -> Option<String> {
    match missing.word {
        "without_memfd_create" if name.contains("::shm::") => Some("shm needs memfd_create".to_owned()),
        "with_so_peerpidfd_denied" if name.contains("a_pidfd_of_the_peer") => {
            Some("the pidfd is denied, and not unsupported".to_owned())
        }
        _ => None,
    }
}

/// Trials without each feature.
mod each {
    use super::*;
    use crate::support::trials;

    trials! {
        for transport in Transport::ALL =>
            a_client_in_a_pid_namespace_of_its_own_is_let_in unless containers::why_not("--pid"),
            a_client_that_waits_for_a_server_finds_it,
            a_connection_goes_on_in_a_forked_child;
    }

    fn a_client_in_a_pid_namespace_of_its_own_is_let_in(transport: Transport) {
        containers::lets_in(transport, &[], &containers::PID);
    }

    fn a_client_that_waits_for_a_server_finds_it(transport: Transport) {
        let base = Base::new();
        let address = base.address(transport, "late");
        let client = thread::spawn({
            let address = address.clone();
            move || {
                let mut connection = ConnectOptions::new().wait_for_server(DEADLINE).connect(address)?;
                connection.send(b"hello")?;
                connection.recv_timeout(DEADLINE)
            }
        });
        let server = Server::bind(&address).unwrap();
        let mut served = server.accept_timeout(DEADLINE).unwrap();
        let message = served.recv_timeout(DEADLINE).unwrap().unwrap();
        served.send(&message).unwrap();
        assert_eq!(client.join().unwrap().unwrap().unwrap(), b"hello");
    }

    fn a_connection_goes_on_in_a_forked_child(transport: Transport) {
        let base = Base::new();
        let mut child = Child::spawn("forked", &[base.address(transport, "family")]);
        child.expect("hello from a child");
        child.finish();
    }
}

pub const FORKED: Role = Role { name: "forked", play: forked };

/// `forked ADDRESS`: connects to itself, forks, lets the child send a message, and prints it.
fn forked(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    let (mut client, mut served) = thread::scope(|scope| {
        let connecting = scope.spawn(|| Connection::connect(&arguments[0]).unwrap());
        let served = server.accept_timeout(DEADLINE).unwrap();
        (connecting.join().unwrap(), served)
    });
    let child = forking::fork(|| client.send(b"hello from a child").unwrap());
    forking::join(child);
    println!("{}", String::from_utf8_lossy(&served.recv_timeout(DEADLINE).unwrap().unwrap()));
    drop(client);
    server.close().unwrap();
}

/// Trials without `SO_PEERPIDFD`.
mod no_peer_pidfd {
    use super::*;
    use crate::support::trials;

    trials! {
        for transport in SOCKETS => a_pidfd_of_the_peer_is_unsupported_and_the_error_says_why;
    }

    fn a_pidfd_of_the_peer_is_unsupported_and_the_error_says_why(transport: Transport) {
        let error = peer_pidfd_error(transport);
        assert_eq!(error.kind(), IoErrorKind::Unsupported);
        assert!(error.to_string().contains("SO_PEERPIDFD (Linux 6.5)"), "{error}");
    }
}

/// Trials where `SO_PEERPIDFD` is denied.
mod denied_peer_pidfd {
    use super::*;
    use crate::support::trials;

    trials! {
        for transport in SOCKETS => a_pidfd_of_the_peer_is_denied_and_nothing_else;
    }

    fn a_pidfd_of_the_peer_is_denied_and_nothing_else(transport: Transport) {
        assert_eq!(peer_pidfd_error(transport).kind(), IoErrorKind::PermissionDenied);
    }
}

const SOCKETS: [Transport; 3] = [Transport::Shm, Transport::Packet, Transport::Unix];

fn peer_pidfd_error(transport: Transport) -> std::io::Error {
    let base = Base::new();
    let address = base.address(transport, "who");
    let server = Server::bind(&address).unwrap();
    let mut client = Child::spawn("client", &[&address]);
    client.say("connect");
    let connection = server.accept_timeout(DEADLINE).unwrap();
    assert!(client.line().starts_with("connected "));
    assert_eq!(connection.peer().pid(), Some(client.pid()));
    connection.peer_pidfd().unwrap_err()
}

/// The document that lists the features.
mod document {
    use super::*;
    use crate::support::trials;

    trials! {
        the_list_of_platforms_names_every_feature,
    }

    fn the_list_of_platforms_names_every_feature() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/platforms.md");
        // The packaged crate does not contain the document.
        let Ok(document) = std::fs::read_to_string(path) else { return };
        for Missing { word, .. } in FEATURES {
            assert!(document.contains(&format!("`{word}::`")), "{word} is missing in docs/platforms.md");
        }
    }
}

/// A client without a feature, and a server with it.
mod client_alone {
    use super::*;
    use crate::support::trials;

    trials! {
        a_client_without_memfd_create_falls_back_to_another_transport unless cannot_filter(),
    }

    fn a_client_without_memfd_create_falls_back_to_another_transport() {
        let base = Base::new();
        let name = base.name("hall");
        let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
        let server = options.bind(name.to_str().unwrap()).unwrap();
        assert_eq!(server.transports(), Transport::ALL);
        let mut command = Child::command("client", &[&name]);
        feature("without_memfd_create").remove_from(&mut command);
        let mut client = Child::start(&mut command);
        client.say("connect");
        assert_eq!(server.accept_timeout(DEADLINE).unwrap().transport(), Transport::Packet);
        assert!(client.line().starts_with("connected "));
    }
}

/// Without memory files.
mod memory {
    use super::*;
    use crate::support::trials;

    trials! {
        a_server_of_shm_alone_does_not_start_and_says_why,
        a_server_of_all_transports_offers_the_others,
        a_shared_block_is_an_error,
    }

    fn a_server_of_shm_alone_does_not_start_and_says_why() {
        let base = Base::new();
        let error = Server::bind(base.address(Transport::Shm, "hall")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let text = error.to_string();
        assert!(text.contains("memfd_create(2)") && text.contains("offer unix or packet"), "{text}");
    }

    fn a_server_of_all_transports_offers_the_others() {
        let base = Base::new();
        let name = base.name("hall");
        let options = ServerOptions::new().transports(Transport::ALL.iter().copied());
        let server = options.bind(name.to_str().unwrap()).unwrap();
        assert_eq!(server.transports(), [Transport::Packet, Transport::Unix, Transport::Fifo]);
        let client = Connection::connect(name.to_str().unwrap()).unwrap();
        assert_eq!(client.transport(), Transport::Packet);
        assert_eq!(server.accept_timeout(DEADLINE).unwrap().transport(), Transport::Packet);
    }

    fn a_shared_block_is_an_error() {
        let error = SharedBytes::new(b"block").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("allow the system call in the sandbox"), "{error}");
    }
}
