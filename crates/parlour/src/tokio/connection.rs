//! A private two-way channel of messages, for tasks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::process::{Child, Command};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::Interest;

use super::receiver::{Receiver, poll_into};
use super::registration::registration_error;
use super::sender::{Sender, Sending, Sends, until};
use crate::batch::Batch;
use crate::endpoint::Common;
use crate::error::{Error, Operation, Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::options::ConnectOptions;
use crate::payload::Payload;
use crate::peer::Peer;
use crate::sys::readiness::Readiness;
use crate::transport::{Capabilities, Transport};
use crate::wait::is_hung_up;

/// A private two-way channel of messages with one peer, for tasks. [`crate::Connection`] is the blocking one.
///
/// Messages arrive whole, in order and at most once. [`send`](Connection::send) completes when the message is
/// in the kernel's buffer or in the ring; the peer may not have read it yet. A full channel makes `send` wait
/// (backpressure), so a peer that does not read slows its sender down. [`recv`](Connection::recv) returns `None`
/// at the end of the stream, after everything that the peer sent.
///
/// The two directions are independent: [`split`](Connection::split) gives one to each of two tasks. Dropping the
/// connection ends both. To write all buffered messages first, call [`close`](Connection::close).
///
/// A connection is a [`Stream`] of messages, and a [`Sink`] for values that are `AsRef<[u8]>`. So are its [`Receiver`]
/// and its [`Sender`].
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

/// A connection that could not be registered with the runtime. The half identifies the peer.
pub(super) struct Unwatched {
    pub(super) half: Box<crate::receiver::Receiver>,
    pub(super) error: io::Error,
}

impl Connection {
    /// Converts a connection of the blocking API, for the current runtime.
    ///
    /// # Errors
    ///
    /// On error the connection is closed.
    ///
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): there is no current runtime.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): the kernel cannot watch the connection's descriptors.
    pub fn from_blocking(connection: crate::connection::Connection) -> Result<Self> {
        Self::watched(connection).map_err(|unwatched| {
            registration_error(Operation::Register, unwatched.half.common().object(), unwatched.error)
        })
    }

    /// Converts a connection as [`from_blocking`](Self::from_blocking) does. On failure, returns a half of the
    /// connection with the error.
    pub(super) fn watched(connection: crate::connection::Connection) -> Result<Self, Unwatched> {
        let (sender, mut receiver) = connection.into_halves();
        // Each descriptor is registered once, a socket for both directions. Of a pair of FIFOs, the one for writing is
        // registered only when there is something to wait for, which is rare.
        let interest = match receiver.transport() {
            Transport::Fifo => Interest::READABLE,
            Transport::Shm | Transport::Packet | Transport::Unix => Interest::READABLE | Interest::WRITABLE,
        };
        match Readiness::register(receiver.incoming.share_fd(), interest) {
            Ok(readiness) => Ok(Self { sender: Sender::new(sender), receiver: Receiver::new(receiver, readiness) }),
            Err(error) => Err(Unwatched { half: Box::new(receiver), error }),
        }
    }

    /// Creates both ends of a connection, without a server, in the current tokio runtime. See
    /// [`crate::Connection::pair`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::pair`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    pub fn pair(transport: Transport) -> Result<(Self, Self)> {
        ConnectOptions::default().pair_tokio(transport)
    }

    /// Starts a program and returns a connection to it, in the current tokio runtime, with the defaults of
    /// [`ConnectOptions`]. No name and no file is involved. See [`crate::Connection::spawn`].
    ///
    /// The [`Child`] is one of the standard library: its `wait` blocks the thread. [`recv`](Connection::recv) returns
    /// `None` when the child has ended or is about to, so wait after that.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::spawn`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of
    /// a runtime. If the call fails, no child is left.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::Command;
    ///
    /// use parlour::Transport;
    /// use parlour::tokio::Connection;
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut worker, mut child) = Connection::spawn(Command::new("worker"), Transport::Shm)?;
    /// worker.send("hello").await?;
    /// println!("{:?}", worker.recv().await?);
    /// worker.close().await?;
    /// tokio::task::spawn_blocking(move || child.wait()).await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn(command: Command, transport: Transport) -> Result<(Self, Child)> {
        ConnectOptions::default().spawn_tokio(command, transport)
    }

    /// Takes the connection that the parent of this process passed to it, in the current tokio runtime, with the
    /// defaults of [`ConnectOptions`]. See [`crate::Connection::from_env`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::from_env`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside
    /// of a runtime. Then the connection can still be taken.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f() -> parlour::Result<()> {
    /// let mut parent = parlour::tokio::Connection::from_env()?;
    /// while let Some(message) = parent.recv().await? {
    ///     parent.send(&message).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Self> {
        ConnectOptions::default().from_env_tokio()
    }

    /// Returns what both halves share.
    pub(super) fn shared_common(&self) -> Arc<Common> {
        self.receiver.shared_common()
    }

    /// Returns true if less than 64 KiB are buffered.
    pub(super) fn has_room(&mut self) -> bool {
        self.sender.has_room()
    }

    /// Returns the number of buffered bytes.
    pub(super) fn buffered(&mut self) -> usize {
        self.sender.buffered()
    }

    /// Returns true if the peer has ended both directions.
    pub(super) fn is_hung_up(&self) -> bool {
        self.sender.is_hung_up()
    }

    /// Buffers a message.
    pub(super) fn start(&mut self, message: &[u8]) -> Result<()> {
        self.start_payload(&Payload::new(message))
    }

    /// Buffers a message that may be in several parts.
    pub(super) fn start_payload(&mut self, payload: &Payload<'_>) -> Result<()> {
        self.sender.start(payload)
    }

    /// Writes all buffered messages.
    pub(super) fn poll_flush_fed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match self.sender.has_fed() {
            true => self.sender.poll_flush_fed(self.receiver.of_both(), cx),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Writes bytes without a frame.
    #[cfg(feature = "testing")]
    pub(super) async fn forge(&mut self, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        poll_fn(|cx| self.sender.poll_forge(self.receiver.of_both(), cx, bytes, &mut written)).await
    }

    /// Sends a message with what is attached to it. The message is sent, too, if a part of it is: the rest is buffered.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Poll<Result<()>> {
        let before = self.sender.messages_taken();
        match Sending::new(&mut self.sender, self.receiver.of_both(), payload).poll_once(cx) {
            Poll::Pending if self.sender.messages_taken() > before => {
                self.sender.note_awake();
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }

    /// Receives one message, and does not write what is buffered.
    pub(super) fn poll_recv_into(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<Received>> {
        self.receiver.poll_recv(cx, out)
    }

    /// Connects to the server with this name, with the defaults of [`ConnectOptions`]. See
    /// [`crate::Connection::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::connect`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside
    /// of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing is left behind. The server may accept a client that has
    /// disconnected.
    #[doc(alias = "connect_to")]
    pub async fn connect(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().connect_tokio(address).await
    }

    /// Sends one message of 0 bytes up to the limit. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// After an error other than `Disconnected` and `Protocol`, nothing of the message was sent. After these two, a
    /// part may have been sent. The peer never receives the message.
    ///
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message is longer than the limit, or has
    ///   more than 253 descriptors. The connection is as before.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer does not receive any more, or this side
    ///   has called [`finish`](Connection::finish). No signal is raised.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the transport does not carry what is attached.
    /// - [`ErrorKind::Refused`](crate::ErrorKind::Refused): the peer allows no descriptors.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the message is sent or nothing of it is, and
    /// [`messages_taken`](Connection::messages_taken) shows which. The rest of a message of which a part was sent is
    /// kept. It goes out before anything else: with the next `send` or `flush`, or while this connection waits in
    /// `recv`.
    #[doc(alias = "send_info")]
    pub fn send<'a>(&'a mut self, payload: impl Into<Payload<'a>>) -> impl Future<Output = Result<()>> + Send {
        Sending::new(&mut self.sender, self.receiver.of_both(), payload.into())
    }

    /// Sends one message without waiting. See [`crate::Sender::try_send`].
    ///
    /// `Ok` means that the channel has the message, or a part of it, and that the rest is buffered. Dropping the
    /// connection does not wait for the rest, and the peer then receives the error
    /// [`Truncated`](crate::ErrorKind::Truncated). [`flush`](Connection::flush) or [`finish`](Connection::finish)
    /// waits.
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
    /// `recv` writes the buffer before it waits, so waiting for a reply to a buffered request works.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Connection::send).
    ///
    /// # Cancel safety
    ///
    /// Same as [`send`](Connection::send).
    pub async fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.sender.feed_or_send(self.receiver.of_both(), payload.into()).await
    }

    /// Writes all buffered messages. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer has disconnected.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, what was not written stays buffered, and goes out in order with
    /// the next call that sends.
    pub async fn flush(&mut self) -> Result<()> {
        until(self, |it, cx| it.sender.poll_flush_fed(it.receiver.of_both(), cx)).await
    }

    /// Writes buffered messages without waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]: some bytes stay buffered. [`TrySendError::Failed`] carries the errors of
    /// [`flush`](Connection::flush).
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.sender.try_flush()
    }

    /// Receives one message. Waits until a whole message has arrived. Returns `None` at the end of the stream: the peer
    /// has ended this direction, and all of its messages were received.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the peer disconnected mid-message.
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer closed without reading all that this
    ///   side sent. This replaces `None` where the transport can tell. See [`crate::Connection::recv`].
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message is longer than the limit. This
    ///   direction has ended.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol, or sent more descriptors
    ///   than this side allows. This direction has ended.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed, or the descriptor table of this process is full
    ///   and the descriptors of a message were lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing was received. A partially received message is kept.
    #[doc(alias = "recv_info")]
    pub async fn recv(&mut self) -> Result<Option<Message>> {
        // A partial message is kept by the receiver, so the waiting task needs no memory for it.
        poll_fn(|cx| {
            let mut message = Message::default();
            self.poll_recv(cx, &mut message).map_ok(|received| received.then(message))
        })
        .await
    }

    /// Replaces the contents of `bytes` with one message, and returns its length in bytes. Returns `None` at the end of
    /// the stream. Descriptors of the message are closed. See [`crate::Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv).
    ///
    /// # Cancel safety
    ///
    /// Same as [`recv`](Connection::recv).
    pub async fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
        poll_fn(|cx| poll_into(bytes, |message| self.poll_recv(cx, message))).await
    }

    /// Receives one message without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives all messages that the next read brings, where they are. Waits until one has arrived. Returns `None` at
    /// the end of the stream. See [`Batch`].
    ///
    /// Writes buffered messages while it waits, as [`recv`](Connection::recv) does.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv). Messages that arrived before the error are returned first.
    ///
    /// # Cancel safety
    ///
    /// Same as [`recv`](Connection::recv).
    pub async fn recv_batch(&mut self) -> Result<Option<Batch<'_>>> {
        if self.receiver.has_batch().await {
            return Ok(Some(self.receiver.batch(None)));
        }
        let first = self.recv().await?;
        Ok(first.map(|first| self.receiver.batch(Some(first))))
    }

    /// Receives one message as [`recv_into`](Connection::recv_into) does, without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, TryRecvError> {
        self.receiver.try_recv_into(bytes)
    }

    /// Returns true if [`recv`](Connection::recv) would complete at once from data that this process has buffered.
    /// False does not mean that nothing has arrived.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    pub(super) fn common(&self) -> &crate::endpoint::Common {
        self.receiver.common()
    }

    /// Calls a function with the halves of the blocking API.
    pub(super) fn with_halves<T>(
        &mut self,
        work: impl FnOnce(&crate::sender::Sender, &crate::receiver::Receiver) -> T,
    ) -> T {
        work(self.sender.half(), self.receiver.half())
    }

    pub(super) fn blocking_sender(&mut self) -> &mut crate::sender::Sender {
        self.sender.half()
    }

    pub(super) fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.fd()
    }

    /// Receives one message. Writes buffered messages before it waits, because the peer may wait for them.
    fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<Received>> {
        let received = self.receiver.poll_recv(cx, out);
        if received.is_pending() && self.sender.has_fed() {
            // An error of the flush is ignored here. The next `send` returns it.
            let _ = self.sender.poll_flush_fed(self.receiver.of_both(), cx);
        }
        received
    }

    /// Writes all buffered messages, then ends sending (half-close): the peer receives `None` after the last message.
    /// Receiving goes on.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer disconnected before the last message was
    ///   written.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, sending goes on, and what was not written stays buffered as with
    /// [`flush`](Connection::flush).
    pub async fn finish(&mut self) -> Result<()> {
        until(self, |it, cx| it.sender.poll_finish(it.receiver.of_both(), cx)).await
    }

    /// Splits the connection into its two directions, for two tasks. From then on, dropping one half ends its direction
    /// and leaves the other one open.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, receiver } = self;
        let (receiver, readiness) = receiver.detach();
        sender.detach(readiness);
        (sender, receiver)
    }

    /// Writes all buffered messages, and ends the connection. Waits while the channel is full.
    ///
    /// Dropping the connection does the same without waiting. Buffered messages that a full channel does not accept are
    /// then lost.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): messages were buffered, and the peer has
    ///   disconnected.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the connection is ended as if it were dropped.
    #[doc(alias = "disconnect_from")]
    pub async fn close(mut self) -> Result<()> {
        until(&mut self, |it, cx| it.sender.poll_flush_fed(it.receiver.of_both(), cx)).await
    }

    /// Ends the connection with an error for the peer, which then receives [`Truncated`](crate::ErrorKind::Truncated)
    /// or [`Disconnected`](crate::ErrorKind::Disconnected) and not `None`. See [`crate::Connection::abort`].
    ///
    /// Does not wait. Buffered messages are discarded.
    pub fn abort(mut self) {
        self.abort_now();
    }

    /// Ends both directions with an error for the peer.
    pub(super) fn abort_now(&mut self) {
        self.sender.half().abort_now();
        self.receiver.abort_now();
    }

    /// Waits until the peer has closed the connection, as [`is_closed`](crate::Connection::is_closed) of the blocking
    /// API defines it. Receives nothing: messages that the peer sent before can still be received. Messages that this
    /// side has buffered are not written; call [`flush`](Connection::flush) before.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing has changed.
    ///
    /// # Examples
    ///
    /// Work ends when nobody waits for its result any more:
    ///
    /// ```
    /// use parlour::Transport;
    /// use parlour::tokio::Connection;
    ///
    /// # async fn work() { std::future::pending().await }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> parlour::Result<()> {
    /// let (mut worker, owner) = Connection::pair(Transport::Unix)?;
    /// drop(owner);
    /// tokio::select! {
    ///     () = work() => worker.send("done").await?,
    ///     closed = worker.closed() => closed?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn closed(&mut self) -> Result<()> {
        if self.transport() == Transport::Fifo {
            poll_fn(|cx| self.sender.poll_hung_up(cx)).await?;
        }
        self.receiver.hung_up().await
    }

    /// Returns true if the peer has closed the connection. See [`crate::Connection::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let sending_ended = self.transport() != Transport::Fifo || self.is_hung_up();
        sending_ended && is_hung_up(self.recv_fd())
    }

    /// Returns the number of messages that `send` and `feed` have accepted, including buffered ones. See
    /// [`Sender::messages_taken`].
    #[must_use]
    pub fn messages_taken(&self) -> u64 {
        self.sender.messages_taken()
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.receiver.peer()
    }

    /// Returns a pidfd of the peer's process. See [`crate::Connection::peer_pidfd`].
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

    /// Returns the transport of this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.receiver.transport()
    }

    /// Returns the capabilities of this connection.
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
            // The peer may wait for the buffered messages, as in `recv`.
            let _ = sender.poll_flush_fed(receiver.of_both(), cx);
        }
        item
    }
}

impl Sends for Connection {
    fn sending_half(&self) -> &Sender {
        &self.sender
    }
}

impl<M: AsRef<[u8]>> Sink<M> for Connection {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, receiver } = self.get_mut();
        sender.poll_room(receiver.of_both(), cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<()> {
        let sender = &mut self.get_mut().sender;
        // The future that waited for room may have been dropped.
        sender.note_awake();
        sender.start(&Payload::new(message.as_ref()))
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
