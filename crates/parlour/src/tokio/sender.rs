//! The sending half of a connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::buffers;
use crate::error::{Error, Operation, Result, TrySendError};
use crate::payload::Payload;
use crate::peer::Peer;
use crate::shm::stats::Direction;
use crate::sys::readiness::Readiness;
use crate::transport::Transport;
use crate::wait::is_hung_up;
use crate::wire::stats::WaitKind;

const SEND: Operation = Operation::Send;

/// The sending half of a [`Connection`](super::Connection).
///
/// Dropping it ends this direction: the peer receives `None` after the last message.
///
/// As a [`Sink`] it buffers messages as [`feed`](Sender::feed) does, and closing the sink does what
/// [`finish`](Sender::finish) does.
pub struct Sender {
    half: crate::sender::Sender,
    /// `None` while the halves are together, after the descriptor was closed, and until a descriptor that only this
    /// half has is waited for. It is declared after `half`, so that the half ends what it has to end while the
    /// descriptor is registered.
    readiness: Option<Arc<Readiness>>,
    taken: u64,
}

impl Sender {
    pub(super) fn new(half: crate::sender::Sender) -> Self {
        Self { half, readiness: None, taken: 0 }
    }

    /// Detaches this half from the other one. Keeps a reference to the registration of the socket, if this half sends
    /// on that.
    pub(super) fn detach(&mut self, readiness: Option<Arc<Readiness>>) {
        self.half.detach();
        if self.half.send_fd().is_some() && readiness.is_some() {
            self.readiness = readiness;
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn common(&self) -> &crate::endpoint::Common {
        self.half.common()
    }

    pub(super) fn half(&mut self) -> &mut crate::sender::Sender {
        &mut self.half
    }

    /// Returns true if less than the limit is buffered.
    pub(super) fn has_room(&mut self) -> bool {
        self.half.has_room()
    }

    /// Returns true if the peer does not receive any more, as far as the descriptor shows.
    pub(super) fn is_hung_up(&self) -> bool {
        self.half.send_fd().is_none_or(is_hung_up)
    }

    /// Waits until the descriptor of this direction alone shows that the peer does not receive any more.
    pub(super) fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.is_hung_up() {
                return Poll::Ready(Ok(()));
            }
            let Self { half, readiness, .. } = self;
            let readiness = match readiness {
                Some(readiness) => readiness,
                None => {
                    let Some(fd) = half.outgoing().share_fd() else { return Poll::Ready(Ok(())) };
                    let registered = Readiness::register(fd, Interest::WRITABLE);
                    readiness.insert(Arc::new(registered.map_err(|error| half.common().io(SEND, error))?))
                }
            };
            // A sending task tries before it looks at the readiness, so it may be cleared here.
            ready!(readiness.poll_writable(cx)).map_err(|error| half.common().io(SEND, error))?.clear_ready();
        }
    }

    /// Returns the number of buffered bytes.
    pub(super) fn buffered(&mut self) -> usize {
        self.half.outgoing().pending()
    }

    pub(super) fn has_fed(&mut self) -> bool {
        self.half.outgoing().pending() > 0
    }

