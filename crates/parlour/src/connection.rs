//! A private two-way channel of messages, and its two halves.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::backend::Link;
use crate::endpoint::Common;
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::payload::Payload;
use crate::peer::Peer;
use crate::receiver::{Iter, Receiver, TryIter};
use crate::sender::Sender;
use crate::sys::fork::Process;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait, wait_for};

/// A private two-way channel of messages with one peer.
///
/// Messages arrive whole, in order and at most once. [`send`](Connection::send) returns when the message is in the
/// kernel's buffer or, on `shm`, in the ring; the peer may not have read it yet. If the channel is full, `send` blocks
/// until the peer reads (backpressure). Memory use is bounded: the write buffer holds at most 64 KiB of fed messages,
/// or the rest of one message whose deadline passed. [`recv`](Connection::recv) returns `None` at the end of the
/// stream, after everything that the peer sent.
///
/// The two directions are independent: [`split`](Connection::split) gives one to each of two threads. Dropping the
/// connection ends both, as [`close`](Connection::close) does.
///
/// # Waiting
///
/// Most calls that can block have a variant with a timeout and one that never blocks. An empty cell means that there is
/// none. The iterator [`iter`](Connection::iter) blocks without a timeout.
///
/// | blocks | gives up with [`TimedOut`](crate::ErrorKind::TimedOut) | never blocks |
/// |---|---|---|
/// | [`send`] | [`send_timeout`] | [`try_send`] |
/// | [`feed`] | [`feed_timeout`] | |
/// | [`flush`] | [`flush_timeout`] | [`try_flush`] |
/// | [`recv`] | [`recv_timeout`] | [`try_recv`] |
/// | [`recv_into`] | [`recv_into_timeout`] | [`try_recv_into`] |
/// | [`finish`] | [`finish_timeout`] | |
/// | [`close`] | [`close_timeout`] | dropping it |
///
/// [`send`]: Connection::send
/// [`send_timeout`]: Connection::send_timeout
/// [`try_send`]: Connection::try_send
/// [`feed`]: Connection::feed
/// [`feed_timeout`]: Connection::feed_timeout
/// [`flush`]: Connection::flush
/// [`flush_timeout`]: Connection::flush_timeout
/// [`try_flush`]: Connection::try_flush
/// [`recv`]: Connection::recv
/// [`recv_timeout`]: Connection::recv_timeout
/// [`try_recv`]: Connection::try_recv
/// [`recv_into`]: Connection::recv_into
/// [`recv_into_timeout`]: Connection::recv_into_timeout
/// [`try_recv_into`]: Connection::try_recv_into
/// [`finish`]: Connection::finish
/// [`finish_timeout`]: Connection::finish_timeout
/// [`close`]: Connection::close
/// [`close_timeout`]: Connection::close_timeout
///
/// # Poll loops
///
/// [`recv_fd`](Connection::recv_fd) and [`send_fd`](Connection::send_fd) are for waiting only, with `poll(2)` and
/// similar calls. One read may return several messages, so before waiting, call [`try_recv`](Connection::try_recv)
/// until it returns [`Empty`](TryRecvError::Empty), or check [`has_message`](Connection::has_message).
///
/// # Fork
///
/// After fork(2) both processes share the connection. Either process may use it while the other one drops it, or each
/// may use one direction. The peer sees the end of the stream when both have dropped it. Messages that were buffered
/// before the fork are sent by the parent only. Flush before forking if the parent may exit.
pub struct Connection {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Connection {
    pub(crate) fn new(link: Link, display_name: Arc<str>, spin_limit: u32) -> Self {
        let Link { transport, incoming, outgoing, peer, permit } = link;
        let message_max = incoming.message_max().bytes();
        let process = Process::current();
        let common = Arc::new(Common { display_name, transport, peer, message_max, spin_limit, process, permit });
        let sender = Sender::new(Arc::clone(&common), outgoing);
        Self { sender, receiver: Receiver::new(common, incoming) }
    }

