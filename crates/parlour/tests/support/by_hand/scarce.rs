//! A server that runs out of file descriptors (`EMFILE`).

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parlour::{Connection, Server, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::baseline::Baseline;
use crate::support::roles::echo;
use crate::support::{Base, Child, DEADLINE, Role};

pub const SCARCE: Role = Role { name: "scarce", play: scarce };

/// `scarce ADDRESS`: prints `ready` and echoes every message of every client. It answers each command with one line:
///
/// - `spare COUNT`: sets `RLIMIT_NOFILE` so that this many more descriptors can be opened. A negative number puts the
///   limit that far below the lowest free descriptor number. Answers `spare COUNT`.
/// - `plenty`: restores the original limit. Answers `plenty`.
/// - `accepted`: answers the number of accepted clients.
/// - `refused`: answers the number of refused clients and the last reason.
fn scarce(arguments: &[String]) {
    let server = Arc::new(Server::bind(&arguments[0]).unwrap());
    // Refusals are queued from the first call on.
    assert!(server.next_refusal().is_none());
    let accepted = Arc::new(AtomicUsize::new(0));
    println!("ready");
    let serving = thread::spawn({
        let (server, accepted) = (Arc::clone(&server), Arc::clone(&accepted));
        move || {
            for connection in server.incoming() {
                let connection = connection.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || echo(connection));
            }
        }
    });
    let plenty = getrlimit(Resource::Nofile);
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("spare", count) => {
                let count: i64 = count.parse().unwrap();
                setrlimit(Resource::Nofile, Rlimit { current: Some(limit_for(count)), ..plenty }).unwrap();
                println!("spare {count}");
            }
            ("plenty", _) => {
                setrlimit(Resource::Nofile, plenty).unwrap();
                println!("plenty");
            }
            ("accepted", _) => println!("{}", accepted.load(Ordering::SeqCst)),
            ("refused", _) => {
                // A client that gives up in the middle of an attempt is refused for another reason.
                let told = std::iter::from_fn(|| server.next_refusal());
                let last = told.filter(|refusal| !refusal.detail.ends_with("the client has disconnected")).last();
                println!("{} {}", server.stats().refused, last.map_or_else(String::new, |last| last.to_string()));
            }
            (other, _) => panic!("unknown command {other:?}"),
        }
    }
    server.shutdown_handle().shutdown();
    serving.join().unwrap();
}

/// Returns the limit under which this many descriptors can be opened. The kernel assigns the lowest free number to
/// each.
pub fn limit_for(spare: i64) -> u64 {
    let used = Baseline::take().descriptors;
    let free = (0..).filter(|number| !used.contains_key(number));
    let limit = match usize::try_from(spare) {
        // The first number that must not be assigned.
        Ok(spare) => free.clone().nth(spare),
        Err(_) => free.clone().next().map(|first| first + i32::try_from(spare).unwrap()),
    };
    u64::try_from(limit.unwrap()).unwrap()
}

/// Starts a `scarce` server with the name `crowd`. Returns it, its address, and an accepted client.
pub fn crowded(base: &Base, transport: Transport) -> (Child, String, Connection) {
    let address = base.address(transport, "crowd");
    let mut server = Child::spawn("scarce", std::slice::from_ref(&address));
    server.expect("ready");
    let mut early = Connection::connect(&address).unwrap();
    // After this exchange the server opens no descriptors on its own.
    assert_echo(&mut early);
    (server, address, early)
}

pub fn assert_echo(connection: &mut Connection) {
    connection.send(b"still here").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"still here");
}
