//! Deadlines, and the one place where the blocking API waits.

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

    /// A deadline that is over.
    pub(crate) fn now() -> Self {
        Self(Some(Instant::now()))
    }

    /// A time so far off that it cannot be written down is never.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    pub(crate) fn at(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of two.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(other)) => Self(Some(one.min(other))),
            (one, other) => Self(one.or(other)),
        }
    }

    pub(crate) fn or_after(self, timeout: Duration) -> Self {
        self.or(Self::after(timeout))
    }

    /// The time until then; `None` when that is never.
    pub(crate) fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_duration_since(Instant::now()))
    }

    fn remaining(self) -> Option<Timespec> {
        // Longer than the kernel's clock can say is as good as the longest it can.
        Some(Timespec::try_from(self.left()?).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }))
    }
}

/// Sleeps in poll(2) until one of `fds` is ready, `Ok(true)`, or the deadline has passed, `Ok(false)`. Interrupted by a
/// signal it goes on with the time that is left.
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

/// [`wait`] that only looks: whether one of `fds` is ready.
pub(crate) fn look(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    match poll(fds, Some(&NO_WAIT)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the events that are pending on a descriptor, of `events`, errors and hang-ups. Does not wait. Returns no event
/// if poll(2) fails.
pub(crate) fn poll_now(fd: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, Some(&NO_WAIT)) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

/// Waits for one descriptor.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<bool> {
    wait(&mut [PollFd::from_borrowed_fd(fd, events)], deadline)
}

/// Lets time pass before the next try of something that no descriptor announces.
pub(crate) fn pause(duration: Duration, deadline: Deadline) -> io::Result<()> {
    wait(&mut [], deadline.or_after(duration)).map(drop)
}

/// What something that goes on in steps waits for before the next one: any of these events, or this time.
///
/// An event without flags is the end of the other side.
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

    /// Waits for it in poll(2).
    pub(crate) fn sleep(&self) -> io::Result<()> {
        let mut fds: Vec<_> = self.events.iter().map(|&(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        wait(&mut fds, self.until).map(drop)
    }
}
