//! Waiting for several descriptors or for a time, for what happens once and not with each message.

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

/// One descriptor, registered with the runtime, that is readable when what is waited for has happened: an epoll(7) instance
/// over the descriptors and a timerfd. So the runtime needs no timers, and the descriptors need not be given away.
pub(super) struct Waiting {
    readiness: Readiness,
    epoll: Arc<SharedFd>,
    _timer: Option<OwnedFd>,
}

impl Waiting {
    /// `waits` must stay open as long as this lives.
    pub(super) fn new(waits: &WaitSet<'_>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for &(fd, flags) in &waits.events {
            // Errors and hang-ups are reported in any case.
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

    /// For a time alone.
    pub(super) fn until(deadline: Deadline) -> io::Result<Self> {
        Self::new(&WaitSet::until(deadline))
    }

    /// Back when it has happened. May be called again after its future was dropped.
    pub(super) async fn wait(&self) -> io::Result<()> {
        while !self.has_happened()? {
            let mut ready = self.readiness.readable().await?;
            // What the runtime saw may be over; then it is to tell of what comes next.
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

/// A timer that fires then; none for never.
fn timer(deadline: Deadline) -> io::Result<Option<OwnedFd>> {
    let Some(left) = deadline.left() else { return Ok(None) };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    // A timer that is set to nothing is not set.
    let left = left.max(Duration::from_nanos(1));
    let it_value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value })?;
    Ok(Some(timer))
}
