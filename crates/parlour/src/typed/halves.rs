//! The two halves of a connection of values.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Decoder, Encoder, encode, values};
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::wait::Deadline;

/// The sending half of a [`Typed`](super::Typed) connection.
///
/// Dropping it ends this direction: the peer receives `None` after the last value.
pub struct TypedSender<S: ?Sized> {
    sender: Sender,
    encoder: Encoder<S>,
}

impl<S: Serialize + ?Sized> TypedSender<S> {
    /// Sends one value. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Sender::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// Nothing was sent then, and the connection is as before.
    pub fn send(&mut self, value: &S) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.sender.common())?;
        self.sender.send(message)
    }

    /// Sends one value, and gives up after `timeout`. See
    /// [`Connection::send_timeout`](crate::Connection::send_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedSender::send), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing of the
    /// value was sent.
    pub fn send_timeout(&mut self, value: &S, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.sender.common())?;
        self.sender.send_timeout(message, timeout)
    }

    /// Sends one value without blocking. See [`Connection::try_send`](crate::Connection::try_send).
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the value, or the reference to it. [`TrySendError::Failed`] carries the errors of
    /// [`send`](TypedSender::send).
    pub fn try_send<V: Borrow<S>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        let message = encode(&mut self.encoder, value.borrow(), self.sender.common())?;
        self.sender.try_send(message).map_err(|error| error.with(value))
    }

    /// Buffers a value, to be written together with the next ones. See [`Connection::feed`](crate::Connection::feed).
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedSender::send).
    pub fn feed(&mut self, value: &S) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.sender.common())?;
        self.sender.feed(message)
    }

    /// Buffers a value as [`feed`](TypedSender::feed) does, and gives up after `timeout` when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](TypedSender::send_timeout).
    pub fn feed_timeout(&mut self, value: &S, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.sender.common())?;
        self.sender.feed_timeout(message, timeout)
    }
}

impl<S: ?Sized> TypedSender<S> {
    pub(super) fn new(sender: Sender, encoder: Encoder<S>) -> Self {
        Self { sender, encoder }
    }

    /// Writes all buffered values. See [`Sender::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::flush`].
    pub fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Writes all buffered values, and gives up after `timeout`. See [`Sender::flush_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::flush_timeout`].
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.sender.flush_timeout(timeout)
    }

    /// Writes buffered values without blocking. See [`Sender::try_flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::try_flush`].
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.sender.try_flush()
    }

    /// Writes all buffered values, then ends sending. See [`Sender::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// Ends sending, and gives up after `timeout`. See [`Sender::finish_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::finish_timeout`].
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.sender.finish_timeout(timeout)
    }

    /// Returns the half that transfers bytes, for its peer, transport and descriptor.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Returns the sending half, to send bytes from now on.
    #[must_use]
    pub fn into_inner(self) -> Sender {
        self.sender
    }
}

impl<S: ?Sized> fmt::Debug for TypedSender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSender").field(&self.sender).finish()
    }
}

/// The receiving half of a [`Typed`](super::Typed) connection.
///
/// Dropping it ends this direction: the peer's sends fail.
pub struct TypedReceiver<R> {
    receiver: Receiver,
    decoder: Decoder<R>,
    message: Message,
}

impl<R: DeserializeOwned> TypedReceiver<R> {
    /// Receives one value. Blocks until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the message is not a value
    /// of this type. The next message can be received.
    pub fn recv(&mut self) -> Result<Option<R>> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives one value, and gives up after `timeout`. A partially received message is kept. A late answer is what
    /// the next call returns, as for [`Connection::recv_timeout`](crate::Connection::recv_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<R>> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Option<R>> {
        match self.receiver.recv_alone(&mut self.message, deadline)? {
            Received::Message => self.decoder.decode(&self.message, self.receiver.common()).map(Some),
            Received::Closed | Received::Empty => Ok(None),
        }
    }

    /// Receives one value without blocking.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<R>, TryRecvError> {
        match self.receiver.try_recv_message(&mut self.message)? {
            Received::Message => Ok(Some(self.decoder.decode(&self.message, self.receiver.common())?)),
            Received::Closed | Received::Empty => Ok(None),
        }
    }

    /// Returns an iterator over the values that blocks for each. It ends at the end of the stream. An error is an item;
    /// an error of another kind than [`Encoding`](crate::ErrorKind::Encoding) is the last one.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<R>> {
        values(move || self.recv().transpose())
    }

    /// Returns an iterator over the values that have arrived. It ends when [`recv`](Self::recv) would block, and as
    /// [`iter`](Self::iter) does.
    pub fn try_iter(&mut self) -> impl Iterator<Item = Result<R>> {
        values(move || match self.try_recv() {
            Ok(value) => value.map(Ok),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Failed(error)) => Some(Err(error)),
        })
    }
}

impl<R> TypedReceiver<R> {
    pub(super) fn new(receiver: Receiver, decoder: Decoder<R>, message: Message) -> Self {
        Self { receiver, decoder, message }
    }

    /// Returns the half that transfers bytes, for its peer, transport and descriptor.
    #[must_use]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// Returns the receiving half, to receive bytes from now on.
    #[must_use]
    pub fn into_inner(self) -> Receiver {
        self.receiver
    }
}

impl<R> fmt::Debug for TypedReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReceiver").field(&self.receiver).finish()
    }
}
