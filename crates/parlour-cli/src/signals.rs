//! Ctrl-C and `kill`: a descriptor that becomes readable and stays so.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A wish to stop, made by a signal or by [`Stop::trigger`].
///
/// The byte that the signal handler writes is never read, so the descriptor wakes every thread that polls it, however
/// many there are and however late they come.
pub(crate) struct Stop {
    readable: UnixStream,
    writable: UnixStream,
}

impl Stop {
    /// Catches SIGINT and SIGTERM. SIGHUP is left as it was found, so that `nohup` keeps working.
    pub(crate) fn on_interrupt() -> io::Result<Stop> {
        Stop::on(&[SIGINT, SIGTERM])
    }

    /// Catches SIGHUP as well, for a command that has something to clean up when its terminal is closed.
    pub(crate) fn on_interrupt_or_hangup() -> io::Result<Stop> {
        Stop::on(&[SIGINT, SIGTERM, SIGHUP])
    }

    fn on(signals: &[i32]) -> io::Result<Stop> {
        let (readable, writable) = UnixStream::pair()?;
        for signal in signals {
            signal_hook::low_level::pipe::register(*signal, writable.try_clone()?)?;
        }
        Ok(Stop { readable, writable })
    }

    /// Stops as if a signal had come.
    pub(crate) fn trigger(&self) {
        // A full buffer means that the wish was made already.
        let _ = (&self.writable).write(&[0]);
    }

    /// Whether the wish was made.
    pub(crate) fn is_triggered(&self) -> bool {
        let mut fds = [PollFd::new(&self.readable, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
    }

    /// Waits until the wish is made.
    pub(crate) fn wait(&self) {
        let mut fds = [PollFd::new(&self.readable, PollFlags::IN)];
        while let Err(rustix::io::Errno::INTR) | Ok(0) = poll(&mut fds, None) {}
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}
