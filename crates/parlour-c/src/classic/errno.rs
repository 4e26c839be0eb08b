//! What the classic API says of an error: -1, and a number in `errno`.
#![allow(unsafe_code)]

use std::error::Error as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::c_int;
use parlour::{Error, ErrorKind};

use crate::error;

/// A number from errno.h.
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

/// The number of each kind. A kind that is not here is a failure of the system's, and a test finds it missing.
const NUMBERS: [(ErrorKind, c_int); 18] = [
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
    (ErrorKind::MessageTooLong, libc::EMSGSIZE),
    (ErrorKind::Protocol, libc::EPROTO),
    (ErrorKind::Encoding, libc::EILSEQ),
    (ErrorKind::UnsafeDirectory, libc::EPERM),
    (ErrorKind::Unsupported, libc::ENOTSUP),
    (ErrorKind::Shutdown, libc::EBADF),
    (ErrorKind::Io, libc::EIO),
];

/// Keeps what is to be said about an error, and gives its number: that of its kind, or, for a failure of the
/// system's, the system's own.
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

/// Runs a call, and gives its result as the classic API does. A panic goes no further than this.
pub(crate) fn call(work: impl FnOnce() -> Result<c_int, Errno>) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Errno(libc::ENOTRECOVERABLE))) {
        Ok(result) => result,
        Err(errno) => {
            set(errno);
            -1
        }
    }
}

/// [`call`] of something that has no result. What `errno` was it stays: a signal handler must not change it under
/// the code that it interrupts.
pub(crate) fn call_quietly(work: impl FnOnce()) {
    let before = last();
    let _ = catch_unwind(AssertUnwindSafe(work));
    set(before);
}

pub(crate) fn set(errno: Errno) {
    // SAFETY: it has no conditions.
    let own = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own `errno`, which may be written.
    unsafe { *own = errno.0 };
}

fn last() -> Errno {
    // SAFETY: it has no conditions.
    let own = unsafe { libc::__errno_location() };
    // SAFETY: it is this thread's own `errno`.
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
    fn the_readme_has_every_kind() {
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
        call_quietly(|| panic!("so does this one"));
        assert_eq!(last(), Errno(7));
    }
}
