//! Waiting for several descriptors or for a deadline, in operations that happen once and not with each message.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFlags, Timespec};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use tokio::io::Interest;

use crate::sys::readiness::Readiness;
use crate::sys::shared_fd::SharedFd;
use crate::wait::{Deadline, WaitSet};

/// One descriptor, registered with the runtime, that is readable when one of several descriptors is ready or a deadline
/// has passed: an epoll(7) instance over the descriptors and a timerfd. The runtime therefore needs no timers, and the
/// caller keeps its descriptors.
pub(super) struct Waiting {
    readiness: Readiness,
    epoll: Arc<SharedFd>,
    _timer: Option<OwnedFd>,
}

impl Waiting {
    /// Registers the descriptors of `waits`. They must stay open while this value exists.
    pub(super) fn new(waits: &WaitSet<'_>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for &(fd, flags) in &waits.events {
            // epoll reports errors and hang-ups in any case.
            let flags = if flags.contains(PollFlags::IN) { EventFlags::IN } else { EventFlags::empty() };
            epoll::add(&epoll, fd, EventData::new_u64(0), flags)?;
        }
        let timer = timer(waits.until)?;
        if let Some(timer) = &timer {
            epoll::add(&epoll, timer, EventData::new_u64(0), EventFlags::IN)?;
        }
        let epoll = Arc::new(SharedFd::new(epoll, 1));
        Ok(Self { readiness: Readiness::register(epoll.clone(), Interest::READABLE)?, epoll, _timer: timer })
    }

    /// Creates one that waits for a deadline only.
    pub(super) fn until(deadline: Deadline) -> io::Result<Self> {
        Self::new(&WaitSet::until(deadline))
    }

    /// Waits until a descriptor is ready or the deadline has passed. May be called again after its future was dropped.
    pub(super) async fn wait(&self) -> io::Result<()> {
        while !self.has_happened()? {
            let mut ready = self.readiness.readable().await?;
            // The readiness that the runtime saw may be over. It is then cleared, so that the runtime reports the next
            // one.
            if self.has_happened()? {
                break;
            }
            ready.clear_ready();
        }
        Ok(())
    }

    fn has_happened(&self) -> io::Result<bool> {
        let mut event = [MaybeUninit::uninit()];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match epoll::wait(&*self.epoll, &mut event, Some(&no_wait)) {
                Ok((events, _)) => return Ok(!events.is_empty()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Returns a timer that fires at the deadline, or `None` if that is never.
fn timer(deadline: Deadline) -> io::Result<Option<OwnedFd>> {
    let Some(left) = deadline.left() else { return Ok(None) };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    // A value of zero would disarm the timer.
    let left = left.max(Duration::from_nanos(1));
    let it_value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value })?;
    Ok(Some(timer))
}
