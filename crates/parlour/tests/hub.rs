//! The hub: a server that serves all of its clients in one thread.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

#[path = "hub/blocks.rs"]
mod blocks;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "hub/closing.rs"]
mod closing;
#[path = "hub/crowd.rs"]
mod crowd;
#[path = "hub/draining.rs"]
mod draining;
#[path = "hub/events.rs"]
mod events;
#[path = "hub/fairness.rs"]
mod fairness;
#[path = "hub/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "hub/handle.rs"]
mod handle;
#[path = "hub/limits.rs"]
mod limits;
#[path = "hub/room.rs"]
mod room;
#[path = "hub/sending.rs"]
mod sending;
#[path = "hub/slow.rs"]
mod slow;
mod support;
#[path = "hub/topics.rs"]
mod topics;
#[path = "hub/typed.rs"]
mod typed;
#[path = "hub/waiting.rs"]
mod waiting;

use std::process::ExitCode;

const FILES: &[support::TrialList] = &[
    blocks::trials,
    closing::trials,
    crowd::trials,
    draining::trials,
    events::trials,
    fairness::trials,
    forked::trials,
    handle::trials,
    limits::trials,
    sending::trials,
    slow::trials,
    topics::trials,
    typed::trials,
    waiting::trials,
];

fn main() -> ExitCode {
    support::run(&[by_hand::roles::REACH, crowd::HUB, forked::HUB], FILES)
}