    /// Sends one message of 0 bytes up to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// After an error the peer does not receive the message. After `Disconnected` or `Protocol`, a part of it may have
    /// been written, and the connection cannot be used for sending any more. After any other error nothing of it was
    /// written, and the caller may send it again. If another error occurs when a part was written, the call buffers the
    /// rest and returns `Ok`. The next call that writes returns the error if it persists.
    ///
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message is longer than the limit, or has
    ///   more than 253 descriptors.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer does not receive any more, or this side
    ///   has called [`finish`](Connection::finish). No signal is raised.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the transport does not carry what is attached.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): the peer allows no descriptors, or the server refused this
    ///   client (`unix`, `packet`).
    /// - [`ErrorKind::Busy`](crate::ErrorKind::Busy): the server refused this client because of a limit (`unix`,
    ///   `packet`).
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    #[doc(alias = "send_info")]
    #[inline]
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.sender.send(payload)
    }

    /// Sends one message, and gives up after `timeout`.
    ///
    /// If a part of the message is in the channel when the timeout passes, the call buffers the rest and returns `Ok`.
    /// The rest is written by the next `send` or `flush`, or while `recv` waits. After `TimedOut` nothing of the
    /// message was sent, so sending it again does not duplicate it.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Connection::send), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn send_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.sender.send_timeout(payload, timeout)
    }

    /// Sends one message without blocking.
    ///
    /// If the channel takes only a part of the message, the call buffers the rest as
    /// [`send_timeout`](Connection::send_timeout) does, and returns `Ok`. Until the rest is written, `try_send` returns
    /// `Full`.
    ///
    /// Dropping the connection writes only what the channel accepts immediately. If the rest does not fit, the peer
    /// receives the error [`Truncated`](crate::ErrorKind::Truncated) in place of the message.
    /// [`flush`](Connection::flush), [`finish`](Connection::finish) and [`close`](Connection::close) wait until the
    /// rest is written.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent. [`TrySendError::Failed`] carries the
    /// errors of [`send`](Connection::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        self.sender.try_send(payload)
    }

    /// Buffers a message, to be written together with the next ones. See [`Sender::feed`].
    ///
    /// If the message does not fit in the 64 KiB buffer, or has attachments, the call writes the buffer and sends the
    /// message. Only in this case does it block. `recv` writes the buffer before it blocks, so waiting for a reply to a
    /// buffered request works.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Connection::send).
    #[inline]
    pub fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.sender.feed(payload)
    }

    /// Buffers a message as [`feed`](Connection::feed) does, and gives up after `timeout` when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Connection::send_timeout).
    pub fn feed_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.sender.feed_timeout(payload, timeout)
    }

    /// Writes all buffered messages. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer has disconnected.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    pub fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Writes all buffered messages, and gives up after `timeout`. What was not written stays buffered.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Connection::flush), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.sender.flush_timeout(timeout)
    }

    /// Writes buffered messages without blocking.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]: some bytes stay buffered. [`TrySendError::Failed`] carries the errors of
    /// [`flush`](Connection::flush).
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.sender.try_flush()
    }

    /// Receives one message. Blocks until a whole message has arrived. Returns `None` at the end of the stream: the
    /// peer has ended this direction, and all of its messages were received.
    ///
    /// Writes buffered messages before it waits. An error of that write is not returned here, but by the next `send` or
    /// `flush`.
    ///
    /// # Errors
    ///
    /// After an error other than a failed system call and `Busy`, the connection receives nothing further.
    ///
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the peer disconnected mid-message.
    /// - [`ErrorKind::Busy`](crate::ErrorKind::Busy), on a server: a message that has not arrived completely needs more
    ///   memory than the client may take ([`memory_max`](crate::ServerOptions::memory_max)). Nothing is lost. End the
    ///   connection, or receive again when other messages are complete.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused), [`ErrorKind::Busy`](crate::ErrorKind::Busy), on a client:
    ///   the server refused it (`unix`, `packet`). The text has the reason. Over `unix` the kernel must support
    ///   out-of-band bytes (Linux 5.15, `CONFIG_AF_UNIX_OOB`); otherwise a refusal looks like the end.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer closed without reading all that this
    ///   side sent. This replaces `None` where the transport can tell: not on `fifo`, and on `shm` only until this side
    ///   calls [`finish`](Connection::finish).
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message is longer than the limit. The
    ///   call fails before it allocates memory for the excess. On `packet`, the pieces that arrived before are
    ///   discarded.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol, or sent more descriptors
    ///   than this side allows ([`fds_max`](crate::ConnectOptions::fds_max)).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed, or the descriptor table of this process is full
    ///   and the descriptors of a message were lost.
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        self.recv_message(Deadline::NEVER)
    }

    /// Receives one message, and gives up after `timeout`. A partially received message is kept for the next call.
    ///
    /// The connection does not know which message answers which request. After `TimedOut`, an answer that arrives late
    /// is what the next `recv` returns. A program that goes on with the connection puts a number into each request and
    /// its answer, and ignores answers with another number. Otherwise close the connection, and connect again.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        self.recv_message(Deadline::after(timeout))
    }

    fn recv_message(&mut self, deadline: Deadline) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_until(&mut message, deadline)?.then(message))
    }

    /// Receives one message without blocking.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives one message into a `Vec` of the caller. Replaces the contents of the `Vec` with the message and returns
    /// its length in bytes. Returns `None` at the end of the stream. After an error or `None` the contents are
    /// unspecified. Descriptors of the message are closed. See [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv).
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
        if self.receiver.incoming.pop_buffered(bytes) {
            return Ok(Some(bytes.len()));
        }
        Message::receive_into(bytes, |message| self.recv_until(message, Deadline::NEVER))
    }

    /// Receives one message as [`recv_into`](Connection::recv_into) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Connection::recv_timeout).
    pub fn recv_into_timeout(&mut self, bytes: &mut Vec<u8>, timeout: Duration) -> Result<Option<usize>> {
        let deadline = Deadline::after(timeout);
        Message::receive_into(bytes, |message| self.recv_until(message, deadline))
    }

    /// Receives one message as [`recv_into`](Connection::recv_into) does, without blocking.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, TryRecvError> {
        self.receiver.try_recv_into(bytes)
    }

    #[cfg(feature = "serde")]
    pub(crate) fn common(&self) -> &Common {
        self.receiver.common()
    }

    /// Receives one message. Writes buffered messages before it waits, because the peer may wait for them.
    pub(crate) fn recv_until(&mut self, out: &mut Message, deadline: Deadline) -> Result<Received> {
        let Self { sender, receiver } = self;
        if receiver.incoming.pop_buffered(&mut out.bytes) {
            out.fds.clear();
            return Ok(Received::Message);
        }
        if sender.outgoing().pending() == 0 {
            if sender.take_has_sent() {
                receiver.expect_answer();
            }
            return receiver.recv_alone(out, deadline);
        }
        match receiver.recv_now(out)? {
            Received::Empty => {}
            received => return Ok(received),
        }
        // An error of sending does not keep this side from receiving. The next send returns it.
        let mut flushing = sender.try_flush().is_err_and(|error| error.is_full());
        receiver.recv_until(out, deadline, |receiver_fd| {
            flushing = flushing && sender.try_flush().is_err_and(|error| error.is_full());
            match sender.send_fd() {
                Some(sender_fd) if flushing => {
                    let mut fds = [
                        PollFd::from_borrowed_fd(receiver_fd, PollFlags::IN),
                        PollFd::from_borrowed_fd(sender_fd, PollFlags::OUT),
                    ];
                    wait(&mut fds, deadline)
                }
                _ => wait_for(receiver_fd, PollFlags::IN, deadline),
            }
        })
    }

    /// Returns true if [`recv`](Connection::recv) would return without waiting, in cases that polling
    /// [`recv_fd`](Connection::recv_fd) need not report: a message, the end of the stream or an error is already
    /// available to this side.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    /// Returns an iterator over the messages that blocks for each. It ends at the end of the stream, or after an error.
    ///
    /// The iterator borrows the connection mutably. To reply inside the loop, use `while let Some(message) =
    /// connection.recv()?`.
    pub fn iter(&mut self) -> Iter<'_> {
        self.receiver.iter()
    }

    /// Returns an iterator over the messages that have arrived. It ends when [`recv`](Connection::recv) would block, at
    /// the end of the stream, or after an error.
    pub fn try_iter(&mut self) -> TryIter<'_> {
        self.receiver.try_iter()
    }

    /// Writes all buffered messages, then ends sending (half-close): the peer receives `None` after the last message.
    /// Receiving continues. Further calls have no effect.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer disconnected before all buffered
    ///   messages were written.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// Ends sending as [`finish`](Connection::finish) does, and gives up after `timeout`. After a timeout this side can
    /// still send, and the unwritten bytes stay buffered.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Connection::finish), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.sender.finish_timeout(timeout)
    }

    /// Returns both halves without splitting them: dropping one does not end its direction.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn into_halves(self) -> (Sender, Receiver) {
        let Self { sender, receiver } = self;
        (sender, receiver)
    }

    /// Splits the connection into its two directions, for two threads. From then on, dropping one half ends its
    /// direction and leaves the other one open.
    ///
    /// Buffered messages stay in the [`Sender`]. [`Receiver::recv`] does not write them. The server counts the
    /// connection until both halves are dropped.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, mut receiver } = self;
        sender.detach();
        receiver.incoming.detach();
        (sender, receiver)
    }

    /// Writes all buffered messages, then closes the connection, also if writing fails. Blocks while the channel is
    /// full. `Ok` means that the bytes are in the channel, not that the peer has read them.
    ///
    /// Dropping the connection does the same without blocking; buffered messages that a full channel does not accept
    /// are then lost.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): messages were buffered, and the peer has
    ///   disconnected.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    #[doc(alias = "disconnect_from")]
    pub fn close(mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Writes all buffered messages and ends the connection, and gives up writing after `timeout`. The connection is
    /// ended in any case.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Connection::close), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): some messages
    /// were lost.
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.sender.flush_to_close(Deadline::after(timeout))
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.receiver.peer()
    }

    /// Returns a new pidfd of the peer's process (`SO_PEERPIDFD`, Linux 6.5). The caller owns it, and it is
    /// close-on-exec. It refers to that process alone, even after the process id was reused, and becomes readable when
    /// the process ends.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] on transports without peer credentials of the kernel (`fifo`), and on kernels
    /// without `SO_PEERPIDFD` (before Linux 6.5, or gVisor). Otherwise the error of getsockopt(2), for example
    /// `EACCES` where a security policy forbids it.
    ///
    /// # Platform
    ///
    /// Linux.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        self.receiver.incoming.peer_pidfd()
    }

    /// Returns the transport of this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.receiver.transport()
    }

    /// Returns the capabilities of this connection.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.receiver.common().capabilities()
    }

    /// Returns a borrowed descriptor for poll(2) that is readable when a receive may make progress. Call
    /// [`has_message`](Connection::has_message) before each poll. Do not read, write or close the descriptor.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.recv_fd()
    }

    /// Returns a borrowed descriptor for poll(2) that is writable when a send may make progress, and in error or hung
    /// up when the peer has disconnected. Do not read, write or close it. Returns `None` after
    /// [`finish`](Connection::finish).
    ///
    /// If the peer has dropped only its [`Receiver`], the descriptor stays writable on `unix`, and the next send
    /// returns the error.
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sender.send_fd()
    }
}

impl<'a> IntoIterator for &'a mut Connection {
    type Item = Result<Message>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.common().debug(f, "Connection")
    }
}
