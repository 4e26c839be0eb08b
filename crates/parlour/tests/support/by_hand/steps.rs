//! Roles that are traced, and what must hold wherever they are interrupted.

use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, Error, Server, ServerOptions, Transport};

use super::place::client_files;
use super::roles::say_error;
use super::trace::{Traced, mark};
use crate::support::baseline::Baseline;
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, DEADLINE, Role, eventually};

pub const SERVER: Role = Role { name: "traced-server", play: server };
pub const CLIENT: Role = Role { name: "traced-client", play: client };

/// `traced-server ADDRESS start|accept|reply|close`: takes the name over every transport, accepts a client (but for
/// `start`), hears it and answers (for `reply`), and closes (for `close`). The step that is named stands between two
/// marks, and then it says `done` or the error.
fn server(arguments: &[String]) {
    let step = arguments[1].as_str();
    let bind = || ServerOptions::new().transports(Transport::ALL.iter().copied()).bind(&arguments[0]);
    match step {
        "start" => {
            let server = marked(bind);
            until_end_of_input();
            drop(server);
        }
        "accept" => {
            let server = bind().unwrap();
            println!("ready");
            let connection = marked(|| server.accept());
            until_end_of_input();
            drop(connection);
        }
        "reply" => {
            let server = bind().unwrap();
            println!("ready");
            let mut connection = server.accept().unwrap();
            let request = connection.recv().unwrap().unwrap();
            marked(|| REPLIES.iter().try_for_each(|&length| connection.send(&request.repeat(length))));
            until_end_of_input();
        }
        "close" => {
            let server = bind().unwrap();
            marked(|| server.close());
        }
        other => panic!("what is {other:?}?"),
    }
}

/// The lengths of what is answered and sent: one that goes in one piece, and one that is longer than what a channel holds.
pub const REPLIES: [usize; 2] = [100, 2_000_000];

/// `traced-client ADDRESS connect|send|close`: connects, sends or closes with something left to send between two marks,
/// and says `done` or the error.
fn client(arguments: &[String]) {
    let connect = || Connection::connect(&arguments[0]);
    match arguments[1].as_str() {
        "connect" => {
            let connection = marked(connect);
            until_end_of_input();
            drop(connection);
        }
        "send" => {
            let mut connection = connect().unwrap();
            marked(|| REPLIES.iter().try_for_each(|&length| connection.send(&b"x".repeat(length))));
            until_end_of_input();
        }
        "close" => {
            let mut connection = connect().unwrap();
            connection.feed(b"x").unwrap();
            marked(|| connection.close());
        }
        other => panic!("what is {other:?}?"),
    }
}

/// A step between two marks, of which it says `done` or the error.
pub fn marked<T>(step: impl FnOnce() -> Result<T, Error>) -> Option<T> {
    mark();
    let outcome = step();
    mark();
    match outcome {
        Ok(value) => {
            println!("done");
            Some(value)
        }
        Err(error) => {
            say_error(&error);
            None
        }
    }
}

/// How many calls of a step are tried, at most: more than any has but for those that send for long.
const CALLS_MAX: usize = 150;

/// Does this once for each system call between the marks of a role, with the child standing at it. Gives how many there
/// were.
pub fn at_each_call(start: impl Fn() -> Traced, mut act: impl FnMut(usize, Traced)) -> usize {
    for number in 0..CALLS_MAX {
        let mut traced = start();
        if !traced.go_to_call(number) {
            traced.kill();
            return number;
        }
        act(number, traced);
    }
    CALLS_MAX
}

/// Clients over this transport are killed during this step.
pub fn a_client_that_is_killed_at_any_system_call_of_step_harms_nobody(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "tough");
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    assert_served(&address, 0);
    // The thread of that client has ended, and its connection with it.
    eventually("the server is idle", || Baseline::of(server.pid()).threads == 2);
    let before = Baseline::of(server.pid());
    let calls = at_each_call(
        || Traced::start("traced-client", &[&*address, step]),
        |number, traced| {
            traced.kill();
            assert_served(&address, number);
        },
    );
    println!("{transport}: {calls} system calls of {step}");
    // In shared memory sending and closing make few, or none while nobody sleeps.
    assert!(calls > if step == "connect" { 10 } else { 0 }, "{calls} system calls");
    // Nothing of them is left in the server.
    before.assert_restored(server.pid());
    // What they left in the directory is bounded, and goes with the server at the latest.
    assert!(client_files(&base.name("tough")).len() <= 2 * calls);
    server.finish();
    assert_eq!(client_files(&base.name("tough")), [""; 0]);
}

/// Another client is served without delay.
pub fn assert_served(address: &str, number: usize) {
    let begin = Instant::now();
    let mut connection = ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap();
    connection.send(b"me?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"me?");
    assert!(begin.elapsed() < Duration::from_secs(3), "at call {number}: {:?}", begin.elapsed());
}

/// Fails unless a server of ours can take the name at once and is found there.
pub fn assert_free(address: &str, number: usize) {
    let begin = Instant::now();
    let server = Server::bind(address).unwrap_or_else(|error| panic!("at call {number}: {error}"));
    assert!(begin.elapsed() < Duration::from_secs(3), "at call {number}: {:?}", begin.elapsed());
    let connection = Connection::connect(address).unwrap();
    assert_eq!(connection.peer().pid(), Some(std::process::id()), "at call {number}");
    drop(server);
}

/// Waits for a child's last word.
pub fn outcome(child: &mut Child) -> String {
    let said = child.line();
    assert!(said == "done" || said.starts_with("error "), "{said}");
    said
}
