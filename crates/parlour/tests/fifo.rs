//! The FIFO transport: client files, peer identity, and removal of stale files. (`hostile.rs` tests its handshake step
//! by step.)
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "fifo/client_files.rs"]
mod client_files;
#[path = "fifo/idle.rs"]
mod idle;
#[path = "fifo/large.rs"]
mod large;
#[path = "fifo/peers.rs"]
mod peers;
mod support;
#[path = "fifo/sweep.rs"]
mod sweep;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};

const FILES: &[support::TrialList] = &[
    // The file with the trial of ten seconds is first.
    sweep::trials,
    client_files::trials,
    idle::trials,
    large::trials,
    peers::trials,
];

fn main() -> ExitCode {
    support::run(&[SERVE, REACH, peers::CLAIM, sweep::STEP], FILES)
}
