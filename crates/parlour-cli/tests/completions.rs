//! Tests of `parlour completions` and `parlour man`, which are generated from the definition of the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use common::{Home, pipe_through};

const COMMANDS: [&str; 16] = [
    "demo",
    "serve",
    "connect",
    "call",
    "ping",
    "list",
    "watch",
    "stats",
    "clients",
    "path",
    "clean",
    "doctor",
    "bench",
    "bridge",
    "completions",
    "man",
];

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
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
        assert!(
            manual.contains(&format!(".SH \"{section}\"")) || manual.contains(&format!(".SH {section}")),
            "{section}"
        );
    }
    assert!(!manual.to_lowercase().contains("demo\\-server"));
}

/// Starts servers and a dead name, runs a script of a shell after the completion script, and returns its output. The
/// script finds `parlour` on its path.
fn complete_in(shell: &str, args: &[&str], script: impl Fn(&str) -> String) -> Option<String> {
    let home = Home::new();
    let _servers = ["wc", "weather"].map(|name| home.serve(&[name, "--echo"]));
    home.serve(&["withered", "--echo"]).kill();
    // Another program may create any directory there. It must not reach the shell.
    std::fs::create_dir(home.path().join("w$(touch made)")).unwrap();
    std::fs::write(home.path().join("w$(touch made)/lock"), "").unwrap();
    let completions = home.stdout(&["completions", shell], b"");
    let file = home.path().join(".completions");
    std::fs::write(&file, completions).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_parlour")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new(shell);
    command.args(args).arg(script(file.to_str().unwrap()));
    command.env("PARLOUR_DIR", home.path()).env("PATH", path).current_dir(home.path());
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: {shell} is missing");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(!home.path().join("made").exists(), "{shell} has executed a name");
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn bash_completes_the_names_of_live_servers_and_for_clean_those_of_dead_ones() {
    for (words, completed) in [
        ("connect w", "wc weather"),
        ("call wc", "wc"),
        ("path we", "weather"),
        ("clean w", "withered"),
        ("serve w", ""),
        ("connect --timeout w", ""),
        ("call --t", "--timeout"),
    ] {
        let last = words.split(' ').next_back().unwrap();
        let count = words.split(' ').count();
        let shown = complete_in("bash", &["--norc", "-c"], |file| {
            format!(
                "source {file}; COMP_WORDS=(parlour {words}); COMP_CWORD={count}; \
                 _parlour_and_names parlour '{last}' parlour; echo \"${{COMPREPLY[@]}}\""
            )
        });
        if let Some(shown) = shown {
            let mut shown: Vec<_> = shown.split_whitespace().filter(|word| !word.starts_with("--server")).collect();
            shown.sort();
            assert_eq!(shown.join(" "), completed, "{words}");
        }
    }
}

#[test]
fn bash_shows_no_placeholders() {
    let shown = complete_in("bash", &["--norc", "-c"], |file| {
        format!(
            "source {file}; COMP_WORDS=(parlour connect ''); COMP_CWORD=2; \
             _parlour_and_names parlour '' connect; echo \"${{COMPREPLY[@]}}\""
        )
    });
    if let Some(shown) = shown {
        assert!(shown.contains("wc") && shown.contains("--wait") && !shown.contains(['<', '[']), "{shown}");
    }
}

#[test]
fn fish_completes_the_names_of_live_servers() {
    let shown =
        complete_in("fish", &["--no-config", "-c"], |file| format!("source {file}; complete -C 'parlour connect w'"));
    if let Some(shown) = shown {
        let mut shown: Vec<_> = shown.split_whitespace().collect();
        shown.sort();
        assert_eq!(shown, ["wc", "weather"]);
    }
}

#[test]
fn zsh_completes_the_names_of_live_servers() {
    // A shell without a terminal completes nothing, so the functions of its completion are replaced.
    let shown = complete_in("zsh", &["-f", "-c"], |file| {
        format!(
            "compdef() {{ }}; compadd() {{ print -l -- ${{(P)2}} }}; source {file}; _parlour_names connect; \
             grep -c ':{{_parlour_names [a-z]*}}' {file}"
        )
    });
    if let Some(shown) = shown {
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[..2], ["wc", "weather"], "{shown}");
        assert!(lines[2].parse::<usize>().unwrap() >= 4, "{shown}");
    }
}
