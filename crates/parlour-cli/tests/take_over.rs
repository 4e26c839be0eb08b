//! Tests of `parlour serve --take-over`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use common::{Home, Running, TRANSPORTS, text, wait_until_readable};
use rustix::process::Signal;

#[test]
fn the_next_server_takes_the_name_and_open_connections_stay() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let serve = |more: &[&str]| home.serve(&[&["room", "--on", transport, "--grace", "1000s"], more].concat());
        for program in [&["--echo"][..], &["--", "cat"]] {
            let mut old = serve(program);
            let mut client = home.start(&["connect", "room"]);
            client.write(b"before\n");
            assert_eq!(client.line(), "before");
            let new = serve(&[&["--take-over"], program].concat());
            assert_eq!(new.ready, old.ready);
            old.wait_for_stderr("handed over; open connections: 1;");
            assert_eq!(home.listed("room")["pid"], new.pid(), "{transport}");
            assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n", "{transport}");
            client.write(b"after\n");
            assert_eq!(client.line(), "after", "{transport}");
            client.close_stdin();
            assert_eq!(client.wait().code(), Some(0), "{transport}");
            assert_eq!(old.wait().code(), Some(0), "{transport}");
            assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n", "{transport}");
        }
    }
}

#[test]
fn a_name_that_is_yielded_goes_to_the_next_server_which_keeps_it() {
    let home = Home::new();
    let serve = |more: &[&str]| home.serve(&[&["room", "--grace", "1000s", "--echo"], more].concat());
    let mut stand_in = serve(&["--yields"]);
    assert_eq!(home.listed("room")["yields"], true);
    let mut client = home.start(&["connect", "room"]);
    client.write(b"before\n");
    assert_eq!(client.line(), "before");
    let server = serve(&[]);
    stand_in.wait_for_stderr("handed over; open connections: 1;");
    assert_eq!(home.listed("room")["pid"], server.pid());
    assert!(home.listed("room").get("yields").is_none());
    for more in [&["--yields"][..], &[]] {
        let output = home.run(&[&["serve", "room", "--echo"], more].concat());
        assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    }
    client.write(b"after\n");
    assert_eq!(client.line(), "after");
    client.close_stdin();
    assert_eq!(client.wait().code(), Some(0));
    assert_eq!(stand_in.wait().code(), Some(0));
}

#[test]
fn one_signal_ends_a_server_whose_name_another_one_has() {
    let home = Home::new();
    let serve = |more: &[&str]| home.serve(&[&["room", "--echo", "--grace", "1000s"], more].concat());
    let mut old = serve(&[]);
    let mut client = home.start(&["connect", "room"]);
    client.write(b"before\n");
    assert_eq!(client.line(), "before");
    let _new = serve(&["--take-over"]);
    old.wait_for_stderr("waiting 16m 40s for them, or until a signal");
    old.signal(Signal::TERM);
    assert_eq!(old.wait().code(), Some(0));
}

#[test]
fn a_free_name_is_taken_and_a_stopped_server_keeps_its_name() {
    let home = Home::new();
    let mut server = home.serve(&["room", "--take-over", "--echo"]);
    server.signal(Signal::STOP);
    let output = home.run(&["serve", "room", "--take-over=100ms", "--echo"]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("its program neither accepts nor waits for a client"),
        "{}",
        text(&output.stderr)
    );
    server.signal(Signal::CONT);
    assert_eq!(home.stdout(&["call", "room", "hello"], b""), "hello\n");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!home.name("room").exists());
}

#[test]
fn the_manager_learns_the_new_main_process_and_no_end() {
    let home = Home::new();
    let path = home.path().join("notify").display().to_string();
    let manager = UnixDatagram::bind(&path).unwrap();
    let said = || {
        wait_until_readable(&manager);
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).unwrap();
        text(&message[..length]).lines().next().unwrap().to_owned()
    };
    let serve = |more: &[&str]| {
        let mut command = home.command(&[&["serve", "room", "--echo"], more].concat());
        Running::start(command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()))
    };
    let mut server = serve(&[]);
    assert_eq!(said(), "READY=1");
    for _ in 0..3 {
        let next = serve(&["--take-over"]);
        assert_eq!(said(), format!("MAINPID={}", next.pid()));
        assert_eq!(said(), "READY=1");
        assert_eq!(server.wait().code(), Some(0));
        server = next;
    }
    server.signal(Signal::TERM);
    assert_eq!(said(), "STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
}
