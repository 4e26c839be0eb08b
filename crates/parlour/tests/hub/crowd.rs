//! More clients than descriptors.

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
        clients_beyond_the_limit_of_descriptors_are_turned_away_and_disturb_nobody,
        without_any_descriptor_left_the_hub_does_not_spin_and_recovers,
        a_hub_that_cannot_be_bound_for_want_of_descriptors_says_how_to_have_more;
}

/// `scarce-hub ADDRESS`: says `ready` and echoes. Each line is answered with one:
///
/// - `spare COUNT`: so many more descriptors can be had from now on; below 0 the limit is that far below what is in use;
/// - `plenty`: takes the limit away;
/// - `refused`: how many clients there is an event for, and the reason of the last;
/// - `bind`: makes another hub, and says what came of it.
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
                    // One that has given up meanwhile took its file along.
                    let is_gone = refusal.detail.contains("it has no file of its own");
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
            (other, _) => panic!("what is {other:?}?"),
        }
    }
}

fn spawn(base: &Base, transport: Transport) -> (Child, String, Connection) {
    let address = base.address(transport, "crowd");
    let mut hub = Child::spawn("scarce-hub", std::slice::from_ref(&address));
    hub.expect("ready");
    let mut early = Connection::connect(&address).unwrap();
    // From here on the hub opens nothing by itself.
    assert_echo(&mut early);
    (hub, address, early)
}

fn assert_echo(connection: &mut Connection) {
    assert!(is_served(connection), "it is not served");
}

/// Whether the hub answers on this connection; otherwise it has ended it.
fn is_served(connection: &mut Connection) -> bool {
    // It may have been ended by now.
    let _ = connection.send(b"still here");
    match connection.recv_timeout(DEADLINE) {
        Ok(Some(reply)) => reply == b"still here",
        Ok(None) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            false
        }
    }
}

/// Fifty clients at once: those who were let in as far as they can tell.
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
    assert!(cost.sleeps < 50 && cost.ran < Duration::from_millis(150), "in a second: {cost:?}");
}

fn clients_beyond_the_limit_of_descriptors_are_turned_away_and_disturb_nobody(transport: Transport) {
    let base = Base::new();
    let (mut hub, address, mut early) = spawn(&base, transport);
    hub.ask("spare 8");
    let mut crowd = crowd(&address);
    let served = crowd.iter_mut().filter_map(|connection| is_served(connection).then_some(())).count();
    assert!((1..=8).contains(&served), "{served} of fifty are served");
    assert_echo(&mut early);
    let refused: usize = hub.ask("refused").parse().unwrap();
    assert!(refused >= 50 - 8, "{refused} were refused, as far as the hub tells");
    assert_asleep(&hub);
    assert_echo(&mut early);
    drop(crowd);
    eventually("those who leave make room", || {
        Connection::connect(&address).is_ok_and(|mut connection| is_served(&mut connection))
    });
}

fn without_any_descriptor_left_the_hub_does_not_spin_and_recovers(transport: Transport) {
    let base = Base::new();
    let (mut hub, address, mut early) = spawn(&base, transport);
    // Not even the descriptor that the server keeps back can be had again: behind it are two of the hub's and of `early`.
    hub.ask("spare -6");
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

fn a_hub_that_cannot_be_bound_for_want_of_descriptors_says_how_to_have_more(transport: Transport) {
    let base = Base::new();
    let (mut hub, _, mut early) = spawn(&base, transport);
    for spare in [-3, 0, 1, 2, 4, 6, 8, 10] {
        hub.ask(&format!("spare {spare}"));
        let said = hub.ask("bind");
        assert!(said.contains("ulimit -n") || said == "bound", "with {spare} to spare: {said}");
        assert!(spare > 4 || said != "bound", "with {spare} to spare");
        // It takes some to see how many there are.
        hub.ask("plenty");
    }
    assert_eq!(hub.ask("bind"), "bound");
    assert_echo(&mut early);
}
