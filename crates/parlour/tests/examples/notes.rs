//! The daemon `notes` under load, while it is replaced, killed, stopped and started again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parlour::Caller;
use rustix::process::Signal;

use crate::built::example;
use crate::clients::connect;
use crate::support::{Base, Child, DEADLINE, eventually, trials};

trials! {
    no_note_is_lost_while_the_daemon_is_replaced_killed_and_stopped,
    a_shell_lists_what_it_has_added,
    a_command_line_adds_and_lists_notes;
}

/// The clients, each with four threads.
const CLIENTS: usize = 3;

/// The lines that a client gets at a time.
const BATCH: usize = 20;

fn command(base: &Base, name: &str) -> Command {
    let mut command = Command::new(example(name));
    command.env("PARLOUR_DIR", base.path()).stderr(Stdio::null());
    command
}

/// Starts the daemon, and waits until it has the name.
fn start(base: &Base, file: &Path) -> Child {
    let mut daemon = Child::start(command(base, "notes").arg(file));
    eventually("the daemon has the name", || {
        connect(&base.name("notes")).peer().pid() == Some(daemon.pid()) || !daemon.is_running()
    });
    daemon
}

/// Adds notes until `is_over`. Returns them.
fn add(base: &Base, client: usize, is_over: &AtomicBool, added: &AtomicUsize) -> BTreeSet<String> {
    let mut process = Child::start(&mut command(base, "notes_client"));
    let (mut sent, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    let note = |line: &str, acknowledged: &mut BTreeSet<String>| {
        if let Some(note) = line.strip_prefix("added: ") {
            assert!(acknowledged.insert(note.to_owned()), "{note} was added twice");
            added.fetch_add(1, Ordering::Relaxed);
        } else {
            // The end of the process may cut a line of its other thread off.
            assert!(line.starts_with("noted: client ") || line == "noted: ", "{line}");
        }
    };
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BATCH {
            let line = format!("client {client}, note {}", sent.len());
            process.say(&line);
            sent.insert(line);
        }
        while acknowledged.len() < sent.len() {
            note(&process.line(), &mut acknowledged);
        }
    }
    process.end_input();
    while let Some(line) = process.next_line() {
        note(&line, &mut acknowledged);
    }
    assert!(process.wait().success());
    assert_eq!(sent, acknowledged);
    sent
}

/// Returns the notes in the file, in order.
fn notes_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn no_note_is_lost_while_the_daemon_is_replaced_killed_and_stopped() {
    let base = Base::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.json");
    let (is_over, added) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more = || {
        let before = added.load(Ordering::Relaxed);
        eventually("notes are added", || added.load(Ordering::Relaxed) >= before + 3 * BATCH);
    };
    // The clients start before the daemon.
    let (mut daemon, sent) = thread::scope(|scope| {
        let (base, is_over, added) = (&base, &is_over, &added);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || add(base, client, is_over, added))).collect();
        let mut daemon = start(base, &file);
        more();
        let mut replaced = Vec::new();
        for round in ["kill", "stop"] {
            for _ in 0..3 {
                let next = start(base, &file);
                replaced.push(std::mem::replace(&mut daemon, next));
                more();
            }
            match round {
                "kill" => daemon.kill(),
                _ => {
                    daemon.signal(Signal::TERM);
                    assert!(daemon.wait().success());
                }
            }
            daemon = start(base, &file);
            more();
            // Their clients have gone to the next ones, and they need not wait for the end of the clients.
            for mut old in replaced.drain(..) {
                assert!(old.wait().success(), "a daemon that was replaced ends by itself");
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let sent: BTreeSet<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (daemon, sent)
    });
    daemon.signal(Signal::INT);
    assert!(daemon.wait().success());
    let stored = notes_in(&file);
    assert_eq!(stored.len(), sent.len(), "each note is there once");
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), sent);
}

fn a_shell_lists_what_it_has_added() {
    let base = Base::new();
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&base, &directory.path().join("notes.json"));
    let caller = Caller::connect(base.name("notes").to_str().unwrap()).unwrap();
    let call = |request: &str| String::from_utf8(caller.call_timeout(request, DEADLINE).unwrap().into_vec()).unwrap();
    for _ in 0..2 {
        assert_eq!(call(r#"{"Add":"buy milk"}"#), r#"["buy milk"]"#);
    }
    assert_eq!(call(r#"{"Add":"a \"second\" line\nof text"}"#), r#"["a \"second\" line\nof text"]"#);
    assert_eq!(call(r#""List""#), r#"["buy milk","a \"second\" line\nof text"]"#);
    assert!(caller.call_timeout("buy milk", DEADLINE).is_err_and(|error| error.failure().is_some()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}

fn a_command_line_adds_and_lists_notes() {
    let base = Base::new();
    let directory = tempfile::tempdir().unwrap();
    // It waits for the daemon.
    let mut first = Child::start(command(&base, "note").args(["buy", "milk"]));
    let mut daemon = start(&base, &directory.path().join("notes.json"));
    assert_eq!(first.line(), "buy milk");
    assert!(first.wait().success());
    for arguments in [&["feed the cat"][..], &[]] {
        let output = command(&base, "note").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let expected = if arguments.is_empty() { "buy milk\nfeed the cat\n" } else { "feed the cat\n" };
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
}
