//! The blocking API fulfils the contract of [`conformance`] over every transport.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test says what is wrong by panicking, and a child talks with its test over stdout"
)]

mod conformance;
mod support;

use std::process::ExitCode;

use parlour::Transport;

fn main() -> ExitCode {
    support::run_with(conformance::ROLES, || {
        let pairs = Transport::ALL
            .iter()
            .flat_map(|&transport| conformance::ALL.iter().map(move |&scenario| (transport, scenario)));
        pairs
            .map(|(transport, scenario)| {
                support::trial(format!("{transport}::{}", scenario.name), move || (scenario.run)(transport))
            })
            .collect()
    })
}
