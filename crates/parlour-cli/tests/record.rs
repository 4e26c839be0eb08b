//! Tests of `parlour record` and `parlour replay`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use common::{DEADLINE, Home, Killed, Running, text, wait_until_readable};
use mcap::MessageStream;
use parlour::{Connection, Server};
use rustix::process::{Pid, Signal, kill_process};

const WORDS: [&str; 3] = ["{\"word\": 1}", "two\u{1b}[31m", "three"];

/// Starts a server that echoes.
fn room(home: &Home) -> Running {
    home.serve(&["room", "--on", "unix", "--echo"])
}

fn connect(home: &Home) -> Connection {
    Connection::connect(home.name("room").to_str().unwrap()).unwrap()
}

fn echo(client: &mut Connection, message: &[u8]) {
    client.send(message).unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), message);
}

fn file(home: &Home) -> PathBuf {
    home.path().join("room.mcap")
}

/// Starts a recording. It has begun when this returns.
fn recording(home: &Home, args: &[&str]) -> Child {
    let file = file(home);
    let args = [&["record", "room", file.to_str().unwrap()], args].concat();
    let child = home.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + DEADLINE;
    // The file is created after the tap has begun.
    while !file.exists() {
        assert!(Instant::now() < until, "the recording does not begin");
        thread::yield_now();
    }
    child
}

