//! Programs as in a course on operating systems, written for the classic names. Only the `#include` is specific to
//! this library.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use parlour::{Connection, ErrorKind, Server};

use crate::support::build::{self, Flavor};
use crate::support::program::{self, Background};
use crate::support::{base, home};
use crate::{trial, trial_with_program};

/// The classic headers, by transport.
const SYSTEMS: [&str; 2] = ["unix", "fifo"];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for system in SYSTEMS {
        trials.push(trial_with_program(format!("{system}::a_textbook_client_talks_to_the_program"), move || {
            client(system)
        }));
        trials.push(trial_with_program(
            format!("{system}::a_textbook_server_serves_until_it_is_interrupted"),
            move || server(system),
        ));
        trials.push(
            trial(format!("{system}::textbook_client_and_server_talk_under_valgrind"), move || both(system))
                .with_ignored_flag(!build::has("valgrind")),
        );
    }
    trials
}

fn built(system: &str, role: &str) -> std::path::PathBuf {
    build::program(&home().join(format!("tests/c/textbook/{system}_{role}.c")), &[], Flavor::Plain)
}

/// Writes lines to the standard input of a program and returns its output.
pub fn type_into(command: &mut Command, lines: &[&str]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut typing = child.stdin.take().unwrap();
    for line in lines {
        writeln!(typing, "{line}").unwrap();
    }
    drop(typing);
    let output = program::finish(child, &format!("{command:?}"));
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn client(system: &str) {
    let base = base();
    let name = base.path().join("name");
    let mut serving = Background::start(Command::new(program::parlour()).args([
        "serve",
        "--echo",
        &format!("{system}:{}", name.display()),
    ]));
    serving.expect("ready");
    let shown = type_into(Command::new(built(system, "client")).arg(&name), &["hello", "", "and good-bye"]);
    assert_eq!(shown, "hello\n\nand good-bye\n");
}

fn server(system: &str) {
    let base = base();
    let name = base.path().join("name");
    let mut serving = Background::start(Command::new(built(system, "server")).arg(&name));
    serving.expect("Server started");
    let address = format!("{system}:{}", name.display());
    for round in 0..3 {
        let said = program::succeed(Command::new(program::parlour()).args(["call", &address, &round.to_string()]));
        assert_eq!(said.trim_end(), round.to_string());
        talk(&address);
    }
    serving.signal("INT");
    serving.finish();
    no_trace(&name, system);
}

fn talk(address: &str) {
    let mut connection = Connection::connect(address).unwrap();
    for length in [1, 5, 1024] {
        connection.send(&vec![7; length]).unwrap();
        assert_eq!(connection.recv_timeout(program::DEADLINE).unwrap().unwrap(), vec![7; length][..]);
    }
    connection.close().unwrap();
}

/// Checks that a server left no files, and that its name is free.
fn no_trace(name: &Path, system: &str) {
    assert!(!name.exists());
    let address = format!("{system}:{}", name.display());
    assert_eq!(Connection::connect(&address).unwrap_err().kind(), ErrorKind::NoServer);
    Server::bind(&address).unwrap();
}

fn both(system: &str) {
    let base = base();
    let name = base.path().join("name");
    let mut serving = Background::start(program::under_valgrind(&built(system, "server")).arg(&name));
    serving.expect("Server started");
    let shown = type_into(program::under_valgrind(&built(system, "client")).arg(&name), &["one", "two"]);
    assert_eq!(shown, "one\ntwo\n");
    serving.signal("INT");
    serving.finish();
    no_trace(&name, system);
}
