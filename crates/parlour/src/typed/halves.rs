//! The two halves of a connection of values.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{Decoder, Encoder};
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::wait::Deadline;

/// The sending half of a [`Typed`](super::Typed) connection. Dropping it ends this direction.
pub struct TypedSender<Sent: ?Sized> {
    sender: Sender,
    encoder: Encoder<Sent>,
}

impl<Sent: ?Sized> TypedSender<Sent> {
    pub(super) fn new(sender: Sender, encoder: Encoder<Sent>) -> Self {
        Self { sender, encoder }
    }

    /// See [`Typed::flush`](super::Typed::flush).
    ///
    /// # Errors
    ///
    /// Those of [`Sender::flush`].
    pub fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }

    /// See [`Typed::try_flush`](super::Typed::try_flush).
    ///
    /// # Errors
    ///
    /// Those of [`Sender::flush`].
    pub fn try_flush(&mut self) -> Result<bool> {
        self.sender.try_flush()
    }

    /// See [`Sender::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// The half below, to ask it who the peer is, for the descriptor of a poll loop, and the like.
    #[must_use]
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The half below, to go on with bytes.
    #[must_use]
    pub fn into_inner(self) -> Sender {
        self.sender
    }
}

impl<Sent: Serialize + ?Sized> TypedSender<Sent> {
    /// See [`Typed::send`](super::Typed::send).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::send`](super::Typed::send).
    pub fn send(&mut self, value: &Sent) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.sender)?;
        self.sender.send(message)
    }

    /// See [`Typed::send_timeout`](super::Typed::send_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::send_timeout`](super::Typed::send_timeout).
    pub fn send_timeout(&mut self, value: &Sent, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.sender)?;
        self.sender.send_timeout(message, timeout)
    }

    /// See [`Typed::try_send`](super::Typed::try_send).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::try_send`](super::Typed::try_send).
    pub fn try_send<V: Borrow<Sent>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        let message = encode(&mut self.encoder, value.borrow(), &self.sender).map_err(TrySendError::Failed)?;
        self.sender.try_send(message).map_err(|error| error.with(value))
    }

    /// See [`Sender::feed`].
    ///
    /// # Errors
    ///
    /// Those of [`Typed::send`](super::Typed::send).
    pub fn feed(&mut self, value: &Sent) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.sender)?;
        self.sender.feed(message)
    }
}

fn encode<'a, Sent: Serialize + ?Sized>(
    encoder: &'a mut Encoder<Sent>,
    value: &Sent,
    sender: &Sender,
) -> Result<&'a [u8]> {
    encoder.encode(value, sender.common().message_max, sender.common())
}

impl<Sent: ?Sized> fmt::Debug for TypedSender<Sent> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSender").field(&self.sender).finish()
    }
}

/// The receiving half of a [`Typed`](super::Typed) connection. Dropping it ends this direction: the peer's sends fail.
pub struct TypedReceiver<Received> {
    receiver: Receiver,
    decoder: Decoder<Received>,
    message: Message,
}

impl<Received> TypedReceiver<Received> {
    pub(super) fn new(receiver: Receiver, decoder: Decoder<Received>, message: Message) -> Self {
        Self { receiver, decoder, message }
    }

    /// The half below, to ask it who the peer is, for the descriptor of a poll loop, and the like.
    #[must_use]
    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }

    /// The half below, to go on with bytes. Nothing received is lost.
    #[must_use]
    pub fn into_inner(self) -> Receiver {
        self.receiver
    }
}

impl<Received: DeserializeOwned> TypedReceiver<Received> {
    /// See [`Typed::recv`](super::Typed::recv).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::recv`](super::Typed::recv).
    pub fn recv(&mut self) -> Result<Option<Received>> {
        self.recv_until(Deadline::NEVER)
    }

    /// See [`Typed::recv_timeout`](super::Typed::recv_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::recv_timeout`](super::Typed::recv_timeout).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Received>> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Option<Received>> {
        let arrived = self.receiver.recv_alone(&mut self.message, deadline)?;
        arrived.then(|| self.decoder.decode(&self.message, self.receiver.common())).transpose()
    }

    /// See [`Typed::try_recv`](super::Typed::try_recv).
    ///
    /// # Errors
    ///
    /// Those of [`Typed::try_recv`](super::Typed::try_recv).
    pub fn try_recv(&mut self) -> Result<Option<Received>, TryRecvError> {
        let arrived = self.receiver.try_recv_into(&mut self.message)?;
        let value = arrived.then(|| self.decoder.decode(&self.message, self.receiver.common())).transpose();
        value.map_err(TryRecvError::Failed)
    }
}

impl<Received> fmt::Debug for TypedReceiver<Received> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReceiver").field(&self.receiver).finish()
    }
}
