//! The receiving half of a connection.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::buffers;
use crate::batch::Batch;
use crate::error::{Operation, Result, TryRecvError};
use crate::message::{Message, Received};
use crate::peer::Peer;
use crate::shm::stats::Direction;
use crate::sys::readiness::{Readiness, Ready};
use crate::sys::shared_fd::SharedFd;
use crate::transport::{Capabilities, Transport};
use crate::wait::is_hung_up;

const RECV: Operation = Operation::Receive;

/// The receiving half of a [`Connection`](super::Connection).
///
/// Dropping it ends this direction: the peer's sends fail.
///
/// As a [`Stream`] it yields messages until the end of the stream. An error is an item, and ends it too.
pub struct Receiver {
    half: crate::receiver::Receiver,
    /// Declared after `half`, so that the half ends what it has to end while the descriptor is registered.
    readiness: Registered,
    stream_has_ended: bool,
}

/// The owner of a descriptor's registration.
enum Registered {
    /// This half: both halves are together, or only this one uses the descriptor.
    Here(Readiness),
    /// Both halves share it.
    Apart(Arc<Readiness>),
}

impl Registered {
    fn get(&self) -> &Readiness {
        match self {
            Self::Here(readiness) => readiness,
            Self::Apart(readiness) => readiness,
        }
    }
}

/// Polls until the descriptor is hung up. Each other event is cleared.
fn poll_hung_up<'a>(fd: BorrowedFd<'_>, mut poll: impl FnMut() -> Poll<io::Result<Ready<'a>>>) -> Poll<io::Result<()>> {
    while !is_hung_up(fd) {
        ready!(poll())?.clear_ready();
    }
    Poll::Ready(Ok(()))
}

impl Receiver {
    pub(super) fn new(half: crate::receiver::Receiver, readiness: Readiness) -> Self {
        Self { half, readiness: Registered::Here(readiness), stream_has_ended: false }
    }

    /// Returns the registration of the socket that both halves use, or `None` over `fifo`, where each half has its own
    /// descriptor.
    pub(super) fn of_both(&self) -> Option<&Readiness> {
        (self.transport() != Transport::Fifo).then(|| self.readiness.get())
    }

    /// Detaches this half from the other one. Returns the other half's reference to the registration.
    pub(super) fn detach(mut self) -> (Self, Option<Arc<Readiness>>) {
        self.half.incoming.detach();
        let is_of_both = self.of_both().is_some();
        let readiness = match self.readiness {
            Registered::Here(readiness) if is_of_both => Arc::new(readiness),
            Registered::Apart(readiness) => readiness,
            alone @ Registered::Here(_) => return (Self { readiness: alone, ..self }, None),
        };
        (Self { readiness: Registered::Apart(Arc::clone(&readiness)), ..self }, Some(readiness))
    }

    pub(super) fn peer_pidfd(&self) -> std::io::Result<std::os::fd::OwnedFd> {
        self.half.peer_pidfd()
    }

