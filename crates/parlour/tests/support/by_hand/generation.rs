//! Roles of servers that take their name over from the one before, and hand it over to the next one.

use std::thread;
use std::time::Duration;

use parlour::{Connection, ErrorKind, Server, ServerOptions};

use super::roles::say_error;
use super::steps::marked;
use crate::support::roles::{echo, until_end_of_input};
use crate::support::{DEADLINE, Role};

pub const GENERATION: Role = Role { name: "generation", play: generation };
pub const ONE_AT_A_TIME: Role = Role { name: "one-at-a-time", play: one_at_a_time };
pub const SUCCESSOR: Role = Role { name: "traced-successor", play: successor };
pub const WAITING: Role = Role { name: "traced-waiting", play: waiting };
pub const HOLDER: Role = Role { name: "traced-holder", play: holder };

/// `generation ADDRESS [MILLISECONDS]`: takes the name over, prints `ready` or `error KIND: TEXT`, and serves.
fn generation(arguments: &[String]) {
    let timeout = arguments.get(1).map_or(DEADLINE, |time| Duration::from_millis(time.parse().unwrap()));
    match ServerOptions::new().take_over(timeout).bind(&arguments[0]) {
        Ok(server) => {
            println!("ready");
            serve(server, Vec::new());
        }
        Err(error) => say_error(&error),
    }
}

/// `one-at-a-time ADDRESS`: takes the name over, prints `ready`, and serves; see [`serve_in_turn`].
fn one_at_a_time(arguments: &[String]) {
    let server = ServerOptions::new().take_over(DEADLINE).bind(&arguments[0]).unwrap();
    println!("ready");
    serve_in_turn(&server, None);
}

const RECEPTION: Duration = Duration::from_millis(100);
const RECEPTIONS: usize = 30;

/// `traced-waiting ADDRESS`: takes the name, accepts a client, and waits for its message for three seconds between two
/// marks. Prints `done` or `error KIND: TEXT`, and serves; see [`serve_in_turn`].
///
/// It waits in short receptions, so that it makes system calls after the end of a hand-over, too.
fn waiting(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    let mut client = server.accept().unwrap();
    marked(|| {
        let mut received = client.recv_timeout(RECEPTION);
        for _ in 1..RECEPTIONS {
            if received.is_ok() {
                break;
            }
            received = client.recv_timeout(RECEPTION);
        }
        received
    });
    serve_in_turn(&server, Some(client));
}

/// Serves one client after the other. The answer to `who?` is the process id, and all other messages are echoed. After
/// a hand-over it prints `handed over`, and at end of file on stdin `shut down`.
fn serve_in_turn(server: &Server, mut first: Option<Connection>) {
    let shutdown = server.shutdown_handle();
    thread::spawn(move || {
        until_end_of_input();
        shutdown.shutdown();
    });
    let ended = loop {
        let mut client = match first.take().map_or_else(|| server.accept(), Ok) {
            Ok(client) => client,
            Err(error) => break error,
        };
        while let Ok(Some(message)) = client.recv() {
            let answer =
                if message == b"who?" { std::process::id().to_string().into_bytes() } else { message.to_vec() };
            if client.send(&answer).is_err() {
                break;
            }
        }
    };
    match ended.kind() {
        ErrorKind::HandedOver => println!("handed over"),
        ErrorKind::Shutdown => println!("shut down"),
        kind => panic!("{kind}: {ended}"),
    }
}

/// `traced-successor ADDRESS`: takes the name over between two marks, prints `done` or `error KIND: TEXT`, and serves.
fn successor(arguments: &[String]) {
    let server = marked(|| ServerOptions::new().take_over(DEADLINE).bind(&arguments[0]));
    if let Some(server) = server {
        serve(server, Vec::new());
    }
}

/// `traced-holder ADDRESS`: takes the name, prints `ready`, and accepts between two marks. Prints `done` if that
/// brought a client, and serves; or prints `error KIND: TEXT`.
fn holder(arguments: &[String]) {
    let server = Server::bind(&arguments[0]).unwrap();
    println!("ready");
    match marked(|| server.accept()) {
        Some(client) => serve(server, vec![client]),
        None => until_end_of_input(),
    }
}

/// Echoes every message of every client, with one thread for each client. After a hand-over it prints `handed over`,
/// serves the clients that are connected, and ends. At end of file on stdin it shuts down and prints `shut down`.
fn serve(server: Server, clients: Vec<Connection>) {
    let shutdown = server.shutdown_handle();
    thread::spawn(move || {
        until_end_of_input();
        shutdown.shutdown();
    });
    let serve = |client| thread::spawn(move || echo(client));
    let mut clients: Vec<_> = clients.into_iter().map(serve).collect();
    let ended = loop {
        match server.accept() {
            Ok(client) => clients.push(serve(client)),
            Err(error) => break error,
        }
    };
    match ended.kind() {
        ErrorKind::HandedOver => println!("handed over"),
        ErrorKind::Shutdown => println!("shut down"),
        kind => panic!("{kind}: {ended}"),
    }
    server.close().unwrap();
    for client in clients {
        client.join().unwrap();
    }
}
