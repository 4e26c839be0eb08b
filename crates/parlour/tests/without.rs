//! The library in unusual surroundings: without features of the kernel, without `/proc`, with a wrong clock, in
//! namespaces. docs/platforms.md lists what each of them costs, with the trials of this executable.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and a child reports to its test on stdout"
)]

#[path = "support/by_hand/mod.rs"]
mod by_hand;
#[path = "without/clock.rs"]
mod clock;
#[allow(dead_code, reason = "only the core of the contract is used")]
mod conformance;
#[path = "without/containers.rs"]
mod containers;
#[path = "without/features.rs"]
mod features;
#[path = "support/forking.rs"]
mod forking;
#[path = "without/proc.rs"]
mod proc;
mod support;

use std::process::ExitCode;

use by_hand::roles::{REACH, SERVE};
use conformance::api::Api;
use support::Role;

const API: Api = Api::Blocking;

fn main() -> ExitCode {
    let mut roles: Vec<Role> = conformance::ROLES.to_vec();
    roles.extend([SERVE, REACH, features::FORKED]);
    support::run(&roles, &[features::trials, clock::trials, proc::trials, containers::trials])
}
