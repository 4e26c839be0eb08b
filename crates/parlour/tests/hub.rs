//! The hub: a server and all its clients in one thread.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test says what is wrong by panicking, and a child talks with its test over stdout"
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "hub/closing.rs"]
mod closing;
#[path = "hub/crowd.rs"]
mod crowd;
#[path = "hub/events.rs"]
mod events;
#[path = "hub/fairness.rs"]
mod fairness;
#[path = "hub/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "hub/limits.rs"]
mod limits;
#[path = "hub/room.rs"]
mod room;
#[path = "hub/sending.rs"]
mod sending;
#[path = "hub/slow.rs"]
mod slow;
mod support;
#[path = "hub/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use libtest_mimic::Trial;
use parlour::Transport;

/// A test of one transport.
type Test = (&'static str, fn(Transport));

/// Each of these over every transport.
fn over_every_transport(tests: &[Test]) -> Vec<Trial> {
    let pairs = Transport::ALL.iter().flat_map(|&transport| tests.iter().map(move |&test| (transport, test)));
    pairs
        .map(|(transport, (name, test))| support::trial(format!("{transport}::{name}"), move || test(transport)))
        .collect()
}

/// The tests of a file, each named after its function.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            crate::over_every_transport(&[$((stringify!($name), $name)),+])
        }
    };
}
use tests;

fn main() -> ExitCode {
    support::run_with(&[by_hand::roles::REACH, crowd::HUB, forked::HUB], || {
        let trials = [
            closing::trials(),
            crowd::trials(),
            events::trials(),
            fairness::trials(),
            forked::trials(),
            limits::trials(),
            sending::trials(),
            slow::trials(),
            waiting::trials(),
        ];
        trials.into_iter().flatten().collect()
    })
}
