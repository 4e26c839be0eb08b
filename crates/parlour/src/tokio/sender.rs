//! The sending half of a connection.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::buffers;
use crate::error::{Error, Result, TrySendError};
use crate::peer::Peer;
use crate::shared_bytes::SharedBytes;
use crate::sys::readiness::Readiness;
use crate::transport::Transport;

const SEND: &str = "send to";

/// The sending half of a [`Connection`](super::Connection). Dropping it ends this direction: the peer receives `None` after
/// the last message.
///
/// As a [`Sink`] it takes messages as [`feed`](Sender::feed) does, and closing it is [`finish`](Sender::finish).
pub struct Sender {
    half: crate::sender::Sender,
    /// `None` while the halves are together, once the descriptor is closed, and as long as one that only this half has was
    /// not waited for. (After the half: what it ends, it ends while it is registered.)
    readiness: Option<Arc<Readiness>>,
    taken: u64,
}

impl Sender {
    pub(super) fn new(half: crate::sender::Sender) -> Self {
        Self { half, readiness: None, taken: 0 }
    }

    /// From now on it lives apart, with its share in the registration of the socket, if that is what it sends on.
    pub(super) fn detach(&mut self, readiness: Option<Arc<Readiness>>) {
        self.half.detach();
        if self.half.send_fd().is_some() && readiness.is_some() {
            self.readiness = readiness;
        }
    }

    pub(super) fn has_fed(&mut self) -> bool {
        self.half.outgoing().pending() > 0
    }

    /// Sends one message of any length from 0 to the limit. WaitSet while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](super::Connection::send).
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has sent the message or nothing of it, and
    /// [`messages_taken`](Sender::messages_taken) tells which. Of a message that was begun the rest is kept, and goes out before
    /// anything else: with the next `send` or `flush`, or while a [`Connection`](super::Connection) waits in `recv`.
    #[doc(alias = "send_info")]
    pub fn send<'a>(&'a mut self, message: &'a [u8]) -> impl Future<Output = Result<()>> + Send + 'a {
        Sending::new(self, None, Parts::One(message), &[])
    }

    /// [`send`](Sender::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](super::Connection::send).
    ///
    /// # Cancel safety
    ///
    /// That of [`send`](Sender::send).
    pub async fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        Sending::new(self, None, Parts::Some(parts), &[]).await
    }

    /// [`send`](Sender::send) with open descriptors: the receiver finds copies of them in
    /// [`Message::fds`](crate::Message::fds). Ours stay open, and ours to close. See [`crate::Sender::send_with_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::send_with_fds`].
    ///
    /// # Cancel safety
    ///
    /// That of [`send`](Sender::send): the descriptors go with the message or not at all.
    pub async fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_fds(None, message, fds).await
    }

    /// [`send`](Sender::send) with blocks of memory, which are never copied. See [`crate::Sender::send_shared`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Connection::send_shared`].
    ///
    /// # Cancel safety
    ///
    /// That of [`send`](Sender::send): the blocks go with the message or not at all.
    pub async fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.send_blocks(None, message, blocks).await
    }

    pub(super) async fn send_fds(
        &mut self,
        shared: Option<&Readiness>,
        message: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<()> {
        self.half.check_descriptors(fds.len())?;
        Sending::new(self, shared, Parts::One(message), fds).await
    }

    pub(super) async fn send_blocks(
        &mut self,
        shared: Option<&Readiness>,
        message: &[u8],
        blocks: &[&SharedBytes],
    ) -> Result<()> {
        self.half.check_blocks(blocks.len())?;
        let fds: Vec<_> = blocks.iter().map(|block| block.as_fd()).collect();
        Sending::new(self, shared, Parts::One(message), &fds).await
    }

    /// [`send`](Sender::send) that does not wait. See [`crate::Sender::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back, of which nothing was sent; [`TrySendError::Failed`] has the
    /// errors of `send`.
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        let result = self.half.try_send(message);
        self.taken += u64::from(result.is_ok());
        self.rest();
        result
    }

    /// Takes a message to go with the next ones in one write: many small messages a second are an order of magnitude
    /// faster so.
    ///
    /// They go when 64 KiB have come together, with the next [`send`](Sender::send), or with [`flush`](Sender::flush). It
    /// waits only when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](super::Connection::send).
    ///
    /// # Cancel safety
    ///
    /// That of [`send`](Sender::send): a message that was taken counts in [`messages_taken`](Sender::messages_taken).
    pub async fn feed(&mut self, message: &[u8]) -> Result<()> {
        self.feed_or_send(None, message).await
    }

    pub(super) async fn feed_or_send(&mut self, shared: Option<&Readiness>, message: &[u8]) -> Result<()> {
        if !self.half.has_room_to_feed(message.len()) {
            return Sending::new(self, shared, Parts::One(message), &[]).await;
        }
        poll_fn(|cx| self.poll_room(shared, cx)).await?;
        self.start(message)
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
        poll_fn(|cx| self.poll_flush_fed(None, cx)).await
    }

    /// [`flush`](Sender::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn try_flush(&mut self) -> Result<bool> {
        let result = self.half.try_flush();
        self.rest();
        result
    }

    /// Ends this direction, after what was fed is sent; the peer receives `None` after the last message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when the peer has gone before.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, the direction goes on, and what was not sent stays as with [`flush`](Sender::flush).
    pub async fn finish(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_finish(None, cx)).await
    }

    /// How many messages this half has taken since the connection was made: those that are on their way, or were fed and go
    /// with the next ones. It does not say that the peer has received them.
    ///
    /// What became of a `send` that was dropped, for example by a timeout, is seen by it:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(sender: &mut parlour::tokio::Sender) -> parlour::Result<()> {
    /// let before = sender.messages_taken();
    /// if tokio::time::timeout(Duration::from_millis(10), sender.send(b"once")).await.is_err() {
    ///     let is_on_its_way = sender.messages_taken() > before;
    ///     # let _ = is_on_its_way;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn messages_taken(&self) -> u64 {
        self.taken
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.half.peer()
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.half.transport()
    }

    /// WaitSet until less than 64 KiB wait to be sent.
    pub(super) fn poll_room(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.half.has_room_to_feed(0) {
            return self.poll_flush_fed(shared, cx);
        }
        // Who feeds without end never waits, and others want to run.
        ready!(poll_proceed(cx)).made_progress();
        Poll::Ready(Ok(()))
    }

    /// Takes a message to go with the next ones. How many that may be, [`poll_room`](Self::poll_room) bounds.
    pub(super) fn start(&mut self, message: &[u8]) -> Result<()> {
        if self.half.outgoing().pending() == 0 {
            buffers::with(|pool| self.half.outgoing().acquire(pool));
        }
        let result = self.half.feed_now(message);
        self.taken += u64::from(result.is_ok());
        result
    }

    pub(super) fn poll_flush_fed(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_until(shared, cx, crate::sender::Sender::flush_now)
    }

    pub(super) fn poll_finish(&mut self, shared: Option<&Readiness>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_flush_fed(shared, cx))?;
        let result = self.half.finish_now();
        self.rest();
        Poll::Ready(result)
    }

    /// Lets `work` go on until it is done, and wait for room in between: by our own registration, or by that of the
    /// connection that both halves share.
    fn poll_until(
        &mut self,
        shared: Option<&Readiness>,
        cx: &mut Context<'_>,
        mut work: impl FnMut(&mut crate::sender::Sender) -> Result<bool>,
    ) -> Poll<Result<()>> {
        let result = ready!(self.poll_work(shared, cx, &mut work));
        self.rest();
        Poll::Ready(result)
    }

    fn poll_work(
        &mut self,
        shared: Option<&Readiness>,
        cx: &mut Context<'_>,
        work: &mut impl FnMut(&mut crate::sender::Sender) -> Result<bool>,
    ) -> Poll<Result<()>> {
        let Self { half, readiness, .. } = self;
        loop {
            let budget = ready!(poll_proceed(cx));
            // Before the try, so that room that comes after it wakes this task.
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
                let Some(fd) = half.outgoing().share_fd().filter(|_| is_unregistered) else { return Poll::Pending };
                let registered = Readiness::register(fd, Interest::WRITABLE);
                *readiness = Some(Arc::new(registered.map_err(|error| half.common().io(SEND, error))?));
                continue;
            };
            // It was ready before the try, and the try says that this is over.
            ready.clear_ready();
            budget.made_progress();
            if shared.or(readiness.as_deref()).is_some_and(|readiness| readiness.poll_writable(cx).is_pending()) {
                return Poll::Pending;
            }
        }
    }

    /// Lets go of what is needed only while there is something to do.
    fn rest(&mut self) {
        buffers::with(|pool| self.half.outgoing().release(pool));
        if self.half.send_fd().is_none() {
            // A descriptor that only this direction has ends it by being closed.
            self.readiness = None;
        }
    }
}

