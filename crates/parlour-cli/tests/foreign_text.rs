//! Tests of text that another user chooses: no command prints it raw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Home, text};

/// Sets the title of a terminal, begins a line, colours the text, and reverses its direction.
const FOREIGN: &str = "\u{1b}]0;X\u{7}\nfake\r\u{9b}31m\u{202e}";

const COMMANDS: [&[&str]; 7] = [
    &["list"],
    &["list", "--json"],
    &["path", "wc"],
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
