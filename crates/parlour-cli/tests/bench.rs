//! Tests of `parlour bench`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod common;

use std::process::Command;

use common::{Home, Running, text};
use rustix::process::Signal;

/// Returns a `parlour bench` command, whose environment distinguishes it from those of other tests.
fn bench(home: &Home, args: &[&str]) -> Command {
    let mut command = home.command(&[&["bench"], args].concat());
    command.env("TMPDIR", home.path());
    command
}

/// Returns the number of processes of this benchmark.
fn processes(home: &Home) -> usize {
    let marker = format!("TMPDIR={}", home.path().display());
    let environments = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("environ"));
    let ours = |environment: &Vec<u8>| environment.split(|&byte| byte == 0).any(|part| part == marker.as_bytes());
    environments.filter_map(|path| std::fs::read(path).ok()).filter(ours).count()
}

#[test]
fn every_transport_is_compared_with_a_bare_socket() {
    let home = Home::new();
    let report = home.path().join("report.html");
    let args = ["--rounds", "1", "--json", "--html", report.to_str().unwrap()];
    let output = bench(&home, &args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for contender in ["raw-stream", "parlour-shm", "parlour-packet", "parlour-unix", "parlour-fifo"] {
        let rows: Vec<_> = rows.as_array().unwrap().iter().filter(|row| row["contender"] == contender).collect();
        assert_eq!(rows.len(), 6, "{contender}");
        for row in rows {
            let figure = |name: &str| row[name].as_f64().unwrap();
            assert!(figure("best_us") > 0.0 && figure("median_us") <= figure("p99_us"), "{row}");
            // With one round, the time of a transport can equal that of the bare socket.
            assert!(figure("time_to_raw_stream") > 0.0, "{row}");
            assert!(contender != "raw-stream" || figure("time_to_raw_stream") == 1.0, "{row}");
        }
    }
    assert_eq!(processes(&home), 0);
    let report = std::fs::read_to_string(report).unwrap();
    assert_eq!((report.matches("<svg ").count(), report.matches("<rect ").count()), (6, 30), "{report}");
    for said in ["<title>parlour bench", "64 B, round trip", "1 MiB, one way", ">shm<", ">raw-stream<", "1 round."] {
        assert!(report.contains(said), "{said} is missing in {report}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_before_anything_is_measured() {
    let home = Home::new();
    for (path, reason) in [("missing/report.html", "is not a directory"), (".", "it is a directory")] {
        let path = home.path().join(path);
        let output = bench(&home, &["--html", path.to_str().unwrap()]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(reason) && !said.contains("measuring two processes"), "{said}");
    }
}

#[test]
fn an_interrupt_ends_the_benchmark_and_its_processes() {
    let home = Home::new();
    let mut bench = Running::start(&mut bench(&home, &[]));
    bench.wait_for_stderr("measuring two processes");
    bench.signal(Signal::INT);
    assert_eq!(bench.wait().code(), Some(1));
    assert_eq!(processes(&home), 0);
}
