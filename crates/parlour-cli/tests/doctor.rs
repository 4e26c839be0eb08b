//! `parlour doctor`: what is wrong, and how to mend it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use common::{Home, text};

fn checks(output: &std::process::Output) -> Vec<serde_json::Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn verdict<'a>(checks: &'a [serde_json::Value], part: &str) -> &'a serde_json::Value {
    let found = checks.iter().find(|check| check["check"].as_str().unwrap().contains(part));
    &found.unwrap_or_else(|| panic!("no check of {part}"))["verdict"]
}

#[test]
fn a_sound_home_passes() {
    let home = Home::new();
    let output = home.run(&["doctor", "--json"]);
    let checks = checks(&output);
    assert_eq!(verdict(&checks, home.path().to_str().unwrap()), "ok");
    assert_eq!(verdict(&checks, "over unix"), "ok");
    assert_eq!(verdict(&checks, "over fifo"), "ok");
    for check in
        ["/proc", "XDG_RUNTIME_DIR", "RLIMIT_NOFILE", "pipe-user-pages-soft", "max_user_instances", "somaxconn"]
    {
        verdict(&checks, check);
    }
    for check in ["openat2", "SO_PEERPIDFD", "RWF_NOSIGNAL", "kernel", "pidfd", "inotify"] {
        verdict(&checks, check);
    }
    let problems = checks.iter().filter(|check| check["verdict"] == "problem").count();
    assert_eq!(output.status.code(), Some(if problems == 0 { 0 } else { 1 }), "{}", text(&output.stderr));
    for check in &checks {
        assert!(check["verdict"] == "ok" || check["mend"].is_string(), "{check} does not say how to mend it");
    }
}

#[test]
fn a_directory_that_others_may_write_is_exit_code_9() {
    let home = Home::new();
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o777)).unwrap();
    let output = home.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(9));
    let checks = checks(&output);
    let check = checks.iter().find(|check| check["verdict"] == "unsafe").unwrap();
    assert!(check["found"].as_str().unwrap().contains("0777"), "{check}");
    assert!(check["mend"].as_str().unwrap().contains("chmod 0700"), "{check}");

    let shown = home.run(&["doctor"]);
    assert_eq!(shown.status.code(), Some(9));
    assert!(text(&shown.stdout).contains("UNSAFE") && text(&shown.stdout).contains("To mend:"));
}

#[test]
fn too_few_descriptors_are_a_problem() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_parlour");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("ulimit -n 100; exec {program} doctor --json")])
        .env("PARLOUR_DIR", home.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(verdict(&checks(&output), "RLIMIT_NOFILE"), "problem");
}
