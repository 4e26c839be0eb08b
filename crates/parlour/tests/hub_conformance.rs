//! The hub fulfils the contract of [`conformance`] over every transport. It serves the server's side of each scenario;
//! the client's side uses the blocking API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

mod conformance;
mod support;

use std::process::ExitCode;

use conformance::api::Api;

const API: Api = Api::Hub;

fn main() -> ExitCode {
    support::run(conformance::ROLES, conformance::FILES)
}
