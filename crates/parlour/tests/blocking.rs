//! The contract of [`conformance`], checked for the blocking API over every transport.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

mod conformance;
mod support;

use std::process::ExitCode;

use conformance::api::Api;

const API: Api = Api::Blocking;

fn main() -> ExitCode {
    support::run(conformance::ROLES, conformance::FILES)
}