/// A message that is being sent. One future and not several in each other, because a task holds it as long as it lives.
pub(super) struct Sending<'a> {
    sender: &'a mut Sender,
    shared: Option<&'a Readiness>,
    parts: Parts<'a>,
    fds: &'a [BorrowedFd<'a>],
    /// How much of it has gone; see [`crate::backend::halves::Outgoing::try_send`].
    sent: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Parts<'a> {
    One(&'a [u8]),
    Some(&'a [IoSlice<'a>]),
}

impl Parts<'_> {
    fn with<T>(self, work: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        match self {
            Self::One(part) => work(&[IoSlice::new(part)]),
            Self::Some(parts) => work(parts),
        }
    }
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        sender: &'a mut Sender,
        shared: Option<&'a Readiness>,
        parts: Parts<'a>,
        fds: &'a [BorrowedFd<'a>],
    ) -> Self {
        Self { sender, shared, parts, fds, sent: 0 }
    }
}

impl Future for Sending<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { sender, shared, parts, fds, sent } = self.get_mut();
        parts.with(|parts| {
            if *sent == 0 {
                sender.half.check(parts)?;
            }
            let result = match ready!(sender.poll_until(*shared, cx, |half| half.send_now(parts, fds, sent))) {
                Ok(()) => Ok(()),
                Err(error) => sender.half.give_up(parts, *sent, error),
            };
            // From here on nothing is left to be kept.
            *sent = 0;
            sender.taken += u64::from(result.is_ok());
            Poll::Ready(result)
        })
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if self.sent > 0 {
            // Half a message cannot be taken back, and what comes next must not become part of it.
            let half = &mut self.sender.half;
            let timed_out = half.timed_out();
            let kept = self.parts.with(|parts| half.give_up(parts, self.sent, timed_out));
            self.sender.taken += u64::from(kept.is_ok());
        }
    }
}

impl<M: AsRef<[u8]>> Sink<M> for Sender {
    type Error = Error;

    /// Ready when less than 64 KiB wait to be sent.
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_room(None, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<()> {
        self.get_mut().start(message.as_ref())
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