    /// Sends one message. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](super::Connection::send).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the message is sent or nothing of it is, and
    /// [`messages_taken`](Sender::messages_taken) shows which. The rest of a message of which a part was sent is kept.
    /// It goes out before anything else: with the next `send` or `flush`, or while a [`Connection`](super::Connection)
    /// waits in `recv`.
    #[doc(alias = "send_info")]
    pub fn send<'a>(&'a mut self, payload: impl Into<Payload<'a>>) -> impl Future<Output = Result<()>> + Send {
        Sending::new(self, None, payload.into())
    }

    /// Sends one message without waiting. See [`crate::Sender::try_send`].
    ///
    /// `Ok` means that the channel has the message, or a part of it, and that the rest is buffered. Dropping this half
    /// does not wait for the rest, and the peer then receives the error [`Truncated`](crate::ErrorKind::Truncated).
    /// [`flush`](Sender::flush) or [`finish`](Sender::finish) waits.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent. [`TrySendError::Failed`] carries the
    /// errors of [`send`](Sender::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        let result = self.half.try_send(payload);
        self.taken += u64::from(result.is_ok());
        self.rest();
        self.note_awake();
        result
    }

    /// Buffers a message, to be written together with the next ones. See [`crate::Sender::feed`].
    ///
    /// If the message does not fit in the 64 KiB buffer or has attachments, the call writes the buffer and sends the
    /// message. It waits for the channel only in this case. Otherwise the buffer is written by the next
    /// [`send`](Sender::send), by [`flush`](Sender::flush) or [`finish`](Sender::finish), or before
    /// [`Connection::recv`](super::Connection::recv) waits. After a split, a `Receiver` does not write it.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](super::Connection::send).
    ///
    /// # Cancel safety
    ///
    /// Same as [`send`](Sender::send). A message that was buffered counts in
    /// [`messages_taken`](Sender::messages_taken).
    pub async fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.feed_or_send(None, payload.into()).await
    }

    pub(super) async fn feed_or_send(&mut self, shared: Option<&Readiness>, payload: Payload<'_>) -> Result<()> {
        if !self.half.has_room_to_feed(&payload) {
            return Sending::new(self, shared, payload).await;
        }
        until(self, |sender, cx| sender.poll_room(shared, cx)).await?;
        self.start(&payload)
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
        until(self, |sender, cx| sender.poll_flush_fed(None, cx)).await
    }

    /// Writes buffered messages without waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]: some bytes stay buffered. [`TrySendError::Failed`] carries the errors of
    /// [`flush`](Sender::flush).
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        let result = self.half.try_flush();
        self.rest();
        self.note_awake();
        result
    }

    /// Writes all buffered messages, then ends this direction: the peer receives `None` after the last message.
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
    /// If the future is dropped before it completes, the direction goes on, and what was not written stays buffered.
    pub async fn finish(&mut self) -> Result<()> {
        until(self, |sender, cx| sender.poll_finish(None, cx)).await
    }

    /// Ends this direction with an error for the peer. See [`crate::Sender::abort`]. Does not wait. Buffered messages
    /// are discarded.
    pub fn abort(mut self) {
        self.half.abort_now();
    }

    /// Returns the number of messages that `send` and `feed` have accepted since the connection was made, including
    /// buffered ones. The peer may not have received them.
    ///
    /// The number shows the outcome of a `send` whose future was dropped, for example by a timeout:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(sender: &mut parlour::tokio::Sender) -> parlour::Result<()> {
    /// let before = sender.messages_taken();
    /// if tokio::time::timeout(Duration::from_millis(10), sender.send(b"once")).await.is_err() {
    ///     let was_accepted = sender.messages_taken() > before;
    ///     # let _ = was_accepted;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn messages_taken(&self) -> u64 {
        self.taken
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.half.peer()
    }

    /// Returns the transport of this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.half.transport()
    }

    /// Waits until less than 64 KiB are buffered.
    pub(super) fn poll_room(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.half.has_room() {
            return self.poll_flush_fed(shared, cx);
        }
        // A task that buffers in a loop never waits otherwise, and would starve other tasks.
        ready!(poll_proceed(cx)).made_progress();
        Poll::Ready(Ok(()))
    }

    /// Buffers a message. [`poll_room`](Self::poll_room) limits how many are buffered.
    pub(super) fn start(&mut self, payload: &Payload<'_>) -> Result<()> {
        if self.half.outgoing().pending() == 0 {
            buffers::with(|pool| self.half.outgoing().acquire(pool));
        }
        let result = self.half.feed_now(payload);
        self.taken += u64::from(result.is_ok());
        result
    }

    pub(super) fn poll_flush_fed(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_until(shared, cx, crate::sender::Sender::flush_now)
    }

    /// Writes bytes without a frame, after all buffered messages, from `written` on.
    #[cfg(feature = "testing")]
    pub(super) fn poll_forge(
        &mut self,
        shared: Option<&Readiness>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        written: &mut usize,
    ) -> Poll<Result<()>> {
        self.poll_until(shared, cx, |half| half.forge_now(bytes, written))
    }

    pub(super) fn poll_finish(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_flush_fed(shared, cx))?;
        let result = self.half.finish_now();
        self.rest();
        Poll::Ready(result)
    }

    /// Calls `work` until it is done, and waits for space in between: by the registration of this half, or by the one
    /// of the connection, which both halves share.
    fn poll_until(
        &mut self,
        shared: Option<&Readiness>,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut crate::sender::Sender) -> Result<bool>,
    ) -> Poll<Result<()>> {
        let result = ready!(self.poll_work(shared, cx, &mut work));
        self.note_awake();
        self.rest();
        Poll::Ready(result)
    }

    /// Notes that nobody waits for space any more.
    pub(super) fn note_awake(&self) {
        self.half.common().note_awake(Direction::Sent);
    }

    /// A task that only lets other tasks run does not wait for space.
    fn poll_work(
        &mut self,
        shared: Option<&Readiness>,
        cx: &mut Context<'_>,
        work: &mut impl FnMut(&mut crate::sender::Sender) -> Result<bool>,
    ) -> Poll<Result<()>> {
        let Self { half, readiness, .. } = self;
        loop {
            let budget = ready!(poll_proceed(cx));
            // Polled before the attempt, so that space that becomes available after the attempt wakes this task.
            let writable = match shared.or(readiness.as_deref()).map(|readiness| readiness.poll_writable(cx)) {
                Some(Poll::Ready(ready)) => Some(ready.map_err(|error| half.common().io(SEND, error))?),
                Some(Poll::Pending) | None => None,
            };
            if work(half)? {
                budget.made_progress();
                return Poll::Ready(Ok(()));
            }
            if half.prepare_to_wait()? {
                budget.made_progress();
                continue;
            }
            let Some(mut ready) = writable else {
                let is_unregistered = shared.is_none() && readiness.is_none();
                let Some(fd) = half.outgoing().share_fd().filter(|_| is_unregistered) else {
                    half.common().note_waiting(Direction::Sent, WaitKind::Space);
                    return Poll::Pending;
                };
                let registered = Readiness::register(fd, Interest::WRITABLE);
                *readiness = Some(Arc::new(registered.map_err(|error| half.common().io(SEND, error))?));
                continue;
            };
            // The descriptor was ready before the attempt, and the attempt has shown that this is over.
            ready.clear_ready();
            budget.made_progress();
            if shared.or(readiness.as_deref()).is_some_and(|readiness| readiness.poll_writable(cx).is_pending()) {
                half.common().note_waiting(Direction::Sent, WaitKind::Space);
                return Poll::Pending;
            }
        }
    }

    /// Releases resources that are needed only while data is buffered.
    fn rest(&mut self) {
        buffers::with(|pool| self.half.outgoing().release(pool));
        if self.half.send_fd().is_none() {
            // Closing the descriptor of a direction ends that direction.
            self.readiness = None;
        }
    }
}

