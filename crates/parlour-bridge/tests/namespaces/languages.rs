//! Clients in other languages. They connect to the name of an imported server as to any other one, and are told of the
//! loss of its host.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use parlour::ErrorKind;

use crate::hosts::{Hosts, wait_for};
use crate::{LONG, PATIENCE, assert_echo, inside, start};

/// The exit code of the program `parlour` after an error of the connection. It is 0 after a clean end.
const DISCONNECTED: Option<i32> = Some(7);

/// A client that is killed at the end of the test.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// Starts a client on host `b`.
    fn start(hosts: &Hosts, command: &mut Command) -> Self {
        command.env("PARLOUR_DIR", hosts.path("b")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.lines.next().map(Result::unwrap).as_deref(), Some(line));
    }

    fn expect_code(&mut self, code: Option<i32>) {
        assert_eq!(wait_for(|| self.child.try_wait().unwrap()).code(), code);
    }
}

/// Prints that a part is skipped, unless its file is there.
fn is_there(file: &Path, part: &str) -> bool {
    let is_there = file.exists();
    if !is_there {
        println!("skipped: {part}, because {} is not built or installed", file.display());
    }
    is_there
}

/// Returns the path of a program of this system.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| program.into())
}

/// Returns a file that cargo builds with the workspace.
fn built(file: &str) -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(file)
}

fn source(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compiles the client in C with these flags, if that is possible here.
fn c_client(hosts: &Hosts, name: &str, flags: &[&str]) -> Option<PathBuf> {
    let (compiler, library) = (installed("gcc"), built("deps/libparlour_c.a"));
    if !is_there(&compiler, "the client in C") || !is_there(&library, "the client in C") {
        return None;
    }
    let program = hosts.path(name);
    let mut command = Command::new(compiler);
    command.arg("-I").arg(source("../parlour-c/include")).arg(source("tests/namespaces/client.c"));
    command.args(flags).arg("-o").arg(&program).arg(library).args(["-s", "-lpthread", "-ldl", "-lm", "-lrt"]);
    assert!(command.status().unwrap().success());
    Some(program)
}

#[test]
fn clients_in_every_language_are_served_and_told_of_the_loss_of_the_host() {
    inside("languages::clients_in_every_language_are_served_and_told_of_the_loss_of_the_host", || {
        let (_network, mut hosts) = start(&["a"], LONG);
        let mut rust = hosts.client();
        assert_echo(&mut rust);
        let (mut told, mut failed) = (Vec::new(), Vec::new());
        for (name, flags) in [("client", &[][..]), ("fifo_client", &["-DFIFO"])] {
            if let Some(program) = c_client(&hosts, name, flags) {
                told.push(Client::start(&hosts, Command::new(program).arg("wc")));
            }
        }
        let python = installed("python3");
        if is_there(&python, "the client in Python") {
            told.push(Client::start(&hosts, Command::new(python).arg(source("tests/namespaces/client.py"))));
        }
        told.iter_mut().for_each(|client| client.expect("served"));
        let parlour = built("parlour");
        if is_there(&parlour, "the clients in shell") {
            let script = |text: &str| {
                let mut command = Command::new("sh");
                command.args(["-c", text]).env("parlour", &parlour);
                Client::start(&hosts, &mut command)
            };
            let mut connected = script("\"$parlour\" connect wc");
            connected.child.stdin.as_mut().unwrap().write_all(b"a line\n").unwrap();
            connected.expect("a line");
            failed.push(connected);
            let mut called = script("\"$parlour\" call wc hello && exec \"$parlour\" call --all wc hush");
            called.expect("hello");
            failed.push(called);
        }
        // One of them has called twice.
        let calls = if failed.is_empty() { 0 } else { 1 };
        let opened = (1 + told.len() + failed.len() + calls) as u64;
        hosts.wait_for_status("a", |status| status.counts.exported == opened);
        hosts.kill("bridge a");
        assert!(rust.recv_timeout(PATIENCE).is_err_and(|error| error.kind() != ErrorKind::TimedOut));
        told.iter_mut().for_each(|client| client.expect("error"));
        failed.iter_mut().for_each(|client| client.expect_code(DISCONNECTED));
    });
}
