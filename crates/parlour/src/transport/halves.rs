//! The two halves of a connection over any transport: see the contract in [`super`].

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::spares::Spares;
use super::{Fault, MessageMax, Received, Transport, fifo, packet, shm, unix};
use crate::message::Message;
use crate::sys::shared_fd::WatchedFd;
use crate::wire::outbox::Outbox;

// Kept small, as `Incoming` is: a program may hold many thousands of connections.
pub(crate) enum Outgoing {
    Shm(shm::Outgoing),
    Packet(packet::Outgoing),
    Unix(unix::Outgoing),
    Fifo(fifo::Outgoing),
}

impl Outgoing {
    /// Takes a message that is given in parts, and what was fed before it.
    ///
    /// `sent` says how much of it went in earlier calls, 0 at first, and how much has gone after this one. `Ok(false)`:
    /// wait until the descriptor is writable and call again with the same parts and `sent`, or, if `sent` is still 0,
    /// let it be, or hand the rest to [`keep_rest`](Self::keep_rest).
    ///
    /// Descriptors go with its beginning. The caller has made sure that the transport carries them.
    pub(crate) fn try_send(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        match self {
            Self::Shm(outgoing) => outgoing.try_send(parts, fds, sent),
            Self::Packet(outgoing) => outgoing.try_send(parts, fds, sent),
            Self::Unix(outgoing) => outgoing.try_send(parts, fds, sent),
            Self::Fifo(outgoing) => outgoing.try_send(parts, sent),
        }
    }

    /// Keeps the rest of a message that was begun, to go before anything else: half a message cannot be taken back.
    pub(crate) fn keep_rest(&mut self, parts: &[IoSlice<'_>], sent: usize) {
        match self {
            Self::Shm(outgoing) => outgoing.frames().keep_rest(parts, sent),
            Self::Packet(outgoing) => outgoing.keep_rest(parts, sent),
            Self::Unix(outgoing) => outgoing.frames().keep_rest(parts, sent),
            Self::Fifo(outgoing) => outgoing.frames().keep_rest(parts, sent),
        }
    }

    /// Keeps a message to go with the next ones. The caller bounds how much, by [`pending`](Self::pending).
    pub(crate) fn feed(&mut self, message: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Shm(outgoing) => outgoing.frames().feed(message),
            Self::Packet(outgoing) => outgoing.feed(message),
            Self::Unix(outgoing) => outgoing.frames().feed(message),
            Self::Fifo(outgoing) => outgoing.frames().feed(message),
        }
    }

    /// [`try_send`](Self::try_send) for who will look again: it may leave room that is too little to be worth while.
    pub(crate) fn try_send_most(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        match self {
            Self::Fifo(outgoing) if fds.is_empty() => outgoing.try_send_most(parts, sent),
            outgoing => outgoing.try_send(parts, fds, sent),
        }
    }

    /// [`feed`](Self::feed), if no more than `max` bytes are kept then.
    #[inline]
    pub(crate) fn feed_within(&mut self, message: &[u8], max: usize) -> bool {
        self.outbox().push_within(message, max)
    }

