//! Descriptors from peers that keep no rules, and blocks of memory that are none.
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
#[path = "descriptors/flood.rs"]
mod flood;
#[path = "descriptors/hand.rs"]
mod hand;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::run_with(&[flood::FLOODED, blocks::FORKED], || {
        [flood::trials(), blocks::trials()].into_iter().flatten().collect()
    })
}
