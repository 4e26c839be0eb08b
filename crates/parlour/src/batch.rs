//! Receiving messages where they are: in the buffer of the receiver.

use std::fmt;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::{Result, TryRecvError};
use crate::message::{Message, Received};
use crate::receiver::Receiver;
use crate::wait::Deadline;

/// Messages that have arrived together, each in the buffer of the receiver.
///
/// [`recv_batch`](Connection::recv_batch) receives one message, and returns it together with those that the same read
/// brought. [`next_message`](Batch::next_message) returns them in order; all but the first are not copied. A message
/// behind the first one is received when `next_message` returns it. If the batch is dropped before that, the next call
/// of any kind receives it. So each read allocates for its first message only.
///
/// A batch borrows the connection until its last use. After that, an answer can be sent.
///
/// For many small messages, which the peer sends together ([`feed`](Connection::feed)). A batch may have a single
/// message, and a message with descriptors, a long one, or one in a datagram of its own begins a batch. Descriptors of
/// the messages are closed, as by [`recv_into`](Connection::recv_into).
///
/// # Examples
///
/// ```
/// use parlour::{Connection, Transport};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut one, mut other) = Connection::pair(Transport::Unix)?;
/// for number in 0..1000_u32 {
///     one.feed(&number.to_le_bytes())?;
/// }
/// one.close()?;
///
/// let mut sum = 0;
/// while let Some(mut batch) = other.recv_batch()? {
///     while let Some(message) = batch.next_message() {
///         sum += u32::from_le_bytes(message.try_into()?);
///     }
/// }
/// assert_eq!(sum, 499_500);
/// # Ok(())
/// # }
/// ```
#[must_use = "its first message has been received"]
pub struct Batch<'a> {
    receiver: &'a mut Receiver,
    /// The message for which the call has waited.
    first: Option<Message>,
    /// True if the next message is the first one.
    is_at_first: bool,
}

impl<'a> Batch<'a> {
    /// Creates the batch that begins with a message, or else with those in the buffer of the receiver.
    pub(crate) fn new(receiver: &'a mut Receiver, mut first: Option<Message>) -> Self {
        if let Some(first) = &mut first {
            first.fds.clear();
        }
        Self { receiver, is_at_first: first.is_some(), first }
    }

    /// Returns the next message, or `None` after the last one of the batch. Never blocks, and makes no system call.
    #[inline]
    pub fn next_message(&mut self) -> Option<&[u8]> {
        if std::mem::take(&mut self.is_at_first) {
            return self.first.as_deref();
        }
        self.receiver.next_in_place()
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("from", &self.receiver.peer()).finish_non_exhaustive()
    }
}

impl Receiver {
    /// Receives messages where they are. See [`Connection::recv_batch`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`].
    pub fn recv_batch(&mut self) -> Result<Option<Batch<'_>>> {
        self.batch_until(|receiver, first| receiver.recv_alone(first, Deadline::NEVER))
    }

    /// Receives messages where they are, and gives up after `timeout`. See [`Connection::recv_batch`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv_timeout`].
    pub fn recv_batch_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>> {
        self.batch_until(|receiver, first| receiver.recv_alone(first, Deadline::after(timeout)))
    }

    /// Receives messages where they are, without blocking. See [`Connection::recv_batch`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::try_recv`].
    pub fn try_recv_batch(&mut self) -> Result<Option<Batch<'_>>, TryRecvError> {
        self.batch_until(Self::try_recv_message)
    }

    /// Begins a batch with the messages that are there, or else with the one that `wait` receives.
    pub(crate) fn batch_until<E>(
        &mut self,
        wait: impl FnOnce(&mut Self, &mut Message) -> Result<Received, E>,
    ) -> Result<Option<Batch<'_>>, E> {
        if self.incoming.has_in_place() {
            return Ok(Some(Batch::new(self, None)));
        }
        let mut first = Message::default();
        let received = wait(self, &mut first)?;
        Ok(received.then(first).map(|first| Batch::new(self, Some(first))))
    }
}

impl Connection {
    /// Receives all messages that the next read brings, where they are. Blocks until one has arrived. Returns `None` at
    /// the end of the stream. See [`Batch`].
    ///
    /// Writes buffered messages before it waits, as [`recv`](Connection::recv) does.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Connection::recv). Messages that arrived before the error are returned first.
    pub fn recv_batch(&mut self) -> Result<Option<Batch<'_>>> {
        self.batch_until(Deadline::NEVER)
    }

    /// Receives messages as [`recv_batch`](Connection::recv_batch) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`recv_timeout`](Connection::recv_timeout).
    pub fn recv_batch_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>> {
        self.batch_until(Deadline::after(timeout))
    }

    /// Receives messages as [`recv_batch`](Connection::recv_batch) does, without blocking.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Connection::try_recv).
    pub fn try_recv_batch(&mut self) -> Result<Option<Batch<'_>>, TryRecvError> {
        self.receiver.try_recv_batch()
    }

    fn batch_until(&mut self, deadline: Deadline) -> Result<Option<Batch<'_>>> {
        if self.receiver.incoming.has_in_place() {
            return Ok(Some(Batch::new(&mut self.receiver, None)));
        }
        let mut first = Message::default();
        let received = self.recv_until(&mut first, deadline)?;
        Ok(received.then(first).map(|first| Batch::new(&mut self.receiver, Some(first))))
    }
}