    /// Bytes that are kept.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        match self {
            Self::Shm(outgoing) => outgoing.pending(),
            Self::Packet(outgoing) => outgoing.pending(),
            Self::Unix(outgoing) => outgoing.pending(),
            Self::Fifo(outgoing) => outgoing.pending(),
        }
    }

    /// Forgets what is kept.
    pub(crate) fn discard(&mut self) {
        match self {
            Self::Shm(outgoing) => outgoing.frames().discard(),
            Self::Packet(outgoing) => outgoing.discard(),
            Self::Unix(outgoing) => outgoing.frames().discard(),
            Self::Fifo(outgoing) => outgoing.frames().discard(),
        }
    }

    /// Sends what is kept; `Ok(false)` when some of it has to wait.
    pub(crate) fn try_flush(&mut self) -> Result<bool, Fault> {
        match self {
            Self::Shm(outgoing) => outgoing.try_flush(),
            Self::Packet(outgoing) => outgoing.try_flush(),
            Self::Unix(outgoing) => outgoing.try_flush(),
            Self::Fifo(outgoing) => outgoing.try_flush(),
        }
    }

    /// Ends this direction. What is kept is lost: flush first.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match self {
            Self::Shm(outgoing) => outgoing.finish(),
            Self::Packet(outgoing) => outgoing.finish(),
            Self::Unix(outgoing) => outgoing.finish(),
            Self::Fifo(outgoing) => outgoing.finish(),
        }
    }

    /// Lends memory for what is kept, where there is some to spare. (Without it, it is made when it is needed.)
    pub(crate) fn lend(&mut self, spares: &mut Spares) {
        spares.lend_outbox(self.outbox());
    }

    /// Gives memory back that is not needed while nothing is kept.
    pub(crate) fn give_back(&mut self, spares: &mut Spares) {
        spares.take_outbox_back(self.outbox());
    }

    #[inline]
    fn outbox(&mut self) -> &mut Outbox {
        match self {
            Self::Shm(outgoing) => outgoing.frames().outbox(),
            Self::Packet(outgoing) => outgoing.outbox(),
            Self::Unix(outgoing) => outgoing.frames().outbox(),
            Self::Fifo(outgoing) => outgoing.frames().outbox(),
        }
    }

    /// From now on the halves live apart.
    pub(crate) fn set_apart(&mut self) {
        match self {
            Self::Shm(outgoing) => outgoing.set_apart(),
            Self::Packet(outgoing) => outgoing.set_apart(),
            Self::Unix(outgoing) => outgoing.set_apart(),
            Self::Fifo(_) => {}
        }
    }

    /// Has the descriptor announce that sending may go on, where that does not happen by itself: to be called when a send
    /// would have to wait, before waiting. `Ok(true)`: it may go on already, so try again instead of waiting.
    pub(crate) fn prepare_to_wait(&mut self) -> Result<bool, Fault> {
        match self {
            Self::Shm(outgoing) => outgoing.prepare_to_wait(),
            Self::Packet(_) | Self::Unix(_) | Self::Fifo(_) => Ok(false),
        }
    }

    /// Writable when [`try_send`](Self::try_send) may go on; in error or hung up when the peer reads no more. `None`
    /// when this direction has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Shm(outgoing) => outgoing.fd().map(|fd| fd.as_fd()),
            Self::Packet(outgoing) => outgoing.fd().map(|fd| fd.as_fd()),
            Self::Unix(outgoing) => outgoing.fd().map(|fd| fd.as_fd()),
            Self::Fifo(outgoing) => outgoing.fd(),
        }
    }

    /// The same, for who waits for it in another way than a poll loop. As long as it is held, it is open.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn share_fd(&mut self) -> Option<Arc<WatchedFd>> {
        Some(match self {
            Self::Shm(outgoing) => outgoing.fd()?.clone(),
            Self::Packet(outgoing) => outgoing.fd()?.clone(),
            Self::Unix(outgoing) => outgoing.fd()?.clone(),
            Self::Fifo(outgoing) => outgoing.share_fd()?,
        })
    }
}

pub(crate) enum Incoming {
    Shm(shm::Incoming),
    Packet(packet::Incoming),
    Unix(unix::Incoming),
    Fifo(fifo::Incoming),
}

