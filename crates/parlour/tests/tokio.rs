//! The API for tokio: it fulfils the contract of [`conformance`] over every transport, and the tests of its own add
//! requirements of tasks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test reports failures by panicking, and a child communicates with its test over stdout"
)]

#[path = "tokio/cancel.rs"]
mod cancel;
mod conformance;
#[path = "tokio/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "tokio/runtimes.rs"]
mod runtimes;
#[path = "tokio/serve.rs"]
mod serve;
#[path = "tokio/streams.rs"]
mod streams;
mod support;
#[path = "tokio/support.rs"]
mod tasks;
#[path = "tokio/typed.rs"]
mod typed;
#[path = "tokio/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use conformance::api::Api;

const API: Api = Api::Tokio;

fn main() -> ExitCode {
    let own = [
        cancel::trials,
        forked::trials,
        runtimes::trials,
        serve::trials,
        streams::trials,
        typed::trials,
        waiting::trials,
    ];
    support::run(conformance::ROLES, &[conformance::FILES, &own].concat())
}
