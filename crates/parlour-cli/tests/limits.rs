//! Tests of the limits of `parlour serve`: programs, descriptors, idle clients, and the lines about refused clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{DEADLINE, Home, Killed, Running, TRANSPORTS, wait_until_gone};
use parlour::{ConnectOptions, Connection, ErrorKind};
use rustix::process::Signal;

fn connect(home: &Home, transport: &str, name: &str) -> Connection {
    let address = format!("{transport}:{}", home.name(name).display());
    ConnectOptions::new().timeout(DEADLINE).connect(address).unwrap()
}

/// Waits until the server has disconnected the client. How it reports that depends on the transport and on the reason.
fn wait_for_the_end(connection: &mut Connection) {
    if let Ok(Some(message)) = connection.recv_timeout(DEADLINE) {
        panic!("a refused client received {message:?}");
    }
}

/// Returns the number of refusals that the lines on stderr tell of, and the number of lines.
fn told(stderr: &str, reason: &str) -> (usize, usize) {
    let lines = stderr.lines().filter(|line| line.starts_with(&format!("parlour: client refused ({reason}): ")));
    let more = |line: &str| line.rsplit_once(" (and ")?.1.strip_suffix(" more)")?.parse::<usize>().ok();
    lines.fold((0, 0), |(refused, lines), line| (refused + 1 + more(line).unwrap_or(0), lines + 1))
}

#[test]
fn refused_clients_are_printed_at_most_once_a_second_and_counted() {
    for transport in ["unix", "packet"] {
        let home = Home::new();
        let mut server = home.serve(&["small", "--on", transport, "--clients", "1", "--echo"]);
        let mut first = connect(&home, transport, "small");
        first.send(b"hello").unwrap();
        assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
        let begin = Instant::now();
        for _ in 0..50 {
            wait_for_the_end(&mut connect(&home, transport, "small"));
        }
        // The line for the last ones comes without further clients.
        server.wait_for_stderr("client refused (limit): ");
        server.wait_for_stderr(" more)\n");
        first.close().unwrap();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let seconds = begin.elapsed().as_secs() as usize;
        let (_, lines) = told(&server.stderr(), "limit");
        assert!(lines <= seconds + 1, "{transport}: {lines} more lines in {seconds} s");
    }
}

#[test]
fn a_refusal_says_who_was_refused_and_why() {
    let home = Home::new();
    let mut server = home.serve(&["small", "--clients", "1", "--", "cat"]);
    let mut first = connect(&home, "unix", "small");
    first.send(b"hello").unwrap();
    assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    wait_for_the_end(&mut connect(&home, "unix", "small"));
    let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
    server.wait_for_stderr("client refused (limit): ");
    server.wait_for_stderr(&format!("pid {pid}"));
    server.wait_for_stderr(&format!("uid {uid}"));
    server.wait_for_stderr("over unix: all 1 connections are in use\n");
}

#[test]
fn a_stderr_that_nobody_reads_does_not_stop_the_server() {
    let home = Home::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Fills the pipe. The server gets a descriptor that blocks, as usual.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut length = 0;
    for piece in [4096, 1] {
        while let Ok(count) = rustix::io::write(&writer, &vec![b'-'; piece]) {
            length += count;
        }
    }
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = home.command(&["serve", "small", "--clients", "1", "--echo"]);
    let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).spawn().map(Killed).unwrap();
    drop(command);
    let address = format!("unix:{}", home.name("small").display());
    let mut first = ConnectOptions::new().wait_for_server(DEADLINE).connect(address).unwrap();
    for _ in 0..3 {
        first.send(b"hello").unwrap();
        assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
        wait_for_the_end(&mut connect(&home, "unix", "small"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    // From here on, a line is printed.
    let mut stderr = BufReader::new(reader);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(told(&line, "limit").0, 3, "{line}");
    first.close().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&server.0), Signal::TERM).unwrap();
    assert_eq!(Running::wait_for(&mut server.0).code(), Some(0));
}

