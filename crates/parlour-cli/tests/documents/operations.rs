//! docs/operations.md: a question of an operator is asked about a system that is in the state of which the question
//! is. The commands print the text that the page shows, with other numbers, times and directories.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{Connection, inspect};
use rustix::process::{Pid, Signal, kill_process_group};

use super::common::{DEADLINE, Home};
use super::page::{Section, Shell};

/// Returns the words of a text, with 0 for each number, and one unit of time. The page shows other numbers and another
/// width of the columns, and breaks long lines.
fn shape(text: &str) -> Vec<String> {
    let number = |word: &str| {
        let mut shape = String::new();
        for c in word.chars() {
            match c {
                '0'..='9' if shape.ends_with('0') => {}
                '0'..='9' => shape.push('0'),
                c => shape.push(c),
            }
        }
        shape.replace("0.0", "0")
    };
    // A unit may end a clause: `316.9 µs, median`.
    let word = |word: &str| match word.trim_end_matches([',', '.']) {
        unit @ ("µs" | "ns" | "s") => format!("ms{}", &word[unit.len()..]),
        _ => number(word),
    };
    text.split_whitespace().map(word).collect()
}

/// Asks a question: runs the commands of its section until they print what the page shows, which may take a moment.
fn ask(question: &str, home: &Home) {
    let Some(section) = Section::of("operations.md", question) else { return };
    let shell = Shell::new(home, &[]);
    let on_the_page = |text: String| {
        let text = text.replace(home.path().to_str().unwrap(), "/srv/rooms");
        text.replace(env!("CARGO_BIN_EXE_parlour"), "/usr/bin/parlour")
    };
    let commands = section.commands();
    assert!(!commands.is_empty(), "{question}");
    for shown in commands {
        let expected = shape(shown.output.unwrap());
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (printed, _) = shell.run(&format!("exec 2>&1\n{}", shown.commands));
            let printed = on_the_page(printed);
            if shape(&printed) == expected {
                break;
            }
            assert!(Instant::now() < deadline, "{question}: {}{printed}", shown.commands);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Commands in the background, whose processes are killed at the end.
struct Background(Child);

impl Background {
    fn start(home: &Home, commands: &str) -> Self {
        let mut shell = Shell::new(home, &[]).command(&["sh", "-euc", commands]);
        shell.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self(shell.spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A client that has got the echo of one message of 5 bytes.
fn client(home: &Home, name: &str) -> Connection {
    let mut client = Connection::connect(home.name(name).to_str().unwrap()).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    client
}

#[test]
fn an_operator_sees_who_holds_a_name_and_how_fast_it_answers() {
    let home = Home::new();
    let _server = home.serve(&["wc", "--", "wc", "-w"]);
    for question in ["Who holds the name?", "Does the server answer?", "Why does my server not start?"] {
        ask(question, &home);
    }
}

#[test]
fn an_operator_sees_why_a_client_finds_no_server() {
    ask("Why does my client find no server?", &Home::new());
}

#[test]
fn an_operator_sees_why_a_client_hangs() {
    let home = Home::new();
    let server = home.serve(&["wc", "--", "wc", "-w"]);
    server.signal(Signal::STOP);
    ask("Why does my client hang?", &home);
    server.signal(Signal::CONT);
}

#[test]
fn an_operator_sees_who_is_connected_and_exports_the_figures() {
    let home = Home::new();
    let _server = home.serve(&["room", "--on", "unix", "--echo"]);
    // The page shows the program of the client.
    let _client = Background::start(&home, "(echo hello; exec sleep 600) | parlour connect room >/dev/null");
    let has_answered = || inspect::stats(home.name("room").to_str().unwrap()).unwrap().sent.messages == 1;
    let deadline = Instant::now() + DEADLINE;
    while !has_answered() {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    ask("Who is connected, and how much flows?", &home);
    ask("How do the figures reach the monitoring?", &home);
}

#[test]
fn an_operator_sees_which_client_holds_the_server_up() {
    let home = Home::new();
    let _server = home.serve(&["room", "--on", "unix", "--echo"]);
    let _client = Background::start(&home, "yes | parlour connect room | sleep 600");
    ask("Which client holds the server up?", &home);
}

#[test]
fn an_operator_sees_what_a_client_sends() {
    let home = Home::new();
    let _server = home.serve(&["room", "--on", "unix", "--echo"]);
    // A tap begins with a message, so the client goes on.
    let _client = Background::start(&home, "while echo hello; do sleep 0.05; done | parlour connect room >/dev/null");
    ask("What does a client send?", &home);
}

#[test]
fn an_operator_sees_why_a_client_was_refused() {
    let home = Home::new();
    let _server = home.serve(&["room", "--on", "unix", "--echo", "--clients", "1"]);
    let address = home.name("room");
    let address = address.to_str().unwrap();
    let _first = client(&home, "room");
    // Over `unix`, the refusal is the answer to the first call.
    let mut second = Connection::connect(address).unwrap();
    let refused = second.recv();
    assert!(refused.is_err(), "{refused:?}");
    ask("Why was a client refused?", &home);
}

#[test]
fn an_operator_sees_when_a_server_has_come_and_gone() {
    let home = Home::new();
    home.serve(&["crash", "--echo"]).kill();
    let _server = home.serve(&["wc", "--", "wc", "-w"]);
    ask("When did the server come and go?", &home);
}

#[test]
fn an_operator_checks_the_machine() {
    ask("Is this machine in order?", &Home::new());
}

#[test]
fn an_operator_sees_the_hosts_of_a_bridge() {
    let program = Path::new(env!("CARGO_BIN_EXE_parlour")).with_file_name("parlour-bridge");
    if !program.exists() {
        return println!("skipped: {} is not built", program.display());
    }
    let home = Home::new();
    let place = tempfile::tempdir().unwrap();
    let bridge = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(place.path()).env("PARLOUR_DIR", home.path()).stdout(Stdio::null());
        command
    };
    assert!(bridge(&["cert", "init", "--dir", "realm"]).status().unwrap().success());
    assert!(bridge(&["cert", "host", "a.example", "--dir", "realm"]).status().unwrap().success());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = format!(
        "host = \"a.example\"\nlisten = \"{free}\"\n[tls]\nauthority = \"ca.pem\"\n\
         certificate = \"a.example.pem\"\nkey = \"a.example.key\"\n[[export]]\nname = \"wc\"\nto = [\"b.example\"]\n"
    );
    std::fs::write(place.path().join("realm/bridge.toml"), configuration).unwrap();
    let mut run = bridge(&["run", "--config", "realm/bridge.toml"]);
    let _bridge = Background(run.stderr(Stdio::null()).process_group(0).spawn().unwrap());
    let deadline = Instant::now() + DEADLINE;
    while !bridge(&["status"]).stderr(Stdio::null()).status().unwrap().success() {
        assert!(Instant::now() < deadline, "the bridge does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    ask("Which hosts does the bridge reach?", &home);
}
