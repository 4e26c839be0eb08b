//! A private two-way channel of messages, and its two halves.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::backend::Link;
use crate::endpoint::{Common, OtherSide};
use crate::error::{ErrorKind, Operation, Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::payload::Payload;
use crate::peer::Peer;
use crate::receiver::{Iter, Receiver, TryIter};
use crate::sender::Sender;
use crate::shm::stats::Direction;
use crate::standby::{Served, Turns};
use crate::sys::fork::Process;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, is_hung_up};
use crate::wire::stats::WaitKind;

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
/// | [`recv`] | [`recv_timeout`] | [`try_recv`], [`try_recv_over`], [`spin_recv`], [`spin_recv_over`] |
/// | [`recv_into`] | [`recv_into_timeout`] | [`try_recv_into`] |
/// | [`recv_batch`] | [`recv_batch_timeout`] | [`try_recv_batch`] |
/// | [`finish`] | [`finish_timeout`] | |
/// | [`close`] | [`close_timeout`] | dropping it, [`abort`] |
/// | [`wait_closed`] | [`wait_closed_timeout`] | [`is_closed`] |
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
/// [`try_recv_over`]: Connection::try_recv_over
/// [`spin_recv`]: Connection::spin_recv
/// [`spin_recv_over`]: Connection::spin_recv_over
/// [`recv_into`]: Connection::recv_into
/// [`recv_into_timeout`]: Connection::recv_into_timeout
/// [`try_recv_into`]: Connection::try_recv_into
/// [`recv_batch`]: Connection::recv_batch
/// [`recv_batch_timeout`]: Connection::recv_batch_timeout
/// [`try_recv_batch`]: Connection::try_recv_batch
/// [`finish`]: Connection::finish
/// [`finish_timeout`]: Connection::finish_timeout
/// [`close`]: Connection::close
/// [`close_timeout`]: Connection::close_timeout
/// [`abort`]: Connection::abort
/// [`wait_closed`]: Connection::wait_closed
/// [`wait_closed_timeout`]: Connection::wait_closed_timeout
/// [`is_closed`]: Connection::is_closed
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
    /// Creates one end of the connection between a server of this name and a client.
    pub(crate) fn new(link: Link, display_name: Arc<str>, spin_limit: u32) -> Self {
        // Only a server counts its connections.
        let other_side = if link.permit.is_some() { OtherSide::Client } else { OtherSide::Server };
        Self::to(other_side, link, display_name, spin_limit)
    }

    /// Creates one end of a connection to this peer.
    pub(crate) fn to(other_side: OtherSide, link: Link, display_name: Arc<str>, spin_limit: u32) -> Self {
        let Link { transport, incoming, outgoing, peer, permit } = link;
        let message_max = incoming.message_max().bytes();
        let process = Process::current();
        let turns = Turns::new();
        let common =
            Common { display_name, other_side, transport, peer, message_max, spin_limit, process, turns, permit };
        let common = Arc::new(common);
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
    /// is what the next `recv` returns. Close the connection and connect again, or use a [`Caller`](crate::Caller),
    /// which puts a number into each request and its answer.
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

    /// Receives one message, and polls for a moment before it gives up: at most
    /// [`spin_limit`](crate::ConnectOptions::spin_limit) times, which takes some microseconds.
    ///
    /// For a program that waits by itself, for example because a signal or another descriptor must end the wait. After
    /// [`Empty`](TryRecvError::Empty) it waits on [`recv_fd`](Connection::recv_fd). An answer that comes at once is
    /// received without that, as [`recv`](Connection::recv) receives it. While a long message arrives, the call polls
    /// on, and returns when the peer has paused. Does not write buffered messages.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::{Connection, Transport, TryRecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut one, mut other) = Connection::pair(Transport::Unix)?;
    /// assert!(matches!(other.spin_recv(), Err(TryRecvError::Empty)));
    /// one.send("hello")?;
    /// assert_eq!(other.spin_recv()?.expect("a message"), b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn spin_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        let mut message = Message::default();
        Ok(self.spin_recv_over(&mut message)?.then_some(message))
    }

    /// Receives one message over an old one, as [`spin_recv`](Connection::spin_recv) does: replaces its bytes and its
    /// descriptors, and uses its memory. Returns false at the end of the stream. Unless it returns true, the contents
    /// of `message` are unspecified.
    ///
    /// [`Message::default`] is an empty message to begin with. As with [`recv_into`](Connection::recv_into), nothing is
    /// allocated for long messages once the buffers are large enough. Unlike that, this keeps descriptors.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::{Connection, Message, Transport, TryRecvError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut one, mut other) = Connection::pair(Transport::Unix)?;
    /// let mut message = Message::default();
    /// for text in ["one", "two"] {
    ///     one.send(text)?;
    ///     assert!(other.spin_recv_over(&mut message)?);
    ///     assert_eq!(&*message, text.as_bytes());
    /// }
    /// assert!(matches!(other.spin_recv_over(&mut message), Err(TryRecvError::Empty)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn spin_recv_over(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        if self.sender.take_has_sent() {
            self.receiver.expect_answer();
        }
        self.receiver.spin_recv_over(message)
    }

    /// Receives one message over an old one, as [`spin_recv_over`](Connection::spin_recv_over) does, without polling
    /// before it gives up.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    pub fn try_recv_over(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        self.receiver.try_recv_over(message)
    }

    /// Receives one message into a `Vec` of the caller. Replaces the contents of the `Vec` with the message and returns
    /// its length in bytes. Returns `None` at the end of the stream. After an error or `None` the contents are
    /// unspecified. Descriptors of the message are closed. See [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv).
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
        if self.receiver.pop_buffered(bytes) {
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

    pub(crate) fn common(&self) -> &Common {
        self.receiver.common()
    }

    /// Receives one message. Writes buffered messages before it waits, because the peer may wait for them.
    pub(crate) fn recv_until(&mut self, out: &mut Message, deadline: Deadline) -> Result<Received> {
        let Self { sender, receiver } = self;
        if receiver.pop_buffered(&mut out.bytes) {
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
        let was_full = flushing;
        let received = receiver.recv_asleep(out, deadline, |common, receiver_fd| {
            flushing = flushing && sender.try_flush().is_err_and(|error| error.is_full());
            match sender.send_fd() {
                Some(sender_fd) if flushing => {
                    common.note_waiting(Direction::Sent, WaitKind::Space);
                    common.sleep_both_ways(receiver_fd, sender_fd, deadline)
                }
                _ => {
                    common.note_awake(Direction::Sent);
                    common.sleep(receiver_fd, PollFlags::IN, deadline)
                }
            }
        });
        if was_full {
            receiver.shared().note_awake(Direction::Sent);
        }
        received
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

    /// Ends the connection with an error for the peer. Where [`close`](Connection::close) tells the peer that it has
    /// everything, this tells it that something is missing.
    ///
    /// The peer receives [`Truncated`](crate::ErrorKind::Truncated) or
    /// [`Disconnected`](crate::ErrorKind::Disconnected), and not `None`, after messages that are in the channel. It
    /// gets all of them, except that over `shm` the last one is dropped if the channel is full. Buffered messages are
    /// discarded. The call does not block, and cannot fail. Messages of the peer that were not received are lost.
    ///
    /// A peer without parlour learns it, too: over `unix` and `fifo` its stream ends inside a frame (docs/wire.md,
    /// section 1).
    ///
    /// After [`finish`](Connection::finish) the peer has been told that this direction is complete, and that stays so.
    /// For the other direction this is then the same as dropping the connection.
    ///
    /// # Platform
    ///
    /// A full channel needs space for one more byte. If the system does not grant that, the peer gets a clean end after
    /// the messages in the channel, and a warning is logged: over `fifo` if this user has too many pages in pipes
    /// (`pipe-user-pages-soft`, pipe(7)), and over `unix` if `net.core.wmem_max` is less than the send buffer that
    /// sockets have by default.
    ///
    /// # Fork
    ///
    /// Unlike a drop, this ends the connection for a forked process that has a copy of it, too; over `fifo` the peer
    /// receives the error when that process has closed its copy. No other process may be sending at the same time.
    ///
    /// In a forked child the peer may get a clean end: if the channel had taken only a part of a message at the fork,
    /// the child does not know when the parent sends the rest. So abort in the process that sends.
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::{Connection, ErrorKind, Transport};
    ///
    /// # fn main() -> parlour::Result<()> {
    /// let (mut source, mut sink) = Connection::pair(Transport::Unix)?;
    /// source.send("the first half")?;
    /// // The second half cannot be had.
    /// source.abort();
    /// assert_eq!(sink.recv()?.expect("a message"), b"the first half");
    /// assert_eq!(sink.recv().unwrap_err().kind(), ErrorKind::Truncated);
    /// # Ok(())
    /// # }
    /// ```
    pub fn abort(mut self) {
        self.sender.abort_now();
        self.receiver.incoming.abort();
    }

    /// Returns true if the peer has closed the connection: it neither sends nor receives any more. It has closed or
    /// dropped its end, its process has ended, or it has ended sending after this side did.
    ///
    /// Makes one system call, or two over `fifo`, and receives nothing. Messages that the peer sent before can still be
    /// received. A peer that has only called [`finish`](Connection::finish) has not closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed_fd().is_none()
    }

    /// Blocks until the peer has closed the connection, as [`is_closed`](Connection::is_closed) defines it. Receives
    /// nothing: messages that the peer sent before can still be received. Messages that this side has buffered are not
    /// written; call [`flush`](Connection::flush) before.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::thread;
    ///
    /// use parlour::{Connection, Transport};
    ///
    /// # fn main() -> parlour::Result<()> {
    /// let (mut worker, owner) = Connection::pair(Transport::Unix)?;
    /// worker.send("a result that nobody has received yet")?;
    /// let owning = thread::spawn(move || drop(owner));
    /// worker.wait_closed()?;
    /// assert!(worker.is_closed());
    /// # owning.join().unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_closed(&self) -> Result<()> {
        self.wait_closed_until(Deadline::NEVER)
    }

    /// Waits as [`wait_closed`](Connection::wait_closed) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`wait_closed`](Connection::wait_closed), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn wait_closed_timeout(&self, timeout: Duration) -> Result<()> {
        self.wait_closed_until(Deadline::after(timeout))
    }

    fn wait_closed_until(&self, deadline: Deadline) -> Result<()> {
        const RECV: Operation = Operation::Receive;
        while let Some(fd) = self.closed_fd() {
            let common = self.common();
            if !common.sleep(fd, PollFlags::empty(), deadline).map_err(|error| common.io(RECV, error))? {
                return Err(common.error(ErrorKind::TimedOut, RECV, "the peer has not closed before the deadline"));
            }
        }
        Ok(())
    }

    /// Returns a borrowed descriptor for poll(2) that is in error or hung up when the peer has closed the connection,
    /// or `None` if it has closed. Do not read, write or close it.
    ///
    /// Poll it with no events: `POLLERR` and `POLLHUP` are always reported. Then call this function again, because over
    /// `fifo` each direction has a descriptor of its own, and they end one after the other. Only `None` means that the
    /// peer has closed.
    #[must_use]
    pub fn closed_fd(&self) -> Option<BorrowedFd<'_>> {
        let sending = self.send_fd().filter(|_| self.transport() == Transport::Fifo);
        sending.into_iter().chain([self.recv_fd()]).find(|fd| !is_hung_up(*fd))
    }

    /// Returns a borrowed descriptor for poll(2) that is readable when another process asks for the name of the server
    /// that has accepted this connection ([`take_over`](crate::ServerOptions::take_over)), or `None` if this side has
    /// nothing to hand over. Do not read, write or close it.
    ///
    /// For a program that waits for this client by itself, on [`recv_fd`](Connection::recv_fd), and accepts no clients
    /// meanwhile. It polls this descriptor, too, and calls [`serve_hand_over`](Connection::serve_hand_over). Calls that
    /// block do so by themselves. Ask for the descriptor before each wait, because it is `None` after a hand-over.
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::{Connection, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("unix:{}/service", base.path().display());
    /// let server = Server::bind(&name)?;
    /// let client = Connection::connect(&name)?;
    /// let served = server.accept()?;
    /// assert!(served.hand_over_fd().is_some());
    /// assert!(client.hand_over_fd().is_none());
    /// // Nobody asks for the name.
    /// assert!(served.serve_hand_over());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hand_over_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.common().standby()?.poller().as_fd())
    }

    /// Answers a process that asks for the name of the server that has accepted this connection. Does not block. When
    /// the name has moved, the calls of the server that accept return
    /// [`HandedOver`](crate::ErrorKind::HandedOver).
    ///
    /// Returns false if another thread works on the server. [`hand_over_fd`](Connection::hand_over_fd) may then stay
    /// readable: wait some milliseconds without it.
    pub fn serve_hand_over(&self) -> bool {
        self.common().standby().is_none_or(|standby| standby.serve() != Served::Elsewhere)
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
    /// [`io::ErrorKind::Unsupported`] on transports without peer credentials of the kernel (`fifo`), on the parent's
    /// end of a connection to a child ([`spawn`](Connection::spawn), where the kernel recorded this process), and on
    /// kernels without `SO_PEERPIDFD` (before Linux 6.5, or gVisor). Otherwise the error of getsockopt(2), for example
    /// `EACCES` where a security policy forbids it.
    ///
    /// # Platform
    ///
    /// Linux.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        self.receiver.peer_pidfd()
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
