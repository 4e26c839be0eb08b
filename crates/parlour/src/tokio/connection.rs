//! A private two-way channel of messages.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::Interest;

use super::receiver::Receiver;
use super::registration::registration_error;
use super::sender::{Parts, Sender, Sending};
use crate::error::{Error, Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::peer::Peer;
use crate::shared_bytes::SharedBytes;
use crate::sys::readiness::Readiness;
use crate::transport::{Capabilities, Transport};

/// A private two-way channel of messages with one peer, for tasks. The blocking one is [`crate::Connection`].
///
/// Messages arrive whole, in order, at most once. `send` is done when the kernel has the message, which says nothing
/// about the peer having read it; a full channel makes it wait, so a peer that does not read holds its sender up and
/// nothing grows. The other side's end is `None` from `recv`, after everything that it sent.
///
/// Both directions are independent: [`split`](Connection::split) gives one to each of two tasks. Dropping the
/// connection ends both; [`close`](Connection::close) does so after what was fed is sent.
///
/// It is a [`Stream`] of messages and a [`Sink`] for anything that is bytes, as its [`Receiver`] and its [`Sender`] are.
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

/// A connection that the runtime cannot watch, of which the half is left that says whose it was.
pub(super) struct Unwatched {
    pub(super) half: Box<crate::receiver::Receiver>,
    pub(super) error: io::Error,
}

impl Connection {
    /// Takes over a connection of the blocking API, for the runtime that is current.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a runtime; [`ErrorKind::Io`](crate::ErrorKind::Io)
    /// when the system cannot watch its descriptors.
    pub fn from_blocking(connection: crate::connection::Connection) -> Result<Self> {
        Self::watched(connection)
            .map_err(|unwatched| registration_error("use", unwatched.half.common().object(), unwatched.error))
    }

    /// [`from_blocking`](Self::from_blocking), with what is left of a connection that cannot be watched.
    pub(super) fn watched(connection: crate::connection::Connection) -> Result<Self, Unwatched> {
        let (sender, mut receiver) = connection.into_halves();
        // A descriptor is registered once: a socket for both directions. Of a pair of FIFOs the one that is written to is
        // registered when there is something to wait for, which is not often.
        let interest = match receiver.transport() {
            Transport::Fifo => Interest::READABLE,
            Transport::Shm | Transport::Packet | Transport::Unix => Interest::READABLE | Interest::WRITABLE,
        };
        match Readiness::register(receiver.incoming.share_fd(), interest) {
            Ok(readiness) => Ok(Self { sender: Sender::new(sender), receiver: Receiver::new(receiver, readiness) }),
            Err(error) => Err(Unwatched { half: Box::new(receiver), error }),
        }
    }

    /// Connects to the server with this name, with the defaults of [`ConnectOptions`]. See [`crate::Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::connect`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes it leaves nothing behind. The server may see a client that has gone.
    #[doc(alias = "connect_to")]
    pub async fn connect(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().connect_tokio(address).await
    }

    /// Sends one message of any length from 0 to the limit. WaitSet while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): nothing was sent, and the connection is as before.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer receives no more; no signal is raised.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has sent the message or nothing of it, and
    /// [`messages_taken`](Connection::messages_taken) tells which. Of a message that was begun the rest is kept, and goes out
    /// before anything else: with the next `send` or `flush`, or while this connection waits in `recv`.
    #[doc(alias = "send_info")]
    pub fn send<'a>(&'a mut self, message: &'a [u8]) -> impl Future<Output = Result<()>> + Send + 'a {
        Sending::new(&mut self.sender, self.receiver.of_both(), Parts::One(message), &[])
    }

    /// [`send`](Connection::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    ///
    /// # Cancel safety
    ///
    /// That of `send`.
    pub async fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        Sending::new(&mut self.sender, self.receiver.of_both(), Parts::Some(parts), &[]).await
    }

    /// Sends one message with open descriptors: the receiver finds copies of them in [`Message::fds`]. Ours stay open, and
    /// ours to close. See [`crate::Sender::send_with_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::send_with_fds`].
    ///
    /// # Cancel safety
    ///
    /// That of `send`: the descriptors go with the message or not at all.
    pub async fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.sender.send_fds(self.receiver.of_both(), message, fds).await
    }

    /// Sends one message with blocks of memory, which are never copied. See [`crate::Sender::send_shared`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::send_shared`].
    ///
    /// # Cancel safety
    ///
    /// That of `send`: the blocks go with the message or not at all.
    pub async fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.sender.send_blocks(self.receiver.of_both(), message, blocks).await
    }

    /// [`send`](Connection::send) that does not wait. See [`crate::Sender::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back; [`TrySendError::Failed`] has the errors of `send`.
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        self.sender.try_send(message)
    }

    /// Takes a message to go with the next ones. See [`Sender::feed`].
    ///
    /// Before this connection waits in `recv` it sends what was fed, so a reply is never waited for in vain.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    ///
    /// # Cancel safety
    ///
    /// That of `send`.
    pub async fn feed(&mut self, message: &[u8]) -> Result<()> {
        self.sender.feed_or_send(self.receiver.of_both(), message).await
    }

    /// Sends what was fed. WaitSet while the channel is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, what was not sent stays, and goes out in order with the next call that sends.
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|cx| self.sender.poll_flush_fed(self.receiver.of_both(), cx)).await
    }

    /// [`flush`](Connection::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn try_flush(&mut self) -> Result<bool> {
        self.sender.try_flush()
    }

    /// WaitSet until a whole message has arrived. `None`: the other side has ended this direction, and all of its
    /// messages were received.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the other side went in the middle of a message.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): it closed without reading all that this side sent,
    ///   instead of `None`, where the transport can tell. See [`crate::Connection::recv`].
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): it announced more than the limit; nothing was
    ///   allocated for it, and this direction is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has received nothing: what has come of a message is kept.
    #[doc(alias = "recv_info")]
    pub async fn recv(&mut self) -> Result<Option<Message>> {
        // What has come of a message is not in here, so it need not be kept while a task waits.
        poll_fn(|cx| {
            let mut message = Message::default();
            self.poll_recv(cx, &mut message).map_ok(|received| received.then_some(message))
        })
        .await
    }

    /// [`recv`](Connection::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end. See
    /// [`crate::Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of `recv`.
    ///
    /// # Cancel safety
    ///
    /// That of `recv`.
    pub async fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        poll_fn(|cx| Message::receive_into(bytes, |message| self.poll_recv(cx, message))).await
    }

    /// [`recv`](Connection::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Whether a receive has an answer, a message or the end, that is here already.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    #[cfg(feature = "serde")]
    pub(super) fn common(&self) -> &crate::endpoint::Common {
        self.receiver.common()
    }

    /// Receives, and before it waits sends what was fed: the peer may be waiting for it.
    fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<bool>> {
        let received = self.receiver.poll_recv(cx, out);
        if received.is_pending() && self.sender.has_fed() {
            // What cannot be sent is no reason not to receive; the next send tells.
            let _ = self.sender.poll_flush_fed(self.receiver.of_both(), cx);
        }
        received
    }

    /// Ends sending, after what was fed is sent; the peer receives `None` after the last message. Receiving goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when the peer has gone before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, sending goes on, and what was not sent stays as with [`flush`](Connection::flush).
    pub async fn finish(&mut self) -> Result<()> {
        poll_fn(|cx| self.sender.poll_finish(self.receiver.of_both(), cx)).await
    }

    /// The two directions, for two tasks. From now on, dropping one ends its direction and leaves the other.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, receiver } = self;
        let (receiver, readiness) = receiver.detach();
        sender.detach(readiness);
        (sender, receiver)
    }

    /// Sends what was fed, and ends the connection. Dropping it does the same without waiting: then what a full channel
    /// does not take at once is lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when something was still to be sent and the peer has
    /// gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes it ends the connection, as dropping that does.
    #[doc(alias = "disconnect_from")]
    pub async fn close(mut self) -> Result<()> {
        poll_fn(|cx| self.sender.poll_flush_fed(self.receiver.of_both(), cx)).await
    }

    /// How many messages this side has taken; see [`Sender::messages_taken`].
    #[must_use]
    pub fn messages_taken(&self) -> u64 {
        self.sender.messages_taken()
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
    /// Those of [`crate::Connection::peer_pidfd`].
    ///
    /// # Platform
    ///
    /// Linux.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        self.receiver.peer_pidfd()
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.receiver.transport()
    }

    /// What this connection can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.receiver.capabilities()
    }
}

impl Stream for Connection {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { sender, receiver } = self.get_mut();
        let item = receiver.poll_item(cx);
        if item.is_pending() && sender.has_fed() {
            // As in `recv`.
            let _ = sender.poll_flush_fed(receiver.of_both(), cx);
        }
        item
    }
}

impl<M: AsRef<[u8]>> Sink<M> for Connection {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, receiver } = self.get_mut();
        sender.poll_room(receiver.of_both(), cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<()> {
        self.get_mut().sender.start(message.as_ref())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, receiver } = self.get_mut();
        sender.poll_flush_fed(receiver.of_both(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, receiver } = self.get_mut();
        sender.poll_finish(receiver.of_both(), cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.fmt_as(f, "Connection")
    }
}
