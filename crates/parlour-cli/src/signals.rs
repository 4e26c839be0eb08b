//! Signals as descriptors that become readable.
//!
//! A signal that is ignored when this program starts stays ignored: the parent wants it so, as a shell does for SIGINT
//! of a background job, and nohup(1) for SIGHUP. A signal that is caught is also unblocked, because a parent that
//! blocks it for itself passes its mask on.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use crate::sys;

/// `__WNOTHREAD` of `linux/wait.h`: waits only for the children of the calling thread.
const OF_THIS_THREAD: WaitIdOptions = WaitIdOptions::from_bits_retain(0x2000_0000);

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

    /// Waits until stopping is requested, or until the time is over.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        let deadline = Instant::now().checked_add(time);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.readable, PollFlags::IN)], timeout.as_ref()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(()),
            }
        }
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

/// Children that this process did not start itself: those that it adopts as the first process of its PID namespace or
/// as a subreaper, and those that it had before its exec. If nobody waits for them, they stay as zombies.
pub(crate) struct AdoptedChildren {
    signals: UnixStream,
    /// Kept open, so that `signals` never reads end of file.
    _writable: UnixStream,
}

impl AdoptedChildren {
    /// Catches SIGCHLD, also if it is ignored: then the kernel would not keep the exit status of the children that this
    /// process waits for.
    pub(crate) fn catch() -> io::Result<AdoptedChildren> {
        let (signals, writable) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        register(SIGCHLD, &writable)?;
        Ok(AdoptedChildren { signals, _writable: writable })
    }

    /// Waits for the adopted children that have exited, without blocking. Call this when the descriptor is readable.
    ///
    /// The caller must be the main thread, which adopts children, and which must not start processes. The processes
    /// that other threads have started are theirs to wait for, and are not touched.
    pub(crate) fn reap(&self) {
        while (&self.signals).read(&mut [0; 64]).is_ok() {}
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | OF_THIS_THREAD;
        while let Ok(Some(_)) = waitid(WaitId::All, options) {}
    }
}

impl AsFd for AdoptedChildren {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// Changes of the size of the terminal (SIGWINCH).
pub(crate) struct Resizes {
    signals: UnixStream,
    /// Kept open, so that `signals` never reads end of file.
    _writable: UnixStream,
}

impl Resizes {
    /// Catches SIGWINCH.
    pub(crate) fn catch() -> io::Result<Resizes> {
        let (signals, writable) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        register(SIGWINCH, &writable)?;
        Ok(Resizes { signals, _writable: writable })
    }

    /// Forgets the changes so far.
    pub(crate) fn clear(&self) {
        while (&self.signals).read(&mut [0; 64]).is_ok() {}
    }
}

impl AsFd for Resizes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// Installs handlers that write a byte to `into` for each of these signals that is not ignored.
fn catch(signals: &[i32], into: &UnixStream) -> io::Result<()> {
    for &signal in signals {
        if !sys::is_ignored(signal) {
            register(signal, into)?;
        }
    }
    Ok(())
}

fn register(signal: i32, into: &UnixStream) -> io::Result<()> {
    signal_hook::low_level::pipe::register(signal, into.try_clone()?)?;
    sys::unblock(signal)
}
