//! A timer that is a descriptor: timerfd_create(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// A descriptor that is readable from a certain time on.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// Creates a timer that is not set.
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// Sets the time from which on the descriptor is readable, in place of any earlier one. `None` means never.
    pub(crate) fn set(&self, at: Option<Instant>) -> Result<(), Errno> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A value of zero would disarm the timer.
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let it_value = left.map_or(never, |left| Timespec::try_from(left).unwrap_or(longest));
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value })?;
        Ok(())
    }

    /// Makes the descriptor unreadable until the timer is set again.
    pub(crate) fn stop_reporting(&self) {
        // The only error is that the timer has not expired.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
