//! Code shared by the integration tests: declaration of trials, private directories of names, child processes that
//! play a role, and messages whose content can be checked.
//!
//! Each test executable is also its own child process: with [`ROLE`] in the environment it plays that role instead of
//! running tests. So no test forks a process that has threads, and a test can kill each child.
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
    reason = "each test executable uses only a part, and a test fails by panicking"
)]

pub mod alone;
pub mod base;
pub mod baseline;
pub mod child;
pub mod data;
pub mod declare;
pub mod own_machine;
pub mod roles;
pub mod signals;
pub mod surroundings;
pub mod wait;
pub mod without;

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Arguments;

pub use base::Base;
pub use child::Child;
pub use declare::TrialList;
pub(crate) use declare::trials;
pub use roles::Role;
pub use wait::{eventually, within};

/// The deadline of every single wait. An event that has not occurred by then counts as missing.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The deadline of events that occur immediately, also on a busy machine. It is shorter than every timeout of the
/// library, so that none of them is mistaken for an immediate event.
pub const SOON: Duration = Duration::from_secs(4);

/// Returns the duration of the chaos tests over each transport, in seconds.
pub fn chaos_seconds() -> u64 {
    std::env::var("PARLOUR_CHAOS_SECONDS").map_or(5, |seconds| seconds.parse().unwrap())
}

/// Returns the deadline of a trial, whatever it waits for, also on a busy machine.
pub fn trial_deadline() -> Duration {
    Duration::from_secs(120 + chaos_seconds())
}

/// The number of trials that run concurrently on each processor. Measured: with one, a processor is idle half of the
/// time.
const TRIALS_PER_PROCESSOR: usize = 2;

/// The environment variable that makes a child process of this executable play a role.
pub const ROLE: &str = "PARLOUR_TEST_ROLE";

/// Returns true if the kernel has at least this version.
pub fn kernel_is(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

/// Returns true if the kernel rejects descriptors to a socket that accepts none (`SO_PASSRIGHTS`). Otherwise only the
/// receiver can detect them.
pub fn kernel_refuses_descriptors() -> bool {
    kernel_is(6, 16) && !without::is_removed("without_so_passrights")
}

/// The `main` of a test executable: runs the trials of these files, or in a child process one of these roles or one of
/// [`roles`].
pub fn run(own_roles: &[Role], files: &[TrialList]) -> ExitCode {
    if let Ok(name) = std::env::var(ROLE) {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let role = own_roles.iter().chain(roles::ALL).find(|role| role.name == name);
        (role.unwrap_or_else(|| panic!("no role has the name {name:?}")).play)(&arguments);
        return ExitCode::SUCCESS;
    }
    if let Some(name) = alone::wanted() {
        return alone::play(&name, || declare::all(files));
    }
    let mut arguments = Arguments::from_args();
    // Each trial is a process of its own, and most of its time it waits for a peer or for a deadline.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(TRIALS_PER_PROCESSOR * processors);
    libtest_mimic::run(&arguments, declare::all(files)).exit_code()
}

/// Panics unless the text of the error is one printable line that names the operation, the object, the reason and,
/// where the user can do something, the next step.
#[track_caller]
pub fn assert_tells(error: &parlour::Error) {
    use parlour::ErrorKind as Kind;
    let text = error.to_string();
    let is_printable = |c: char| !c.is_control() && !('\u{200b}'..='\u{202e}').contains(&c);
    assert!(text.chars().all(is_printable), "{text:?}");
    let begin = format!("cannot {} {}: ", error.operation(), error.object());
    let rest = text.strip_prefix(&begin).unwrap_or_else(|| panic!("{text:?} does not begin with {begin:?}"));
    assert!(!error.object().is_empty() && !rest.is_empty() && !rest.starts_with(';'), "{text:?} states no reason");
    let needs_step = !matches!(
        error.kind(),
        // The reason is the rule that the option must keep, or the text of a system call.
        Kind::InvalidOption
            | Kind::Io
            | Kind::Denied
            | Kind::Disconnected
            | Kind::Shutdown
            | Kind::TimedOut
            | Kind::Encoding
            // The reason is the text of the server.
            | Kind::CallFailed
    );
    assert!(!needs_step || rest.contains("; "), "{text:?} states no next step");
}

/// Returns the error of a call that must have failed. Panics if it succeeded or would have blocked.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(result: Result<T, parlour::TryRecvError>) -> parlour::Error {
    match result {
        Err(parlour::TryRecvError::Failed(error)) => {
            assert_tells(&error);
            error
        }
        other => panic!("the call did not fail: {other:?}"),
    }
}
