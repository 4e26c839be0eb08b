//! Tests of `parlour serve`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use common::{Home, TEXT, TRANSPORTS, pipe_through, text, wait_until_gone};
use rustix::process::Signal;

#[test]
fn a_program_serves_a_client_over_each_transport() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["wc", "--on", transport, "--", "wc", "-w"]);
        let counted = home.stdout(&["connect", "wc"], TEXT.as_bytes());
        assert_eq!(counted.trim(), pipe_through("wc", &["-w"], TEXT.as_bytes()).trim(), "{transport}");
    }
}

#[test]
fn one_server_offers_several_transports() {
    let home = Home::new();
    let server = home.serve(&["both", "--on", "unix,fifo", "--echo"]);
    assert_eq!(server.ready, format!("ready both unix,fifo {}", home.name("both").display()));
    for address in ["both", "unix:both", "fifo:both"] {
        assert_eq!(home.stdout(&["call", address, "hello"], b""), "hello\n");
    }
}

#[test]
fn on_all_offers_every_transport() {
    let home = Home::new();
    let server = home.serve(&["every", "--on", "all", "--echo"]);
    assert_eq!(server.ready, format!("ready every {} {}", TRANSPORTS.join(","), home.name("every").display()));
    for transport in TRANSPORTS {
        assert_eq!(home.stdout(&["call", &format!("{transport}:every"), "hello"], b""), "hello\n");
    }
}

#[test]
fn lines_pass_unchanged() {
    let lines = b"one\n\n\xff\xfe not UTF-8\r\n  blanks  \nlast without a newline";
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["cat", "--on", transport, "--", "cat"]);
        let output = home.run_with(&["connect", "cat"], lines);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stdout, [&lines[..], b"\n"].concat(), "{transport}");
    }
}

#[test]
fn each_client_has_a_process_of_its_own() {
    let home = Home::new();
    let _server = home.serve(&["pid", "--", "sh", "-c", "echo $$; cat"]);
    let (mut one, mut two) = (home.start(&["connect", "pid"]), home.start(&["connect", "pid"]));
    assert_ne!(one.line(), two.line());
    one.write(b"to one\n");
    two.write(b"to two\n");
    assert_eq!((one.line(), two.line()), ("to one".to_owned(), "to two".to_owned()));
}

#[test]
fn the_environment_of_a_program_identifies_its_client() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut command = home.command(&["serve", "env", "--on", transport, "--", "sh", "-c", "env; cat"]);
        for lie in ["PARLOUR_PEER_PID", "PARLOUR_PEER_GID", "IPCREMOTEEUID", "IPCREMOTEEGID", "IPCREMOTEPATH"] {
            command.env(lie, "4711");
        }
        let _server = home.serve_with(command);
        let mut client = home.start(&["connect", "env"]);
        let pid = client.pid();
        client.close_stdin();
        let environment = client.rest();
        let has = |line: String| {
            assert!(environment.lines().any(|found| found == line), "{transport}: no {line} in {environment}");
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        has("PROTO=IPC".to_owned());
        has(format!("IPCREMOTEEUID={uid}"));
        has("IPCREMOTEPATH=".to_owned());
        has("IPCCONNNUM=1".to_owned());
        has("PARLOUR_NAME=env".to_owned());
        has(format!("PARLOUR_TRANSPORT={transport}"));
        has(format!("PARLOUR_PEER_PID={pid}"));
        has(format!("PARLOUR_PEER_UID={uid}"));
        if transport != "fifo" {
            has("PARLOUR_PEER_PID_VOUCHED=kernel".to_owned());
            has("PARLOUR_PEER_UID_VOUCHED=kernel".to_owned());
            has("PARLOUR_PEER_GID_VOUCHED=kernel".to_owned());
            has(format!("IPCREMOTEEGID={gid}"));
            has(format!("PARLOUR_PEER_GID={gid}"));
        } else {
            has("PARLOUR_PEER_UID_VOUCHED=file-owner".to_owned());
            assert!(!environment.contains("GID="), "the group is not known, so it is not set: {environment}");
        }
        assert!(!environment.contains("4711"), "{environment}");
    }
}

#[test]
fn the_clients_of_a_user_are_counted() {
    let home = Home::new();
    let _server = home.serve(&["count", "--", "sh", "-c", "echo $IPCCONNNUM; cat"]);
    let mut one = home.start(&["connect", "count"]);
    assert_eq!(one.line(), "1");
    let mut two = home.start(&["connect", "count"]);
    assert_eq!(two.line(), "2");
}

#[test]
fn a_program_that_exits_ends_its_client() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["once", "--on", transport, "--", "sh", "-c", "read line; echo got $line; exit 3"]);
        let mut client = home.start(&["connect", "once"]);
        client.write(b"this\n");
        assert_eq!(client.line(), "got this");
        // The client's stdin stays open, so that only the server can end the connection.
        assert_eq!(client.wait().code(), Some(7), "{transport}");
        assert!(client.stderr().contains("disconnected before it received all of the input"), "{transport}");
    }
}

