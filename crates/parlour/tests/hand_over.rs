//! Hand-overs: a name moves from a live server to the next one, no client notices, and at every step of it the name has
//! one server.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "hand_over/apis.rs"]
mod apis;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "support/call_bytes.rs"]
mod call_bytes;
#[path = "support/forking.rs"]
mod forking;
#[path = "hand_over/listeners.rs"]
mod listeners;
#[path = "hand_over/moving.rs"]
mod moving;
#[path = "hand_over/processes.rs"]
mod processes;
#[path = "hand_over/replacing.rs"]
mod replacing;
mod support;
#[path = "hand_over/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use by_hand::generation::{GENERATION, ONE_AT_A_TIME};

fn main() -> ExitCode {
    support::run(
        &[GENERATION, ONE_AT_A_TIME],
        &[apis::trials, listeners::trials, moving::trials, processes::trials, replacing::trials, waiting::trials],
    )
}
