//! Deadlines, and the place where the blocking API waits. Only a client of a full queue waits elsewhere, in connect(2)
//! (`backend/socket.rs`).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A point in time after which a call gives up, or never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    /// Returns a deadline that has already passed.
    pub(crate) fn now() -> Self {
        Self(Some(Instant::now()))
    }

    /// Returns a deadline after this time. A time that [`Instant`] cannot represent means never.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// Returns the deadline at this time.
    pub(crate) fn on(at: Instant) -> Self {
        Self(Some(at))
    }

    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    pub(crate) fn at(self) -> Option<Instant> {
        self.0
    }

    /// Returns the earlier of two deadlines.
    pub(crate) fn earliest(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(other)) => Self(Some(one.min(other))),
            (one, other) => Self(one.or(other)),
        }
    }

    /// Returns the earlier of this deadline and one after `timeout`.
    pub(crate) fn or_after(self, timeout: Duration) -> Self {
        self.earliest(Self::after(timeout))
    }

    /// Returns the remaining time, or `None` if the deadline is never.
    pub(crate) fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_duration_since(Instant::now()))
    }

    fn remaining(self) -> Option<Timespec> {
        // A time that the kernel cannot represent becomes the longest one that it can.
        Some(Timespec::try_from(self.left()?).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }))
    }
}

/// Sleeps in poll(2) until one of `fds` is ready, and returns `Ok(true)`, or until the deadline has passed, and returns
/// `Ok(false)`. Continues with the remaining time after an interruption by a signal.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        match poll(fds, deadline.remaining().as_ref()) {
            Ok(0) if deadline.at().is_some() && deadline.is_over() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Returns true if one of `fds` is ready. Does not wait.
pub(crate) fn look(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    match poll(fds, Some(&NO_WAIT)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the events that are pending on a descriptor, of `events`, errors and hang-ups. Does not wait. Returns no
/// event if poll(2) fails.
pub(crate) fn poll_now(fd: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, Some(&NO_WAIT)) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Returns true if a descriptor is in error or hung up.
pub(crate) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    poll_now(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Waits for one descriptor.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, events)], deadline)
}

/// Waits for a fixed time, for a condition that no descriptor reports. Returns earlier if the deadline passes.
pub(crate) fn pause(duration: Duration, deadline: Deadline) -> io::Result<()> {
    wait(&mut [], deadline.or_after(duration)).map(drop)
}

/// The conditions under which a state machine takes its next step: any of these events, or this time.
///
/// An event without flags stands for the end of the peer.
pub(crate) struct WaitSet<'a> {
    pub(crate) events: Vec<(BorrowedFd<'a>, PollFlags)>,
    pub(crate) until: Deadline,
}

impl<'a> WaitSet<'a> {
    pub(crate) fn until(until: Deadline) -> Self {
        Self { events: Vec::new(), until }
    }

    pub(crate) fn and(mut self, fd: BorrowedFd<'a>, flags: PollFlags) -> Self {
        self.events.push((fd, flags));
        self
    }

    /// Waits in poll(2) for one of the conditions.
    pub(crate) fn sleep(&self) -> io::Result<()> {
        let mut fds: Vec<_> = self.events.iter().map(|&(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        wait(&mut fds, self.until).map(drop)
    }
}
