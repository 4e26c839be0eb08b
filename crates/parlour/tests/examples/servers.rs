//! Each server goes on whatever a client does, and serves several at once.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use parlour::{Caller, Connection, ErrorKind};

use crate::built::{cli, example, home_of_cli};
use crate::clients::{RUDE, connect};
use crate::support::base::leaves_files;
use crate::support::{Base, Child, DEADLINE, eventually, trials};

/// An example, the name that it takes, and a function that returns true if a message is its answer to `hello`.
type Example = (&'static str, &'static str, fn(&[u8]) -> bool);

const SERVERS: [Example; 10] = [
    ("echo_server", "echo", |answer| answer == b"hello"),
    ("echo_hand_over", "echo", |answer| answer == b"hello"),
    ("tokio_echo_server", "echo", |answer| answer == b"hello"),
    ("json_server", "sums", |answer| answer.starts_with(b"{\"error\":")),
    ("hub_chat", "chat", |answer| answer.ends_with(b": hello")),
    ("chat", "chat", |answer| answer.ends_with(b": hello")),
    ("team", "team", |answer| answer.ends_with(b": hello")),
    ("upper", "upper", |answer| answer == b"HELLO"),
    // A client that sends much fills the queue.
    ("jobs", "jobs", |answer| [&b"queued"[..], b"try again later"].contains(&answer)),
    ("notes", "notes", |answer| answer == b"[\"hello\"]"),
];

trials! {
    a_server_that_is_started_again_takes_over_and_the_old_one_ends,
    the_program_asks_the_json_server unless home_of_cli().is_none().then_some("the program is in another package");

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
    // The example that keeps a file has it as its argument.
    Child::start(command.arg("/dev/null").env("PARLOUR_DIR", base.path()).stderr(Stdio::null()))
}

/// Sends `hello` until another client of a chat room, or this one of an echo server, has received it.
fn assert_answered(name: &str, path: &Path, is_answer: fn(&[u8]) -> bool) {
    if name == "notes" {
        let caller = Caller::new(connect(path)).unwrap();
        return assert!(is_answer(&caller.call_timeout(r#"{"Add":"hello"}"#, DEADLINE).unwrap()));
    }
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
        let answers_the_speaker = name.contains("echo") || ["jobs", "json_server", "upper"].contains(&name);
        let listener = if answers_the_speaker { &mut *speaker } else { &mut *other };
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

/// The commands of README.md and CHANGELOG.md, and those that the example cannot answer.
fn the_program_asks_the_json_server() {
    let base = Base::new();
    let mut server = start(&base, "json_server");
    let call = |message: &str| {
        let mut command = std::process::Command::new(cli(&home_of_cli().unwrap()));
        command.args(["call", "--wait", "10s", "sums", message]).env("PARLOUR_DIR", base.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(call(r#"{"Add":[2,3]}"#), "{\"sum\":5}\n");
    let error = call("hello");
    assert!(error.starts_with(r#"{"error":"#), "{error}");
    server.kill();
}

fn a_server_that_is_started_again_takes_over_and_the_old_one_ends() {
    let base = Base::new();
    let path = base.name("echo");
    let mut server = start(&base, "echo_hand_over");
    for _ in 0..3 {
        let client = connect(&path);
        let mut next = start(&base, "echo_hand_over");
        eventually("the next server has the name", || {
            connect(&path).peer().pid() == Some(next.pid()) || !next.is_running()
        });
        assert_answered("echo", &path, |answer| answer == b"hello");
        assert!(server.is_running(), "it has a client");
        client.close().unwrap();
        assert!(server.wait().success());
        server = next;
    }
    server.kill();
}
