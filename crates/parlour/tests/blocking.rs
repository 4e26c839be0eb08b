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

use conformance::api::Way;

const WAY: Way = Way::Blocking;

fn main() -> ExitCode {
    support::run(conformance::ROLES, conformance::FILES)
}
