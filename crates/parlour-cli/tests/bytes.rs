//! Tests that no byte and no message is lost or altered between the streams of a client and those of a server's
//! program, or that stderr and the exit code tell it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::process::Stdio;

use common::{Home, TRANSPORTS, text};

/// Returns bytes that look random, with every value among them.
fn random(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// Messages that a stream of lines cannot keep apart.
fn messages() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), Vec::new(), b"two\nlines\n".to_vec(), b"\n".to_vec(), b"\r\0\xff".to_vec(), random(300_000)]
}

#[test]
fn raw_bytes_pass_unchanged_in_both_directions() {
    let bytes = random(500_000);
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["cat", "--on", transport, "--raw", "--", "cat"]);
        let output = home.run_with(&["connect", "--raw", "cat"], &bytes);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{transport}");
        assert!(output.stdout == bytes, "{transport}: {} bytes came back", output.stdout.len());
    }
}

#[test]
fn raw_bytes_are_cut_at_the_limit_for_messages_and_not_refused() {
    let home = Home::new();
    let _server = home.serve(&["cat", "--message-max", "1000", "--raw", "--", "cat"]);
    let bytes = random(100_000);
    let output = home.run_with(&["connect", "--raw", "--message-max", "1000", "cat"], &bytes);
    assert!(output.status.success() && output.stdout == bytes, "{}", text(&output.stderr));
}

#[test]
fn frames_pass_unchanged_in_both_directions() {
    let frames: Vec<u8> = messages().iter().flat_map(|message| frame(message)).collect();
    for transport in TRANSPORTS {
        let home = Home::new();
        let _echo = home.serve(&["echo", "--on", transport, "--echo"]);
        let _cat = home.serve(&["cat", "--on", transport, "--frames", "--", "cat"]);
        for name in ["echo", "cat"] {
            let output = home.run_with(&["connect", "--frames", name], &frames);
            assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{transport} {name}");
            assert!(output.stdout == frames, "{transport} {name}: {} bytes came back", output.stdout.len());
        }
    }
}

#[test]
fn input_that_ends_inside_a_frame_is_an_error() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let whole = [frame(b"one"), frame(b"five!")].concat();
    for length in 8..whole.len() {
        let output = home.run_with(&["connect", "--frames", "echo"], &whole[..length]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{length} bytes: {said}");
        assert!(said.contains("the input ends inside a frame") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_frame_beyond_the_limit_is_exit_code_8() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let output = home.run_with(&["connect", "--frames", "echo", "--message-max", "4"], &frame(b"five!"));
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    // Input that is no sequence of frames usually begins with an impossible length.
    let output = home.run_with(&["connect", "--frames", "echo"], b"hello\n");
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
}

#[test]
fn a_program_that_ends_inside_a_frame_is_told_by_the_server() {
    let home = Home::new();
    let mut server = home.serve(&["part", "--frames", "--", "printf", r"\0\0\0\3one\0\0\0\5abc"]);
    assert_eq!(home.run(&["connect", "--frames", "part"]).stdout, frame(b"one"));
    server.wait_for_stderr("the input ends inside a frame, after 3 of 5 bytes");
}

#[test]
fn a_message_with_a_newline_is_printed_as_lines_and_told() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let program = r"\0\0\0\7one\ntwo\0\0\0\5three\0\0\0\1\n";
        let _server = home.serve(&["two", "--on", transport, "--frames", "--", "printf", program]);
        let output = home.run(&["connect", "two"]);
        let said = text(&output.stderr);
        assert_eq!(text(&output.stdout), "one\ntwo\nthree\n\n\n", "{transport}");
        assert_eq!(output.status.code(), Some(10), "{transport}: {said}");
        assert!(said.contains("several lines: 2") && said.contains("--frames"), "{transport}: {said}");
        // The program ends at once. A pipe might still be open then, and the rest of its input would be lost.
        let raw = home.command(&["connect", "--raw", "two"]).stdin(Stdio::null()).output().unwrap();
        assert_eq!((raw.status.code(), text(&raw.stdout).as_str()), (Some(0), "one\ntwothree\n"), "{transport}");
    }
}

#[test]
fn lines_with_carriage_returns_and_bytes_that_are_not_utf_8_pass_unchanged() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["cat", "--on", transport, "--", "cat"]);
        let lines = b"one\r\n\n\xff\xfe\r\rtwo\n";
        let output = home.run_with(&["connect", "cat"], lines);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{transport}");
        assert_eq!(output.stdout, lines, "{transport}");
    }
}

#[test]
fn zero_bytes_that_are_sent_as_lines_are_told() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let output = home.run_with(&["connect", "echo"], b"one\0two\n");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"one\0two\n"[..]));
    let said = text(&output.stderr);
    assert!(said.contains("--raw") && said.lines().count() == 1, "{said}");
    assert_eq!(text(&home.run_with(&["connect", "--raw", "echo"], b"one\0two\n").stderr), "");
}

#[test]
fn what_was_received_before_an_error_is_printed() {
    let home = Home::new();
    let program = r"\0\0\0\3one\0\0\0\3two\0\0\0\11too long!";
    let _server = home.serve(&["long", "--frames", "--", "printf", program]);
    let output = home.run(&["connect", "long", "--message-max", "4"]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "one\ntwo\n");
}

#[test]
fn a_refused_client_whose_message_was_not_taken_never_exits_with_0() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["one", "--on", transport, "--clients", "1", "--echo"]);
        let mut first = home.start(&["connect", "one"]);
        first.write(b"hello\n");
        assert_eq!(first.line(), "hello");
        for args in [&["connect", "one"][..], &["connect", "--raw", "one"], &["call", "one"], &["call", "--all", "one"]]
        {
            let output = home.run_with(&[args, &["--timeout", "300ms"]].concat(), b"hello\n");
            let said = text(&output.stderr);
            assert!(matches!(output.status.code(), Some(5..=7)), "{transport} {args:?}: {:?}", output.status);
            assert_eq!((said.lines().count(), &output.stdout[..]), (1, &b""[..]), "{transport} {args:?}: {said}");
        }
    }
}
