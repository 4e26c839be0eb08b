//! Sessions: clients that outlive servers, and report what may have been lost.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "session/calls.rs"]
mod calls;
#[path = "session/ends.rs"]
mod ends;
#[path = "support/forking.rs"]
mod forking;
#[path = "session/hooks.rs"]
mod hooks;
#[path = "session/once.rs"]
mod once;
#[path = "session/pace.rs"]
mod pace;
#[path = "session/polled.rs"]
mod polled;
#[path = "session/restarts.rs"]
mod restarts;
mod support;

use std::process::ExitCode;

use by_hand::roles::SERVE;

fn main() -> ExitCode {
    let files =
        [calls::trials, ends::trials, hooks::trials, once::trials, pace::trials, polled::trials, restarts::trials];
    support::run(&[SERVE, once::LOG], &files)
}
