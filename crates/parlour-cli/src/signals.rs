//! Ctrl-C and `kill`: descriptors that become readable.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A wish to stop, made by a signal or by [`Stop::trigger`].
///
/// The byte that makes it is never read, so the descriptor wakes every thread that polls it, however many there are and
/// however late they come.
pub(crate) struct Stop {
    readable: UnixStream,
    writable: UnixStream,
}

impl Stop {
    /// One that no signal makes.
    pub(crate) fn by_hand() -> io::Result<Stop> {
        let (readable, writable) = UnixStream::pair()?;
        Ok(Stop { readable, writable })
    }

    /// Catches SIGINT, SIGTERM and SIGHUP, for a command that has something to clean up also when its terminal is closed.
    pub(crate) fn on_interrupt_or_hangup() -> io::Result<Stop> {
        let stop = Stop::by_hand()?;
        catch(&[SIGINT, SIGTERM, SIGHUP], &stop.writable)?;
        Ok(stop)
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
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

/// Signals to stop, one after the other: the first asks, the second does not take no for an answer.
pub(crate) struct Interrupts {
    signals: UnixStream,
    /// Keeps the end from looking like a signal.
    _writable: UnixStream,
}

impl Interrupts {
    /// Catches SIGINT and SIGTERM. SIGHUP is left as it was found, so that `nohup` keeps working.
    pub(crate) fn catch() -> io::Result<Interrupts> {
        let (signals, writable) = UnixStream::pair()?;
        catch(&[SIGINT, SIGTERM], &writable)?;
        Ok(Interrupts { signals, _writable: writable })
    }

    /// Waits for the next one.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut byte = [0];
        (&self.signals).read_exact(&mut byte)
    }
}

/// Has the signal handler write a byte for each of these signals.
fn catch(signals: &[i32], into: &UnixStream) -> io::Result<()> {
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, into.try_clone()?)?;
    }
    Ok(())
}
