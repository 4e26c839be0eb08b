//! The transport over shared memory: its handshake with a hand-written peer, unsuitable memory, peers that break the
//! protocol, and cleanup after a peer was killed.
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
#[path = "shm/descriptors.rs"]
mod descriptors;
#[path = "support/forking.rs"]
mod fork;
#[path = "shm/forked.rs"]
mod forked;
#[path = "shm/handshake.rs"]
mod handshake;
#[path = "shm/leftovers.rs"]
mod leftovers;
mod support;
#[path = "shm/waking.rs"]
mod waking;

use std::process::ExitCode;

use by_hand::scarce::SCARCE;

fn main() -> ExitCode {
    support::run(
        &[SCARCE, descriptors::STRAY, forked::FORKS, leftovers::STREAM],
        &[descriptors::trials, forked::trials, handshake::trials, leftovers::trials, waking::trials],
    )
}
