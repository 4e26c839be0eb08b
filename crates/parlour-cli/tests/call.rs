//! Tests of `parlour call`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, TRANSPORTS, text};

#[test]
fn one_message_gets_one_reply() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["echo", "--on", transport, "--echo"]);
        assert_eq!(home.stdout(&["call", "echo", "hello there"], b""), "hello there\n", "{transport}");
        assert_eq!(home.stdout(&["call", "echo", ""], b"not read"), "\n", "an empty message is a message");
        assert_eq!(home.stdout(&["call", "--raw", "echo", "hello"], b""), "hello");
        assert_eq!(home.stdout(&["call", "echo", "--", "--raw"], b""), "--raw\n");
    }
}

#[test]
fn without_a_message_argument_all_of_stdin_is_the_message() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    assert_eq!(home.stdout(&["call", "echo"], b"two\nlines\n"), "two\nlines\n\n");
    assert_eq!(home.stdout(&["call", "echo", "-"], b"two\nlines\n"), "two\nlines\n\n");
    let megabyte = vec![b'x'; 1 << 20];
    assert_eq!(home.run_with(&["call", "echo", "-", "--raw"], &megabyte).stdout, megabyte);
}

#[test]
fn a_program_that_replies_at_end_of_file_sends_its_reply() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["wc", "--on", transport, "--", "wc", "-w"]);
        assert_eq!(home.stdout(&["call", "wc", "four words and more"], b"").trim(), "4", "{transport}");
    }
}

#[test]
fn a_reply_of_a_server_that_never_reads_is_received() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["deaf", "--on", transport, "--", "echo", "42"]);
        for _ in 0..20 {
            assert_eq!(home.stdout(&["call", "deaf", "what is the answer?"], b""), "42\n", "{transport}");
        }
    }
}

#[test]
fn no_reply_in_time_is_exit_code_6() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["slow", "--on", transport, "--", "sleep", "1000"]);
        let output = home.run(&["call", "slow", "hello", "--timeout", "200ms"]);
        assert_eq!(output.status.code(), Some(6), "{transport}: {}", text(&output.stderr));
    }
}

#[test]
fn a_server_that_ends_without_a_reply_is_exit_code_7() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["rude", "--on", transport, "--", "true"]);
        let output = home.run(&["call", "rude", "hello"]);
        assert_eq!(output.status.code(), Some(7), "{transport}: {}", text(&output.stderr));
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn waiting_for_a_server_that_never_starts_times_out() {
    let home = Home::new();
    let output = home.run(&["call", "never", "hello", "--wait", "200ms"]);
    assert!(matches!(output.status.code(), Some(3 | 6)), "{:?}", output.status);
}

#[test]
fn a_timeout_beyond_the_range_of_the_clock_means_no_deadline() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let forever = "9999999999999999999";
    let said = home.stdout(&["call", "echo", "hello", "--timeout", forever, "--wait", forever], b"");
    assert_eq!(said, "hello\n");
}

#[test]
fn a_message_beyond_the_limit_is_exit_code_8() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let output = home.run(&["call", "echo", "eleven long", "--message-max", "10"]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    assert_eq!(home.stdout(&["call", "echo", "ten bytes!", "--message-max", "10"], b""), "ten bytes!\n");
}
