//! The two halves of a connection over any transport: see the contract in [`super`].

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::config::MessageMax;
use super::fault::{Fault, Received};
use super::pool::Pool;
use super::{fifo, packet, shm, stream, unix};
use crate::message::Message;
use crate::sys::shared_fd::WatchedFd;
use crate::transport::Transport;
use crate::wire::write_buffer::{Storage, WriteBuffer};

/// The number of idle receive buffers that a pool keeps of each kind. A thread that serves its connections in turn needs
/// one at a time.
const RECV_BUFFERS_MAX: usize = 4;

/// The number of idle write buffers that a pool keeps: as many as a hub answers before it writes.
const WRITE_BUFFERS_MAX: usize = 16;

/// Buffers that many connections share. See [`Pool`].
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    streams: Pool<stream::Intake, RECV_BUFFERS_MAX>,
    packets: Pool<packet::Intake, RECV_BUFFERS_MAX>,
    writes: Pool<Storage, WRITE_BUFFERS_MAX>,
}

// Storage small, as `Incoming` is: a program may hold many thousands of connections.
pub(crate) struct Outgoing {
    /// What was fed, and the rest of a message that was begun: it goes before anything else. Most that is fed is done with
    /// here, so it is found without asking which transport it is.
    write_buffer: WriteBuffer,
    flavor: SendFlavor,
}

/// The transport by which it goes.
pub(super) enum SendFlavor {
    Shm(shm::Outgoing),
    Packet(packet::Outgoing),
    Unix(unix::Outgoing),
    Fifo(fifo::Outgoing),
}