/// A message that is being sent. This is one future, and not several nested ones, because a task holds it while it
/// waits.
pub(super) struct Sending<'a> {
    sender: &'a mut Sender,
    shared: Option<&'a Readiness>,
    payload: Payload<'a>,
    /// The number of bytes that were sent; see [`crate::backend::halves::Outgoing::try_send`].
    sent: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new(sender: &'a mut Sender, shared: Option<&'a Readiness>, payload: Payload<'a>) -> Self {
        Self { sender, shared, payload, sent: 0 }
    }

    /// Polls this future once. If it is pending, the caller goes on waiting with another one.
    pub(super) fn poll_once(self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // A flag for the end would make every task that sends larger. The fields borrow, so nothing leaks.
        let mut sending = ManuallyDrop::new(self);
        let polled = Pin::new(&mut *sending).poll(cx);
        match polled.is_pending() {
            true => sending.keep_rest(),
            false => drop(ManuallyDrop::into_inner(sending)),
        }
        polled
    }
}

impl Future for Sending<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, shared, payload, sent } = self.get_mut();
        if *sent == 0 {
            sender.half.check(payload)?;
            sender.half.begin_record(payload);
        }
        let result = match ready!(sender.poll_until(*shared, cx, |half| half.send_now(payload, sent))) {
            Ok(()) => Ok(()),
            Err(error) => sender.half.keep_rest(payload.parts(), *sent, error),
        };
        sender.half.end_record(result.is_ok());
        // Nothing is left to keep when this future is dropped.
        *sent = 0;
        sender.taken += u64::from(result.is_ok());
        Poll::Ready(result)
    }
}

impl Sending<'_> {
    /// Buffers the rest of a message of which a part was sent: that cannot be taken back, and the next message must not
    /// become part of it.
    fn keep_rest(&mut self) {
        let half = &mut self.sender.half;
        let mut is_kept = false;
        if self.sent > 0 {
            let timed_out = half.timed_out();
            is_kept = half.keep_rest(self.payload.parts(), self.sent, timed_out).is_ok();
            self.sender.taken += u64::from(is_kept);
        }
        half.end_record(is_kept);
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.keep_rest();
        // A future that was dropped does not wait any more. One that is done has noted that before.
        self.sender.note_awake();
    }
}

/// Polls until it is ready. A future that is dropped before does not wait any more.
pub(super) async fn until<T: Sends, R>(on: &mut T, mut poll: impl FnMut(&mut T, &mut Context<'_>) -> Poll<R>) -> R {
    let waiting = Waiting(on);
    let result = poll_fn(|cx| poll(&mut *waiting.0, cx)).await;
    // It was noted when the poll was ready.
    std::mem::forget(waiting);
    result
}

/// An owner of a sending half.
pub(super) trait Sends {
    fn sending_half(&self) -> &Sender;
}

impl Sends for Sender {
    fn sending_half(&self) -> &Sender {
        self
    }
}

/// Notes at its end that its task does not wait for space any more.
struct Waiting<'a, T: Sends>(&'a mut T);

impl<T: Sends> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.0.sending_half().note_awake();
    }
}

impl<M: AsRef<[u8]>> Sink<M> for Sender {
    type Error = Error;

    /// Returns ready when less than 64 KiB are buffered.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_room(None, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<()> {
        let sender = self.get_mut();
        // The future that waited for room may have been dropped.
        sender.note_awake();
        sender.start(&Payload::new(message.as_ref()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_flush_fed(None, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_finish(None, cx)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.half.fmt(f)
    }
}
