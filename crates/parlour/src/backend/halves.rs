//! The two directions of a connection over any transport. See the contract in [`super`].

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::config::MessageMax;
use super::fault::Fault;
use super::pool::Pool;
use super::stream::FrameReceiver;
use super::{fifo, packet, shm, stream, unix};
use crate::admission::Permit;
use crate::message::Message;
use crate::message::Received;
use crate::sys::credentials::peer_pidfd;
use crate::sys::shared_fd::WatchedFd;
use crate::transport::Transport;
use crate::wire::hello::Reason;
use crate::wire::write_buffer::{Storage, WriteBuffer};

/// The number of idle receive buffers that a pool keeps of each kind. A thread that serves its connections in turn
/// needs one at a time.
const RECV_BUFFERS_MAX: usize = 4;

/// The number of idle write buffers that a pool keeps: the number of clients that a hub answers before it writes.
const WRITE_BUFFERS_MAX: usize = 16;

/// Buffers that many connections share. See [`Pool`].
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    streams: Pool<stream::Intake, RECV_BUFFERS_MAX>,
    packets: Pool<packet::Intake, RECV_BUFFERS_MAX>,
    writes: Pool<Storage, WRITE_BUFFERS_MAX>,
}

/// The outgoing direction. Small, because a program may hold many thousands of connections.
pub(crate) struct Outgoing {
    /// Buffered messages, and the rest of a message of which a part was sent: they are written before anything else.
    /// Buffering a message touches nothing else, so this does not depend on the transport.
    write_buffer: WriteBuffer,
    flavor: SendFlavor,
}

