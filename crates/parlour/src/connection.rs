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
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait, wait_for};

/// A private two-way channel of messages with one peer.
///
/// Messages arrive whole, in order and at most once. [`send`](Connection::send) returns when the kernel, or the shared
/// memory, has the message; the peer may not have read it yet. A full channel makes `send` block (backpressure), so a peer
/// that does not read slows its sender down, and no buffer grows. [`recv`](Connection::recv) returns `None` at the end of
/// the stream, after everything that the peer sent.
///
/// The two directions are independent: [`split`](Connection::split) gives one to each of two threads. Dropping the
/// connection ends both, as [`close`](Connection::close) does.
///
/// # Waiting
///
/// Every call that can block has a variant with a timeout and one that never blocks:
///
/// | blocks | gives up with [`TimedOut`](crate::ErrorKind::TimedOut) | never blocks |
/// |---|---|---|
/// | [`send`](Connection::send) | [`send_timeout`](Connection::send_timeout) | [`try_send`](Connection::try_send) |
/// | [`feed`](Connection::feed) | [`feed_timeout`](Connection::feed_timeout) | |
/// | [`flush`](Connection::flush) | [`flush_timeout`](Connection::flush_timeout) | [`try_flush`](Connection::try_flush) |
/// | [`recv`](Connection::recv) | [`recv_timeout`](Connection::recv_timeout) | [`try_recv`](Connection::try_recv) |
/// | [`recv_into`](Connection::recv_into) | [`recv_into_timeout`](Connection::recv_into_timeout) | [`try_recv_into`](Connection::try_recv_into) |
/// | [`finish`](Connection::finish) | [`finish_timeout`](Connection::finish_timeout) | |
/// | [`close`](Connection::close) | [`close_timeout`](Connection::close_timeout) | dropping it |
///
/// # Poll loops
///
/// [`recv_fd`](Connection::recv_fd) and [`send_fd`](Connection::send_fd) are for waiting, with `poll(2)` and the like,
/// and for nothing else. One read may bring several messages, so before waiting, call [`try_recv`](Connection::try_recv)
/// until it returns [`Empty`](TryRecvError::Empty), or check [`has_message`](Connection::has_message).
///
/// # Fork
///
/// A forked child has the connection too. Either process may use it while the other one drops it, or each may use one
/// direction. The peer sees the end of the stream when both have dropped it. The parent sends what was buffered before
/// the fork; flush before forking.
pub struct Connection {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Connection {
    pub(crate) fn new(link: Link, display_name: Arc<str>, spin_limit: u32) -> Self {
        let Link { transport, incoming, outgoing, peer, permit } = link;
        let message_max = incoming.message_max().bytes();
        let common = Arc::new(Common { display_name, transport, peer, message_max, spin_limit, _permit: permit });
        let sender = Sender::new(Arc::clone(&common), outgoing);
        Self { sender, receiver: Receiver::new(common, incoming) }
    }

    /// Sends one message of 0 bytes up to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Nothing of the message was sent.
    ///
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message is longer than the limit, or has more
    ///   than 253 descriptors. The connection is as before.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer does not receive any more. No signal is
    ///   raised.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the transport does not carry what is attached.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): the peer allows no descriptors.
    #[doc(alias = "send_info")]
    #[inline]
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.sender.send(payload)
    }

