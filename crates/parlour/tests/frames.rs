//! Frames: blocks of memory that a publisher lends to its readers.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "frames/crowd.rs"]
mod crowd;
#[path = "frames/death.rs"]
mod death;
#[path = "frames/ends.rs"]
mod ends;
#[path = "frames/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "frames/hostile_publisher.rs"]
mod hostile_publisher;
#[path = "frames/hostile_reader.rs"]
mod hostile_reader;
#[path = "frames/lending.rs"]
mod lending;
#[path = "frames/rows.rs"]
mod rows;
#[path = "frames/scarce.rs"]
mod scarce;
#[path = "frames/shares.rs"]
mod shares;
mod support;
#[path = "frames/tasks.rs"]
mod tasks;
#[path = "frames/users.rs"]
mod users;

use std::process::ExitCode;

const FILES: &[support::TrialList] = &[
    crowd::trials,
    death::trials,
    forked::trials,
    hostile_publisher::trials,
    hostile_reader::trials,
    lending::trials,
    rows::trials,
    scarce::trials,
    shares::trials,
    tasks::trials,
    users::trials,
];

fn main() -> ExitCode {
    let roles = [
        death::READER,
        death::PUBLISHER,
        forked::FORKS_PUBLISHER,
        forked::FORKS_READER,
        scarce::SCARCE_DESCRIPTORS,
        scarce::SCARCE_MEMORY,
        users::FOREIGN_READERS,
        users::TOO_MANY_REFS,
    ];
    support::run(&roles, FILES)
}
