//! Tests of the program `bridges`, with the shortest possible measurements of the contender that needs no other one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests report failures by panicking")]

use std::fs;
use std::process::Command;

/// Runs the program, which must succeed, and returns its stdout.
fn said(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bridges")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_relay_is_measured_and_reported_with_the_effect_of_faults() {
    let directory = tempfile::tempdir().unwrap();
    let [json, markdown] = ["a.json", "a.md"].map(|name| directory.path().join(name).display().to_string());
    let what = ["--only", "roundtrip,stream,connect,probes", "--contender", "tcp-relay", "--baseline", "tcp-relay"];
    let least = ["--size", "64", "--placement", "unpinned", "--rounds", "1", "--turn-ms", "1", "--json", &json];
    let table = said(&[&what[..], &least].concat());
    assert!(!table.contains("not measured"), "{table}");
    for part in ["round trip, 64 B", "one way, 64 B", "kill -9 of the server", "memory of an idle conversation"] {
        assert!(table.contains(part), "{table}");
    }
    said(&["report", &json, "--markdown", &markdown]);
    let report = fs::read_to_string(markdown).unwrap();
    assert!(report.contains("Faults, and other figures") && report.contains("tcp-relay"), "{report}");
}

#[test]
fn every_contender_is_listed_with_its_version() {
    let list = said(&["--list"]);
    for contender in ["parlour-bridge (0", "tcp-relay (0", "tls-relay (0", "socat-openssl (", "ssh-l ("] {
        assert!(list.contains(contender), "{list}");
    }
}
