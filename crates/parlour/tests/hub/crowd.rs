//! Hubs with more clients than descriptors.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parlour::hub::{Event, Hub};
use parlour::{ConnectOptions, Connection, ErrorKind, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::by_hand::{cost, scarce};
use crate::support::{Base, Child, DEADLINE, Role, eventually, trials};

trials! {
    for transport in Transport::ALL =>
        clients_beyond_the_limit_of_descriptors_are_refused_and_do_not_disturb_others,
        without_any_descriptor_left_the_hub_does_not_spin_and_recovers,
        a_bind_error_for_want_of_descriptors_names_the_limit_to_raise;
}

/// `scarce-hub ADDRESS`: prints `ready` and echoes. Each line of its input is a command, which it answers with one
/// line:
///
/// - `spare COUNT`: sets the limit so that this many more descriptors can be opened; a negative count sets the limit
///   that far below the number of descriptors in use;
/// - `plenty`: restores the original limit;
/// - `refused`: prints the number of events `Refused`;
/// - `bind`: binds another hub, and prints the outcome.
pub const HUB: Role = Role { name: "scarce-hub", play: scarce_hub };

fn scarce_hub(arguments: &[String]) {
    let mut hub = Hub::bind(&arguments[0]).unwrap();
    println!("ready");
    let refused = Arc::new(AtomicUsize::new(0));
    thread::spawn({
        let refused = Arc::clone(&refused);
        move || loop {
            match hub.next_event().unwrap() {
                Event::Message(client, message) => hub.send(client, &message).unwrap(),
                Event::Finished(client) => hub.finish(client).unwrap(),
                Event::Refused(refusal) => {
                    // A client that has given up meanwhile has removed its file.
                    let is_gone = refusal.detail.contains("the client has no file of its own");
                    let says_what_helps = ["out of descriptors", "ulimit -n"].map(|text| refusal.detail.contains(text));
                    assert!(is_gone || says_what_helps == [true; 2], "{refusal}");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    });
    let plenty = getrlimit(Resource::Nofile);
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("spare", count) => {
                let current = Some(scarce::limit_for(count.parse().unwrap()));
                setrlimit(Resource::Nofile, Rlimit { current, ..plenty }).unwrap();
                println!("spare");
            }
            ("plenty", _) => {
                setrlimit(Resource::Nofile, plenty).unwrap();
                println!("plenty");
            }
            ("refused", _) => println!("{}", refused.load(Ordering::SeqCst)),
            ("bind", _) => match Hub::bind(format!("{}2", arguments[0])) {
                Ok(_) => println!("bound"),
                Err(error) => println!("{error}"),
            },
            (other, _) => panic!("unknown command {other:?}"),
        }
    }
}

fn spawn(base: &Base, transport: Transport) -> (Child, String, Connection) {
    let address = base.address(transport, "crowd");
    let mut hub = Child::spawn("scarce-hub", std::slice::from_ref(&address));
    hub.expect("ready");
    let mut early = Connection::connect(&address).unwrap();
    // From here on the hub does not open descriptors by itself.
    assert_echo(&mut early);
    (hub, address, early)
}

fn assert_echo(connection: &mut Connection) {
    assert!(is_served(connection), "the client is not served");
}

/// Returns true if the hub answers on this connection. Otherwise the hub has ended the connection.
fn is_served(connection: &mut Connection) -> bool {
    // The hub may have ended the connection by now.
    let _ = connection.send(b"still here");
    match connection.recv_timeout(DEADLINE) {
        Ok(Some(reply)) => reply == b"still here",
        Ok(None) => panic!("the hub has ended the connection without a word"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            false
        }
    }
}

/// Connects fifty clients at once. Returns those that were admitted, as far as a client can tell.
fn crowd(address: &str) -> Vec<Connection> {
    let options = ConnectOptions::new().timeout(Duration::from_millis(1500));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(|| options.connect(address))).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
        outcomes
            .filter_map(|outcome| match outcome {
                Ok(connection) => Some(connection),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::TimedOut), "{error}");
                    None
                }
            })
            .collect()
    })
}

fn assert_asleep(hub: &Child) {
    let cost = cost::of_process(hub.pid(), Duration::from_secs(1));
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(150), "cost of one second: {cost:?}");
}

fn clients_beyond_the_limit_of_descriptors_are_refused_and_do_not_disturb_others(transport: Transport) {
    let base = Base::new();
    let (mut hub, address, mut early) = spawn(&base, transport);
    hub.ask("spare 8");
    let mut crowd = crowd(&address);
    let served = crowd.iter_mut().filter_map(|connection| is_served(connection).then_some(())).count();
    assert!((1..=8).contains(&served), "{served} of 50 clients are served");
    assert_echo(&mut early);
    let refused: usize = hub.ask("refused").parse().unwrap();
    assert!(refused >= 50 - 8, "the hub reported {refused} refusals");
    assert_asleep(&hub);
    assert_echo(&mut early);
    drop(crowd);
    eventually("clients that leave make room", || {
        Connection::connect(&address).is_ok_and(|mut connection| is_served(&mut connection))
    });
}

fn without_any_descriptor_left_the_hub_does_not_spin_and_recovers(transport: Transport) {
    let base = Base::new();
    let (mut hub, address, mut early) = spawn(&base, transport);
    // Not even the reserve descriptor of the server can be opened again: three descriptors of the hub and those of
    // `early` have higher numbers.
    hub.ask("spare -7");
    thread::scope(|scope| {
        let coming = scope.spawn(|| crowd(&address));
        assert_asleep(&hub);
        assert_echo(&mut early);
        hub.ask("plenty");
        coming.join().unwrap().iter_mut().for_each(assert_echo);
    });
    assert_echo(&mut early);
    assert_echo(&mut Connection::connect(&address).unwrap());
}

fn a_bind_error_for_want_of_descriptors_names_the_limit_to_raise(transport: Transport) {
    let base = Base::new();
    let (mut hub, _, mut early) = spawn(&base, transport);
    for spare in [-3, 0, 1, 2, 4, 6, 8, 10] {
        hub.ask(&format!("spare {spare}"));
        let said = hub.ask("bind");
        assert!(said.contains("ulimit -n") || said == "bound", "with {spare} to spare: {said}");
        assert!(spare > 4 || said != "bound", "with {spare} to spare");
        // Counting the open descriptors needs descriptors.
        hub.ask("plenty");
    }
    assert_eq!(hub.ask("bind"), "bound");
    assert_echo(&mut early);
}
