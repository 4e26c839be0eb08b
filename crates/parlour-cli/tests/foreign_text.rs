//! Tests of text that another user chooses: no command prints it raw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use common::{Home, text};

/// Sets the title of a terminal, begins a line, colours the text, and reverses its direction.
const FOREIGN: &str = "\u{1b}]0;X\u{7}\nfake\r\u{9b}31m\u{202e}";

const COMMANDS: [&[&str]; 10] = [
    &["list"],
    &["list", "--json"],
    &["path", "wc"],
    &["top", "--once", "--interval", "100ms"],
    &["watch", "wc", "--count", "1"],
    &["watch", "wc", "--count", "1", "--json"],
    &["serve", "wc", "--echo"],
    &["call", "wc", "hi"],
    &["clean"],
    &["doctor"],
];

#[track_caller]
fn assert_printable(base: &Path, commands: impl Iterator<Item = &'static [&'static str]>) {
    for command in commands {
        let home = Home::new();
        let run = home.command(command).env("PARLOUR_DIR", base).env("PARLOUR_LOG", "trace").output().unwrap();
        for output in [&run.stdout, &run.stderr] {
            let output = text(output);
            let is_bad = |c: char| (c.is_control() && c != '\n' && c != '\u{1b}') || c == '\u{202e}';
            assert!(!output.contains(is_bad), "{command:?}: {output:?}");
            assert!(!output.contains("\u{1b}]"), "{command:?}: {output:?}");
            assert!(!output.contains("\nfake"), "{command:?}: {output:?}");
        }
    }
}

#[test]
fn the_target_of_a_link_is_printed_in_printable_characters() {
    let home = Home::new();
    let base = home.path().join("link");
    symlink(FOREIGN, &base).unwrap();
    assert_printable(&base, COMMANDS.into_iter());
}

#[test]
fn the_path_of_a_base_is_printed_in_printable_characters() {
    let home = Home::new();
    let base = home.path().join(FOREIGN);
    std::fs::create_dir(&base).unwrap();
    std::fs::set_permissions(&base, Permissions::from_mode(0o777)).unwrap();
    // JSON is for programs, which need the path as it is.
    assert_printable(&base, COMMANDS.into_iter().filter(|command| !command.contains(&"--json")));
}

/// Runs a command with a terminal as its stdout, and returns what the terminal got.
fn on_terminal(home: &Home, args: &[&str], stdin: &[u8]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = home.command(args).stdin(Stdio::piped()).stdout(terminal).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    assert!(child.wait().unwrap().success(), "{args:?}");
    // When no process has the terminal open any more, reading fails behind its last byte.
    let mut got = Vec::new();
    let _ = File::from(controller).read_to_end(&mut got);
    String::from_utf8(got).unwrap()
}

#[test]
fn a_message_on_a_terminal_does_not_control_it() {
    let home = Home::new();
    let _server = home.serve(&["wc", "--echo"]);
    let hostile = "a\tb \u{1b}]0;X\u{7}\u{9b}31m\u{202e}\\ü";
    let shown = "a\tb \\x1b]0;X\\x07\\u{9b}31m\\u{202e}\\ü\r\n";
    assert_eq!(on_terminal(&home, &["call", "wc", hostile], b""), shown);
    assert_eq!(on_terminal(&home, &["connect", "wc"], hostile.as_bytes()), shown);
    assert_eq!(on_terminal(&home, &["call", "wc", "--raw", hostile], b""), hostile, "as it was asked for");
    assert_eq!(home.stdout(&["call", "wc", hostile], b""), format!("{hostile}\n"), "a pipe gets every byte");
}