#[test]
fn what_is_not_printed_when_the_server_stops_is_printed_then() {
    let home = Home::new();
    let mut server = home.serve(&["small", "--clients", "1", "--echo"]);
    let mut first = connect(&home, "unix", "small");
    first.send(b"hello").unwrap();
    assert_eq!(first.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    for _ in 0..7 {
        wait_for_the_end(&mut connect(&home, "unix", "small"));
    }
    first.close().unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let stderr = server.stderr();
    assert_eq!(told(&stderr, "limit").0, 7, "{stderr}");
}

#[test]
fn a_server_that_other_users_may_reach_runs_32_programs_for_one_user() {
    let home = Home::new();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let mut server = home.serve(&["open", "--mode", "0666", "--", "cat"]);
    let mut connections: Vec<Connection> = (0..32).map(|_| connect(&home, "unix", "open")).collect();
    for connection in &mut connections {
        connection.send(b"hello").unwrap();
        assert_eq!(connection.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    }
    wait_for_the_end(&mut connect(&home, "unix", "open"));
    server.wait_for_stderr("all 32 connections that one user may have");
    // A place is free again when a program has ended.
    connections.pop();
    let mut again = ConnectOptions::new();
    again = again.timeout(DEADLINE);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut connection = again.connect(format!("unix:{}", home.name("open").display())).unwrap();
        if connection.send(b"again").is_ok() && connection.recv_timeout(DEADLINE).is_ok_and(|reply| reply.is_some()) {
            break;
        }
        assert!(Instant::now() < deadline, "no place is free");
        std::thread::yield_now();
    }
}

#[test]
fn an_idle_client_is_disconnected_and_an_active_one_is_not() {
    // All wait at the same time: the limit is so long that a busy machine does not reach it between two messages.
    std::thread::scope(|scope| {
        for transport in TRANSPORTS {
            for what in [&["--echo"][..], &["--", "cat"]] {
                scope.spawn(move || one_is_idle_and_one_is_active(transport, what));
            }
        }
    });
}

fn one_is_idle_and_one_is_active(transport: &str, what: &[&str]) {
    let home = Home::new();
    let mut server = home.serve(&[&["room", "--on", transport, "--idle", "4s"], what].concat());
    let mut idle = connect(&home, transport, "room");
    let mut active = connect(&home, transport, "room");
    idle.send(b"hello").unwrap();
    assert_eq!(idle.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello");
    let begin = Instant::now();
    while idle.recv_timeout(Duration::from_millis(50)).is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
        assert!(begin.elapsed() < DEADLINE, "{transport}");
        active.send(b"hello").unwrap();
        assert_eq!(active.recv_timeout(DEADLINE).unwrap().unwrap(), b"hello", "{transport}");
    }
    server.wait_for_stderr("was disconnected: no message has passed for 4s; raise the limit (--idle)");
}

#[test]
fn a_client_that_takes_nothing_is_idle() {
    for what in [&["--echo"][..], &["--", "cat"]] {
        let home = Home::new();
        let mut server = home.serve(&[&["room", "--idle", "500ms"], what].concat());
        let mut connection = connect(&home, "unix", "room");
        // Fills every buffer on the way, until the server no longer takes messages.
        while connection.send_timeout(&[b'x'; 4096], Duration::from_millis(300)).is_ok() {}
        server.wait_for_stderr("no message has passed for 500ms");
    }
}

#[test]
fn the_program_of_an_idle_client_is_ended() {
    let home = Home::new();
    let _server = home.serve(&["room", "--idle", "3s", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let mut connection = connect(&home, "unix", "room");
    let pid = connection.recv_timeout(DEADLINE).unwrap().unwrap();
    wait_until_gone(std::str::from_utf8(&pid).unwrap().parse().unwrap());
}

#[test]
fn the_server_raises_its_limit_on_descriptors_and_its_programs_get_the_old_one() {
    let home = Home::new();
    let parlour = env!("CARGO_BIN_EXE_parlour");
    let script = format!("ulimit -S -n 64 && exec {parlour} serve limit -- sh -c 'ulimit -S -n; ulimit -H -n; cat'");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).env("PARLOUR_DIR", home.path()).env_remove("PARLOUR_LOG");
    let server = home.serve_with(command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let words: Vec<&str> =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap().split_ascii_whitespace().collect();
    assert_eq!(words[0], words[1], "the soft limit is the hard limit");
    assert_ne!(words[0], "64");
    assert_eq!(home.stdout(&["connect", "limit"], b""), format!("64\n{}\n", words[1]));
}
