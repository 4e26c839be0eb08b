//! Tests of `parlour connect --reconnect`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::process::Stdio;

use common::{Home, Running, TEXT, TRANSPORTS, at_once_over_each_transport, text};

/// Starts a server that echoes.
fn echo(home: &Home, transport: &str) -> Running {
    home.serve(&["echo", "--on", transport, "--echo"])
}

#[test]
fn the_input_goes_on_to_the_next_server_and_each_loss_is_told() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut client = home.start(&["connect", "--reconnect", &format!("{transport}:echo")]);
        for round in 0..3 {
            let mut server = echo(&home, transport);
            for number in 0..3 {
                client.write(format!("{round} {number}\n").as_bytes());
                assert_eq!(client.line(), format!("{round} {number}"), "{transport}");
            }
            server.kill();
        }
        let _server = echo(&home, transport);
        client.write(b"last");
        client.close_stdin();
        assert_eq!(client.line(), "last", "{transport}");
        assert_eq!(client.wait().code(), Some(0), "{transport}");
        let said = client.stderr();
        let losses: Vec<&str> = said.lines().collect();
        // A dying process may have taken the last message, which is then told, too.
        assert!(losses.len() >= 3, "{transport}: {said}");
        for loss in losses {
            assert!(loss.starts_with("parlour: cannot ") && loss.contains("message"), "{transport}: {said}");
        }
    }
}

#[test]
fn a_text_of_any_length_arrives_as_without_the_option() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = echo(&home, transport);
        let input = format!("{}\n", TEXT.repeat(2000));
        for framing in [&[][..], &["--raw"]] {
            let arguments = [&["connect", "echo", "--reconnect"], framing].concat();
            assert!(home.stdout(&arguments, input.as_bytes()) == input, "{transport} {framing:?}");
        }
        assert_eq!(home.stdout(&["connect", "echo", "--reconnect"], b""), "", "{transport}");
    }
}

#[test]
fn messages_that_may_be_lost_are_counted() {
    at_once_over_each_transport(|transport| {
        let home = Home::new();
        let mut server = home.serve(&["sink", "--on", transport, "--", "sh", "-c", "head -n 3 >&2; cat >/dev/null"]);
        let mut client = home.start(&["connect", "sink", "--reconnect", "--wait", "3s"]);
        client.write(b"one\ntwo\nthree\n");
        server.wait_for_stderr("three");
        server.kill();
        assert_eq!(client.wait().code(), Some(6), "{transport}: no server came within the time");
        let said = client.stderr();
        assert!(said.contains("3 messages were sent and none was received"), "{transport}: {said}");
    });
}

#[test]
fn no_server_within_the_time_of_wait_is_exit_code_6() {
    let home = Home::new();
    let output = home.run(&["connect", "nobody", "--reconnect", "--wait", "100ms"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no server has this name"), "{}", text(&output.stderr));
}

#[test]
fn a_server_that_does_not_admit_the_client_is_exit_code_5() {
    let home = Home::new();
    let _server = home.serve(&["mine", "--echo"]);
    let output = home.run(&["connect", "mine", "--reconnect", "--server-uid", "54321"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[test]
fn a_subscriber_gets_the_messages_of_one_server_after_the_other() {
    let home = Home::new();
    let mut client =
        Running::start(home.command(&["connect", "news", "--reconnect", "--receive"]).stdin(Stdio::null()));
    for round in ["first", "second"] {
        let program = format!("echo {round}; cat >/dev/null");
        let mut server = home.serve(&["news", "--", "sh", "-c", &program]);
        assert_eq!(client.line(), round);
        server.kill();
    }
}

#[test]
fn a_closed_stdout_ends_the_client_without_a_message() {
    let home = Home::new();
    let _server = echo(&home, "unix");
    let mut client = home.start(&["connect", "echo", "--reconnect"]);
    client.write(b"one\n");
    assert_eq!(client.line(), "one");
    client.close_stdout();
    assert_eq!(client.wait().code(), Some(0));
    assert_eq!(client.stderr(), "");
}
