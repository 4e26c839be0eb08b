//! Tests of a stdout that its reader has closed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, Running};

#[test]
fn a_closed_stdout_ends_every_command_without_a_message() {
    let home = Home::new();
    let _server = home.serve(&["room", "--echo"]);
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["path", "room"],
        &["doctor"],
        &["--help"],
        &["man"],
        &["completions", "bash"],
        &["call", "room", "hello"],
        &["call", "--all", "room", "hello"],
        &["ping", "room"],
        &["ping", "room", "--json"],
        &["demo"],
        &["demo", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(args);
        command.stdin(std::process::Stdio::null()).stdout(writer).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let status = Running::wait_for(&mut child);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}
