//! Tests of `parlour ping`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::process::Output;

use common::{Home, TRANSPORTS, text};
use parlour::Server;
use rustix::process::Signal;

/// Pings a name with `--json`, and returns the document.
#[track_caller]
fn ping(home: &Home, args: &[&str], code: i32) -> (serde_json::Value, String) {
    let output = home.run(&[&["ping", "--json"], args].concat());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert_eq!(said.lines().count(), usize::from(code != 0), "{args:?}: {said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

#[test]
fn a_server_that_runs_answers_over_every_transport() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let server = home.serve(&["echo", "--on", transport, "--echo"]);
        let (report, _) = ping(&home, &["echo", "--count", "3"], 0);
        assert_eq!((&report["state"], &report["transport"]), (&"answered".into(), &transport.into()), "{report}");
        let pings = report["pings"].as_array().unwrap();
        assert_eq!(pings.len(), 3, "{report}");
        let is_time = |value: &serde_json::Value| value.as_f64().is_some_and(|us| us > 0.0 && us < 20e6);
        assert!(pings.iter().all(|ping| is_time(&ping["connected_us"]) && is_time(&ping["answered_us"])), "{report}");
        if transport != "fifo" {
            assert_eq!(report["pid"], server.pid(), "{report}");
        }
        let printed = home.stdout(&["ping", "echo"], b"");
        assert!(printed.starts_with("echo: pid ") && printed.contains(transport), "{printed}");
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(home.stdout(&["ping", "echo", "--count", "2"], b"").contains("\nanswers: 2, fastest "));
    }
}

#[test]
fn a_ping_is_no_request() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let server = Server::bind(format!("{transport}:{}", home.name("quiet").display())).unwrap();
        std::thread::scope(|scope| {
            let pinging = scope.spawn(|| ping(&home, &["quiet"], 0));
            let mut connection = server.accept().unwrap();
            assert_eq!(connection.recv().unwrap(), None, "{transport}");
            drop(connection);
            pinging.join().unwrap();
        });
    }
}

#[test]
fn a_name_without_a_server_is_exit_code_3() {
    let home = Home::new();
    let (report, said) = ping(&home, &["nobody"], 3);
    assert_eq!(report["state"], "no-server");
    assert!(said.contains("nobody"), "{said}");
}

#[test]
fn a_stopped_server_is_told_to_be_stopped() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let server = home.serve(&["room", "--on", transport, "--echo"]);
        server.signal(Signal::STOP);
        for args in [&["room", "--timeout", "300ms"][..], &["room", "--timeout", "300ms", "--message", "hi"]] {
            let (report, said) = ping(&home, args, 6);
            assert_eq!(report["state"], "stopped", "{transport}: {said}");
            assert!(said.contains(&format!("`kill -CONT {}`", server.pid())), "{transport}: {said}");
        }
        server.signal(Signal::CONT);
        assert_eq!(ping(&home, &["room"], 0).0["state"], "answered", "{transport}");
    }
}

#[test]
fn a_server_that_does_not_accept_is_told_from_one_that_does_not_read() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let server = Server::bind(format!("{transport}:{}", home.name("busy").display())).unwrap();
        let (report, said) = ping(&home, &["busy", "--timeout", "300ms"], 6);
        assert_eq!(report["state"], "not-accepted", "{transport}: {said}");
        assert!(said.contains("is not stopped"), "{transport}: {said}");

        let shutdown = server.shutdown_handle();
        std::thread::scope(|scope| {
            // The connections are kept open and not read.
            let accepting = scope.spawn(|| std::iter::from_fn(|| server.accept().ok()).collect::<Vec<_>>());
            let (report, said) = ping(&home, &["busy", "--timeout", "2s"], 6);
            assert_eq!(report["state"], "not-read", "{transport}: {said}");
            let (report, said) = ping(&home, &["busy", "--timeout", "2s", "--message", "hi"], 6);
            assert_eq!(report["state"], "no-answer", "{transport}: {said}");
            shutdown.shutdown();
            accepting.join().unwrap();
        });
    }
}

#[test]
fn a_message_is_sent_and_its_reply_is_awaited() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _echo = home.serve(&["echo", "--on", transport, "--echo"]);
        let _sink = home.serve(&["sink", "--on", transport, "--", "sh", "-c", "cat >/dev/null"]);
        assert_eq!(ping(&home, &["echo", "--message", "hi"], 0).0["state"], "answered", "{transport}");
        let (report, said) = ping(&home, &["sink", "--message", "hi"], 7);
        assert_eq!(report["state"], "no-answer", "{transport}: {said}");
    }
}

#[test]
fn the_first_ping_without_an_answer_is_the_last() {
    let home = Home::new();
    let mut server = home.serve(&["echo", "--echo"]);
    server.kill();
    let Output { status, stdout, .. } = home.run(&["ping", "echo", "--count", "5"]);
    assert_eq!((status.code(), &stdout[..]), (Some(3), &b""[..]));
}