/// The outgoing direction, by its transport.
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

    /// Sends a message that is given in parts, after what is buffered.
    ///
    /// `sent` counts the bytes that earlier calls have sent, 0 at first, and is advanced. `Ok(false)`: wait until the
    /// descriptor is writable and call again with the same parts and `sent`. If `sent` is still 0, the message may be
    /// given up instead; otherwise its rest goes to [`keep_rest`](Self::keep_rest).
    ///
    /// Descriptors go with the first bytes. The caller has made sure that the transport carries them.
    pub(crate) fn try_send(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        self.send(parts, fds, sent, fifo::Room::Any)
    }

    /// Sends like [`try_send`](Self::try_send), for a caller that tries again soon. It may leave a little space unused
    /// where filling it is not worth the cost.
    pub(crate) fn try_send_most(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        self.send(parts, fds, sent, fifo::Room::Much)
    }

    #[inline]
    fn send(
        &mut self,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
        room: fifo::Room,
    ) -> Result<bool, Fault> {
        let Self { write_buffer, flavor } = self;
        match flavor {
            SendFlavor::Shm(shm) => shm.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Packet(packet) => packet.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Unix(unix) => unix.try_send(write_buffer, parts, fds, sent),
            SendFlavor::Fifo(fifo) => fifo.try_send(write_buffer, parts, sent, room),
        }
    }

    /// Buffers the rest of a message of which a part was sent. It is written before anything else, because a part of a
    /// message cannot be taken back.
    pub(crate) fn keep_rest(&mut self, parts: &[IoSlice<'_>], sent: usize) {
        match &self.flavor {
            SendFlavor::Packet(_) => packet::keep_rest(&mut self.write_buffer, parts, sent),
            _ => stream::keep_rest(&mut self.write_buffer, parts, sent),
        }
    }

    /// Buffers a message that is given in parts. The caller bounds how much is buffered, by [`pending`](Self::pending).
    pub(crate) fn feed(&mut self, parts: &[IoSlice<'_>]) -> Result<(), Fault> {
        if let [part] = parts {
            if self.write_buffer.push_within(part, usize::MAX) {
                return Ok(());
            }
        }
        self.write_buffer
            .push(parts.iter().map(|part| &part[..]))
            .map_err(|too_long| Fault::TooLong { length: too_long.length })
    }

    /// Buffers a message if no more than `max` bytes are then buffered, and returns true.
    #[inline]
    pub(crate) fn feed_within(&mut self, message: &[u8], max: usize) -> bool {
        self.write_buffer.push_within(message, max)
    }

    /// Returns the number of buffered bytes.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.write_buffer.pending().len()
    }

    /// Discards what is buffered.
    pub(crate) fn discard(&mut self) {
        self.write_buffer = WriteBuffer::default();
    }

    /// Writes what is buffered. `Ok(false)`: some of it has to wait until the descriptor is writable.
    pub(crate) fn try_flush(&mut self) -> Result<bool, Fault> {
        let Self { write_buffer, flavor } = self;
        match flavor {
            SendFlavor::Shm(shm) => shm.try_flush(write_buffer),
            SendFlavor::Packet(packet) => packet.try_flush(write_buffer),
            SendFlavor::Unix(unix) => unix.try_flush(write_buffer),
            SendFlavor::Fifo(fifo) => fifo.try_flush(write_buffer),
        }
    }

    /// Writes bytes without a frame, one datagram where the transport has them, and returns their number. `Ok(None)`:
    /// they have to wait until the descriptor is writable. Nothing may be buffered.
    #[cfg(feature = "testing")]
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let written = match &mut self.flavor {
            SendFlavor::Shm(shm) => shm.try_write(bytes),
            SendFlavor::Packet(packet) => packet.try_write(bytes),
            SendFlavor::Unix(unix) => unix.try_write(bytes),
            SendFlavor::Fifo(fifo) => fifo.try_write(bytes),
        };
        match written {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
            Err(error) => Err(Fault::from_write(error)),
        }
    }

    /// Returns the reason why the server refused this client, if it did. The caller calls this when the peer has
    /// disconnected. Over `shm` and `fifo`, connecting fails instead.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        match &self.flavor {
            SendFlavor::Packet(packet) => packet.refusal(),
            SendFlavor::Unix(unix) => unix.refusal(),
            SendFlavor::Shm(_) | SendFlavor::Fifo(_) => None,
        }
    }

    /// Returns true if the peer has not read all that was written, on the transport that shows this.
    pub(crate) fn has_unread(&self) -> bool {
        match &self.flavor {
            SendFlavor::Shm(shm) => shm.has_unread(),
            SendFlavor::Packet(_) | SendFlavor::Unix(_) | SendFlavor::Fifo(_) => false,
        }
    }

    /// Ends this direction, once. What is buffered is lost: flush first.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match &mut self.flavor {
            SendFlavor::Shm(shm) => shm.finish(),
            SendFlavor::Packet(packet) => packet.finish(),
            SendFlavor::Unix(unix) => unix.finish(),
            SendFlavor::Fifo(fifo) => fifo.finish(),
        }
    }

    /// Ends this direction inside a message, so that the peer gets an error and not a clean end. What is buffered is
    /// discarded. Does not block. If the direction has ended already, the end stays as it is.
    pub(crate) fn abort(&mut self) {
        let is_in_frame = self.write_buffer.is_in_frame();
        self.discard();
        if self.is_finished() {
            return;
        }
        match &mut self.flavor {
            SendFlavor::Shm(shm) => shm.abort(is_in_frame),
            SendFlavor::Packet(packet) => packet.abort(),
            SendFlavor::Unix(unix) => unix.abort(is_in_frame),
            SendFlavor::Fifo(fifo) => fifo.abort(is_in_frame),
        }
        // An error means that the peer has disconnected.
        let _ = self.finish();
    }

    /// Returns true if this side has ended the direction.
    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        match &self.flavor {
            SendFlavor::Shm(shm) => shm.is_finished(),
            SendFlavor::Packet(packet) => packet.is_finished(),
            SendFlavor::Unix(unix) => unix.is_finished(),
            SendFlavor::Fifo(fifo) => fifo.is_finished(),
        }
    }

    /// Acquires memory for the write buffer, if the pool has some idle. (Otherwise it is allocated when it is needed.)
    pub(crate) fn acquire(&mut self, pool: &mut BufferPool) {
        if self.write_buffer.has_no_memory() {
            if let Some(memory) = pool.writes.acquire() {
                self.write_buffer.use_memory(memory);
            }
        }
    }

    /// Releases the memory of the write buffer if nothing is buffered.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        if let Some(memory) = self.write_buffer.give_memory_back() {
            pool.writes.release(memory);
        }
    }

    /// Detaches this direction from the incoming one: dropping one ends its direction alone.
    pub(crate) fn detach(&mut self) {
        match &mut self.flavor {
            SendFlavor::Shm(shm) => shm.detach(),
            SendFlavor::Packet(packet) => packet.detach(),
            SendFlavor::Unix(unix) => unix.detach(),
            // The directions use separate FIFOs.
            SendFlavor::Fifo(_) => {}
        }
    }

    /// Makes the descriptor report that sending may go on, on transports where that takes a request. The caller calls
    /// this when a send would block, before it waits. `Ok(true)`: sending may go on already. Try again instead of
    /// waiting.
    pub(crate) fn prepare_to_wait(&mut self) -> Result<bool, Fault> {
        match &mut self.flavor {
            SendFlavor::Shm(shm) => shm.prepare_to_wait(),
            _ => Ok(false),
        }
    }

    /// Returns the descriptor that is writable when [`try_send`](Self::try_send) may go on, and in error or hung up
    /// when the peer does not read any more. `None` if the direction has ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        if self.is_finished() {
            return None;
        }
        match &self.flavor {
            SendFlavor::Shm(shm) => Some(shm.fd().as_fd()),
            SendFlavor::Packet(packet) => Some(packet.fd().as_fd()),
            SendFlavor::Unix(unix) => Some(unix.fd().as_fd()),
            SendFlavor::Fifo(fifo) => fifo.fd(),
        }
    }

    /// Returns the same descriptor, for a runtime to watch. It stays open as long as it is held.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn share_fd(&mut self) -> Option<Arc<WatchedFd>> {
        if self.is_finished() {
            return None;
        }
        match &mut self.flavor {
            SendFlavor::Shm(shm) => Some(shm.fd().clone()),
            SendFlavor::Packet(packet) => Some(packet.fd().clone()),
            SendFlavor::Unix(unix) => Some(unix.fd().clone()),
            SendFlavor::Fifo(fifo) => Some(fifo.share_fd()?),
        }
    }
}