#[test]
fn the_last_output_of_a_program_that_crashes_reaches_its_client() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["crash", "--on", transport, "--", "sh", "-c", "printf 'last words'; kill -9 $$"]);
        let mut client = home.start(&["connect", "crash"]);
        assert_eq!(client.line(), "last words");
        assert_eq!(client.wait().code(), Some(7), "{transport}");
    }
}

#[test]
fn a_client_that_is_killed_ends_its_program() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["deaf", "--on", transport, "--", "sh", "-c", "echo $$; exec sleep 1000"]);
        let mut client = home.start(&["connect", "deaf"]);
        let program = client.line().parse().unwrap();
        client.kill();
        wait_until_gone(program);
    }
}

#[test]
fn a_client_that_is_killed_ends_a_program_that_does_not_read_its_full_input() {
    let home = Home::new();
    let _server = home.serve(&["deaf", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let mut client = home.start(&["connect", "deaf"]);
    let program = client.line().parse().unwrap();
    client.write(&b"more than a pipe holds, again and again\n".repeat(5000));
    client.kill();
    wait_until_gone(program);
}

#[test]
fn messages_that_a_client_sent_before_it_disconnected_are_delivered() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let file = home.path().join("said");
        // The program starts to read only after the client has disconnected.
        let script = format!("sleep 0.2; cat > {}; echo done >&2", file.display());
        let mut server = home.serve(&["log", "--on", transport, "--", "sh", "-c", &script]);
        let address = format!("{transport}:{}", home.name("log").display());
        let mut client = parlour::Connection::connect(address).unwrap();
        client.send(b"one").unwrap();
        client.send(b"two").unwrap();
        client.close().unwrap();
        server.wait_for_stderr("done");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\n", "{transport}");
    }
}

#[test]
fn a_program_may_close_its_output_and_go_on_reading() {
    let home = Home::new();
    let file = home.path().join("log");
    let script = format!("echo ready; exec >&-; cat > {}; echo done >&2", file.display());
    let mut server = home.serve(&["quiet", "--", "sh", "-c", &script]);
    let mut client = home.start(&["connect", "quiet"]);
    assert_eq!(client.line(), "ready");
    client.write(b"one\n");
    client.write(b"two\n");
    client.close_stdin();
    assert_eq!(client.wait().code(), Some(0), "everything was sent while the server was connected");
    server.wait_for_stderr("done");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\n");
}

#[test]
fn large_streams_in_both_directions_do_not_deadlock() {
    let much: Vec<u8> = (0..200_000).flat_map(|n| format!("line {n} of a long conversation\n").into_bytes()).collect();
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["cat", "--on", transport, "--", "cat"]);
        let output = home.run_with(&["connect", "cat"], &much);
        assert_eq!(output.status.code(), Some(0), "{transport}: {}", text(&output.stderr));
        assert!(output.stdout == much, "{transport}: {} of {} bytes came back", output.stdout.len(), much.len());
    }
}

#[test]
fn a_program_that_writes_before_it_reads_does_not_deadlock() {
    let much = b"a line that waits until the program reads\n".repeat(20_000);
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["first", "--on", transport, "--", "sh", "-c", "seq 100000; wc -l"]);
        let said = home.stdout(&["connect", "first"], &much);
        assert_eq!(said.lines().count(), 100_001, "{transport}");
        assert_eq!(said.lines().last().unwrap().trim(), "20000", "{transport}");
    }
}

#[test]
fn raw_passes_bytes_without_framing() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let _server = home.serve(&["cat", "--on", transport, "--raw", "--", "cat"]);
        let output = home.run_with(&["call", "cat", "--raw"], b"no line\nand \0 no end");
        assert_eq!(output.stdout, b"no line\nand \0 no end", "{transport}");
    }
}

#[test]
fn a_program_that_cannot_be_started_disconnects_the_client_and_not_the_server() {
    let home = Home::new();
    let program = home.path().join("program");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o700)).unwrap();
    let mut server = home.serve(&["nothing", "--", program.to_str().unwrap()]);
    std::fs::remove_file(&program).unwrap();
    for _ in 0..2 {
        let mut client = home.start(&["connect", "nothing"]);
        assert_eq!(client.wait().code(), Some(7));
        server.wait_for_stderr(&format!("starting `{}`: No such file or directory", program.display()));
    }
    assert_eq!(home.listed("nothing")["state"], "live");
}

