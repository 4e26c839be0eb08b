//! The epoll(7) instance of a hub, over its connections, its server and its handles.
//!
//! Implementation notes: connections are edge-triggered. Each is registered once, for reading and for writing, and is
//! reported when it *becomes* ready. A connection therefore costs no system calls besides those that move its bytes.
//! With level-triggered registrations, a connection that is full, or that is not read from because its client does not
//! read, would have to be registered anew each time, or would keep the hub awake. The price is that the hub itself
//! remembers which connections may still be ready. It does so anyway, to give each client its turn. An edge-triggered
//! descriptor that stays registered after its end (a FIFO whose pipe has broken is closed immediately, and a forked
//! child may hold it open) is reported a few times and not forever.
//!
//! The server is level-triggered: the hub accepts a few clients at a time, and the remaining ones keep the server
//! ready.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::event::Client;
use crate::backend::halves::{Incoming, Outgoing};

/// The maximum number of events that one call of epoll_wait(2) returns. The next call reports the others.
const BATCH: usize = 64;

/// The slot number that stands for the server and the handles. The number of the client tells them apart.
const NO_CLIENT: u32 = u32::MAX;
const SERVER: u32 = 0;
const HANDLES: u32 = 1;

/// The readiness of one registered descriptor, as epoll reported it.
pub(super) struct Readiness {
    pub(super) source: Source,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The client has ended its sending direction, or the connection has ended. Received data may still be buffered.
    pub(super) closed: bool,
}

/// The owner of a registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Server,
    /// The handles of the hub.
    Handles,
    Client {
        slot: u32,
        /// The lower half of the client's number, which tells the client from earlier clients of the same slot.
        number: u32,
    },
}

#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
}

impl Watch {
    pub(super) fn new(server: BorrowedFd<'_>) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let watch = Self { epoll };
        watch.add_server(server)?;
        Ok(watch)
    }

    /// Registers the descriptor that is readable when the server has work.
    pub(super) fn add_server(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, data(NO_CLIENT, SERVER), EventFlags::IN)
    }

    /// Registers the descriptor that the handles make readable.
    pub(super) fn add_handles(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, data(NO_CLIENT, HANDLES), EventFlags::IN)
    }

    /// Registers both directions of a connection.
    pub(super) fn add(&self, client: Client, incoming: &Incoming, outgoing: &Outgoing) -> Result<(), Errno> {
        let data = data(client.slot, client.number as u32);
        let reading = incoming.fd();
        match outgoing.fd() {
            Some(writing) if writing.as_raw_fd() != reading.as_raw_fd() => {
                epoll::add(&self.epoll, reading, data, EventFlags::IN | EventFlags::RDHUP | EventFlags::ET)?;
                epoll::add(&self.epoll, writing, data, EventFlags::OUT | EventFlags::ET)
                    .inspect_err(|_| self.delete(reading))
            }
            _ => {
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT | EventFlags::ET;
                epoll::add(&self.epoll, reading, data, flags)
            }
        }
    }

    /// Removes both directions of a connection. Call this before the descriptors are closed. A forked child must not
    /// call it: the child shares the epoll instance, which belongs to the parent.
    pub(super) fn remove(&self, incoming: &Incoming, outgoing: &Outgoing) {
        self.delete(incoming.fd());
        self.remove_outgoing(incoming, outgoing);
    }

    /// Removes the sending direction of a connection, if it has a descriptor of its own.
    pub(super) fn remove_outgoing(&self, incoming: &Incoming, outgoing: &Outgoing) {
        if let Some(writing) = outgoing.fd() {
            if writing.as_raw_fd() != incoming.fd().as_raw_fd() {
                self.delete(writing);
            }
        }
    }

    /// Removes the server.
    pub(super) fn remove_server(&self, server: BorrowedFd<'_>) {
        self.delete(server);
    }

    fn delete(&self, fd: BorrowedFd<'_>) {
        // epoll_ctl(2) fails only if the descriptor is not registered.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Returns the descriptors that have become ready, up to one batch, without waiting.
    pub(super) fn poll(&self) -> Result<impl Iterator<Item = Readiness> + use<>, Errno> {
        let mut batch = [MaybeUninit::uninit(); BATCH];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut found = [None; BATCH];
        let count = match epoll::wait(&self.epoll, &mut batch, Some(&no_wait)) {
            Ok((events, _)) => {
                for (slot, event) in found.iter_mut().zip(events.iter()) {
                    *slot = Some((event.data.u64(), event.flags));
                }
                events.len()
            }
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno),
        };
        Ok(found.into_iter().take(count).flatten().map(|(data, flags)| {
            // A hang-up or an error concerns both directions.
            let hang_up = EventFlags::HUP | EventFlags::ERR;
            Readiness {
                source: match ((data >> 32) as u32, data as u32) {
                    (NO_CLIENT, SERVER) => Source::Server,
                    (NO_CLIENT, _) => Source::Handles,
                    (slot, number) => Source::Client { slot, number },
                },
                readable: flags.intersects(EventFlags::IN | hang_up),
                writable: flags.intersects(EventFlags::OUT | hang_up),
                closed: flags.intersects(EventFlags::RDHUP | hang_up),
            }
        }))
    }
}

fn data(slot: u32, number: u32) -> EventData {
    EventData::new_u64(u64::from(slot) << 32 | u64::from(number))
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
