//! One descriptor for all connections of a hub and for its server.
//!
//! Implementation notes: epoll(7), edge-triggered for connections. Each is registered once, for reading and for writing, and
//! announces itself when something has *become* possible. So a connection costs no system call but those that move its
//! bytes: level-triggered, each one that is full, or that is not read from because its client does not read, would have to be
//! registered anew each time, or would keep the hub awake. The price is that the hub itself remembers who is not yet
//! exhausted, which it does anyway, to give each its turn. And what is left registered after its end (a FIFO whose pipe has
//! broken is closed at once, and a forked child may hold it open) can announce itself a few times and not for ever.
//!
//! The server is level-triggered: it accepts a few clients at a time, and the rest keep it ready.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::event::Client;
use crate::backend::halves::{Incoming, Outgoing};

/// How many announcements are taken at once; the others are reported the next time.
const BATCH: usize = 64;

/// The place of no client.
const SERVER: u32 = u32::MAX;

/// What has become possible.
pub(super) struct Announced {
    /// `None`: the server has something to do. The rest of the number is not known, so it has to be looked at.
    pub(super) place: Option<u32>,
    /// The lower half of the client's number, which tells it from those that had its place before.
    pub(super) number: u32,
    pub(super) receiving: bool,
    pub(super) sending: bool,
    /// The client sends no more than what is here.
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    pub(super) fn new(server: BorrowedFd<'_>) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, server, EventData::new_u64(u64::from(SERVER) << 32), EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Watches both directions of a connection.
    pub(super) fn add(&self, client: Client, incoming: &Incoming, outgoing: &Outgoing) -> Result<(), Errno> {
        let data = EventData::new_u64(u64::from(client.place) << 32 | client.number & u64::from(u32::MAX));
        let reading = incoming.fd();
        match outgoing.fd() {
            Some(writing) if writing.as_raw_fd() != reading.as_raw_fd() => {
                epoll::add(&self.epoll, reading, data, EventFlags::IN | EventFlags::RDHUP | EventFlags::ET)?;
                epoll::add(&self.epoll, writing, data, EventFlags::OUT | EventFlags::ET)
                    .inspect_err(|_| self.forget(reading))
            }
            _ => {
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT | EventFlags::ET;
                epoll::add(&self.epoll, reading, data, flags)
            }
        }
    }

    /// Watches it no more. To be called before it is closed, and never by a forked child, which shares the epoll instance:
    /// that is the parent's.
    pub(super) fn remove(&self, incoming: &Incoming, outgoing: &Outgoing) {
        self.forget(incoming.fd());
        self.remove_outgoing(incoming, outgoing);
    }

    /// Watches the sending direction no more, where that has a descriptor of its own.
    pub(super) fn remove_outgoing(&self, incoming: &Incoming, outgoing: &Outgoing) {
        if let Some(writing) = outgoing.fd() {
            if writing.as_raw_fd() != incoming.fd().as_raw_fd() {
                self.forget(writing);
            }
        }
    }

    /// Does not watch the server any more.
    pub(super) fn remove_server(&self, server: BorrowedFd<'_>) {
        self.forget(server);
    }

    fn forget(&self, fd: BorrowedFd<'_>) {
        // The only errors are of a descriptor that is not there, and then there is nothing to do.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// What has been announced, a batch of it, without waiting.
    pub(super) fn announced(&self) -> Result<impl Iterator<Item = Announced> + use<>, Errno> {
        let mut batch = [MaybeUninit::uninit(); BATCH];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut found = [None; BATCH];
        let count = match epoll::wait(&self.epoll, &mut batch, Some(&no_wait)) {
            Ok((events, _)) => {
                for (place, event) in found.iter_mut().zip(events.iter()) {
                    *place = Some((event.data.u64(), event.flags));
                }
                events.len()
            }
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(found.into_iter().take(count).flatten().map(|(data, flags)| {
            let place = (data >> 32) as u32;
            // The end of either side concerns both directions.
            let ended = EventFlags::HUP | EventFlags::ERR;
            Announced {
                place: (place != SERVER).then_some(place),
                number: data as u32,
                receiving: flags.intersects(EventFlags::IN | ended),
                sending: flags.intersects(EventFlags::OUT | ended),
                ended: flags.intersects(EventFlags::RDHUP | ended),
            }
        }))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
