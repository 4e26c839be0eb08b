//! The demo of the program.
#![cfg(feature = "program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time within which the demo must have ended, also on a busy machine.
const DEMO_MAX: Duration = Duration::from_secs(60);

fn start(directory: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-bridge"));
    command.arg("demo").env("TMPDIR", directory).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Asserts that no file is left in the directory, and no process that was started with it.
fn assert_nothing_is_left(directory: &Path) {
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    let variable = format!("TMPDIR={}", directory.display());
    let mark = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join("environ")).ok());
    assert_eq!(processes.filter(|environment| mark(environment.clone())).count(), 0);
}

#[test]
fn the_demo_shows_a_server_of_another_host_its_death_and_the_next_one_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let output = start(directory.path()).wait_with_output().unwrap();
    let elapsed = begin.elapsed();
    let (told, problems) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && problems.is_empty(), "{told}\n{problems}");
    let steps = [
        "a client on host b connects to `wc` and sends `hello`; it gets `host a, process ",
        "the bridge on host b has links to 2 hosts",
        "the server on host a is killed; the client on host b is told after ",
        "the next client on host b sends `hello again`; it gets `host c, process ",
        "import wc: held, exported by c.example",
        "every process has ended, and the directory is removed",
    ];
    let mut at = 0;
    for step in steps {
        at += told[at..].find(step).unwrap_or_else(|| panic!("{step} is missing in:\n{told}"));
    }
    assert!(elapsed < DEMO_MAX, "{elapsed:?}");
    assert_nothing_is_left(directory.path());
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    // On a busy machine, the demo may end before the signal.
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let mut demo = start(directory.path());
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        // By now there are processes.
        let _ = lines.by_ref().take(3).map(Result::unwrap).count();
        kill_process(Pid::from_raw(demo.id().try_into().unwrap()).unwrap(), Signal::TERM).unwrap();
        // The demo may print further steps meanwhile.
        let last = lines.map_while(Result::ok).last().unwrap_or_default();
        let output = demo.wait_with_output().unwrap();
        assert_nothing_is_left(directory.path());
        if !output.status.success() {
            return assert_eq!(output.status.code(), Some(1));
        }
        assert!(last.contains("every process has ended"), "{last}");
    }
    panic!("no demo was interrupted");
}
