//! Roles that are traced with ptrace(2), and the checks that must hold at whichever system call they are interrupted.

use std::time::{Duration, Instant};

use parlour::{ConnectOptions, Connection, Error, Server, ServerOptions, Transport};

use super::place::client_files;
use super::roles::say_error;
use super::trace::{Traced, mark};
use crate::support::baseline::Baseline;
use crate::support::roles::until_end_of_input;
use crate::support::{Base, Child, DEADLINE, Role, SOON, eventually};

pub const SERVER: Role = Role { name: "traced-server", play: server };
pub const CLIENT: Role = Role { name: "traced-client", play: client };

/// `traced-server ADDRESS start|accept|reply|close`: takes the name over every transport (`start`), accepts a client
/// (`accept`), receives a message and replies (`reply`), or closes (`close`). The named step runs between two marks.
/// Then the role prints `done` or the error.
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
        other => panic!("unknown step {other:?}"),
    }
}

/// The lengths of sent messages: one that fits into the channel, and one that is longer than the channel.
pub const REPLIES: [usize; 2] = [100, 2_000_000];

/// `traced-client ADDRESS connect|wait|send|close`: connects, connects and waits for a server, sends, or closes with a
/// fed message between two marks. Then it prints `done` or the error.
fn client(arguments: &[String]) {
    let connect = || Connection::connect(&arguments[0]);
    match arguments[1].as_str() {
        "connect" => {
            let connection = marked(connect);
            until_end_of_input();
            drop(connection);
        }
        "wait" => {
            let options = ConnectOptions::new().timeout(DEADLINE).wait_for_server(DEADLINE);
            let connection = marked(|| options.connect(&arguments[0]));
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
        other => panic!("unknown step {other:?}"),
    }
}

/// Runs a step between two marks and prints `done` or the error.
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

/// The maximum number of system calls of a step that are tried. Only steps that send long messages make more.
pub const CALLS_MAX: usize = 200;

/// Calls `act` once for each system call between the marks of a role, with the child stopped before that call. Returns
/// the number of system calls.
pub fn at_each_call(start: impl Fn() -> Traced, act: impl FnMut(usize, Traced)) -> usize {
    at_each_call_of(0..CALLS_MAX, start, act)
}

/// The threads of a trial that takes turns with [`at_each_call_of`].
pub const LANES: usize = 4;

/// Returns the numbers of system calls that belong to this one of [`LANES`] threads.
pub fn lane(number: usize) -> impl Iterator<Item = usize> {
    (number..CALLS_MAX).step_by(LANES)
}

/// Like [`at_each_call`], for the system calls with these numbers, in ascending order. Returns the first number that
/// there is no system call for.
pub fn at_each_call_of(
    numbers: impl Iterator<Item = usize>,
    start: impl Fn() -> Traced,
    mut act: impl FnMut(usize, Traced),
) -> usize {
    for number in numbers {
        let mut traced = start();
        if !traced.go_to_call(number) {
            traced.kill();
            return number;
        }
        act(number, traced);
    }
    CALLS_MAX
}

/// Kills clients over this transport at each system call of this step, and checks that the server is not affected.
pub fn a_client_that_is_killed_at_any_system_call_of_step_harms_nobody(transport: Transport, step: &str) {
    let base = Base::new();
    let address = base.address(transport, "tough");
    let mut server = Child::spawn("serve", &[format!("address={address}")]);
    assert!(server.line().starts_with("ready"));
    assert_served(&address, 0);
    // The thread of that client has exited and dropped its connection.
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
    // Over `shm`, sending and closing make few system calls, or none if no peer sleeps.
    assert!(calls > if step == "connect" { 10 } else { 0 }, "{calls} system calls");
    // The server holds no resources of the killed clients.
    before.assert_restored(server.pid());
    // The number of files that they left is bounded, and the server removes them when it closes at the latest.
    assert!(client_files(&base.name("tough")).len() <= 2 * calls);
    server.finish();
    assert_eq!(client_files(&base.name("tough")), [""; 0]);
}

/// Checks that another client is served without delay.
pub fn assert_served(address: &str, number: usize) {
    let begin = Instant::now();
    let mut connection = ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap();
    connection.send(b"me?").unwrap();
    assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"me?");
    assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
}

/// Checks that a new server can take the name immediately and that clients find it.
pub fn assert_free(address: &str, number: usize) {
    let begin = Instant::now();
    let server = Server::bind(address).unwrap_or_else(|error| panic!("at call {number}: {error}"));
    assert!(begin.elapsed() < SOON, "at call {number}: {:?}", begin.elapsed());
    let connection = Connection::connect(address).unwrap();
    assert_eq!(connection.peer().pid(), Some(std::process::id()), "at call {number}");
    drop(server);
}

/// Returns the last line of a child.
pub fn outcome(child: &mut Child) -> String {
    let said = child.line();
    assert!(said == "done" || said.starts_with("error "), "{said}");
    said
}
