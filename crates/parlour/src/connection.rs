//! A private two-way channel of messages, and its two halves.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::backend::Link;
use crate::endpoint::Common;
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::peer::Peer;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::shared_bytes::SharedBytes;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait, wait_for};

/// A private two-way channel of messages with one peer.
///
/// Messages arrive whole, in order, at most once. `send` returns when the kernel has the message, which says nothing
/// about the peer having read it; a full channel makes it wait, so a peer that does not read holds its sender up and
/// nothing grows. The other side's end is `None` from `recv`, after everything that it sent.
///
/// Both directions are independent: [`split`](Connection::split) gives one to each of two threads. Dropping the
/// connection, like [`close`](Connection::close), ends both.
///
/// # Poll loops
///
/// [`recv_fd`](Connection::recv_fd) and [`send_fd`](Connection::send_fd) are for waiting, with poll(2) and the like,
/// and for nothing else. One read may bring many messages: before waiting, take them with
/// [`try_recv`](Connection::try_recv) until it says [`Empty`](TryRecvError::Empty), or ask
/// [`has_message`](Connection::has_message).
///
/// # Fork
///
/// A forked child has the connection too. Either process may go on with it while the other drops it (or each takes one
/// direction); the peer sees the end when both have let go. What was fed or kept before the fork is the parent's to send:
/// flush before.
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

    /// Sends one message of any length from 0 to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): nothing was sent, and the connection is as before.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer receives no more; no signal is raised.
    #[doc(alias = "send_info")]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.sender.send(message)
    }

    /// [`send`](Connection::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.sender.send_vectored(parts)
    }

    /// [`send`](Connection::send) that gives up after `timeout`. See [`Sender::send_timeout`] for what that means.
    ///
    /// # Errors
    ///
    /// Those of `send`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing of the message was sent.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.sender.send_timeout(message, timeout)
    }

    /// Sends a message with open descriptors, which the receiver finds in [`Message::fds`]. See [`Sender::send_with_fds`].
    ///
    /// # Errors
    ///
    /// - Those of `send`.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the transport carries none. `unix` and `packet` do.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): the other side allows none; nothing was sent.
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): there are more than 253.
    pub fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.sender.send_with_fds(message, fds)
    }

    /// [`send_with_fds`](Connection::send_with_fds) that gives up after `timeout`, as
    /// [`send_timeout`](Connection::send_timeout) does.
    ///
    /// # Errors
    ///
    /// Those of `send_with_fds`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing was sent.
    pub fn send_with_fds_timeout(&mut self, message: &[u8], fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<()> {
        self.sender.send_with_fds_timeout(message, fds, timeout)
    }

    /// Sends a message with blocks of memory that are not copied, however large; the receiver finds them with
    /// [`Message::take_shared`]. See [`Sender::send_shared`].
    ///
    /// # Errors
    ///
    /// - Those of `send`.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the transport cannot. `shm`, `packet` and `unix` can.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): the other side allows no descriptors, of which each block is one; nothing was sent.
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): there are more than 253.
    pub fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.sender.send_shared(message, blocks)
    }

    /// [`send_shared`](Connection::send_shared) that gives up after `timeout`, as
    /// [`send_timeout`](Connection::send_timeout) does.
    ///
    /// # Errors
    ///
    /// Those of `send_shared`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing was sent.
    pub fn send_shared_timeout(&mut self, message: &[u8], blocks: &[&SharedBytes], timeout: Duration) -> Result<()> {
        self.sender.send_shared_timeout(message, blocks, timeout)
    }

    /// [`send`](Connection::send) that does not wait. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back; [`TrySendError::Failed`] has the errors of `send`.
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        self.sender.try_send(message)
    }

    /// Takes a message to go with the next ones. See [`Sender::feed`].
    ///
    /// Before this connection sleeps in `recv` it sends what was fed, so a reply is never waited for in vain.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        self.sender.feed(message)
    }

    /// Sends what was fed. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }

    /// [`flush`](Connection::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn try_flush(&mut self) -> Result<bool> {
        self.sender.try_flush()
    }

    /// Blocks until a whole message has arrived. `None`: the other side has ended this direction, and all of its
    /// messages were received.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the other side went in the middle of a message.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): it closed without reading all that this side sent, instead of `None`, where the
    ///   transport can tell (not on `fifo`). So does a `unix` server that refuses a client which has sent something by then.
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): it announced more than the limit; nothing was allocated for it, and this
    ///   direction is over.
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_until(&mut message, Deadline::NEVER)?.then_some(message))
    }

    /// [`recv`](Connection::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end. Descriptors that
    /// come along are closed. See
    /// [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of `recv`.
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        if self.receiver.incoming.pop_buffered(bytes) {
            return Ok(true);
        }
        Message::receive_into(bytes, |message| self.recv_until(message, Deadline::NEVER))
    }

    /// [`recv`](Connection::recv) that gives up after `timeout`. Part of a message that has arrived by then is kept for
    /// the next call.
    ///
    /// # Errors
    ///
    /// Those of `recv`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_until(&mut message, Deadline::after(timeout))?.then_some(message))
    }

    /// [`recv`](Connection::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// [`try_recv`](Connection::try_recv) into a message of the caller's; `false` is the end.
    #[cfg(feature = "serde")]
    pub(crate) fn try_recv_into(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        self.receiver.try_recv_into(message)
    }

    #[cfg(feature = "serde")]
    pub(crate) fn common(&self) -> &Common {
        self.receiver.common()
    }

    /// Receives, and before it waits sends what was fed: the peer may be waiting for it.
    pub(crate) fn recv_until(&mut self, out: &mut Message, deadline: Deadline) -> Result<bool> {
        let Self { sender, receiver } = self;
        if receiver.incoming.pop_buffered(&mut out.bytes) {
            out.fds.clear();
            return Ok(true);
        }
        if sender.outgoing().pending() == 0 {
            if sender.take_has_sent() {
                receiver.expect_answer();
            }
            return receiver.recv_alone(out, deadline);
        }
        if let Some(received) = receiver.recv_now(out)? {
            return Ok(received);
        }
        // What cannot be sent is no reason not to receive; the next send tells.
        let mut flushing = matches!(sender.try_flush(), Ok(false));
        receiver.recv_until(out, deadline, |receiver_fd| {
            flushing = flushing && matches!(sender.try_flush(), Ok(false));
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

    /// Whether a receive has an answer, a message or the end, that it need not wait for and that
    /// [`recv_fd`](Connection::recv_fd) will not announce: it is here already.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    /// Ends sending, after what was fed is sent; the peer receives `None` after the last message. Receiving goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when the peer has gone before.
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// Both halves, which live and end together as before.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn into_halves(self) -> (Sender, Receiver) {
        let Self { sender, receiver } = self;
        (sender, receiver)
    }

    /// The two directions, for two threads. From now on, dropping one ends its direction and leaves the other.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, mut receiver } = self;
        sender.detach();
        receiver.incoming.detach();
        (sender, receiver)
    }

    /// Sends what was fed, and ends the connection. Dropping it does the same without waiting: then what a full channel
    /// does not take at once is lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when something was still to be sent and the peer has gone.
    #[doc(alias = "disconnect_from")]
    pub fn close(mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.receiver.peer()
    }

    /// A descriptor of the peer's process, for watching its life without the risk that its number is given to another.
    ///
    /// # Errors
    ///
    /// `Unsupported` on transports without kernel credentials (`fifo`); otherwise the system's error. (`SO_PEERPIDFD`,
    /// Linux 6.5.)
    ///
    /// # Platform
    ///
    /// Linux.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        self.receiver.incoming.peer_pidfd()
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.receiver.transport()
    }

    /// What this connection can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.receiver.common().capabilities()
    }

    /// Readable when a receive may go on. For waiting only.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.recv_fd()
    }

    /// Writable when a send may go on; in error or hung up when the peer has gone. (A peer that has only dropped its
    /// [`Receiver`] shows as writable on `unix`: the next send tells.) `None` once this side has finished. For waiting
    /// only.
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
