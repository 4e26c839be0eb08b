//! Tests of `parlour doctor`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Home, text};

fn checks(output: &std::process::Output) -> Vec<serde_json::Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn verdict<'a>(checks: &'a [serde_json::Value], part: &str) -> &'a serde_json::Value {
    let found = checks.iter().find(|check| check["check"].as_str().unwrap().contains(part));
    &found.unwrap_or_else(|| panic!("there is no check of {part}"))["verdict"]
}

#[test]
fn a_safe_directory_passes_every_check() {
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
        assert!(check["verdict"] == "ok" || check["mend"].is_string(), "{check} does not say how to fix it");
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
    assert!(text(&shown.stdout).contains("UNSAFE") && text(&shown.stdout).contains("To fix:"));
}

#[test]
fn too_few_descriptors_are_a_problem() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_parlour");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("ulimit -n 100; exec {program} doctor --json")])
        .env("PARLOUR_DIR", home.path())
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert_eq!(verdict(&checks(&output), "RLIMIT_NOFILE"), "problem");
}

/// A file that should not exist in a directory of names: its description, a function that creates it, and the path that
/// doctor must report.
type Trap = (&'static str, fn(&Path), &'static str);
const TRAPS: [Trap; 9] = [
    ("a link as name directory", |home| symlink("/tmp", home.join("trap")).unwrap(), "trap"),
    ("a file as name directory", |home| std::fs::write(home.join("trap"), "").unwrap(), "trap"),
    ("a name directory that others may write", |home| directory(&home.join("trap"), 0o777), "trap"),
    ("a link as lock", |home| in_place_of("lock", home, |path| symlink("/etc/passwd", path).unwrap()), "trap/lock"),
    ("a directory as lock", |home| in_place_of("lock", home, |path| directory(path, 0o700)), "trap/lock"),
    ("a link as socket", |home| in_place_of("unix", home, |path| symlink("/dev/null", path).unwrap()), "trap/unix"),
    ("a file as socket", |home| in_place_of("unix", home, |path| std::fs::write(path, "").unwrap()), "trap/unix"),
    ("a link as FIFO", |home| in_place_of("fifo", home, |path| symlink("/dev/null", path).unwrap()), "trap/fifo"),
    ("a file as FIFO", |home| in_place_of("fifo", home, |path| std::fs::write(path, "").unwrap()), "trap/fifo"),
];

fn directory(path: &Path, mode: u32) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn in_place_of(file: &str, home: &Path, make: impl FnOnce(&Path)) {
    let name = home.join("trap");
    directory(&name, 0o700);
    if file != "lock" {
        std::fs::write(name.join("lock"), "").unwrap();
        std::fs::set_permissions(name.join("lock"), Permissions::from_mode(0o600)).unwrap();
    }
    make(&name.join(file));
}

/// Fails unless `parlour doctor` reports that this path is unsafe, and how to fix it.
fn assert_found(command: &mut std::process::Command, what: &str, path: &Path) {
    let output = command.args(["doctor", "--json"]).output().unwrap();
    let checks = checks(&output);
    let found = checks.iter().find(|check| {
        check["verdict"] == "unsafe" && check["found"].as_str().unwrap().contains(path.to_str().unwrap())
    });
    let check = found.unwrap_or_else(|| panic!("{what}: {} is not reported: {checks:#?}", path.display()));
    let mend = check["mend"].as_str().unwrap();
    // The advice for a file of a name gives the directory of the name.
    let directory = path.parent().unwrap();
    let tells_of = |path: &Path| mend.contains(&format!("ls -ld {})", path.display()));
    assert!(tells_of(path) || tells_of(directory), "{what}: {check}");
    assert_eq!(output.status.code(), Some(9), "{what}");
}

#[test]
fn a_wrong_file_in_place_of_a_name_or_its_files_is_reported() {
    for (what, make, path) in TRAPS {
        let home = Home::new();
        make(home.path());
        assert_found(&mut home.command(&[]), what, &home.path().join(path));
    }
}

#[test]
fn a_base_in_a_directory_that_others_may_write_is_reported() {
    let top = Home::new();
    let parent = top.path().join("open");
    directory(&parent, 0o777);
    let base = parent.join("base");
    directory(&base, 0o700);
    assert_found(top.command(&[]).env("PARLOUR_DIR", &base), "a parent that others may write", &parent);
}

#[test]
fn a_base_that_is_not_a_directory_of_this_user_is_reported() {
    let top = Home::new();
    let link = top.path().join("link");
    symlink(top.path(), &link).unwrap();
    assert_found(top.command(&[]).env("PARLOUR_DIR", &link), "a link", &link);
    let file = top.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_found(top.command(&[]).env("PARLOUR_DIR", &file), "a file", &file);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a directory to another user");
        return;
    }
    let theirs = top.path().join("theirs");
    directory(&theirs, 0o700);
    std::os::unix::fs::chown(&theirs, Some(1_234_567), None).unwrap();
    assert_found(top.command(&[]).env("PARLOUR_DIR", &theirs), "another user's", &theirs);
}
