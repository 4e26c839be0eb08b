//! The one descriptor of a pool, which is readable when a block may have been returned.
//!
//! Implementation notes: an epoll(7) instance over the leases of the readers, and an eventfd(2) for the handles of this
//! process. Everything is level-triggered.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::shm::ledger::Slot;
use crate::wait::Deadline;

/// The maximum number of events that one call returns. The next call returns the others.
const BATCH: usize = 32;

/// The number that stands for the handles of this process.
const OWN: u64 = u64::MAX;

/// An event of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A handle of this process has returned a block.
    Own,
    Lease {
        slot: Slot,
        /// Nobody has the other end any more.
        has_ended: bool,
    },
}

#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    /// Creates the instance, with the descriptor that the handles of this process write to.
    pub(super) fn new(own: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, own, EventData::new_u64(OWN), EventFlags::IN)?;
        Ok(Self { epoll })
    }

    pub(super) fn add(&self, lease: BorrowedFd<'_>, slot: Slot) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, lease, EventData::new_u64(slot as u64), EventFlags::IN)?)
    }

    /// Reports the end of a lease from here on, and no rings.
    pub(super) fn mute(&self, lease: BorrowedFd<'_>, slot: Slot) {
        // The end is always reported. epoll_ctl(2) fails only if the descriptor is not registered.
        let _ = epoll::modify(&self.epoll, lease, EventData::new_u64(slot as u64), EventFlags::empty());
    }

    /// Removes a lease before it is closed: a forked child may hold it open.
    pub(super) fn remove(&self, lease: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, lease);
    }

    /// Sleeps until an event occurs or the deadline passes, or a signal arrives, and returns the events.
    pub(super) fn wait(&self, deadline: Deadline) -> io::Result<impl Iterator<Item = Event> + use<>> {
        let mut batch = [MaybeUninit::uninit(); BATCH];
        let mut found = [None; BATCH];
        let left = deadline.left().map(|left| {
            // A time that the kernel cannot represent becomes the longest one that it can.
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        match epoll::wait(&self.epoll, &mut batch, left.as_ref()) {
            Ok((events, _)) => {
                for (place, event) in found.iter_mut().zip(events.iter()) {
                    // The event is packed, so its fields are copied.
                    let flags = event.flags;
                    let has_ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
                    *place = Some(match event.data.u64() {
                        OWN => Event::Own,
                        slot => Event::Lease { slot: slot as Slot, has_ended },
                    });
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(found.into_iter().flatten())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
