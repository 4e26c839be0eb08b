//! Shared blocks: immutable memory files, and descriptors that are rejected as blocks.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "descriptors/blocks.rs"]
mod blocks;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::run(&[blocks::FORKED], &[blocks::trials])
}
