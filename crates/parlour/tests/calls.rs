//! Calls: requests and their answers, between callers and servers of the library and peers that are written by hand.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

#[path = "support/call_bytes.rs"]
mod call_bytes;
#[path = "calls/client.rs"]
mod client;
#[path = "calls/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "calls/polled.rs"]
mod polled;
#[path = "calls/polled_sessions.rs"]
mod polled_sessions;
#[path = "calls/pulling.rs"]
mod pulling;
#[path = "calls/scene.rs"]
mod scene;
#[path = "calls/serving.rs"]
mod serving;
#[path = "calls/sessions.rs"]
mod sessions;
#[path = "calls/streams.rs"]
mod streams;
mod support;
#[path = "calls/threads.rs"]
mod threads;
#[path = "calls/typed.rs"]
mod typed;

use std::process::ExitCode;

const FILES: &[support::TrialList] = &[
    client::trials,
    forked::trials,
    polled::trials,
    polled_sessions::trials,
    pulling::trials,
    serving::trials,
    sessions::trials,
    streams::trials,
    threads::trials,
    typed::trials,
];

fn main() -> ExitCode {
    support::run(&[forked::CALLER], FILES)
}
