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
#[path = "examples/camera.rs"]
mod camera;
#[path = "examples/clients.rs"]
mod clients;
#[path = "examples/documents.rs"]
mod documents;
#[path = "examples/jobs.rs"]
mod jobs;
#[path = "examples/notes.rs"]
mod notes;
#[path = "examples/servers.rs"]
mod servers;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::run(&[], &[servers::trials, camera::trials, jobs::trials, notes::trials, documents::trials])
}