#[test]
fn a_server_whose_program_cannot_run_does_not_take_the_name() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "not executable").unwrap();
    let directory = home.path().to_str().unwrap();
    for (program, problem) in [
        ("/does/not/exist", "no such program"),
        ("no-such-program-of-parlour", "no such program"),
        ("", "no such program"),
        (file.to_str().unwrap(), "not an executable file"),
        (directory, "not an executable file"),
    ] {
        let output = home.run(&["serve", "nothing", "--", program]);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{program:?}");
        assert!(text(&output.stderr).contains(problem), "{program:?}: {}", text(&output.stderr));
        assert!(!home.name("nothing").exists());
    }
    // A directory that is not executable does not hide the program in a later directory of PATH.
    let mut command = home.command(&["serve", "name", "--", "cat"]);
    command.env("PATH", format!("{}/file:{}:/usr/bin:/bin", directory, directory));
    std::fs::write(home.path().join("cat"), "not executable").unwrap();
    let _server = home.serve_with(command);
    assert_eq!(home.stdout(&["call", "name", "hello"], b""), "hello\n");
}

#[test]
fn a_group_that_is_not_one_is_refused() {
    let home = Home::new();
    for group in ["4294967295", "4294967296", "-1", "no-such-group-of-parlour", ""] {
        let output = home.run(&["serve", "name", &format!("--group={group}"), "--echo"]);
        assert_eq!(output.status.code(), Some(2), "{group:?}: {}", text(&output.stderr));
    }
    assert!(!home.name("name").exists());
}

#[test]
fn ctrl_c_ends_the_server_with_0_and_removes_its_name() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let mut server = home.serve(&["brief", "--on", "unix,fifo", "--echo"]);
        assert!(home.name("brief").join("unix").exists() && home.name("brief").join("fifo").exists());
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(!home.name("brief").join("unix").exists() && !home.name("brief").join("fifo").exists());
        assert_eq!(home.run(&["call", "brief", "hello"]).status.code(), Some(3));
        let rows: serde_json::Value = serde_json::from_str(&home.stdout(&["list", "--json"], b"")).unwrap();
        assert!(rows.as_array().unwrap().iter().all(|row| row["state"] != "live"), "{rows}");
    }
}

#[test]
fn ctrl_c_ends_a_program_that_ignores_signals() {
    let home = Home::new();
    let stubborn = "trap '' TERM INT; echo $$; while :; do sleep 1; done";
    let mut server = home.serve(&["stubborn", "--grace", "0", "--", "sh", "-c", stubborn]);
    let mut client = home.start(&["connect", "stubborn"]);
    let program = client.line().parse().unwrap();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    wait_until_gone(program);
    assert_eq!(client.wait().code(), Some(7));
}

#[test]
fn a_server_that_was_killed_can_be_started_again_at_once() {
    for transport in TRANSPORTS {
        let home = Home::new();
        let mut server = home.serve(&["again", "--on", transport, "--echo"]);
        let mut client = home.start(&["connect", "again"]);
        client.write(b"hello\n");
        assert_eq!(client.line(), "hello");
        server.kill();
        assert_eq!(client.wait().code(), Some(7), "{transport}");
        assert_eq!(home.listed("again")["state"], "dead");

        let _server = home.serve(&["again", "--on", transport, "--echo"]);
        assert_eq!(home.stdout(&["call", "again", "hello"], b""), "hello\n");
    }
}

#[test]
fn a_server_runs_although_its_stdout_is_closed() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(&["serve", "unheard", "--echo"]);
    let mut server = command.stdout(writer).spawn().map(common::Killed).unwrap();
    assert_eq!(home.stdout(&["call", "unheard", "hello", "--wait", "20s"], b""), "hello\n");
    assert_eq!(server.0.try_wait().unwrap(), None);
}

#[test]
fn a_second_server_is_told_which_process_holds_the_name() {
    let home = Home::new();
    let server = home.serve(&["one", "--echo"]);
    let second = home.run(&["serve", "one", "--echo"]);
    assert_eq!(second.status.code(), Some(4));
    assert_eq!(second.stdout, b"");
    let said = text(&second.stderr);
    assert!(said.contains(&format!("pid {}", server.pid())) && said.lines().count() == 1, "{said}");
    assert_eq!(home.stdout(&["call", "one", "still there"], b""), "still there\n");
}

#[test]
fn the_mode_option_sets_the_mode_of_the_socket() {
    let home = Home::new();
    let mode = |name: &str| std::fs::metadata(home.name(name).join("unix")).unwrap().permissions().mode() & 0o777;
    let _private = home.serve(&["private", "--echo"]);
    assert_eq!(mode("private"), 0o600);
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let _public = home.serve(&["public", "--mode", "0666", "--echo"]);
    assert_eq!(mode("public"), 0o666);
}

#[test]
fn clients_beyond_the_limit_are_rejected() {
    for transport in ["shm", "packet", "unix", "fifo"] {
        let home = Home::new();
        let _server = home.serve(&["small", "--on", transport, "--clients", "1", "--", "cat"]);
        let mut first = home.start(&["connect", "small"]);
        first.write(b"hello\n");
        assert_eq!(first.line(), "hello");
        for command in ["call", "connect"] {
            let second = home.run_with(&[command, "small", "--timeout", "300ms"], b"let me in\n");
            assert_eq!(second.status.code(), Some(6), "{command} over {transport}: {}", text(&second.stderr));
        }
        first.write(b"still here\n");
        assert_eq!(first.line(), "still here");
    }
}
