//! Fork: the name, the sockets and what was not sent yet stay with the parent; connections go where they are wanted.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "fork/child.rs"]
mod child;
#[path = "fork/connections.rs"]
mod connections;
#[path = "fork/names.rs"]
mod names;
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    support::run_with(&[names::PARENT, connections::PER_CLIENT, connections::FEED], || {
        names::trials().into_iter().chain(connections::trials()).collect()
    })
}