impl Outgoing {
    pub(super) fn new(flavor: SendFlavor) -> Self {
        Self { write_buffer: WriteBuffer::default(), flavor }
    }

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
        let Self { write_buffer, flavor } = self;
        match flavor {
            SendFlavor::Shm(flavor) => flavor.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Packet(flavor) => flavor.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Unix(flavor) => flavor.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Fifo(flavor) => flavor.try_send(write_buffer, parts, sent, fifo::Room::Any),
        }
    }

    /// Keeps the rest of a message that was begun, to go before anything else: half a message cannot be taken back.
    pub(crate) fn keep_rest(&mut self, parts: &[IoSlice<'_>], sent: usize) {
        match &self.flavor {
            SendFlavor::Packet(_) => packet::keep_rest(&mut self.write_buffer, parts, sent),
            SendFlavor::Shm(_) | SendFlavor::Unix(_) | SendFlavor::Fifo(_) => {
                stream::keep_rest(&mut self.write_buffer, parts, sent)
            }
        }
    }

    /// Keeps a message to go with the next ones. The caller bounds how much, by [`pending`](Self::pending).
    pub(crate) fn feed(&mut self, message: &[u8]) -> Result<(), Fault> {
        self.write_buffer.push(message).map_err(|too_long| Fault::TooLong { length: too_long.length })
    }

    /// [`try_send`](Self::try_send) for who will look again: it may leave room that is too little to be worth while.
    pub(crate) fn try_send_most(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        match &mut self.flavor {
            SendFlavor::Fifo(flavor) if fds.is_empty() => {
                flavor.try_send(&mut self.write_buffer, parts, sent, fifo::Room::Much)
            }
            _ => self.try_send(parts, fds, sent),
        }
    }

    /// [`feed`](Self::feed), if no more than `max` bytes are kept then.
    #[inline]
    pub(crate) fn feed_within(&mut self, message: &[u8], max: usize) -> bool {
        self.write_buffer.push_within(message, max)
    }

    /// Bytes that are kept.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.write_buffer.pending().len()
    }

    /// Forgets what is kept.
    pub(crate) fn discard(&mut self) {
        self.write_buffer = WriteBuffer::default();
    }

    /// Sends what is kept; `Ok(false)` when some of it has to wait.
    pub(crate) fn try_flush(&mut self) -> Result<bool, Fault> {
        let Self { write_buffer, flavor } = self;
        match flavor {
            SendFlavor::Shm(flavor) => flavor.try_flush(write_buffer),
            SendFlavor::Packet(flavor) => flavor.try_flush(write_buffer),
            SendFlavor::Unix(flavor) => flavor.try_flush(write_buffer),
            SendFlavor::Fifo(flavor) => flavor.try_flush(write_buffer),
        }
    }

    /// Ends this direction. What is kept is lost: flush first.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match &mut self.flavor {
            SendFlavor::Shm(flavor) => flavor.finish(),
            SendFlavor::Packet(flavor) => flavor.finish(),
            SendFlavor::Unix(flavor) => flavor.finish(),
            SendFlavor::Fifo(flavor) => flavor.finish(),
        }
    }

    /// Acquires memory for what is kept, if the pool has some idle. (Otherwise it is allocated when it is needed.)
    pub(crate) fn acquire(&mut self, pool: &mut BufferPool) {
        if self.write_buffer.has_no_memory() {
            if let Some(memory) = pool.writes.acquire() {
                self.write_buffer.use_memory(memory);
            }
        }
    }

    /// Releases the memory if nothing is kept.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        if let Some(memory) = self.write_buffer.give_memory_back() {
            pool.writes.release(memory);
        }
    }

    /// From now on the halves live apart.
    pub(crate) fn detach(&mut self) {
        match &mut self.flavor {
            SendFlavor::Shm(flavor) => flavor.detach(),
            SendFlavor::Packet(flavor) => flavor.detach(),
            SendFlavor::Unix(flavor) => flavor.detach(),
            SendFlavor::Fifo(_) => {}
        }
    }

    /// Has the descriptor announce that sending may go on, where that does not happen by itself: to be called when a send
    /// would have to wait, before waiting. `Ok(true)`: it may go on already, so try again instead of waiting.
    pub(crate) fn prepare_to_wait(&mut self) -> Result<bool, Fault> {
        match &mut self.flavor {
            SendFlavor::Shm(flavor) => flavor.prepare_to_wait(),
            SendFlavor::Packet(_) | SendFlavor::Unix(_) | SendFlavor::Fifo(_) => Ok(false),
        }
    }

    /// Writable when [`try_send`](Self::try_send) may go on; in error or hung up when the peer reads no more. `None`
    /// when this direction has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.flavor {
            SendFlavor::Shm(flavor) => flavor.fd().map(|fd| fd.as_fd()),
            SendFlavor::Packet(flavor) => flavor.fd().map(|fd| fd.as_fd()),
            SendFlavor::Unix(flavor) => flavor.fd().map(|fd| fd.as_fd()),
            SendFlavor::Fifo(flavor) => flavor.fd(),
        }
    }

    /// The same, for who waits for it in another way than a poll loop. As long as it is held, it is open.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn share_fd(&mut self) -> Option<Arc<WatchedFd>> {
        Some(match &mut self.flavor {
            SendFlavor::Shm(flavor) => flavor.fd()?.clone(),
            SendFlavor::Packet(flavor) => flavor.fd()?.clone(),
            SendFlavor::Unix(flavor) => flavor.fd()?.clone(),
            SendFlavor::Fifo(flavor) => flavor.share_fd()?,
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
    pub(crate) fn pop_buffered(&mut self, out: &mut Vec<u8>) -> bool {
        // An address is chosen here, and no code: short messages come by the million.
        let frames = match self {
            Self::Shm(incoming) => incoming.buffered_frames(),
            Self::Packet(_) => None,
            Self::Unix(incoming) => Some(incoming.frames_mut()),
            Self::Fifo(incoming) => Some(incoming.frames_mut()),
        };
        frames.is_some_and(|frames| frames.pop_buffered(out))
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
    pub(crate) fn needs_syscall(&self) -> bool {
        match self {
            Self::Shm(_) => false,
            Self::Packet(_) | Self::Unix(_) | Self::Fifo(_) => !self.has_message(),
        }
    }

    /// Whether nothing is in here that its descriptor does not have.
    pub(crate) fn is_pristine(&self) -> bool {
        match self {
            Self::Unix(incoming) => incoming.frames().is_pristine(),
            Self::Fifo(incoming) => incoming.frames().is_pristine(),
            Self::Shm(_) | Self::Packet(_) => true,
        }
    }

    /// Acquires a buffer for receiving, if the pool has one idle. (Otherwise it is allocated when it is needed.)
    pub(crate) fn acquire(&mut self, pool: &mut BufferPool) {
        match self {
            Self::Shm(incoming) => incoming.frames_mut().acquire(&mut pool.streams),
            Self::Packet(incoming) => incoming.acquire(&mut pool.packets),
            Self::Unix(incoming) => incoming.frames_mut().acquire(&mut pool.streams),
            Self::Fifo(incoming) => incoming.frames_mut().acquire(&mut pool.streams),
        }
    }

    /// Releases the buffer for receiving if no bytes wait in it.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        match self {
            Self::Shm(incoming) => incoming.frames_mut().release(&mut pool.streams),
            Self::Packet(incoming) => incoming.release(&mut pool.packets),
            Self::Unix(incoming) => incoming.frames_mut().release(&mut pool.streams),
            Self::Fifo(incoming) => incoming.frames_mut().release(&mut pool.streams),
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
    pub(crate) fn detach(&mut self) {
        match self {
            Self::Shm(incoming) => incoming.detach(),
            Self::Packet(incoming) => incoming.detach(),
            Self::Unix(incoming) => incoming.detach(),
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

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use super::*;
    use crate::backend::socket_half::Read;
    use crate::backend::stream::FrameReceiver;

    /// A stream that holds these bytes and no end.
    fn receive(receiver: &mut FrameReceiver, stream: &mut &[u8], out: &mut Message) -> Result<Received, Fault> {
        receiver.try_recv(out, |spaces: &mut [IoSliceMut<'_>]| {
            let count = spaces[0].len().min(stream.len());
            let (now, later) = stream.split_at(count);
            spaces[0][..count].copy_from_slice(now);
            *stream = later;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Read::of_bytes(count)) }
        })
    }

    #[test]
    fn connections_take_turns_with_one_decoder_and_keep_it_only_while_bytes_wait() {
        let mut pool = BufferPool::default();
        let mut out = Message::default();
        let [mut first, mut second] = [10, 20].map(|bytes| FrameReceiver::new(MessageMax::new(bytes, 0)));

        let mut stream: &[u8] = b"\0\0\0\x03one\0\0\0\x03tw";
        assert!(matches!(receive(&mut first, &mut stream, &mut out), Ok(Received::Message)));
        first.release(&mut pool.streams);
        assert!(pool.streams.len() == 0, "a message waits for its end");
        assert!(matches!(receive(&mut first, &mut &b"o"[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, b"two"[..]);
        first.release(&mut pool.streams);
        assert_eq!(pool.streams.len(), 1);

        second.acquire(&mut pool.streams);
        assert!(pool.streams.len() == 0);
        let stream = [&b"\0\0\0\x14"[..], &[7; 20]].concat();
        assert!(matches!(receive(&mut second, &mut &stream[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, [7; 20][..], "with its own limit, and nothing of the first");
        second.release(&mut pool.streams);

        first.acquire(&mut pool.streams);
        assert!(matches!(receive(&mut first, &mut &stream[..], &mut out), Err(Fault::TooLong { length: 20 })));
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of::<Incoming>() + size_of::<Outgoing>();
        assert!(size <= 120, "{size} bytes");
    }
}