/// The incoming direction, by its transport.
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

    /// Returns the frames of a byte stream, or the datagrams of `packet`.
    fn framing(&self) -> Framing<&FrameReceiver, &packet::Incoming> {
        match self {
            Self::Shm(shm) => Framing::Stream(shm.frames()),
            Self::Packet(packet) => Framing::Datagrams(packet),
            Self::Unix(unix) => Framing::Stream(unix.frames()),
            Self::Fifo(fifo) => Framing::Stream(fifo.frames()),
        }
    }

    fn framing_mut(&mut self) -> Framing<&mut FrameReceiver, &mut packet::Incoming> {
        match self {
            Self::Shm(shm) => Framing::Stream(shm.frames_mut()),
            Self::Packet(packet) => Framing::Datagrams(packet),
            Self::Unix(unix) => Framing::Stream(unix.frames_mut()),
            Self::Fifo(fifo) => Framing::Stream(fifo.frames_mut()),
        }
    }

    /// Moves the next message into `out`, in place of its contents, if a whole one has arrived. A partially received
    /// message is kept for the next call.
    ///
    /// Descriptors arrive with the message to which they belong. A message that lacks some of its descriptors is not
    /// returned: it is a fault, after all messages before it.
    ///
    /// The memory of an incomplete message counts against `permit`. The fault [`Fault::NoMemory`] is not final.
    pub(crate) fn try_recv(&mut self, out: &mut Message, permit: Option<&Permit>) -> Result<Received, Fault> {
        match self {
            Self::Shm(shm) => shm.try_recv(out, permit),
            Self::Packet(packet) => packet.try_recv(out, permit),
            Self::Unix(unix) => unix.try_recv(out, permit),
            Self::Fifo(fifo) => fifo.try_recv(out, permit),
        }
    }

    /// Moves the next message into `out` and returns true, if it was read together with the one before and has no
    /// descriptors. False says nothing about other messages, and leaves `out` alone.
    #[inline]
    pub(crate) fn pop_buffered(&mut self, out: &mut Vec<u8>) -> bool {
        // The `match` selects an address, not code, because this is called for millions of short messages.
        let frames = match self {
            Self::Shm(shm) => shm.buffered_frames(),
            Self::Packet(_) => None,
            Self::Unix(unix) => Some(unix.frames_mut()),
            Self::Fifo(fifo) => Some(fifo.frames_mut()),
        };
        match frames {
            Some(frames) => frames.pop_buffered(out),
            None => self.pop_packed(out),
        }
    }

    /// Does the same for datagrams. Apart, so that streams pay nothing for it.
    #[inline(never)]
    fn pop_packed(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Packet(packet) => packet.pop_buffered(out),
            _ => false,
        }
    }

    /// Returns the next message where it is, if it was read together with the one before and has no descriptors. `None`
    /// says nothing about other messages.
    #[inline]
    pub(crate) fn next_in_place(&mut self) -> Option<&[u8]> {
        // As in `pop_buffered`.
        let frames = match self {
            Self::Shm(shm) => shm.buffered_frames(),
            Self::Packet(packet) => return packet.next_in_place(),
            Self::Unix(unix) => Some(unix.frames_mut()),
            Self::Fifo(fifo) => Some(fifo.frames_mut()),
        };
        frames?.next_in_place()
    }

    /// Returns true if [`next_in_place`](Self::next_in_place) returns a message.
    pub(crate) fn has_in_place(&self) -> bool {
        match (self, self.framing()) {
            (Self::Shm(shm), _) if shm.is_broken() => false,
            (_, Framing::Stream(frames)) => frames.has_in_place(),
            (_, Framing::Datagrams(packet)) => packet.has_in_place(),
        }
    }

    /// Makes the descriptor report what arrives, on transports where that takes a request. The caller calls this when a
    /// receive would block, before it waits. True: something has arrived already. Try again instead of waiting.
    pub(crate) fn prepare_to_wait(&mut self) -> bool {
        match self {
            Self::Shm(shm) => shm.prepare_to_wait(),
            _ => false,
        }
    }

    /// Returns true if the descriptor shows an arrival only after [`prepare_to_wait`](Self::prepare_to_wait).
    pub(crate) fn wakes_on_request(&self) -> bool {
        matches!(self, Self::Shm(_))
    }

    /// Returns true if [`try_recv`](Self::try_recv) has a message or the end that the descriptor does not show. If it
    /// returns false, the descriptor will show the next one.
    pub(crate) fn has_message(&self) -> bool {
        match (self, self.framing()) {
            (Self::Shm(shm), _) => shm.has_message(),
            (_, Framing::Datagrams(packet)) => packet.has_message(),
            (_, Framing::Stream(frames)) => frames.has_message(),
        }
    }

    /// Returns the number of bytes that have arrived and that [`try_recv`](Self::try_recv) has not returned.
    pub(crate) fn partial_len(&self) -> usize {
        match self.framing() {
            Framing::Stream(frames) => frames.partial_len(),
            Framing::Datagrams(packet) => packet.partial_len(),
        }
    }

    /// Returns true if nothing more can be received until the descriptor shows it, or shows the end.
    pub(crate) fn is_exhausted(&self) -> bool {
        match (self, self.framing()) {
            (Self::Shm(_), _) | (_, Framing::Datagrams(_)) => false,
            (_, Framing::Stream(frames)) => frames.is_exhausted(),
        }
    }

    /// Returns true if [`try_recv`](Self::try_recv) has to make a system call.
    pub(crate) fn needs_syscall(&self) -> bool {
        !matches!(self, Self::Shm(_)) && !self.has_message()
    }

    /// Returns true if everything that was read was also received.
    pub(crate) fn is_pristine(&self) -> bool {
        match (self, self.framing()) {
            (Self::Shm(_), _) => true,
            (_, Framing::Datagrams(packet)) => packet.is_pristine(),
            (_, Framing::Stream(frames)) => frames.is_pristine(),
        }
    }

    /// Returns true if a part of a message was received.
    pub(crate) fn is_inside_message(&self) -> bool {
        match self.framing() {
            Framing::Stream(frames) => !frames.is_at_boundary(),
            Framing::Datagrams(packet) => !packet.is_at_boundary(),
        }
    }

    /// Acquires a buffer for receiving, if the pool has one idle. (Otherwise it is allocated when it is needed.)
    pub(crate) fn acquire(&mut self, pool: &mut BufferPool) {
        match self.framing_mut() {
            Framing::Stream(frames) => frames.acquire(&mut pool.streams),
            Framing::Datagrams(packet) => packet.acquire(&mut pool.packets),
        }
    }

    /// Releases the buffer for receiving if no bytes wait in it.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        match self.framing_mut() {
            Framing::Stream(frames) => frames.release(&mut pool.streams),
            Framing::Datagrams(packet) => packet.release(&mut pool.packets),
        }
    }

    /// Ends both directions, for every process that has a copy of the connection. The outgoing direction must have been
    /// aborted before. What has arrived is left unread, which the peer may get as an error.
    pub(crate) fn abort(&mut self) {
        match self {
            Self::Shm(shm) => shm.abort(),
            Self::Packet(packet) => packet.abort(),
            Self::Unix(unix) => unix.abort(),
            // Dropping this closes the FIFO, after which the writes of the peer fail.
            Self::Fifo(_) => {}
        }
    }

    pub(crate) fn message_max(&self) -> MessageMax {
        match self.framing() {
            Framing::Stream(frames) => frames.max(),
            Framing::Datagrams(packet) => packet.max(),
        }
    }

    /// Detaches this direction from the outgoing one: dropping one ends its direction alone.
    pub(crate) fn detach(&mut self) {
        match self {
            Self::Shm(shm) => shm.detach(),
            Self::Packet(packet) => packet.detach(),
            Self::Unix(unix) => unix.detach(),
            // The directions use separate FIFOs.
            Self::Fifo(_) => {}
        }
    }

    /// Returns the descriptor that is readable when [`try_recv`](Self::try_recv) may go on.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Shm(shm) => shm.fd().as_fd(),
            Self::Packet(packet) => packet.fd().as_fd(),
            Self::Unix(unix) => unix.fd().as_fd(),
            Self::Fifo(fifo) => fifo.fd(),
        }
    }

    /// Returns the same descriptor, for a runtime to watch. It stays open as long as it is held.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn share_fd(&mut self) -> Arc<WatchedFd> {
        match self {
            Self::Shm(shm) => shm.fd().clone(),
            Self::Packet(packet) => packet.fd().clone(),
            Self::Unix(unix) => unix.fd().clone(),
            Self::Fifo(fifo) => fifo.share_fd(),
        }
    }

    /// Returns a pidfd of the peer's process. Fails with `Unsupported` on transports without peer credentials of the
    /// kernel.
    pub(crate) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Fifo(_) => {
                let text = "fifo has no peer credentials of the kernel; use unix, packet or shm";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
            _ => peer_pidfd(self.fd()),
        }
    }
}

