//! Tests of `parlour completions` and `parlour man`, which are generated from the definition of the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, pipe_through};

const COMMANDS: [&str; 12] =
    ["demo", "serve", "connect", "call", "ping", "list", "path", "clean", "doctor", "bench", "completions", "man"];

#[test]
fn every_shell_completes_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.stdout(&["completions", shell], b"");
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not complete {command}");
        }
        assert!(script.contains("message-max"), "{shell} does not complete options");
        assert!(!script.contains("demo-server") && !script.contains("bench-role"), "{shell} completes hidden commands");
    }
}

#[test]
fn bash_completes_the_commands_that_match() {
    let script = Home::new().stdout(&["completions", "bash"], b"");
    let completed = format!(
        "{script}\nCOMP_WORDS=(parlour d); COMP_CWORD=1; _parlour parlour d parlour; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(pipe_through("bash", &[], completed.as_bytes()).trim(), "demo doctor");
}

#[test]
fn the_manual_has_a_section_for_each_command() {
    let manual = Home::new().stdout(&["man"], b"");
    assert!(manual.contains(".TH parlour 1"));
    for command in COMMANDS {
        assert!(manual.contains(&format!(".SH \"PARLOUR {}\"", command.to_uppercase())), "{command}");
    }
    for section in ["EXIT STATUS", "ENVIRONMENT"] {
        assert!(
            manual.contains(&format!(".SH \"{section}\"")) || manual.contains(&format!(".SH {section}")),
            "{section}"
        );
    }
    assert!(!manual.to_lowercase().contains("demo\\-server"));
}
