//! Shared by the integration tests: the way to declare trials, private directories of names, child processes that play
//! a role, and messages whose content can be checked.
//!
//! Each test executable is its own child process: started with [`ROLE`] in the environment, it plays that role instead
//! of running tests. So no test forks a process that has threads, and each child is one that the test can kill.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "each test executable uses its part, and a test says what is wrong by panicking"
)]

pub mod alone;
pub mod base;
pub mod baseline;
pub mod child;
pub mod data;
pub mod declare;
pub mod roles;
pub mod signals;
pub mod wait;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;

pub use base::Base;
pub use child::Child;
pub use declare::File;
pub(crate) use declare::trials;
pub use roles::Role;
pub use wait::{eventually, within};

/// No single wait takes longer: what has not happened by then has failed.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What happens at once is done by then, also on a machine that is busy with other things. Shorter than every time-out
/// of the library, so that none of them can pass for it.
pub const SOON: Duration = Duration::from_secs(3);

/// Returns for how many seconds the chaos goes on over each transport.
pub fn chaos_seconds() -> u64 {
    std::env::var("PARLOUR_CHAOS_SECONDS").map_or(5, |seconds| seconds.parse().unwrap())
}

/// Returns what no trial takes longer than, whatever it waits for, also on a machine that is busy with other things.
pub fn trial_deadline() -> Duration {
    Duration::from_secs(120 + chaos_seconds())
}

/// The environment variable that makes a child process of this executable play a role.
pub const ROLE: &str = "PARLOUR_TEST_ROLE";

/// Whether this kernel is at least that version.
pub fn kernel_is(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

/// Whether the kernel refuses descriptors for who takes none (`SO_PASSRIGHTS`); else only the receiver can tell.
pub fn kernel_refuses_descriptors() -> bool {
    kernel_is(6, 16)
}

/// Runs the trials of these files, or in a child one of these roles or of those of [`roles`]: the `main` of a test
/// executable.
pub fn run(own_roles: &[Role], files: &[File]) -> ExitCode {
    if let Ok(name) = std::env::var(ROLE) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let role = own_roles.iter().chain(roles::ALL).find(|role| role.name == name);
        (role.unwrap_or_else(|| panic!("there is no role {name:?}")).play)(&arguments);
        return ExitCode::SUCCESS;
    }
    if let Some(name) = alone::wanted() {
        return alone::play(&name, || declare::all(files));
    }
    libtest_mimic::run(&Arguments::from_args(), declare::all(files)).exit_code()
}

/// Returns the error of a call that must have failed, and not for want of anything to return.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(result: Result<T, parlour::TryRecvError>) -> parlour::Error {
    match result {
        Err(parlour::TryRecvError::Failed(error)) => error,
        other => panic!("the call did not fail: {other:?}"),
    }
}
