//! Descriptors that a service manager passes to this process, as sd_listen_fds(3) describes: `LISTEN_FDS` descriptors
//! from number 3 on. The environment is read and not changed; `wire/listen_fds.rs` parses it.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use crate::wire::listen_fds::{self, NotAnnounced};

const FIRST: RawFd = 3;

/// Descriptors that were taken. The environment continues to list them.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// A passed descriptor. Dropping it leaves the descriptor open, as it was found: other code may use it.
#[derive(Debug)]
pub(crate) struct Passed {
    descriptor: ManuallyDrop<OwnedFd>,
    number: RawFd,
    /// The name that the manager gave it (`FileDescriptorName=`).
    pub(crate) name: String,
}

/// The reason for which no descriptors are available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotPassed {
    /// The environment announces none, or is malformed.
    NotAnnounced(NotAnnounced),
    /// The descriptor with this number is announced, but is not open.
    NotOpen(RawFd),
    AllTaken,
}

/// Returns the descriptors that were passed to this process and not taken yet.
///
/// First, all of them become close-on-exec, also those that the caller leaves alone and those whose names are
/// malformed. A program that this process starts inherits none, as after sd_listen_fds(3).
pub(crate) fn passed() -> Result<Vec<Passed>, NotPassed> {
    let variable = |name: &str| std::env::var_os(name);
    let count =
        listen_fds::count(std::process::id(), variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref())
            .map_err(NotPassed::NotAnnounced)?;
    let numbers = FIRST..FIRST + RawFd::from(count);
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let not_open = close_on_exec(numbers.clone().filter(|number| !taken.contains(number)));
    let names = listen_fds::names(count, variable("LISTEN_FDNAMES").as_deref()).map_err(NotPassed::NotAnnounced)?;
    if let Some(number) = not_open {
        return Err(NotPassed::NotOpen(number));
    }
    let mut all = Vec::new();
    for (number, name) in numbers.zip(names).filter(|(number, _)| !taken.contains(number)) {
        // SAFETY: the descriptor is open, and according to the protocol this process may use it. Only `close` closes it
        // through this value, and only once: the table of taken descriptors ensures that.
        let descriptor = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        all.push(Passed { descriptor, number, name });
    }
    if all.is_empty() { Err(NotPassed::AllTaken) } else { Ok(all) }
}

/// Makes all of these descriptors close-on-exec. Returns the first that is not open.
fn close_on_exec(numbers: impl Iterator<Item = RawFd>) -> Option<RawFd> {
    let mut not_open = None;
    for number in numbers {
        // SAFETY: a system call on a number, without pointers. It fails only if the descriptor is not open.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            not_open = not_open.or(Some(number));
        }
    }
    not_open
}

impl Passed {
    /// Takes the descriptor permanently: later calls of [`passed`] do not return it. The caller has a duplicate
    /// already, and this descriptor is closed.
    pub(crate) fn close(self) {
        if TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(self.number) {
            drop(ManuallyDrop::into_inner(self.descriptor));
        }
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
