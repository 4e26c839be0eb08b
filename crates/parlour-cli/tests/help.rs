//! Tests of `parlour help`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, pipe_through, text};

const COMMANDS: [&str; 21] = [
    "demo",
    "serve",
    "connect",
    "call",
    "ping",
    "list",
    "watch",
    "stats",
    "clients",
    "top",
    "tap",
    "record",
    "replay",
    "path",
    "clean",
    "doctor",
    "bench",
    "bridge",
    "completions",
    "man",
    "help",
];

#[test]
fn help_lists_every_command() {
    let help = Home::new().stdout(&["help"], b"");
    for command in COMMANDS {
        assert!(help.lines().any(|line| line.starts_with(&format!("  {command} "))), "{command} is not in {help}");
    }
    assert!(!help.contains("demo-server") && !help.contains("bench-role"), "{help}");
}

#[test]
fn help_prints_the_same_as_the_long_option() {
    let home = Home::new();
    assert_eq!(home.stdout(&["help"], b""), home.stdout(&["--help"], b""));
    for command in COMMANDS {
        if command != "help" {
            let by_option = home.stdout(&[command, "--help"], b"");
            assert_eq!(home.stdout(&["help", command], b""), by_option, "{command}");
        }
    }
}

#[test]
fn help_for_an_unknown_command_is_exit_code_2() {
    let output = Home::new().run(&["help", "unknown"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("unknown"), "{}", text(&output.stderr));
}

#[test]
fn bash_completes_help_and_the_commands_after_it() {
    let script = Home::new().stdout(&["completions", "bash"], b"");
    let complete = |words: &str, index: usize, word: &str| {
        let call = format!("COMP_WORDS=({words}); COMP_CWORD={index}; _parlour parlour '{word}' parlour");
        pipe_through("bash", &[], format!("{script}\n{call}; echo \"${{COMPREPLY[@]}}\"").as_bytes())
    };
    assert_eq!(complete("parlour h", 1, "h").trim(), "help");
    assert_eq!(complete("parlour help d", 2, "d").trim(), "demo doctor");
}

#[test]
fn the_help_of_a_command_is_about_that_command() {
    let home = Home::new();
    assert!(!home.stdout(&["help", "connect"], b"").contains("`parlour call`"));
    assert!(!home.stdout(&["help", "call"], b"").contains("`parlour connect`"));
}