fn stderr(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// Records the words that one client sends, and their echoes.
fn record_words(home: &Home) {
    let recording = recording(home, &["--count", "6"]);
    let mut client = connect(home);
    for word in WORDS {
        echo(&mut client, word.as_bytes());
    }
    assert_eq!(stderr(recording), "parlour: 6 messages recorded\n");
}

fn replay(home: &Home, args: &[&str]) -> Output {
    home.run(&[&["replay", file(home).to_str().unwrap()], args].concat())
}

/// Returns the topic, the encoding and the bytes of each message, as the reader of the format for Rust sees them.
fn messages(file: &Path) -> Vec<(String, String, Vec<u8>)> {
    let bytes = std::fs::read(file).unwrap();
    let messages = MessageStream::new(&bytes).unwrap().map(Result::unwrap);
    let messages = messages
        .map(|message| (message.channel.topic.clone(), message.channel.message_encoding.clone(), message.data.into()));
    messages.collect()
}

#[test]
fn a_recording_opens_with_the_readers_of_the_format() {
    let home = Home::new();
    let _server = room(&home);
    record_words(&home);
    let seen = messages(&file(&home));
    let expected = WORDS.iter().flat_map(|word| ["in", "out"].map(|direction| (direction, word))).map(|(to, word)| {
        let encoding = if word.starts_with('{') { "json" } else { "" };
        (format!("/room/1/{to}"), encoding.to_owned(), word.as_bytes().to_vec())
    });
    assert!(seen.iter().cloned().eq(expected), "{seen:?}");

    let python = |script: &str| Command::new("python3").args(["-c", script]).arg(file(&home)).output();
    if !python("import mcap").is_ok_and(|output| output.status.success()) {
        return println!("skipped: python3 has no package mcap");
    }
    let script = "import sys\nfrom mcap.reader import make_reader\n\
        for _, channel, message in make_reader(open(sys.argv[1], 'rb')).iter_messages():\n    \
        print(channel.topic, len(message.data))\n\
        print([record.metadata['messages'] for record in make_reader(open(sys.argv[1], 'rb')).iter_metadata()])";
    let output = python(script).unwrap();
    let lines: Vec<String> = WORDS
        .iter()
        .flat_map(|word| ["in", "out"].map(|direction| format!("/room/1/{direction} {}", word.len())))
        .chain(["['6']".to_owned()])
        .collect();
    assert_eq!(text(&output.stdout).lines().collect::<Vec<_>>(), lines, "{}", text(&output.stderr));
}

#[test]
fn a_recording_ends_at_a_signal_with_a_complete_file_and_replaces_no_file() {
    let home = Home::new();
    let _server = room(&home);
    let recording = recording(&home, &[]);
    let mut client = connect(&home);
    let until = Instant::now() + DEADLINE;
    // The recorder writes to the file from time to time.
    while std::fs::metadata(file(&home)).unwrap().len() < 1000 {
        echo(&mut client, &[b'x'; 1000]);
        assert!(Instant::now() < until, "nothing is written");
    }
    kill_process(Pid::from_child(&recording), Signal::TERM).unwrap();
    assert!(stderr(recording).contains("messages recorded"));
    assert!(!messages(&file(&home)).is_empty());

    let again = home.run(&["record", "room", file(&home).to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));
}

#[test]
fn a_recording_is_readable_by_its_user_only_and_a_link_is_replaced_and_not_followed() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let home = Home::new();
    let _server = room(&home);
    let other = home.path().join("other");
    std::fs::write(&other, "precious").unwrap();
    symlink(&other, file(&home)).unwrap();
    let path = file(&home);
    let output = home.run(&["record", "room", path.to_str().unwrap(), "--force", "--count", "0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.is_file());
    assert_eq!(found.mode() & 0o777, 0o600);
    let new = home.path().join("new.mcap");
    let output = home.run(&["record", "room", new.to_str().unwrap(), "--count", "0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(new).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_replay_against_the_same_server_is_equal() {
    let home = Home::new();
    let _server = room(&home);
    record_words(&home);
    for args in [&["room", "--compare", "--speed", "0"][..], &["room", "--compare"], &["room", "--speed", "0"]] {
        let output = replay(&home, args);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b""[..]), "{said}");
        assert_eq!(said, "parlour: 3 messages of 1 clients sent, 3 of 3 answers received\n");
    }
}

#[test]
fn a_recording_of_several_files_has_each_message_once_and_is_replayed_from_all_of_them() {
    let home = Home::new();
    let server = room(&home);
    let recording = recording(&home, &["--split", "10K", "--count", "40"]);
    let mut client = connect(&home);
    for number in 0..20u8 {
        echo(&mut client, &[number; 1000]);
    }
    let said = stderr(recording);
    let files: Vec<String> = ["room.mcap", "room.2.mcap", "room.3.mcap", "room.4.mcap"]
        .iter()
        .map(|name| home.path().join(name).to_str().unwrap().to_owned())
        .collect();
    assert!(said.contains(&format!("{} is complete; goes on in {}\n", files[0], files[1])), "{said}");
    assert!(said.ends_with("parlour: 40 messages recorded\n"), "{said}");
    let seen: Vec<u8> = files.iter().flat_map(|file| messages(Path::new(file))).map(|(_, _, bytes)| bytes[0]).collect();
    assert!(seen.into_iter().eq((0..20).flat_map(|number| [number, number])));
    assert!(!home.path().join("room.5.mcap").exists());
    drop(server);
    let _server = room(&home);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = home.run(&[&["replay"], &files[..], &["room", "--compare", "--speed", "0"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "parlour: 20 messages of 1 clients sent, 20 of 20 answers received\n");
    // The name of the second file, or of a later one, is in use.
    std::fs::remove_file(files[0]).unwrap();
    let output = home.run(&["record", "room", files[0], "--split", "10K"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("room.2.mcap exists"), "{}", text(&output.stderr));
    assert!(!file(&home).exists());
    std::fs::remove_file(files[1]).unwrap();
    let recording = self::recording(&home, &["--split", "10K"]);
    let mut client = connect(&home);
    for number in 0..20u8 {
        echo(&mut client, &[number; 1000]);
    }
    let output = recording.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("room.3.mcap (--force replaces a file): File exists"), "{said}");
    assert!(files[..2].iter().all(|file| !messages(Path::new(file)).is_empty()), "the files before are complete");
}

#[test]
fn a_recording_goes_on_with_the_server_that_takes_the_name_over() {
    let home = Home::new();
    let serve = |more: &[&str]| home.serve(&[&["room", "--on", "unix", "--echo", "--grace", "1000s"], more].concat());
    let _old = serve(&[]);
    let mut recording = Killed(recording(&home, &["--count", "6"]));
    let mut stays = connect(&home);
    echo(&mut stays, b"before");
    let _new = serve(&["--take-over"]);
    let stderr = recording.0.stderr.take().unwrap();
    wait_until_readable(&stderr);
    let mut said = BufReader::new(stderr).lines().map(Result::unwrap);
    assert!(said.next().unwrap().contains("the name was taken over by pid "));
    echo(&mut connect(&home), b"new");
    echo(&mut stays, b"old");
    assert!(Running::wait_for(&mut recording.0).success());
    assert_eq!(said.collect::<Vec<_>>(), ["parlour: 6 messages recorded"]);
    let mut seen: Vec<_> = messages(&file(&home)).into_iter().map(|(topic, _, bytes)| (topic, text(&bytes))).collect();
    seen.sort();
    let expected = ["/room/1/in before", "/room/1/in old", "/room/1/out before", "/room/1/out old"];
    let expected = expected.into_iter().chain(["/room/1000001/in new", "/room/1000001/out new"]);
    assert!(seen.iter().map(|(topic, bytes)| format!("{topic} {bytes}")).eq(expected), "{seen:?}");
}

#[test]
fn a_replay_against_another_server_prints_what_differs() {
    let home = Home::new();
    let server = room(&home);
    record_words(&home);
    drop(server);
    let address = home.name("next").to_str().unwrap().to_owned();
    let server = Server::bind(&address).unwrap();
    let serving = thread::spawn(move || {
        let mut connection = server.accept_timeout(DEADLINE).unwrap();
        for answer in [WORDS[0], "two\u{1b}[32m"] {
            connection.recv_timeout(DEADLINE).unwrap().unwrap();
            connection.send(answer).unwrap();
        }
        // The end comes after the third message, so it cannot be an error of sending that.
        connection.recv_timeout(DEADLINE).unwrap().unwrap();
    });
    let output = replay(&home, &["next", "--compare", "--speed", "0"]);
    serving.join().unwrap();
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("client 1, answer 2: byte 6 differs: \"two"), "{said}");
    assert!(lines[0].contains(" instead of ") && !said.contains('\u{1b}'), "{said}");
    assert!(lines[1].starts_with("client 1, answer 3: no answer, and the server has disconnected"), "{said}");
    assert!(text(&output.stderr).contains("2 of 3 answers differ"), "{}", text(&output.stderr));
}

#[test]
fn a_client_of_a_replay_ends_where_it_ends_in_the_recording_and_further_answers_are_differences() {
    let home = Home::new();
    let server = room(&home);
    let recording = recording(&home, &["--count", "4"]);
    for word in ["one", "two"] {
        echo(&mut connect(&home), word.as_bytes());
    }
    stderr(recording);
    drop(server);
    let address = home.name("next").to_str().unwrap().to_owned();
    let server = Server::bind(&address).unwrap();
    let serving = thread::spawn(move || {
        // Serves one client after the other, so the first must end before the second is served.
        for word in ["one", "two"] {
            let mut connection = server.accept_timeout(DEADLINE).unwrap();
            assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), word.as_bytes());
            connection.send(word).unwrap();
            connection.send("more").unwrap();
            assert!(connection.recv_timeout(DEADLINE).unwrap().is_none());
        }
    });
    let output = replay(&home, &["next", "--compare", "--speed", "0"]);
    serving.join().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", text(&output.stderr));
    for client in 1..=2 {
        assert!(said.contains(&format!("client {client}, answer 2: \"more\" (4 bytes) is not in")), "{said}");
    }
    assert!(text(&output.stderr).contains("2 answers are not in the recording"), "{}", text(&output.stderr));
}

#[test]
fn extreme_options_of_a_replay_are_refused_or_work() {
    let home = Home::new();
    let _server = room(&home);
    record_words(&home);
    for speed in ["1e-300", "NaN", "1e300"] {
        assert_eq!(replay(&home, &["room", "--speed", speed]).status.code(), Some(2), "{speed}");
    }
    for args in [&["room", "--speed", "0", "--timeout", "1e19"][..], &["room", "--compare", "--timeout", "1e19"]] {
        let output = replay(&home, args);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[test]
fn a_recording_with_a_gap_says_so_and_is_not_compared() {
    let home = Home::new();
    let _server = room(&home);
    let recording = recording(&home, &[]);
    let mut client = connect(&home);
    kill_process(Pid::from_child(&recording), Signal::STOP).unwrap();
    // Several times the memory in which the server records.
    for _ in 0..150 {
        echo(&mut client, &[b'x'; 60_000]);
    }
    kill_process(Pid::from_child(&recording), Signal::CONT).unwrap();
    let until = Instant::now() + DEADLINE;
    while std::fs::metadata(file(&home)).unwrap().len() < 60_000 {
        echo(&mut client, b"later");
        assert!(Instant::now() < until, "nothing is written");
    }
    kill_process(Pid::from_child(&recording), Signal::INT).unwrap();
    let said = stderr(recording);
    assert!(said.contains(" lost"), "{said}");
    assert!(messages(&file(&home)).iter().any(|(topic, ..)| topic == "/room/lost"));

    let output = replay(&home, &["room", "--compare"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("are missing in the recording"), "{}", text(&output.stderr));
}

#[test]
fn a_file_that_is_no_complete_recording_is_refused() {
    let home = Home::new();
    let _server = room(&home);
    record_words(&home);
    let whole = std::fs::read(file(&home)).unwrap();
    for bytes in [&b"junk"[..], &whole[..whole.len() - 20], b""] {
        std::fs::write(file(&home), bytes).unwrap();
        let output = replay(&home, &["room"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("not a complete recording"), "{}", text(&output.stderr));
    }
    assert_eq!(home.run(&["replay", "/nonexistent/file", "room"]).status.code(), Some(1));
    assert_eq!(replay(&home, &["room", "--speed", "-1"]).status.code(), Some(2));
}
