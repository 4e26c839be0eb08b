//! Waiting for several descriptors or for a deadline, in operations that happen once and not with each message.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::Errno;
use tokio::io::Interest;

use crate::sys::readiness::Readiness;
use crate::sys::shared_fd::SharedFd;
use crate::sys::timer::Timer;
use crate::wait::{Deadline, WaitSet};
use crate::wait_fd::WaitFd;

/// One descriptor, registered with the runtime, that is readable when one of several descriptors is ready or a deadline
/// has passed: an epoll(7) instance over the descriptors and a timerfd. The runtime therefore needs no timers, and the
/// caller keeps its descriptors.
pub(super) struct Waiting {
    readiness: Readiness,
    epoll: Arc<SharedFd>,
    _timer: Option<Timer>,
}

impl Waiting {
    /// Registers the descriptors of `waits`. They must stay open while this value exists.
    pub(super) fn new(waits: &WaitSet<'_>) -> io::Result<Self> {
        let (epoll, timer) = WaitFd::new(waits)?.into_parts();
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
