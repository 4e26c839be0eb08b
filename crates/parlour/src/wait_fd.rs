//! One descriptor for everything that a state machine waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::sys::timer::Timer;
use crate::wait::WaitSet;

/// A descriptor that is readable when one of several descriptors is ready or a deadline has passed: an epoll(7)
/// instance over the descriptors and a timerfd. The caller keeps its descriptors, and a loop of events needs no timer.
#[derive(Debug)]
pub(crate) struct WaitFd {
    epoll: OwnedFd,
    timer: Option<Timer>,
}

impl WaitFd {
    /// Gathers the descriptors of `waits`. They must stay open while this value is used.
    pub(crate) fn new(waits: &WaitSet<'_>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for &(fd, flags) in &waits.events {
            // epoll reports errors and hang-ups in any case.
            let flags = if flags.contains(PollFlags::IN) { EventFlags::IN } else { EventFlags::empty() };
            epoll::add(&epoll, fd, EventData::new_u64(0), flags)?;
        }
        let timer = match waits.until.at() {
            Some(at) => {
                let timer = Timer::new()?;
                timer.set(Some(at))?;
                epoll::add(&epoll, &timer, EventData::new_u64(0), EventFlags::IN)?;
                Some(timer)
            }
            None => None,
        };
        Ok(Self { epoll, timer })
    }

    /// Returns the epoll(7) instance, and the timer that must live as long.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn into_parts(self) -> (OwnedFd, Option<Timer>) {
        (self.epoll, self.timer)
    }
}

impl AsFd for WaitFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