impl Incoming {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Shm(_) => Transport::Shm,
            Self::Packet(_) => Transport::Packet,
            Self::Unix(_) => Transport::Unix,
            Self::Fifo(_) => Transport::Fifo,
        }
    }

    /// Moves the next message into `out`, replacing what is there, if a whole one has arrived. Part of a message stays
    /// in here.
    ///
    /// Descriptors are in the message to which they belong. Without all of them it is not given: that is a fault, after
    /// all that came before.
    pub(crate) fn try_recv(&mut self, out: &mut Message) -> Result<Received, Fault> {
        match self {
            Self::Shm(incoming) => incoming.try_recv(out),
            Self::Packet(incoming) => incoming.try_recv(out),
            Self::Unix(incoming) => incoming.try_recv(out),
            Self::Fifo(incoming) => incoming.try_recv(out),
        }
    }

    /// [`try_recv`](Self::try_recv) of what can be had for next to nothing: a message that came with the one before it, and
    /// brought no descriptors. `false` says nothing about others, and leaves `out` alone.
    #[inline]
    pub(crate) fn next_here(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Shm(incoming) => incoming.next_here(out),
            Self::Packet(_) => false,
            Self::Unix(incoming) => incoming.frames_mut().next_here(out),
            Self::Fifo(incoming) => incoming.frames_mut().next_here(out),
        }
    }

    /// Has the descriptor announce what comes, where that does not happen by itself: to be called when a receive would have
    /// to wait, before waiting. `true`: something has come already, so try again instead of waiting.
    pub(crate) fn prepare_to_wait(&mut self) -> bool {
        match self {
            Self::Shm(incoming) => incoming.prepare_to_wait(),
            Self::Packet(_) | Self::Unix(_) | Self::Fifo(_) => false,
        }
    }

    /// Whether [`try_recv`](Self::try_recv) has an answer, a message or the end, that no descriptor will announce. When it
    /// has none, the descriptor will announce the next one.
    pub(crate) fn has_message(&self) -> bool {
        match self {
            Self::Shm(incoming) => incoming.has_message(),
            Self::Packet(incoming) => incoming.has_message(),
            Self::Unix(incoming) => incoming.frames().has_message(),
            Self::Fifo(incoming) => incoming.frames().has_message(),
        }
    }

    /// Whether it is known that there is nothing more until the descriptor announces it, or an end that it has announced.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::Shm(_) | Self::Packet(_) => false,
            Self::Unix(incoming) => incoming.frames().is_exhausted(),
            Self::Fifo(incoming) => incoming.frames().is_exhausted(),
        }
    }

    /// Whether [`try_recv`](Self::try_recv) has to ask the kernel.
    pub(crate) fn has_to_ask(&self) -> bool {
        match self {
            Self::Shm(_) => false,
            Self::Packet(_) | Self::Unix(_) | Self::Fifo(_) => !self.has_message(),
        }
    }

    /// Whether nothing is in here that its descriptor does not have.
    pub(crate) fn is_untouched(&self) -> bool {
        match self {
            Self::Unix(incoming) => incoming.frames().is_untouched(),
            Self::Fifo(incoming) => incoming.frames().is_untouched(),
            Self::Shm(_) | Self::Packet(_) => true,
        }
    }

    /// Lends what receiving needs, where there is some to spare. (Without it, it is made when it is needed.)
    pub(crate) fn lend(&mut self, spares: &mut Spares) {
        match self {
            Self::Shm(incoming) => incoming.frames_mut().lend(spares),
            Self::Packet(incoming) => incoming.lend(spares),
            Self::Unix(incoming) => incoming.frames_mut().lend(spares),
            Self::Fifo(incoming) => incoming.frames_mut().lend(spares),
        }
    }

    /// Gives back what is needed only while bytes are waiting in here, if none are.
    pub(crate) fn give_back(&mut self, spares: &mut Spares) {
        match self {
            Self::Shm(incoming) => incoming.frames_mut().give_back(spares),
            Self::Packet(incoming) => incoming.give_back(spares),
            Self::Unix(incoming) => incoming.frames_mut().give_back(spares),
            Self::Fifo(incoming) => incoming.frames_mut().give_back(spares),
        }
    }

    pub(crate) fn message_max(&self) -> MessageMax {
        match self {
            Self::Shm(incoming) => incoming.frames().max(),
            Self::Packet(incoming) => incoming.max(),
            Self::Unix(incoming) => incoming.frames().max(),
            Self::Fifo(incoming) => incoming.frames().max(),
        }
    }

    /// From now on the halves live apart.
    pub(crate) fn set_apart(&mut self) {
        match self {
            Self::Shm(incoming) => incoming.set_apart(),
            Self::Packet(incoming) => incoming.set_apart(),
            Self::Unix(incoming) => incoming.set_apart(),
            Self::Fifo(_) => {}
        }
    }

    /// Readable when [`try_recv`](Self::try_recv) may go on.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Shm(incoming) => incoming.fd().as_fd(),
            Self::Packet(incoming) => incoming.fd().as_fd(),
            Self::Unix(incoming) => incoming.fd().as_fd(),
            Self::Fifo(incoming) => incoming.fd(),
        }
    }

    /// The same, for who waits for it in another way than a poll loop. As long as it is held, it is open.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn share_fd(&mut self) -> Arc<WatchedFd> {
        match self {
            Self::Shm(incoming) => incoming.fd().clone(),
            Self::Packet(incoming) => incoming.fd().clone(),
            Self::Unix(incoming) => incoming.fd().clone(),
            Self::Fifo(incoming) => incoming.share_fd(),
        }
    }

    /// A descriptor of the peer's process, where the transport has one.
    pub(crate) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Shm(incoming) => incoming.peer_pidfd(),
            Self::Packet(incoming) => incoming.peer_pidfd(),
            Self::Unix(incoming) => incoming.peer_pidfd(),
            Self::Fifo(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
