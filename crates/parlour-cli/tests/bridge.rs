//! Tests of `parlour bridge`, with other programs in the place of `parlour-bridge`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use common::text;
use tempfile::TempDir;

/// Returns a directory in which `parlour` is alone. It is on the file system of the program.
fn installed() -> TempDir {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::hard_link(env!("CARGO_BIN_EXE_parlour"), directory.path().join("parlour")).unwrap();
    directory
}

fn bridge(directory: &TempDir, path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(directory.path().join("parlour"));
    command.arg("bridge").args(arguments).env("PATH", path).output().unwrap()
}

#[test]
fn the_bridge_beside_the_program_is_executed_with_all_arguments() {
    let (directory, other) = (installed(), tempfile::tempdir().unwrap());
    symlink("/bin/echo", directory.path().join("parlour-bridge")).unwrap();
    symlink("/bin/false", other.path().join("parlour-bridge")).unwrap();
    let output = bridge(&directory, other.path(), &["run", "--config", "a b", "--help", "-v", "--"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("run --config a b --help -v --\n".into(), "".into()));
    assert!(output.status.success());
}

#[test]
fn otherwise_the_bridge_of_the_path_is_executed_and_its_exit_code_is_kept() {
    let (directory, other) = (installed(), tempfile::tempdir().unwrap());
    symlink("/bin/sh", other.path().join("parlour-bridge")).unwrap();
    let output = bridge(&directory, other.path(), &["-c", "exit 42"]);
    assert_eq!(output.status.code(), Some(42), "{output:?}");
}

#[test]
fn without_a_bridge_the_error_tells_where_it_was_searched_and_the_next_step() {
    let (directory, other) = (installed(), tempfile::tempdir().unwrap());
    let output = bridge(&directory, other.path(), &["check"]);
    let told = text(&output.stderr);
    let searched = format!("parlour-bridge is not installed: it is neither in {} nor", directory.path().display());
    assert!(told.contains(&searched) && told.contains("cargo build --release -p parlour-bridge"), "{told}");
    assert_eq!(output.status.code(), Some(1));

    fs::write(directory.path().join("parlour-bridge"), "").unwrap();
    let output = bridge(&directory, other.path(), &["check"]);
    let told = text(&output.stderr);
    assert!(told.contains("parlour-bridge cannot be executed: Permission denied"), "{told}");
    assert_eq!(output.status.code(), Some(1));
}
