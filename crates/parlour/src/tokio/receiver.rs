//! The receiving half of a connection.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop::poll_proceed;

use super::buffers;
use crate::error::{Result, TryRecvError};
use crate::message::Message;
use crate::peer::Peer;
use crate::sys::readiness::Readiness;
use crate::transport::{Capabilities, Transport};

const RECV: &str = "receive from";

/// The receiving half of a [`Connection`](super::Connection). Dropping it ends this direction: the peer's sends fail.
///
/// As a [`Stream`] it gives messages until the end; an error is an item, and the end as well.
pub struct Receiver {
    half: crate::receiver::Receiver,
    /// (After the half: what it ends, it ends while it is registered.)
    readiness: Registered,
    stream_has_ended: bool,
}

/// Where the registration of a descriptor is kept.
enum Registered {
    /// Here: both halves are together, or only this one uses it.
    Here(Readiness),
    /// Shared with the other half.
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

impl Receiver {
    pub(super) fn new(half: crate::receiver::Receiver, readiness: Readiness) -> Self {
        Self { half, readiness: Registered::Here(readiness), stream_has_ended: false }
    }

    /// The registration of the socket that both halves use; of a FIFO each half has its own.
    pub(super) fn of_both(&self) -> Option<&Readiness> {
        (self.transport() != Transport::Fifo).then(|| self.readiness.get())
    }

    /// From now on it lives apart. Gives the other half's share in the registration.
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
        self.half.incoming.peer_pidfd()
    }

    /// WaitSet until a whole message has arrived; `None` is the end. See [`Connection::recv`](super::Connection::recv).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](super::Connection::recv).
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

    /// [`recv`](Receiver::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end. See
    /// [`crate::Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](super::Connection::recv).
    ///
    /// # Cancel safety
    ///
    /// That of [`recv`](Receiver::recv).
    pub async fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        poll_fn(|cx| Message::receive_into(bytes, |message| self.poll_recv(cx, message))).await
    }

    /// [`recv`](Receiver::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of
    /// [`Connection::recv`](super::Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        buffers::with(|pool| {
            self.half.incoming.acquire(pool);
            let result = self.half.try_recv();
            self.half.incoming.release(pool);
            result
        })
    }

    /// Whether a receive has an answer, a message or the end, that is here already.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.half.has_message()
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

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>, out: &mut Message) -> Poll<Result<bool>> {
        let Self { half, readiness, .. } = self;
        let readiness = readiness.get();
        loop {
            let budget = ready!(poll_proceed(cx));
            if half.incoming.pop_buffered(&mut out.bytes) {
                out.fds.clear();
                budget.made_progress();
                return Poll::Ready(Ok(true));
            }
            // Before the try, so that what comes after it wakes this task.
            let readable = match readiness.poll_readable(cx) {
                Poll::Ready(ready) => Some(ready.map_err(|error| half.common().io(RECV, error))?),
                Poll::Pending if half.incoming.needs_syscall() => return Poll::Pending,
                // What comes through shared memory is announced only to who has said that it waits.
                Poll::Pending => None,
            };
            let (received, is_exhausted) = buffers::with(|pool| {
                half.incoming.acquire(pool);
                let received = half.recv_now(out);
                let is_exhausted = half.incoming.is_exhausted();
                half.incoming.release(pool);
                (received, is_exhausted)
            });
            if let Some(received) = received? {
                budget.made_progress();
                // What is known to be over need not be found out by a look. (An end that was announced stays so.)
                if let Some(mut ready) = readable.filter(|_| is_exhausted) {
                    ready.clear_ready();
                }
                return Poll::Ready(Ok(received));
            }
            if half.incoming.prepare_to_wait() {
                budget.made_progress();
                continue;
            }
            let Some(mut ready) = readable else { return Poll::Pending };
            // It was ready before the try, and the try says that this is over.
            ready.clear_ready();
            budget.made_progress();
            if readiness.poll_readable(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    #[cfg(feature = "serde")]
    pub(super) fn common(&self) -> &crate::endpoint::Common {
        self.half.common()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        self.half.common().capabilities()
    }

    pub(super) fn fmt_as(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        self.half.common().debug(f, what)
    }

    /// The next item of a stream.
    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        if self.stream_has_ended {
            return Poll::Ready(None);
        }
        let mut message = Message::default();
        let item = match ready!(self.poll_recv(cx, &mut message)) {
            Ok(true) => return Poll::Ready(Some(Ok(message))),
            Ok(false) => None,
            // It would be the same error for ever.
            Err(error) => Some(Err(error)),
        };
        self.stream_has_ended = true;
        Poll::Ready(item)
    }
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