    /// Sends one message, and gives up after `timeout`.
    ///
    /// A message of which the channel took a part cannot be taken back. If the timeout passes then, the rest is kept and
    /// the call succeeds. The rest goes out before anything else: with the next `send`, with `flush`, or while `recv`
    /// waits. So `Ok` means that the message is on its way, and an error means that nothing of it was sent: sending it
    /// again does not duplicate it.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Connection::send), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn send_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.sender.send_timeout(payload, timeout)
    }

    /// Sends one message without blocking.
    ///
    /// If the channel takes only a part of the message, the rest is kept as [`send_timeout`](Connection::send_timeout)
    /// keeps it, and the call succeeds. While a rest is kept, the channel is full.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent. [`TrySendError::Failed`] carries the errors
    /// of [`send`](Connection::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        self.sender.try_send(payload)
    }

    /// Buffers a message, to be written together with the next ones. See [`Sender::feed`].
    ///
    /// `recv` writes the buffer before it blocks, so waiting for a reply to a buffered request works.
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
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer has disconnected.
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

    /// Receives one message. Blocks until a whole message has arrived. Returns `None` at the end of the stream: the peer
    /// has ended this direction, and all of its messages were received.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the peer disconnected mid-message.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer closed without reading all that this side
    ///   sent. This replaces `None` where the transport can tell (not on `fifo`). A `unix` server that rejects a client
    ///   which has already sent something causes it, too.
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the peer announced more bytes than the limit.
    ///   Nothing was allocated, and this direction has ended.
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        self.recv_message(Deadline::NEVER)
    }

    /// Receives one message, and gives up after `timeout`. A partially received message is kept for the next call.
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

    /// Receives one message into a `Vec` of the caller, and returns its length in bytes. Returns `None` at the end of the
    /// stream. The contents of the `Vec` are replaced. See [`Receiver::recv_into`].
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

    /// Returns true if [`recv`](Connection::recv) would not block because data is buffered. Polling
    /// [`recv_fd`](Connection::recv_fd) does not show this.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    /// Returns an iterator over the messages that blocks for each. It ends at the end of the stream, or after an error.
    ///
    /// The iterator borrows the connection. [`recv`](Connection::recv) in a `while let` loop leaves it free for replies.
    pub fn iter(&mut self) -> Iter<'_> {
        self.receiver.iter()
    }

    /// Returns an iterator over the messages that have arrived. It ends when [`recv`](Connection::recv) would block, at
    /// the end of the stream, or after an error.
    pub fn try_iter(&mut self) -> TryIter<'_> {
        self.receiver.try_iter()
    }

    /// Writes all buffered messages, then ends sending (half-close): the peer receives `None` after the last message.
    /// Receiving goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer disconnected before.
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// Ends sending as [`finish`](Connection::finish) does, and gives up after `timeout`. Sending then goes on, and what
    /// was not written stays buffered.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Connection::finish), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.sender.finish_timeout(timeout)
    }

    /// Returns both halves, which still end together.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn into_halves(self) -> (Sender, Receiver) {
        let Self { sender, receiver } = self;
        (sender, receiver)
    }

    /// Splits the connection into its two directions, for two threads. From then on, dropping one half ends its direction
    /// and leaves the other one open.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, mut receiver } = self;
        sender.detach();
        receiver.incoming.detach();
        (sender, receiver)
    }

    /// Writes all buffered messages, and ends the connection. Blocks while the channel is full.
    ///
    /// Dropping the connection does the same without blocking; buffered messages that a full channel does not take are
    /// then lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): messages were buffered, and the peer has disconnected.
    #[doc(alias = "disconnect_from")]
    pub fn close(mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Writes all buffered messages and ends the connection, and gives up writing after `timeout`. The connection is ended
    /// in any case.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Connection::close), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): some messages were
    /// lost.
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.sender.flush_timeout(timeout)
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.receiver.peer()
    }

    /// Returns a pidfd of the peer's process (`SO_PEERPIDFD`, Linux 6.5). It refers to that process alone, even after the
    /// process id was reused, and becomes readable when the process ends.
    ///
    /// # Errors
    ///
    /// `Unsupported` on transports without peer credentials of the kernel (`fifo`); otherwise the error of the system call.
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

    /// Returns a descriptor that is readable when a receive may make progress. For waiting only.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.recv_fd()
    }

    /// Returns a descriptor that is writable when a send may make progress, and in error or hung up when the peer has
    /// disconnected. For waiting only. Returns `None` after [`finish`](Connection::finish).
    ///
    /// A peer that has dropped only its [`Receiver`] leaves the descriptor writable on `unix`; the next send returns the
    /// error.
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sender.send_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.common().debug(f, "Connection")
    }
}
