//! Signals as descriptors that become readable.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// A request to stop, made by a signal or by [`Stop::trigger`].
///
/// The byte that signals the request is never read. So the descriptor stays readable, and wakes every thread that polls
/// it, at any time.
pub(crate) struct Stop {
    readable: UnixStream,
    writable: UnixStream,
}

impl Stop {
    /// Creates a request that no signal triggers.
    pub(crate) fn new() -> io::Result<Stop> {
        let (readable, writable) = UnixStream::pair()?;
        Ok(Stop { readable, writable })
    }

    /// Creates a request that SIGINT, SIGTERM and SIGHUP trigger. It is for commands that must also clean up when their
    /// terminal is closed.
    pub(crate) fn on_interrupt_or_hangup() -> io::Result<Stop> {
        let stop = Stop::new()?;
        catch(&[SIGINT, SIGTERM, SIGHUP], &stop.writable)?;
        Ok(stop)
    }

    /// Requests to stop.
    pub(crate) fn trigger(&self) {
        // If the buffer is full, the request was made already.
        let _ = (&self.writable).write(&[0]);
    }

    /// Returns true if stopping was requested.
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

/// Signals to stop, received one at a time. The first requests a graceful shutdown, the second an immediate one.
pub(crate) struct Interrupts {
    signals: UnixStream,
    /// Kept open, so that `signals` never reads end of file.
    _writable: UnixStream,
}

impl Interrupts {
    /// Catches SIGINT and SIGTERM. The disposition of SIGHUP is not changed, so that `nohup` keeps working.
    pub(crate) fn catch() -> io::Result<Interrupts> {
        let (signals, writable) = UnixStream::pair()?;
        catch(&[SIGINT, SIGTERM], &writable)?;
        Ok(Interrupts { signals, _writable: writable })
    }

    /// Waits for the next signal.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut byte = [0];
        (&self.signals).read_exact(&mut byte)
    }
}

/// Installs handlers that write a byte to `into` for each of these signals.
fn catch(signals: &[i32], into: &UnixStream) -> io::Result<()> {
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, into.try_clone()?)?;
    }
    Ok(())
}
