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

#[path = "tokio/call_attachments.rs"]
mod call_attachments;
#[path = "support/call_bytes.rs"]
mod call_bytes;
#[path = "tokio/call_server.rs"]
mod call_server;
#[path = "tokio/call_session.rs"]
mod call_session;
#[path = "tokio/calls.rs"]
mod calls;
#[path = "tokio/cancel.rs"]
mod cancel;
mod conformance;
#[path = "tokio/forked.rs"]
mod forked;
#[path = "support/forking.rs"]
mod forking;
#[path = "tokio/raw_parts.rs"]
mod raw_parts;
#[path = "tokio/runtimes.rs"]
mod runtimes;
#[path = "tokio/serve.rs"]
mod serve;
#[path = "tokio/session.rs"]
mod session;
#[path = "tokio/streams.rs"]
mod streams;
mod support;
#[path = "tokio/support.rs"]
mod tasks;
#[path = "tokio/typed.rs"]
mod typed;
#[path = "tokio/typed_calls.rs"]
mod typed_calls;
#[path = "tokio/waiting.rs"]
mod waiting;

use std::process::ExitCode;

use conformance::api::Api;

const API: Api = Api::Tokio;

fn main() -> ExitCode {
    let own = [
        call_attachments::trials,
        call_server::trials,
        call_session::trials,
        calls::trials,
        cancel::trials,
        forked::trials,
        raw_parts::trials,
        runtimes::trials,
        serve::trials,
        session::trials,
        streams::trials,
        typed::trials,
        typed_calls::trials,
        waiting::trials,
    ];
    support::run(conformance::ROLES, &[conformance::FILES, &own].concat())
}
