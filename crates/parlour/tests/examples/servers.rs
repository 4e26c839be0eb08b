//! Each server goes on whatever a client does, and serves several at once.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use parlour::{Connection, ErrorKind};

use crate::built::example;
use crate::clients::{RUDE, connect};
use crate::support::base::leaves_files;
use crate::support::{Base, Child, DEADLINE, trials};

/// An example, the name that it takes, and a function that returns true if a message is its answer to `hello`.
type Example = (&'static str, &'static str, fn(&[u8]) -> bool);

const SERVERS: [Example; 5] = [
    ("echo_server", "echo", |answer| answer == b"hello"),
    ("tokio_echo_server", "echo", |answer| answer == b"hello"),
    ("hub_chat", "chat", |answer| answer.ends_with(b": hello")),
    ("chat", "chat", |answer| answer.ends_with(b": hello")),
    ("team", "team", |answer| answer.ends_with(b": hello")),
];

trials! {
    for server in SERVERS =>
        serves_on_whatever_a_client_does,
        serves_two_clients_at_once;
}

/// The time after which a client says again what nobody has heard.
const AGAIN: Duration = Duration::from_millis(200);

/// Starts an example as a user does, except that its name is in this base.
fn start(base: &Base, name: &str) -> Child {
    let mut command = std::process::Command::new(example(name));
    leaves_files();
    Child::start(command.env("PARLOUR_DIR", base.path()).stderr(Stdio::null()))
}

/// Sends `hello` until another client of a chat room, or this one of an echo server, has received it.
fn assert_answered(name: &str, path: &Path, is_answer: fn(&[u8]) -> bool) {
    let mut speaker = connect(path);
    let mut listener = connect(path);
    assert_heard(name, &mut speaker, &mut listener, is_answer);
    assert_heard(name, &mut listener, &mut speaker, is_answer);
}

fn assert_heard(name: &str, speaker: &mut Connection, other: &mut Connection, is_answer: fn(&[u8]) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // The other client of a chat room hears nothing that was said before the server accepted it.
        speaker.send_timeout(b"hello", DEADLINE).unwrap();
        let listener = if name.contains("echo") { &mut *speaker } else { &mut *other };
        match listener.recv_timeout(AGAIN) {
            Ok(Some(answer)) if is_answer(&answer) => return,
            Ok(Some(_)) => {}
            Ok(None) => panic!("{name} has ended the connection"),
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => panic!("{name}: {error}"),
        }
        assert!(Instant::now() < deadline, "{name} does not answer");
    }
}

fn serves_on_whatever_a_client_does((name, address, is_answer): Example) {
    let base = Base::new();
    let mut server = start(&base, name);
    let path = base.name(address);
    let mut open = Vec::new();
    for (what, client) in RUDE {
        open.push(client(&path));
        assert_answered(name, &path, is_answer);
        assert!(server.is_running(), "{name} has ended because of a client {what}");
    }
    drop(open);
    assert_answered(name, &path, is_answer);
    server.kill();
}

fn serves_two_clients_at_once((name, address, is_answer): Example) {
    let base = Base::new();
    let mut server = start(&base, name);
    let path = base.name(address);
    let _idle = connect(&path);
    assert_answered(name, &path, is_answer);
    server.kill();
}
