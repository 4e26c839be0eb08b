//! Tests in which every blocking call is interrupted repeatedly by signals whose handlers were installed without
//! `SA_RESTART`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{Connection, Server, Transport};

use crate::support::{Base, Child, DEADLINE, Role, data, roles, signals, trials};

trials! {
    for transport in Transport::ALL =>
        a_storm_of_signals_changes_no_data;
}

/// The number of signals that each process gets, about one every millisecond. Fewer are sent if [`STORM_MAX`] passes
/// first.
const SIGNALS: usize = 1500;
const STORM_MAX: Duration = Duration::from_secs(4);

/// The number of signals that must be handled for the test to prove something. On a busy machine many are merged.
const SIGNALS_MIN: usize = 100;

/// `storm-server ADDRESS`: prints `ready`, accepts and echoes one client after the other in a thread that gets signals,
/// and prints the number of signals.
pub const SERVER: Role = Role {
    name: "storm-server",
    play: |arguments| {
        let server = Server::bind(&arguments[0]).unwrap();
        let handle = server.shutdown_handle();
        println!("ready");
        let (count, _) = in_a_storm(
            move |_| server.incoming().for_each(|client| roles::echo(client.unwrap())),
            || {
                roles::until_end_of_input();
                handle.shutdown();
            },
        );
        println!("signals {count}");
    },
};

/// `storm-client ADDRESS`: until the storm has ended, connects in a thread that gets signals, and checks every reply.
/// Prints the number of signals and of conversations.
pub const CLIENT: Role = Role {
    name: "storm-client",
    play: |arguments| {
        let address = arguments[0].clone();
        let (count, rounds) = in_a_storm(
            move |is_over| {
                let mut rounds = 0;
                while rounds == 0 || !is_over.load(Ordering::SeqCst) {
                    converse(&address);
                    rounds += 1;
                }
                rounds
            },
            || {},
        );
        println!("signals {count}");
        println!("conversations {rounds}");
    },
};

/// Runs `work` in a thread that gets [`SIGNALS`] signals, then calls `then`, which makes the work end. Returns the
/// number of handled signals, in which merged ones count once, and the result of the work.
fn in_a_storm<T: Send + 'static>(
    work: impl FnOnce(Arc<AtomicBool>) -> T + Send + 'static,
    then: impl FnOnce(),
) -> (usize, T) {
    let kinds = [libc::SIGUSR1, libc::SIGALRM];
    kinds.into_iter().for_each(signals::interrupt_on);
    let is_over = Arc::new(AtomicBool::new(false));
    let worker = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || work(is_over)
    });
    let calm_at = Instant::now() + STORM_MAX;
    // On a busy machine it takes longer until enough of them were handled.
    let give_up_at = calm_at + DEADLINE / 2;
    for (count, kind) in kinds.into_iter().cycle().enumerate() {
        let (is_enough, now) = (signals::interruptions() > SIGNALS_MIN, Instant::now());
        if is_enough && (count >= SIGNALS || now >= calm_at) || now >= give_up_at {
            break;
        }
        signals::send_to_thread(&worker, kind);
        // Paces the signals. Nothing depends on this sleep.
        thread::sleep(Duration::from_millis(1));
    }
    is_over.store(true, Ordering::SeqCst);
    then();
    let result = worker.join().unwrap();
    (signals::interruptions(), result)
}

/// The long messages fill the channel, so that sending blocks as well.
fn converse(address: &str) {
    let mut connection = Connection::connect(address).unwrap();
    for (seed, length) in [10, 300_000, 0, 4096, 1_000_000, 70_000].into_iter().enumerate() {
        connection.send(data::message(seed, length)).unwrap();
        data::check(&connection.recv().unwrap().expect("a reply"), seed, length);
    }
    for number in 0..100 {
        connection.feed(data::message(number, 100)).unwrap();
    }
    for number in 0..100 {
        data::check(&connection.recv().unwrap().expect("a reply"), number, 100);
    }
    connection.close().unwrap();
}

fn a_storm_of_signals_changes_no_data(transport: Transport) {
    let base = Base::new();
    let address = base.address(transport, "room");
    let mut server = Child::spawn("storm-server", &[&address]);
    server.expect("ready");
    let mut client = Child::spawn("storm-client", &[&address]);
    assert!(count(&client.line(), "signals") >= SIGNALS_MIN);
    assert!(count(&client.line(), "conversations") > 0);
    client.finish();
    server.end_input();
    assert!(count(&server.line(), "signals") >= SIGNALS_MIN);
    server.finish();
}

fn count(line: &str, what: &str) -> usize {
    let number = line.strip_prefix(what).and_then(|number| number.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{line:?} does not state the number of {what}"))
}
