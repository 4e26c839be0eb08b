//! A descriptor that one child process inherits: passing it to the child, and taking it there.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// The first number that is not the one of a standard stream.
const FIRST: RawFd = 3;

/// True once this process has taken the descriptor that its environment announces. The environment keeps announcing it.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Returns the descriptor with a number above those of the standard streams, which a command replaces in its child.
pub(crate) fn beside_the_streams(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() >= FIRST { Ok(fd) } else { fcntl_dupfd_cloexec(&fd, FIRST) }
}

/// Makes the children of this command inherit the descriptor, under the same number, and no other process. The command
/// owns the descriptor from then on.
///
/// The descriptor is close-on-exec in this process all the time. It is made inheritable in the child alone, after
/// fork(2), whose descriptor table is a copy. A thread that starts another program at the same moment therefore does
/// not pass it on.
pub(crate) fn pass(command: &mut Command, fd: OwnedFd) {
    // SAFETY: the closure makes one system call, fcntl(2), which is async-signal-safe. It does not allocate: an error
    // is a number.
    unsafe { command.pre_exec(move || Ok(fcntl_setfd(&fd, FdFlags::empty())?)) };
}

/// The descriptor with this number, which the environment announces. Dropping it leaves the descriptor as it was found,
/// and another call may take it.
#[derive(Debug)]
pub(crate) struct Inherited {
    number: RawFd,
}

/// The reason for which the descriptor cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInherited {
    NotOpen,
    /// This process has taken it before, or another thread is about to.
    Taken,
}

impl Inherited {
    /// Looks up the descriptor. Only one value exists at a time, and none after [`take`](Self::take).
    pub(crate) fn find(number: RawFd) -> Result<Self, NotInherited> {
        if IS_TAKEN.swap(true, Ordering::AcqRel) {
            return Err(NotInherited::Taken);
        }
        let inherited = Self { number };
        // SAFETY: a system call on a number, without pointers. It fails only if the descriptor is not open.
        match unsafe { libc::fcntl(number, libc::F_GETFD) } {
            flags if flags >= 0 => Ok(inherited),
            _ => Err(NotInherited::NotOpen),
        }
    }

    /// Borrows the descriptor, for an examination.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor was open. According to the protocol of the environment it was passed to this process
        // for this use, so no other code closes it.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }

    /// Takes the descriptor permanently. Programs that this process starts do not inherit it.
    pub(crate) fn take(self) -> Result<OwnedFd, Errno> {
        fcntl_setfd(self.fd(), FdFlags::CLOEXEC)?;
        // `IS_TAKEN` stays set.
        let number = std::mem::ManuallyDrop::new(self).number;
        // SAFETY: as in `fd`. This is the only owner, because `IS_TAKEN` is never reset after this.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        IS_TAKEN.store(false, Ordering::Release);
    }
}
