//! Tests of the exit codes, one for each outcome on which a script may branch, and of the line on stderr that gives the
//! reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use common::{Home, text};

#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "one line on stderr: {said}");
    assert!(said.starts_with("parlour: "), "{said}");
    assert!(output.stdout.is_empty(), "no data: {}", text(&output.stdout));
    said
}

#[test]
fn success_is_0() {
    let home = Home::new();
    for args in [&["--version"][..], &["--help"], &["serve", "--help"], &["list"]] {
        assert_eq!(home.run(args).status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn an_error_without_its_own_code_is_1() {
    fails(&Home::new().run(&["demo", "--input", "/does/not/exist"]), 1);
}

#[test]
fn an_invalid_command_line_is_2() {
    let home = Home::new();
    for args in [
        &[][..],
        &["unknown"],
        &["serve", "name"],
        &["serve", "name", "--echo", "--on", "pigeon"],
        &["serve", "name", "--echo", "--", "cat"],
        &["serve", "name", "--mode", "rw", "--echo"],
        &["call", "name", "hello", "--timeout", "soon"],
        &["completions", "no-shell"],
    ] {
        let output = home.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
    let said = fails(&home.run(&["call", "not a name", "hello"]), 2);
    assert!(said.contains("not a name"), "{said}");
    fails(&home.run(&["serve", "../name", "--echo"]), 2);
    fails(&home.run(&["serve", "name", "--message-max", "4G", "--echo"]), 2);
    fails(&home.run(&["path", "pigeon:name"]), 2);
}

#[test]
fn no_server_is_3() {
    let home = Home::new();
    for address in ["nobody", "unix:nobody", "fifo:nobody"] {
        fails(&home.run(&["call", address, "hello"]), 3);
    }
}

#[test]
fn a_name_in_use_is_4() {
    let home = Home::new();
    let _server = home.serve(&["taken", "--echo"]);
    fails(&home.run(&["serve", "taken", "--on", "fifo", "--echo"]), 4);
}

#[test]
fn denied_is_5() {
    let home = Home::new();
    let _server = home.serve(&["mine", "--on", "unix,fifo", "--echo"]);
    for address in ["unix:mine", "fifo:mine"] {
        fails(&home.run(&["call", address, "hello", "--server-uid", "54321"]), 5);
    }
}

#[test]
fn timed_out_is_6() {
    let home = Home::new();
    let _server = home.serve(&["silent", "--", "sleep", "1000"]);
    fails(&home.run(&["call", "silent", "hello", "--timeout", "100ms"]), 6);
}

#[test]
fn disconnected_is_7() {
    let home = Home::new();
    let _server = home.serve(&["rude", "--", "true"]);
    fails(&home.run(&["call", "rude", "hello"]), 7);
}

#[test]
fn too_long_a_message_is_8() {
    let home = Home::new();
    let _server = home.serve(&["echo", "--echo"]);
    fails(&home.run(&["call", "echo", "hello", "--message-max", "4"]), 8);
    fails(&home.run_with(&["connect", "echo", "--message-max", "4"], b"hello\n"), 8);
    fails(&home.run_with(&["connect", "echo", "--message-max", "4"], b"no newline comes"), 8);
}

#[test]
fn an_unsafe_directory_is_9() {
    let home = Home::new();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
    for args in [&["serve", "name", "--echo"][..], &["call", "name", "hello"]] {
        let said = fails(&home.run(args), 9);
        assert!(said.contains(home.path().to_str().unwrap()), "the directory is named: {said}");
    }
}

#[test]
fn inexact_output_is_10() {
    let home = Home::new();
    let _server = home.serve(&["two", "--", "printf", "one\\ntwo\\n"]);
    let output = home.run(&["call", "two", "hello"]);
    assert_eq!(output.status.code(), Some(10));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    assert_eq!(home.run(&["connect", "two"]).status.code(), Some(0));
}

#[test]
fn the_help_and_the_manual_list_every_exit_code() {
    let home = Home::new();
    let help = home.stdout(&["--help"], b"");
    let manual = home.stdout(&["man"], b"");
    for code in 0..=10 {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {code}  "))), "{code} in the help");
        assert!(manual.contains(&format!("\\fB{code}\\fR")), "{code} in the manual");
    }
}