    /// Receives one message. Waits until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](super::Connection::recv).
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
    /// Those of [`Connection::recv`](super::Connection::recv).
    ///
    /// # Cancel safety
    ///
    /// Same as [`recv`](Receiver::recv).
    pub async fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
        poll_fn(|cx| poll_into(bytes, |message| self.poll_recv(cx, message))).await
    }

    /// Receives messages where they are. See [`Connection::recv_batch`](super::Connection::recv_batch).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](super::Connection::recv).
    ///
    /// # Cancel safety
    ///
    /// Same as [`recv`](Receiver::recv).
    pub async fn recv_batch(&mut self) -> Result<Option<Batch<'_>>> {
        if self.has_batch().await {
            return Ok(Some(self.batch(None)));
        }
        let first = self.recv().await?;
        Ok(first.map(|first| self.batch(Some(first))))
    }

    /// Returns true if messages are there. A task that receives them in a loop gives way to other tasks.
    pub(super) async fn has_batch(&self) -> bool {
        if !self.half.incoming.has_in_place() {
            return false;
        }
        poll_fn(poll_proceed).await.made_progress();
        true
    }

    /// Returns the batch that begins with this message, or with those that are there.
    pub(super) fn batch(&mut self, first: Option<Message>) -> Batch<'_> {
        Batch::new(&mut self.half, first)
    }

    /// Receives one message without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`Connection::recv`](super::Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.with_buffers(crate::receiver::Receiver::try_recv)
    }

    /// Receives one message as [`recv_into`](Receiver::recv_into) does, without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Receiver::try_recv).
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, TryRecvError> {
        self.with_buffers(|half| half.try_recv_into(bytes))
    }

    fn with_buffers<T>(&mut self, receive: impl FnOnce(&mut crate::receiver::Receiver) -> T) -> T {
        buffers::with(|pool| {
            self.half.incoming.acquire(pool);
            let result = receive(&mut self.half);
            self.half.incoming.release(pool);
            // The future that waited for a message may have been dropped.
            self.half.common().note_awake(Direction::Received);
            result
        })
    }

    /// Returns true if [`recv`](Receiver::recv) would complete at once from data that this process has buffered.
    /// False does not mean that nothing has arrived.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.half.has_message()
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

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<Received>> {
        let polled = self.poll_message(cx, out);
        if polled.is_ready() {
            self.half.common().note_awake(Direction::Received);
        }
        polled
    }

    /// A task that only lets other tasks run does not wait for a message.
    fn poll_message(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<Received>> {
        let Self { half, readiness, .. } = self;
        let readiness = readiness.get();
        loop {
            let budget = ready!(poll_proceed(cx));
            if half.pop_read(&mut out.bytes) {
                out.fds.clear();
                budget.made_progress();
                return Poll::Ready(Ok(Received::Message));
            }
            // Polled before the attempt, so that data that arrives after the attempt wakes this task.
            let readable = match readiness.poll_readable(cx) {
                Poll::Ready(ready) => Some(ready.map_err(|error| half.common().io(RECV, error))?),
                Poll::Pending if half.incoming.needs_syscall() => {
                    half.note_waiting();
                    return Poll::Pending;
                }
                // A peer signals data in shared memory only if this side has announced that it waits.
                Poll::Pending => None,
            };
            let (received, is_exhausted) = buffers::with(|pool| {
                half.incoming.acquire(pool);
                let received = half.recv_now(out);
                let is_exhausted = half.incoming.is_exhausted();
                half.incoming.release(pool);
                (received, is_exhausted)
            });
            let received = received?;
            if received != Received::Empty {
                budget.made_progress();
                // The descriptor is known to have no more data, so clearing its readiness saves a read that would
                // block. A reported end of file stays reported.
                if let Some(mut ready) = readable.filter(|_| is_exhausted) {
                    ready.clear_ready();
                }
                return Poll::Ready(Ok(received));
            }
            if half.incoming.prepare_to_wait() {
                budget.made_progress();
                continue;
            }
            let Some(mut ready) = readable else {
                half.note_waiting();
                return Poll::Pending;
            };
            // The descriptor was ready before the attempt, and the attempt has shown that this is over.
            ready.clear_ready();
            budget.made_progress();
            if readiness.poll_readable(cx).is_pending() {
                half.note_waiting();
                return Poll::Pending;
            }
        }
    }

    /// Waits until the descriptor shows that the peer has closed: the socket of both halves, or the FIFO of this one.
    pub(super) async fn hung_up(&self) -> Result<()> {
        let failed = |error| self.common().io(RECV, error);
        if let Some(readiness) = self.of_both() {
            // The readiness for receiving must stay. A sending task tries before it looks at the one for sending.
            return poll_fn(|cx| poll_hung_up(self.fd(), || readiness.poll_writable(cx))).await.map_err(failed);
        }
        if is_hung_up(self.fd()) {
            return Ok(());
        }
        // Another descriptor has a readiness of its own.
        let fd = self.fd().try_clone_to_owned().map_err(failed)?;
        let readiness = Readiness::register(Arc::new(SharedFd::new(fd, 1)), Interest::READABLE).map_err(failed)?;
        poll_fn(|cx| poll_hung_up(self.fd(), || readiness.poll_readable(cx))).await.map_err(failed)
    }

    pub(super) fn abort_now(&mut self) {
        self.half.incoming.abort();
    }

    pub(super) fn half(&self) -> &crate::receiver::Receiver {
        &self.half
    }

    pub(super) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.half.recv_fd()
    }

    pub(super) fn shared_common(&self) -> Arc<crate::endpoint::Common> {
        Arc::clone(self.half.shared())
    }

    pub(super) fn common(&self) -> &crate::endpoint::Common {
        self.half.common()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.half.common().capabilities()
    }

    pub(super) fn fmt_as(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        self.half.common().debug(f, what)
    }

    /// Polls for the next item of the stream.
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        if self.stream_has_ended {
            return Poll::Ready(None);
        }
        let mut message = Message::default();
        let item = match ready!(self.poll_recv(cx, &mut message)) {
            Ok(Received::Message) => return Poll::Ready(Some(Ok(message))),
            Ok(Received::Closed | Received::Empty) => None,
            // Every further receive would return the same error.
            Err(error) => Some(Err(error)),
        };
        self.stream_has_ended = true;
        Poll::Ready(item)
    }
}

/// Polls a receive into a `Vec` of the caller, and closes the descriptors.
pub(super) fn poll_into(
    bytes: &mut Vec<u8>,
    receive: impl FnOnce(&mut Message) -> Poll<Result<Received>>,
) -> Poll<Result<Option<usize>>> {
    let mut is_pending = false;
    let received = Message::receive_into(bytes, |message| match receive(message) {
        Poll::Ready(received) => received,
        Poll::Pending => {
            is_pending = true;
            Ok(Received::Empty)
        }
    });
    if is_pending { Poll::Pending } else { Poll::Ready(received) }
}

impl Stream for Receiver {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(f, "Receiver")
    }
}
