//! The errors of the classic API: -1, and a number in `errno`.
#![allow(unsafe_code)]

use std::error::Error as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::c_int;
use parlour::{Error, ErrorKind};

use crate::error;

/// An error number of errno.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) c_int);

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// The number of each kind. A kind that is missing here becomes `EIO`, and a test fails.
const NUMBERS: [(ErrorKind, c_int); 21] = [
    (ErrorKind::InvalidName, libc::EINVAL),
    (ErrorKind::InvalidOption, libc::EINVAL),
    (ErrorKind::NameInUse, libc::EADDRINUSE),
    (ErrorKind::NameLost, libc::ESTALE),
    (ErrorKind::NoServer, libc::ENOENT),
    (ErrorKind::Refused, libc::ECONNREFUSED),
    (ErrorKind::Denied, libc::EACCES),
    (ErrorKind::Busy, libc::EBUSY),
    (ErrorKind::TimedOut, libc::ETIMEDOUT),
    (ErrorKind::Disconnected, libc::EPIPE),
    (ErrorKind::Truncated, libc::ECONNABORTED),
    (ErrorKind::Lost, libc::ENOTCONN),
    (ErrorKind::MessageTooLong, libc::EMSGSIZE),
    (ErrorKind::Protocol, libc::EPROTO),
    (ErrorKind::Encoding, libc::EILSEQ),
    (ErrorKind::UnsafeDirectory, libc::EPERM),
    (ErrorKind::Unsupported, libc::ENOTSUP),
    (ErrorKind::Shutdown, libc::EBADF),
    (ErrorKind::HandedOver, libc::EBADF),
    // No function of the classic API calls.
    (ErrorKind::CallFailed, libc::EREMOTEIO),
    (ErrorKind::Io, libc::EIO),
];

/// Keeps the text of an error for `parlour_error_message`, and returns its number: that of its kind or, for a failed
/// system call, that of the system.
pub(crate) fn explained(error: &Error) -> Errno {
    error::remember(error);
    let kind = error.kind();
    let system = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    match system {
        Some(number) if kind == ErrorKind::Io => Errno(number),
        _ => number(kind),
    }
}

fn number(kind: ErrorKind) -> Errno {
    Errno(NUMBERS.iter().find(|(other, _)| *other == kind).map_or(libc::EIO, |(_, number)| *number))
}

/// Runs a call and returns its result, or -1 with `errno` set. A panic becomes `ENOTRECOVERABLE`.
pub(crate) fn call(work: impl FnOnce() -> Result<c_int, Errno>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Errno(libc::ENOTRECOVERABLE))) {
        Ok(result) => result,
        Err(errno) => {
            set(errno);
            -1
        }
    }
}

/// Runs a call without a result. It does not change `errno`, because a signal handler must not change `errno` for the
/// code that it interrupts.
pub(crate) fn call_quietly(work: impl FnOnce()) {
    let before = last();
    let _ = catch_unwind(AssertUnwindSafe(work));
    set(before);
}

pub(crate) fn set(errno: Errno) {
    // SAFETY: the function has no preconditions.
    let own = unsafe { libc::__errno_location() };
    // SAFETY: the pointer refers to the `errno` of this thread, which only this thread accesses.
    unsafe { *own = errno.0 };
}

fn last() -> Errno {
    // SAFETY: the function has no preconditions.
    let own = unsafe { libc::__errno_location() };
    // SAFETY: the pointer refers to the `errno` of this thread, which only this thread accesses.
    Errno(unsafe { *own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number() {
        for kind in ErrorKind::ALL {
            assert!(NUMBERS.iter().any(|(other, _)| other == kind), "{kind:?}");
        }
    }

    #[test]
    fn the_readme_lists_every_kind() {
        let readme = include_str!("../../README.md");
        for kind in ErrorKind::ALL {
            assert!(readme.contains(&format!("| `{kind:?}` |")), "{kind:?}");
        }
    }

    #[test]
    fn a_panic_is_a_number_and_no_more() {
        assert_eq!(call(|| panic!("a test panics on purpose")), -1);
        assert_eq!(last(), Errno(libc::ENOTRECOVERABLE));
        set(Errno(7));
        call_quietly(|| panic!("a test panics on purpose"));
        assert_eq!(last(), Errno(7));
    }
}
