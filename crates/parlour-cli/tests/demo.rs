//! Tests of `parlour demo`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Home, Killed, Running, TRANSPORTS, text, wait_until_readable};
use rustix::process::{Pid, Signal, kill_process};

/// Returns a `parlour demo` command with its own directory for temporary files, so that leftovers can be detected.
fn demo(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(&[&["demo"], args].concat());
    command.env("TMPDIR", home.path());
    command
}

fn assert_nothing_left(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let marker = format!("TMPDIR={}", directory.display());
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let ours = environment.split(|&byte| byte == 0).any(|variable| variable == marker.as_bytes());
        assert!(!ours, "{} is left", path.display());
    }
}

#[test]
fn every_check_passes_and_nothing_is_left() {
    let home = Home::new();
    let output = demo(&home, &[]).output().unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}{}", text(&output.stderr));
    assert!(!shown.contains("FAILED"), "{shown}");
    for transport in TRANSPORTS {
        assert!(shown.lines().any(|line| line.starts_with(&format!("{transport} "))), "{shown}");
    }
    for part in ["P50", "P99", "MESSAGES/s", "IDENTITY", "SIGKILL", "dead", "exit code 4"] {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert_nothing_left(home.path());
}

#[test]
fn the_json_report_contains_the_same_results() {
    let home = Home::new();
    let output = demo(&home, &["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["held"], true);
    let lines = report["text"]["lines"].as_u64().unwrap();
    assert!(lines >= 1000);
    let rows = report["transports"].as_array().unwrap();
    assert_eq!(rows.len(), TRANSPORTS.len());
    for row in rows {
        assert_eq!(row["clients"], 4);
        assert_eq!(row["messages"], 4 * lines);
        assert_eq!(row["bytes"], 4 * report["text"]["bytes"].as_u64().unwrap());
        assert!(row["p50_us"].as_f64().unwrap() > 0.0);
        assert!(row["p99_us"].as_f64().unwrap() >= row["p50_us"].as_f64().unwrap());
        assert!(row["identity"]["pid"].is_u64() && row["identity"]["uid_provenance"].is_string());
    }
    assert!(report["claims"].as_array().unwrap().iter().all(|claim| claim["held"] == true));
    assert_nothing_left(home.path());
}

#[test]
fn the_input_can_be_a_file() {
    let home = Home::new();
    let input = Home::new();
    let file = input.path().join("input");
    std::fs::write(&file, b"one\n\n\xff not UTF-8\nlast").unwrap();
    let output = demo(&home, &["--json", "--input", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["text"]["lines"], &report["text"]["bytes"]), (&4.into(), &18.into()));
    assert_nothing_left(home.path());
}

#[test]
fn ctrl_c_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let home = Home::new();
        // A pipe that holds less than the demo prints, so that the demo does not end before it gets the signal.
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let mut reader = std::fs::File::from(reader);
        let mut command = demo(&home, &[]);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        drop(command);
        // The demo prints its first claim while its processes are running.
        wait_until_readable(&reader);
        kill_process(Pid::from_child(&child.0), signal).unwrap();
        let mut printed = String::new();
        reader.read_to_string(&mut printed).unwrap();
        assert_eq!(Running::wait_for(&mut child.0).code(), Some(1), "{signal:?}: {printed}");
        let mut said = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("interrupted"), "{signal:?}: {said}");
        assert_nothing_left(home.path());
    }
}

#[test]
fn processes_of_the_demo_do_not_outlive_it() {
    let home = Home::new();
    let mut running = Running::start(demo(&home, &[]).stdin(Stdio::null()));
    running.line();
    running.kill();
    let deadline = Instant::now() + DEADLINE;
    let marker = format!("PARLOUR_DIR={}/parlour-demo-", home.path().display());
    let any_left = || {
        std::fs::read_dir("/proc").unwrap().any(|entry| {
            let environment = std::fs::read(entry.unwrap().path().join("environ")).unwrap_or_default();
            text(&environment).contains(&marker)
        })
    };
    while any_left() {
        assert!(Instant::now() < deadline, "a process is left");
        std::thread::yield_now();
    }
}
