//! Tests of `parlour connect`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::process::Stdio;

use common::{Home, Running, TRANSPORTS, at_once_over_each_transport, text};

#[test]
fn lines_are_messages_and_replies_are_lines() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["echo", "--on", transport, "--echo"]);
        assert_eq!(home.stdout(&["connect", "echo"], b"one\n\nthree"), "one\n\nthree\n", "{transport}");
        assert_eq!(home.stdout(&["connect", "echo"], b""), "", "{transport}");
    }
}

#[test]
fn a_reply_is_printed_while_stdin_is_still_open() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let mut client = home.start(&["connect", "echo"]);
    for line in ["one", "two"] {
        client.write(format!("{line}\n").as_bytes());
        assert_eq!(client.line(), line);
    }
    client.close_stdin();
    assert_eq!(client.wait().code(), Some(0));
}

#[test]
fn a_name_without_a_server_is_exit_code_3() {
    let home = Home::new();
    let output = home.run(&["connect", "nobody"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"");
    let said = text(&output.stderr);
    assert!(said.starts_with("parlour: ") && said.contains("nobody") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_client_can_wait_for_a_server_that_is_not_running_yet() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut client = home.start(&["connect", &format!("{transport}:late"), "--wait", "20s"]);
        client.write(b"is anybody in?\n");
        client.close_stdin();
        let _server = home.serve(&["late", "--on", transport, "--echo"]);
        assert_eq!(client.line(), "is anybody in?", "{transport}");
        assert_eq!(client.wait().code(), Some(0), "{transport}");
    }
}

#[test]
fn a_server_that_disconnects_after_everything_was_sent_is_not_an_error() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["head", "--on", transport, "--", "head", "-n", "2"]);
        assert_eq!(home.stdout(&["connect", "head"], b"one\ntwo\n"), "one\ntwo\n", "{transport}");
    }
}

#[test]
fn a_closed_stdout_ends_the_client_without_a_message() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["echo", "--on", transport, "--echo"]);
        let mut client = home.start(&["connect", "echo"]);
        client.write(b"one\n");
        assert_eq!(client.line(), "one");
        client.close_stdout();
        // The client ends because of its closed stdout: its stdin is still open.
        assert_eq!(client.wait().code(), Some(0), "{transport}");
        assert_eq!(client.stderr(), "", "{transport}");
    }
}

#[test]
fn another_server_uid_than_expected_is_exit_code_5() {
    let home = Home::new();
    let _server = home.serve(&["mine", "--echo"]);
    let output = home.run(&["connect", "mine", "--server-uid", "54321"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[test]
fn a_server_that_never_replies_does_not_block_the_input() {
    // All of stdin is read and sent, although the server sends no reply.
    let home = Home::new();
    let mut server = home.serve(&["sink", "--", "sh", "-c", "wc -l >&2"]);
    let lines = b"a line of some length to be swallowed\n".repeat(50_000);
    assert_eq!(home.stdout(&["connect", "sink"], &lines), "");
    server.wait_for_stderr("50000");
}

#[test]
fn stdin_may_be_a_file_and_stdout_too() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let (input, output) = (home.path().join("in"), home.path().join("out"));
    let lines = b"a line of a file\n".repeat(10_000);
    std::fs::write(&input, &lines).unwrap();
    let mut command = home.command(&["connect", "echo"]);
    command.stdin(std::fs::File::open(&input).unwrap());
    let mut child = command.stdout(std::fs::File::create(&output).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    assert!(Running::wait_for(&mut child).success());
    assert!(std::fs::read(&output).unwrap() == lines);
}

#[test]
fn a_receiving_client_stays_connected_at_the_end_of_its_input() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let flag = home.path().join("flag");
        let program = r#"exec 3<&0; { cat <&3; echo "end of input"; } &
            echo one; until [ -e "$1" ]; do sleep 0.01; done; echo two; kill $!"#;
        let flag_text = flag.to_str().unwrap();
        let _server = home.serve(&["news", "--on", transport, "--", "sh", "-c", program, "sh", flag_text]);
        let start = |args: &[&str]| {
            let mut client = home.start(&[&["connect", "news"], args].concat());
            client.close_stdin();
            client
        };

        let mut half_closed = start(&[]);
        let mut receiving = start(&["--receive"]);
        let mut said = [half_closed.line(), half_closed.line()];
        said.sort();
        assert_eq!(said, ["end of input", "one"], "{transport}");
        assert_eq!(receiving.line(), "one", "{transport}");
        std::fs::write(&flag, "").unwrap();
        assert_eq!(receiving.rest(), "two\n", "{transport}");
        assert_eq!(receiving.wait().code(), Some(0), "{transport}: {}", receiving.stderr());
    }
}

#[test]
fn a_server_that_stays_silent_too_long_is_exit_code_6() {
    at_once_over_each_transport(|transport| {
        let home = Home::new();
        let _server =
            home.serve(&["slow", "--on", transport, "--", "sh", "-c", "read line; echo one; exec sleep 1000"]);
        // Long enough for the first answer on a busy machine.
        let output = home.run_with(&["connect", "slow", "--answer-timeout", "3s"], b"hello\n");
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(6), "one\n"), "{transport}: {said}");
        assert!(said.contains("no answer within 3s") && said.contains("is not stopped"), "{transport}: {said}");
        // A server that does not read is silent too.
        let output = home.run_with(&["connect", "slow", "--answer-timeout", "300ms"], &b"hello\n".repeat(1 << 20));
        assert_eq!(output.status.code(), Some(6), "{transport}: {}", text(&output.stderr));
    });
}
