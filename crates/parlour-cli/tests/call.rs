//! Tests of `parlour call`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, TRANSPORTS, at_once_over_each_transport, text};

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

#[test]
fn a_second_reply_is_told_and_is_exit_code_10() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["many", "--on", transport, "--", "seq", "25"]);
        let output = home.run(&["call", "many", "how many?"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(10), "{transport}: {said}");
        assert_eq!(text(&output.stdout), "1\n", "{transport}");
        assert!(said.contains("more than one reply") && said.contains("--all"), "{transport}: {said}");
    }
}

#[test]
fn all_replies_are_printed_on_demand() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["many", "--on", transport, "--", "seq", "20000"]);
        let all: String = (1..=20000).map(|number| format!("{number}\n")).collect();
        assert!(home.stdout(&["call", "--all", "many", "how many?"], b"") == all, "{transport}");
        let raw = home.stdout(&["call", "--all", "--raw", "many", "how many?"], b"");
        assert!(raw == all.replace('\n', ""), "{transport}");
    }
}

#[test]
fn no_reply_at_all_is_an_error_unless_all_are_demanded() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["sink", "--on", transport, "--", "sh", "-c", "cat >/dev/null"]);
        assert_eq!(home.run(&["call", "sink", "hello"]).status.code(), Some(7), "{transport}");
        assert_eq!(home.stdout(&["call", "--all", "sink", "hello"], b""), "", "{transport}");
    }
}

#[test]
fn replies_with_newlines_are_told_if_all_are_printed() {
    let home = Home::new();
    let _server = home.serve(&["two", "--frames", "--", "printf", r"\0\0\0\3a\nb\0\0\0\1c"]);
    let output = home.run(&["call", "--all", "two", "hello"]);
    assert_eq!(output.status.code(), Some(10), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "a\nb\nc\n");
}

#[test]
fn a_reply_of_any_bytes_is_printed_unchanged() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    let message = b"\0one\n\r\xff\xfe\n\n";
    assert_eq!(home.run_with(&["call", "--raw", "echo"], message).stdout, message);
    assert_eq!(home.run_with(&["call", "echo"], message).stdout, [&message[..], b"\n"].concat());
}

#[test]
fn a_server_that_replies_once_and_keeps_the_connection_open_does_not_block_a_call() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["open", "--on", transport, "--", "sh", "-c", "echo hello; exec sleep 1000"]);
        assert_eq!(home.stdout(&["call", "open", "hello"], b""), "hello\n", "{transport}");
    }
}

#[test]
fn no_answer_in_time_is_exit_code_6_and_tells_who_is_to_answer() {
    at_once_over_each_transport(|transport| {
        let home = Home::new();
        let server = home.serve(&["slow", "--on", transport, "--", "sh", "-c", "echo one; exec sleep 1000"]);
        // Long enough for the first answer on a busy machine.
        let output = home.run(&["call", "--all", "slow", "hello", "--answer-timeout", "3s"]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(6), "one\n"), "{transport}: {said}");
        assert!(said.contains(&format!("pid {},", server.pid())) && said.contains("is not stopped"), "{said}");
    });
}

#[test]
fn a_stopped_server_is_told_to_be_stopped() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let server = home.serve(&["room", "--on", transport, "--echo"]);
        server.signal(rustix::process::Signal::STOP);
        let timeouts = ["--answer-timeout", "300ms", "--timeout", "1s"];
        let message = vec![b'x'; 1 << 20];
        for (verb, input) in [("call", &b"hi\n"[..]), ("call", &message), ("connect", b"hi\n"), ("connect", b"")] {
            let output = home.run_with(&[&[verb, "room"], &timeouts[..]].concat(), input);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(6), "{transport} {verb}: {said}");
            assert!(said.contains(&format!("`kill -CONT {}`", server.pid())), "{transport} {verb}: {said}");
            assert_eq!((said.lines().count(), output.stdout.len()), (1, 0), "{transport} {verb}: {said}");
        }
        server.signal(rustix::process::Signal::CONT);
        assert_eq!(home.stdout(&["call", "room", "hi"], b""), "hi\n", "{transport}");
    }
}

#[test]
fn a_message_beyond_the_limit_of_the_server_is_exit_code_8() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _echo = home.serve(&["echo", "--on", transport, "--message-max", "2000", "--echo"]);
        let _sink =
            home.serve(&["sink", "--on", transport, "--message-max", "2000", "--", "sh", "-c", "cat >/dev/null"]);
        // A long message is not read to its end. A short one is, and then the server closes as at any other time.
        for length in [2001, 1 << 20] {
            let message = vec![b'x'; length];
            for args in
                [&["call"][..], &["call", "--all"], &["connect"], &["connect", "--raw", "--message-max", "4000"]]
            {
                for name in ["echo", "sink"] {
                    let output = home.run_with(&[args, &[name]].concat(), &message);
                    let said = text(&output.stderr);
                    assert_eq!(output.status.code(), Some(8), "{transport} {args:?} {name} {length}: {said}");
                    assert!(said.contains("its limit is 2000 bytes"), "{transport} {args:?} {name} {length}: {said}");
                    assert_eq!(output.stdout, b"", "{transport} {args:?} {name} {length}");
                }
            }
        }
        let message = "x".repeat(2000);
        assert_eq!(home.stdout(&["call", "--raw", "echo", &message], b""), message, "{transport}");
    }
}

#[test]
fn the_limit_of_the_server_is_told_as_a_possible_cause_if_it_is_not_known() {
    let home = Home::new();
    let server = parlour::ServerOptions::new().message_max(2000).bind(home.name("small").to_str().unwrap()).unwrap();
    // A server without an owner record, as another user sees every server.
    std::fs::write(home.name("small").join("lock"), "").unwrap();
    let message = vec![b'x'; 1 << 20];
    for verb in ["call", "connect"] {
        std::thread::scope(|scope| {
            scope.spawn(|| server.accept().unwrap().recv().unwrap_err());
            let output = home.run_with(&[verb, "small"], &message);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(7), "{verb}: {said}");
            assert!(said.contains("1048576 bytes") && said.contains("limit"), "{verb}: {said}");
        });
    }
}
