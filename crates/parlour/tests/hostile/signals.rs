//! Every blocking call is interrupted, again and again, by signals whose handlers do not have it go on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{Connection, Server, Transport};

use crate::support::{Base, Child, Role, data, roles, signals, trials};

trials! {
    for transport in Transport::ALL =>
        a_storm_of_signals_changes_no_data;
}

/// How many signals each process gets, one about every millisecond; fewer where that takes too long.
const SIGNALS: usize = 1500;
const STORM_MAX: Duration = Duration::from_secs(4);

/// How many must come for the test to mean something. On a machine that is busy many come together.
const SIGNALS_MIN: usize = 100;

/// `storm-server ADDRESS`: says `ready`, accepts and echoes one client after the other in a thread that is signalled,
/// and says how many signals came.
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

/// `storm-client ADDRESS`: until the storm is over, connects in a thread that is signalled, and checks that everything
/// comes back. Says how many signals came and how many conversations it had.
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

/// Does the work in a thread that gets [`SIGNALS`] signals; `then` is to make the work end. Gives how many signals
/// came, for those that come together count as one, and what came of the work.
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
    for kind in kinds.into_iter().cycle().take(SIGNALS).take_while(|_| Instant::now() < calm_at) {
        signals::send_to_thread(&worker, kind);
        // The pace of the storm; nothing waits for it.
        thread::sleep(Duration::from_millis(1));
    }
    is_over.store(true, Ordering::SeqCst);
    then();
    let result = worker.join().unwrap();
    (signals::interruptions(), result)
}

/// The long messages fill the channel, so that sending sleeps as well.
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
    number.unwrap_or_else(|| panic!("{line:?} says nothing about {what}"))
}
