//! Tests of `parlour watch`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Running, TRANSPORTS, text};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

/// Returns the next state that the watch prints, without its time.
fn next(watch: &mut Running) -> String {
    let line = watch.line();
    let (time, state) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    assert!(time.len() == 20 && time.ends_with('Z'), "{line:?}");
    state.to_owned()
}

/// Waits until the watch prints this state. On a machine under load, it may print a server on its way before.
#[track_caller]
fn until(watch: &mut Running, expected: &str) {
    let mut state = next(watch);
    while state != expected {
        let is_on_the_way = state.starts_with("waiting: ") || (state.starts_with("live: ") && expected != "absent");
        assert!(is_on_the_way, "{state:?} before {expected:?}");
        state = next(watch);
    }
}

fn live(server: &Running, transports: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!("live: pid {}, uid {uid}, {transports}, {}", server.pid(), env!("CARGO_BIN_EXE_parlour"))
}

#[test]
fn a_line_is_printed_when_a_server_comes_ends_or_is_killed() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut watch = home.start(&["watch", "room"]);
        until(&mut watch, "absent");
        let mut server = home.serve(&["room", "--on", transport, "--echo"]);
        until(&mut watch, &live(&server, transport));
        server.signal(Signal::TERM);
        until(&mut watch, "absent");
        server.wait();
        let mut server = home.serve(&["room", "--on", transport, "--echo"]);
        until(&mut watch, &live(&server, transport));
        server.kill();
        until(&mut watch, "absent");
        // It removes the files of the dead one.
        let server = home.serve(&["room", "--on", transport, "--echo"]);
        until(&mut watch, &live(&server, transport));
    }
}

#[test]
fn a_line_is_printed_when_another_server_takes_the_name() {
    let home = Home::new();
    let mut watch = home.start(&["watch", "room"]);
    until(&mut watch, "absent");
    let old = home.serve(&["room", "--yields", "--echo"]);
    until(&mut watch, &format!("{}, yields", live(&old, "unix")));
    let new = home.serve(&["room", "--echo"]);
    until(&mut watch, &live(&new, "unix"));
}

#[test]
fn clients_and_other_names_cause_no_line() {
    let home = Home::new();
    let mut server = home.serve(&["room", "--echo"]);
    let mut watch = home.start(&["watch", "room"]);
    until(&mut watch, &live(&server, "unix"));
    let _other = home.serve(&["other", "--echo"]);
    for _ in 0..3 {
        assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
    }
    server.kill();
    until(&mut watch, "absent");
}

#[test]
fn the_watch_ends_after_its_lines_or_at_a_signal_with_success() {
    let home = Home::new();
    let server = home.serve(&["room", "--echo"]);
    let printed = home.stdout(&["watch", "room", "--count", "1"], b"");
    assert!(printed.ends_with(&format!(" {}\n", live(&server, "unix"))), "{printed}");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut watch = home.start(&["watch", "room"]);
        next(&mut watch);
        watch.signal(signal);
        assert_eq!(watch.wait().code(), Some(0), "{signal:?}");
        assert_eq!((watch.rest(), watch.stderr()), (String::new(), String::new()), "{signal:?}");
    }
    assert_eq!(home.run(&["watch", "room", "--count", "0"]).status.code(), Some(2));
    let output = home.run(&["watch", "no/name"]);
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1));
}

#[test]
fn the_watch_ends_when_nobody_reads_its_output() {
    let home = Home::new();
    let mut watch = home.start(&["watch", "room"]);
    next(&mut watch);
    let begin = Instant::now();
    watch.close_stdout();
    assert_eq!(watch.wait().code(), Some(0));
    assert!(begin.elapsed() < DEADLINE);
    assert_eq!(watch.stderr(), "");
}

#[test]
fn each_line_of_json_is_a_document() {
    let home = Home::new();
    let mut watch = home.start(&["watch", "room", "--json"]);
    let mut next = || -> serde_json::Value { serde_json::from_str(&watch.line()).unwrap() };
    let absent = next();
    assert_eq!((&absent["name"], &absent["state"]), (&"room".into(), &"absent".into()), "{absent}");
    let server = home.serve(&["room", "--on", "unix,fifo", "--echo"]);
    let mut live = next();
    while live["transports"] != serde_json::json!(["unix", "fifo"]) || live["pid"].is_null() {
        live = next();
    }
    assert_eq!((&live["name"], &live["state"]), (&"room".into(), &"live".into()), "{live}");
    assert_eq!(live["pid"], server.pid(), "{live}");
    assert_eq!(live["endpoints"]["unix"], home.name("room").join("unix").to_str().unwrap());
    assert!(live["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{live}");
}

/// A holder without an owner record is printed after a moment, in which a usual server writes its record.
#[test]
fn a_server_without_a_record_is_printed_without_its_process() {
    let home = Home::new();
    let server = home.serve(&["room", "--echo"]);
    std::fs::write(home.name("room").join("lock"), "").unwrap();
    let begin = Instant::now();
    let printed = home.stdout(&["watch", "room", "--count", "1"], b"");
    assert!(printed.ends_with(" live: pid -, uid -, unix, -\n"), "{printed}");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    drop(server);
}

/// Sets the limit on descriptors of a process, which keeps those that it has.
fn limit_descriptors(process: &Running, limit: Rlimit) {
    let pid = Pid::from_raw(process.pid() as i32).unwrap();
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

#[test]
fn a_watch_without_descriptors_does_not_take_a_live_server_for_absent() {
    let home = Home::new();
    let mut old = home.serve(&["room", "--echo"]);
    let mut watch = home.start(&["watch", "room"]);
    until(&mut watch, &live(&old, "unix"));
    let plenty = getrlimit(Resource::Nofile);
    limit_descriptors(&watch, Rlimit { current: Some(3), ..plenty });
    old.kill();
    let new = home.serve(&["room", "--echo"]);
    // The watch has heard of a change by then, and could not look.
    assert!(watch.stderr_line().ends_with("; looking again"));
    limit_descriptors(&watch, plenty);
    assert_eq!(next(&mut watch), live(&new, "unix"));
}
