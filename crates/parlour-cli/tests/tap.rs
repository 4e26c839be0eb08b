//! Tests of `parlour tap`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Home, Running};
use parlour::{Connection, inspect};

/// Starts a server that echoes, and a client.
fn room(home: &Home) -> (Running, Connection) {
    let server = home.serve(&["room", "--on", "unix", "--echo"]);
    (server, Connection::connect(home.name("room").to_str().unwrap()).unwrap())
}

fn echo(client: &mut Connection, message: &[u8]) {
    client.send(message).unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), message);
}

/// Starts a tap, and sends messages until it has printed one of them. The rest of its output follows.
fn tapping(home: &Home, client: &mut Connection, args: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut tap = home.command(&[&["tap", "room"], args].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tap.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.try_for_each(|line| sender.send(line)));
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        echo(client, b"begin");
        if receiver.recv_timeout(Duration::from_millis(20)).is_ok() {
            break;
        }
        assert!(Instant::now() < until, "the tap does not begin");
    }
    (tap, receiver.into_iter().filter(|line| !line.contains("begin")))
}

/// Returns a line without its time.
fn untimed(line: &str) -> &str {
    line.split_once(' ').unwrap().1
}

#[test]
fn each_message_is_a_line_with_client_direction_length_and_text() {
    let home = Home::new();
    let (_server, mut client) = room(&home);
    let (mut tap, mut lines) = tapping(&home, &mut client, &["--max", "8"]);
    echo(&mut client, b"hello");
    echo(&mut client, b"two\nlines \x1b[31m");
    let pid = std::process::id();
    for expected in [
        format!("{pid} in 5 hello"),
        format!("{pid} out 5 hello"),
        format!("{pid} in 15 two\\nline ..."),
        format!("{pid} out 15 two\\nline ..."),
    ] {
        assert_eq!(untimed(&lines.next().unwrap()), expected);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&tap), rustix::process::Signal::INT).unwrap();
    assert!(tap.wait().unwrap().success());
}

#[test]
fn messages_are_selected_by_direction_and_client_and_counted() {
    let home = Home::new();
    let (_server, mut client) = room(&home);
    let pid = std::process::id().to_string();
    let args = ["--direction", "out", "--client", &pid, "--hex", "--count", "1"];
    let mut tap = home.command(&[&["tap", "room"], &args[..]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while tap.try_wait().unwrap().is_none() {
        echo(&mut client, b"\xff\x00A");
        assert!(Instant::now() < until, "the tap does not end");
    }
    let output = tap.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(untimed(text.trim_end()), format!("{pid} out 3 ff0041"), "{text}");
}

#[test]
fn json_has_the_message_as_text_or_as_hexadecimal_digits() {
    let home = Home::new();
    let (server, mut client) = room(&home);
    let (mut tap, mut lines) = tapping(&home, &mut client, &["--json"]);
    echo(&mut client, b"{\"a\": 1}");
    echo(&mut client, &[0xff; 3]);
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap()).unwrap();
    for direction in ["in", "out"] {
        let line = next();
        assert_eq!((&line["direction"], &line["value"]["a"]), (&direction.into(), &1.into()), "{line}");
        assert_eq!((&line["length"], &line["cut"], &line["lost"]), (&8.into(), &false.into(), &0.into()));
    }
    assert_eq!(next()["hex"], "ffffff");
    echo(&mut client, b"a text");
    next();
    assert_eq!(next()["text"], "a text");
    drop(server);
    assert!(tap.wait().unwrap().success(), "the end of the server ends the tap");
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let home = Home::new();
    assert_eq!(home.run(&["tap", "nobody"]).status.code(), Some(3));
    assert!(inspect::tap(home.name("nobody").to_str().unwrap()).is_err());
}

#[test]
fn after_a_hand_over_both_servers_are_tapped_and_the_tap_ends_with_the_last_one() {
    let home = Home::new();
    let serve = |more: &[&str]| home.serve(&[&["room", "--on", "unix", "--echo", "--grace", "1000s"], more].concat());
    let connect = || Connection::connect(home.name("room").to_str().unwrap()).unwrap();
    let old = serve(&[]);
    let mut stays = connect();
    let mut command = home.command(&["tap", "room", "--json"]);
    let mut tap = Running::start(command.stdin(Stdio::null()));
    let mut once = 0;
    let mut until_shown = |client: &mut Connection, word: &str| {
        let mut lines = Vec::new();
        let until = Instant::now() + Duration::from_secs(60);
        // A tap begins with a message.
        while lines.is_empty() {
            assert!(Instant::now() < until, "{word} is not shown");
            echo(client, word.as_bytes());
            while tap.has_line(Duration::from_millis(20)) {
                let line: serde_json::Value = serde_json::from_str(&tap.line()).unwrap();
                once += usize::from(line["text"] == "once");
                if line["text"] == word {
                    lines.push(line["client"].as_u64().unwrap());
                }
            }
        }
        lines[0]
    };
    assert_eq!(until_shown(&mut stays, "before"), 1);
    let new = serve(&["--take-over"]);
    let mut later = connect();
    assert_eq!(until_shown(&mut later, "new"), 1_000_001);
    assert_eq!(until_shown(&mut stays, "old"), 1);
    // The tap looks at the holder of the name again and again.
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        until_shown(&mut later, "pass");
    }
    drop(stays);
    drop(old);
    echo(&mut later, b"once");
    assert_eq!(until_shown(&mut later, "after"), 1_000_001);
    assert_eq!(once, 2, "in each direction");
    drop(later);
    drop(new);
    assert!(tap.wait().success());
    let said = tap.stderr();
    let notes: Vec<&str> = said.lines().collect();
    assert_eq!(notes.len(), 3, "{said}");
    assert!(notes[0].contains("showing the messages of `") && notes[0].ends_with("from now on"), "{said}");
    assert!(notes[1].contains("the name was taken over by pid ") && notes[1].contains("goes on with"), "{said}");
    assert_eq!(notes[2], "parlour: the server has ended");
}
