//! The examples: each is short, compiles, and works as its first lines describe.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::build::{self, Flavor};
use crate::support::program::{self, Background};
use crate::support::{base, home};
use crate::textbook::type_into;
use crate::{trial, trial_with_program};

/// A server, the transport of its clients, and its answer to "hello".
const SERVERS: [(&str, &str, &str); 4] = [
    ("unix_echo_server", "unix", "hello"),
    ("fifo_echo_server", "fifo", "hello"),
    ("echo_server", "", "hello"),
    ("chat", "", "1: hello"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("examples::each_has_fewer_than_80_lines", lengths),
        trial_with_program("examples::the_clients_talk_to_the_servers", clients),
        trial("examples::the_camera_worker_sees_the_pictures_of_the_camera_in_place", camera),
        trial_with_program("examples::the_notes_server_answers_calls_until_it_is_interrupted", notes),
    ];
    for (name, transport, answer) in SERVERS {
        trials.push(trial_with_program(format!("examples::{name}_answers_until_it_is_interrupted"), move || {
            server(name, transport, answer);
        }));
    }
    trials
}

fn example(name: &str) -> PathBuf {
    build::program(&home().join(format!("examples/{name}.c")), &[], Flavor::Plain)
}

fn lengths() {
    for file in std::fs::read_dir(home().join("examples")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < 80, "{}", path.display());
    }
}

/// Starts a server and waits until it answers.
fn start(name: &str, path: &std::path::Path, transport: &str) -> Background {
    let serving = Background::start(Command::new(example(name)).arg(path));
    let address = if transport.is_empty() { String::new() } else { format!("{transport}:") };
    let mut wait = Command::new(program::parlour());
    wait.args(["call", "--wait", "60s"]).arg(format!("{address}{}", path.display())).arg("ready?");
    program::succeed(&mut wait);
    serving
}

fn server(name: &str, transport: &str, answer: &str) {
    let base = base();
    let path = base.path().join("name");
    let serving = Background::start(Command::new(example(name)).arg(&path));
    let address = if transport.is_empty() { String::new() } else { format!("{transport}:") };
    let mut call = Command::new(program::parlour());
    call.args(["call", "--wait", "60s"]).arg(format!("{address}{}", path.display())).arg("hello");
    assert_eq!(program::succeed(&mut call).trim_end(), answer);
    serving.signal("INT");
    serving.finish();
    parlour::Server::bind(format!("{address}{}", path.display())).unwrap();
}

fn clients() {
    for (server, client, transport) in
        [("unix_echo_server", "unix_client", "unix"), ("fifo_echo_server", "fifo_client", "fifo")]
    {
        let base = base();
        let path = base.path().join("name");
        let serving = start(server, &path, transport);
        let shown = match client {
            // The client exits at the end of its input, so the input stays open until it has printed the answer.
            "unix_client" => {
                let mut command = Command::new("sh");
                command.args(["-c", "{ echo hello; read never <&3; } 3<&0 | \"$0\" \"$1\" | head -n 1"]);
                command.arg(example(client)).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
                let mut child = command.spawn().unwrap();
                let keyboard = child.stdin.take();
                let mut line = String::new();
                let mut shown = std::io::BufReader::new(child.stdout.take().unwrap());
                std::io::BufRead::read_line(&mut shown, &mut line).unwrap();
                drop(keyboard);
                child.wait().unwrap();
                line
            }
            _ => type_into(Command::new(example(client)).arg(&path), &["hello"]),
        };
        assert_eq!(shown, "hello\n", "{client}");
        serving.signal("TERM");
        serving.finish();
    }
    let base = base();
    let path = base.path().join("name");
    let serving = start("echo_server", &path, "");
    assert_eq!(program::succeed(Command::new(example("call")).arg(&path).arg("how are you")), "how are you\n");
    serving.signal("INT");
    serving.finish();
}

fn camera() {
    let base = base();
    let path = base.path().join("name");
    let camera = Background::start(Command::new(example("camera")).arg(&path));
    let workers = [1, 2].map(|_| Background::start(Command::new(example("camera_worker")).arg(&path).arg("20")));
    for worker in workers {
        // Each exits with 0 after so many pictures that are whole.
        worker.finish();
    }
    camera.signal("TERM");
    camera.finish();
}

fn notes() {
    let base = base();
    let path = base.path().join("name");
    let serving = Background::start(Command::new(example("notes_server")).arg(&path));
    let call = |text: &str| {
        let mut command = Command::new(program::parlour());
        command.args(["call", "--id", "--wait", "60s"]).arg(&path).arg(text);
        command
    };
    for note in ["buy milk", "call home"] {
        assert_eq!(program::succeed(&mut call(note)), "noted\n");
    }
    assert_eq!(program::succeed(&mut call("list")), "buy milk\ncall home\n");
    let output = call(&"x".repeat(200)).output().unwrap();
    assert_eq!(output.status.code(), Some(11), "{output:?}");
    serving.signal("TERM");
    serving.finish();
}
