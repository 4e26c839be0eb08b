//! The servers in `examples/`, which are also those of the documents, against clients that no server should trust.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "examples/built.rs"]
mod built;
#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "examples/clients.rs"]
mod clients;
#[path = "examples/documents.rs"]
mod documents;
#[path = "examples/servers.rs"]
mod servers;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::run(&[], &[servers::trials, documents::trials])
}
