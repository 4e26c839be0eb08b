//! Tests of the program `scale`, with a thousand connections instead of ten thousand.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests report failures by panicking")]

use std::process::Command;

/// Runs the program, which compares every answer. Returns its table, or its stderr if it fails.
fn scale(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_scale")).args(arguments).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(told) }
}

fn a_thousand_over(transport: &str, server: &str, memory_max: &str) {
    let arguments = ["-n", "1000", "--transports", transport, "--servers", server, "--memory-max", memory_max];
    let table = scale(&arguments).unwrap();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert_eq!(rows.len(), 1, "{table}");
    assert!(rows[0].contains(transport) && rows[0].contains("1000"), "{table}");
}

#[test]
fn a_thousand_connections_over_unix_take_256_bytes_each_in_a_hub() {
    a_thousand_over("unix", "hub", "256");
}

#[test]
fn a_thousand_connections_over_packet_take_256_bytes_each_in_a_hub() {
    a_thousand_over("packet", "hub", "256");
}

#[test]
fn a_thousand_connections_over_fifo_take_256_bytes_each_in_a_hub() {
    a_thousand_over("fifo", "hub", "256");
}

#[test]
fn a_thousand_connections_over_shm_take_256_bytes_each_in_a_hub() {
    a_thousand_over("shm", "hub", "256");
}

#[test]
fn a_thousand_connections_over_unix_take_a_kibibyte_each_in_a_tokio_server() {
    a_thousand_over("unix", "tokio", "1024");
}

#[test]
fn a_thousand_connections_over_packet_take_a_kibibyte_each_in_a_tokio_server() {
    a_thousand_over("packet", "tokio", "1024");
}

#[test]
fn a_thousand_connections_over_fifo_take_a_kibibyte_each_in_a_tokio_server() {
    a_thousand_over("fifo", "tokio", "1024");
}

#[test]
fn a_thousand_connections_over_shm_take_a_kibibyte_each_in_a_tokio_server() {
    a_thousand_over("shm", "tokio", "1024");
}

#[test]
fn more_memory_than_memory_max_is_an_error() {
    let error = scale(&["-n", "10", "--transports", "unix", "--servers", "hub", "--memory-max", "1"]).unwrap_err();
    assert!(error.contains("an idle connection over unix takes"), "{error}");
}
