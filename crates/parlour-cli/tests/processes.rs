//! Tests of `parlour serve` as a process among others: inherited signals and children, and the processes that programs
//! leave behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{DEADLINE, Home, text, wait_until_gone};
use rustix::process::Signal;

/// Returns a command that runs `parlour` through another program: `sh -c SCRIPT parlour ARGS` and so on.
fn through(home: &Home, wrapper: &[&str], args: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    common::restore_interrupts(&mut command);
    command.args(&wrapper[1..]).arg(env!("CARGO_BIN_EXE_parlour")).args(args);
    command.env("PARLOUR_DIR", home.path()).env_remove("PARLOUR_LOG").env_remove("XDG_RUNTIME_DIR");
    command
}

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_true() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

/// Returns the processes whose parent is this one, with their states.
fn children(parent: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let child = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()?.parse() == Ok(parent)).then_some((pid, state))
    };
    entries.filter_map(|name| child(name.parse().ok()?)).collect()
}

/// A program that leaves a process in a session of its own, which creates a file at its end.
fn leaves_a_daemon(done: &Path) -> String {
    let (begun, done) = (done.with_extension("begun"), done.display());
    let begun = begun.display();
    format!(
        "setsid sh -c 'echo > {begun}; sleep 0.2; echo > {done}' & until [ -e {begun} ]; do sleep 0.01; done; echo hi; cat"
    )
}

#[test]
fn as_the_first_process_of_a_pid_namespace_it_leaves_no_zombie() {
    let home = Home::new();
    let namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let tried = Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !tried.is_ok_and(|output| output.status.success()) {
        println!("skipped: no PID namespace can be created (unshare)");
        return;
    }
    let done = home.path().join("done");
    let server =
        home.serve_with(through(&home, &namespace, &["serve", "init", "--", "sh", "-c", &leaves_a_daemon(&done)]));
    let init = children(server.pid())[0].0;
    assert_eq!(home.stdout(&["connect", "init"], b""), "hi\n");
    eventually("the daemon has ended", || done.exists());
    eventually("the adopted process is reaped", || children(init).is_empty());
}

#[test]
fn children_from_before_its_exec_do_not_become_zombies() {
    let home = Home::new();
    let script = "sleep 0.1 & exec \"$@\"";
    let server = home.serve_with(through(&home, &["sh", "-c", script, "sh"], &["serve", "room", "--echo"]));
    eventually("the child is reaped", || children(server.pid()).is_empty());
}

#[test]
fn a_parent_that_ignores_sigchld_does_not_disturb_the_server() {
    let home = Home::new();
    let script = "trap '' CHLD; exec \"$@\"";
    let wrapper = ["sh", "-c", script, "sh"];
    let server = home.serve_with(through(&home, &wrapper, &["serve", "room", "--", "sh", "-c", "echo $$; cat"]));
    let mut client = home.start(&["connect", "room"]);
    let pid = client.line().parse().unwrap();
    client.close_stdin();
    assert_eq!(client.wait().code(), Some(0));
    wait_until_gone(pid);
    eventually("no child is left", || children(server.pid()).is_empty());
}

#[test]
fn an_interrupt_that_the_parent_ignores_stays_ignored() {
    let home = Home::new();
    let script = "trap '' INT; exec \"$@\"";
    let mut server = home.serve_with(through(&home, &["sh", "-c", script, "sh"], &["serve", "room", "--echo"]));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_ne!(u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b10, 0, "SIGINT is not ignored");
    server.signal(Signal::INT);
    assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn signals_that_the_parent_blocks_stop_the_server() {
    let home = Home::new();
    let wrapper = ["env", "--block-signal=TERM", "--block-signal=INT", "--block-signal=CHLD"];
    if !Command::new("env").args(&wrapper[1..]).arg("true").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: env cannot block signals");
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let mut server =
            home.serve_with(through(&home, &wrapper, &["serve", "room", "--", "sh", "-c", "sleep 0; cat"]));
        assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn what_a_program_leaves_in_its_process_group_is_ended() {
    for job in ["sleep 1000", "sh -c 'trap \"\" TERM; while :; do sleep 1; done'"] {
        let home = Home::new();
        let _server = home.serve(&["room", "--", "sh", "-c", &format!("{job} >/dev/null 2>&1 & echo $!; cat")]);
        let said = home.stdout(&["connect", "room"], b"");
        wait_until_gone(said.trim().parse().unwrap());
    }
}

#[test]
fn a_process_that_has_left_the_group_of_its_program_goes_on() {
    let home = Home::new();
    let done = home.path().join("done");
    let mut server = home.serve(&["room", "--", "sh", "-c", &leaves_a_daemon(&done)]);
    assert_eq!(home.stdout(&["connect", "room"], b""), "hi\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    eventually("the daemon has ended by itself", || done.exists());
}

#[test]
fn a_doctor_that_a_signal_ends_leaves_no_file() {
    let home = Home::new();
    let temporary = home.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let is_empty = || std::fs::read_dir(&temporary).unwrap().next().is_none();
    let mut signals = [Signal::TERM, Signal::INT, Signal::HUP].into_iter().cycle();
    let deadline = Instant::now() + DEADLINE;
    let mut interrupted = 0;
    // Some runs end before the signal.
    while interrupted < 3 {
        assert!(Instant::now() < deadline, "the doctor was interrupted {interrupted} times only");
        let mut command = home.command(&["doctor", "--json"]);
        let mut doctor = common::Running::start(command.env("TMPDIR", &temporary));
        while is_empty() && !std::fs::read_to_string(format!("/proc/{}/stat", doctor.pid())).unwrap().contains(") Z ") {
        }
        doctor.signal(signals.next().unwrap());
        let ended = doctor.wait();
        assert!(is_empty(), "{ended}: {}", doctor.stderr());
        interrupted += usize::from(ended.code() == Some(1) && doctor.stderr().contains("interrupted"));
    }
}

#[test]
fn the_advice_of_the_doctor_changes_nothing_that_another_user_controls() {
    let home = Home::new();
    let link = home.path().join("link");
    std::os::unix::fs::symlink("/etc", &link).unwrap();
    let output = home.command(&["doctor"]).env("PARLOUR_DIR", &link).output().unwrap();
    let advice = text(&output.stdout);
    assert!(advice.contains("do not change it") && !advice.contains("chown") && !advice.contains("chmod"), "{advice}");
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a directory to another user");
        return;
    }
    let theirs = home.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1_234_567), None).unwrap();
    for base in [theirs.clone(), theirs.join("base")] {
        let output = home.command(&["doctor"]).env("PARLOUR_DIR", &base).output().unwrap();
        let advice = text(&output.stdout);
        assert!(!advice.contains("run chown") && !advice.contains("run chmod"), "{advice}");
    }
}