/// The two ways to delimit messages.
enum Framing<S, D> {
    Stream(S),
    Datagrams(D),
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use super::*;
    use crate::backend::socket_half::Read;

    /// Receives from a stream that holds these bytes and has not ended.
    fn receive(receiver: &mut FrameReceiver, stream: &mut &[u8], out: &mut Message) -> Result<Received, Fault> {
        receiver.try_recv(out, None, |spaces: &mut [IoSliceMut<'_>]| {
            let count = spaces[0].len().min(stream.len());
            let (now, later) = stream.split_at(count);
            spaces[0][..count].copy_from_slice(now);
            *stream = later;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Read::of_bytes(count)) }
        })
    }

    #[test]
    fn connections_share_one_decoder_and_keep_it_only_while_bytes_are_buffered() {
        let mut pool = BufferPool::default();
        let mut out = Message::default();
        let [mut first, mut second] = [10, 20].map(|bytes| FrameReceiver::new(MessageMax::new(bytes, 0)));

        let mut stream: &[u8] = b"\0\0\0\x03one\0\0\0\x03tw";
        assert!(matches!(receive(&mut first, &mut stream, &mut out), Ok(Received::Message)));
        first.release(&mut pool.streams);
        assert!(pool.streams.idle_len() == 0, "the intake holds a partial message");
        assert!(matches!(receive(&mut first, &mut &b"o"[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, b"two"[..]);
        first.release(&mut pool.streams);
        assert_eq!(pool.streams.idle_len(), 1);

        second.acquire(&mut pool.streams);
        assert!(pool.streams.idle_len() == 0);
        let stream = [&b"\0\0\0\x14"[..], &[7; 20]].concat();
        assert!(matches!(receive(&mut second, &mut &stream[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, [7; 20][..], "the second limit applies, and no bytes of the first connection are left");
        second.release(&mut pool.streams);

        first.acquire(&mut pool.streams);
        assert!(matches!(receive(&mut first, &mut &stream[..], &mut out), Err(Fault::TooLong { length: 20 })));
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of::<Incoming>() + size_of::<Outgoing>();
        assert!(size <= 112, "{size} bytes");
    }
}
