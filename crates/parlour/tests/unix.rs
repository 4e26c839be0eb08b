//! The UNIX transport: the client file and the server's checks of it, and peer credentials from the kernel.
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
#[path = "unix/client_file.rs"]
mod client_file;
#[path = "unix/identity.rs"]
mod identity;
mod support;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};

fn main() -> ExitCode {
    support::run(&[SERVE, REACH], &[client_file::trials, identity::trials])
}
