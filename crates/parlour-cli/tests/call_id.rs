//! Tests of `parlour call --id` and `parlour call --json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::thread::{self, JoinHandle};

use common::{Home, TRANSPORTS, text};
use parlour::calls::Call;
use parlour::{Server, ShutdownHandle};

/// A server of calls that ends with its scope: `fail` fails, `list` has three answers, everything else is echoed.
struct Serving {
    shutdown: ShutdownHandle,
    thread: Option<JoinHandle<parlour::Result<()>>>,
}

impl Serving {
    fn new(home: &Home, transport: &str) -> Self {
        let server = Server::bind(format!("{transport}:{}", home.name("calls").display())).unwrap();
        let shutdown = server.shutdown_handle();
        let thread = thread::spawn(move || server.serve_calls(answer));
        Self { shutdown, thread: Some(thread) }
    }
}

fn answer(mut call: Call) {
    let request = call.take_request();
    // An error means that the caller has gone.
    let _ = match &*request {
        b"fail" => call.fail("no such \u{1b}[31mnote"),
        b"list" => ["one", "two", "three"].iter().try_for_each(|item| call.item(*item)).and_then(|()| call.end()),
        b"none" => call.end(),
        _ => call.reply(&request),
    };
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.shutdown();
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

#[test]
fn each_answer_to_a_call_is_a_line() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _serving = Serving::new(&home, transport);
        assert_eq!(home.stdout(&["call", "--id", "calls", "hello"], b""), "hello\n", "{transport}");
        assert_eq!(home.stdout(&["call", "--id", "calls", "list"], b""), "one\ntwo\nthree\n");
        assert_eq!(home.stdout(&["call", "--id", "calls", "none"], b""), "");
        assert_eq!(home.stdout(&["call", "--id", "--raw", "calls"], b"from\nstdin"), "from\nstdin");
    }
}

#[test]
fn a_call_that_fails_is_exit_code_11_with_the_text_of_the_server() {
    let home = Home::new();
    let _serving = Serving::new(&home, "unix");
    let output = home.run(&["call", "--id", "calls", "fail"]);
    assert_eq!(output.status.code(), Some(11), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(r"no such \x1b[31mnote"), "{}", text(&output.stderr));
}

#[test]
fn an_answer_with_a_newline_is_exit_code_10() {
    let home = Home::new();
    let _serving = Serving::new(&home, "unix");
    assert_eq!(home.run(&["call", "--id", "calls", "a\nb"]).status.code(), Some(10));
}

#[test]
fn a_server_that_is_not_one_of_calls_is_an_error() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let output = home.run(&["call", "--id", "echo", "hello", "--timeout", "5s"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("serve_calls"), "{}", text(&output.stderr));
}

#[test]
fn a_client_that_does_not_know_calls_gets_an_error_that_names_the_command() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _serving = Serving::new(&home, transport);
        for (command, input) in [(&["connect", "calls"][..], &b"hello\n"[..]), (&["call", "calls", "hello"], b"")] {
            let output = home.run_with(command, input);
            assert_eq!(output.status.code(), Some(7), "{transport} {command:?}: {}", text(&output.stderr));
            let told = text(&output.stderr);
            assert!(told.contains("if it answers calls, use `parlour call --id`"), "{transport} {command:?}: {told}");
        }
    }
}

#[test]
fn json_is_checked_and_printed_on_one_line() {
    let home = Home::new();
    let _serving = Serving::new(&home, "unix");
    let _server = home.serve(&["echo", "--echo"]);
    let message = "{ \"b\": 1.50,\n \"a\": [ \"x  y\" ] }";
    for call in [&["call", "--json", "--id", "calls"][..], &["call", "--json", "echo"]] {
        assert_eq!(home.stdout(&[call, &[message]].concat(), b""), "{\"b\":1.50,\"a\":[\"x  y\"]}\n");
        let output = home.run(&[call, &["{ not json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
    let _wc = home.serve(&["wc", "--", "sed", "s/.*/no json/"]);
    assert_eq!(home.run(&["call", "--json", "wc", "1"]).status.code(), Some(1));
}
