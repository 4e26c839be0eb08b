//! Tests of the program `parlour-bench`, with the shortest possible measurements.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests report failures by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parlour-bench")).args(arguments).output().unwrap()
}

/// Runs the program, which must succeed, and returns its stdout.
fn said(arguments: &[&str]) -> String {
    let output = bench(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail, and returns its stderr.
fn complaint(arguments: &[&str]) -> String {
    let output = bench(arguments);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

const SHORT: [&str; 6] = ["--rounds", "2", "--turn-ms", "1", "--placement", "unpinned"];

#[test]
fn one_cell_is_measured_saved_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let [json, html, markdown] = ["a.json", "a.html", "a.md"].map(|name| path(directory.path(), name));
    let cell = ["--only", "roundtrip", "--size", "64,4KiB", "--contender", "parlour-unix,raw-stream", "--json", &json];
    let table = said(&[&SHORT[..], &cell].concat());
    assert!(table.contains("round trip, 64 B, unpinned") && table.contains("x1.00"), "{table}");
    assert!(!table.contains("two-cores") && !table.contains("parlour-shm"), "{table}");

    said(&["report", &json, "--html", &html, "--markdown", &markdown]);
    let (html, markdown) = (fs::read_to_string(html).unwrap(), fs::read_to_string(markdown).unwrap());
    for report in [&html, &markdown] {
        assert!(report.contains("parlour-unix") && report.contains("not measured"), "{report}");
    }
    let charts = fs::read_dir(directory.path().join("a")).unwrap().count();
    assert_eq!((charts, html.matches("<svg").count()), (1, 1));
}

#[test]
fn every_contender_completes_the_work_that_it_supports() {
    let works = ["--only", "roundtrip,stream,connect,crowd", "--size", "64,256KiB", "--rounds", "1"];
    let table = said(&[&works[..], &["--turn-ms", "1", "--placement", "unpinned"]].concat());
    assert!(!table.contains("not measured"), "{table}");
    for contender in ["raw-packet", "raw-fifo", "raw-epoll", "parlour-shm-send", "parlour-hub", "parlour-tokio-threads"]
    {
        assert!(table.contains(contender), "{contender} is not in {table}");
    }
}

#[test]
fn memory_idle_time_and_system_calls_are_counted_or_the_reason_is_printed() {
    let table =
        said(&["--quick", "--only", "memory,idle,calls", "--contender", "parlour-unix,parlour-hub", "--filter", "r"]);
    assert!(table.contains("memory of the server") && table.contains("processor time of an idle"), "{table}");
    assert!(table.contains("sendmsg") || table.contains("not measured: system calls"), "{table}");
}

#[test]
fn an_unknown_contender_and_a_missing_file_are_errors() {
    assert!(complaint(&["--contender", "no-such-thing"]).contains("nothing to measure"));
    assert!(complaint(&["report", "/no/such/file"]).contains("/no/such/file"));
}

#[test]
fn the_guard_reports_higher_costs_and_accepts_them_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let figures = path(directory.path(), "guard.json");
    let guard = |more: &[&'static str]| {
        let arguments = [&["guard", "--filter", "echo-unix-64B", "--figures", &figures][..], more].concat();
        bench(&arguments)
    };
    assert!(guard(&["--accept"]).status.success());
    let same = guard(&[]);
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));

    let known = fs::read_to_string(&figures).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&known).unwrap();
    // The counted allocations now exceed the accepted ones by one.
    known["scenarios"]["echo-unix-64B"]["allocations"] = (-1.0).into();
    fs::write(&figures, known.to_string()).unwrap();
    let worse = guard(&[]);
    assert!(!worse.status.success());
    assert!(String::from_utf8_lossy(&worse.stdout).contains("WORSE"));
    assert!(String::from_utf8_lossy(&worse.stderr).contains("guard --accept"));

    assert!(guard(&["--accept"]).status.success());
    assert!(guard(&[]).status.success());
}
