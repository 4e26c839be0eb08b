//! Messages that are serialised values of the caller's types, for tasks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::error::{Error, Result, TryRecvError, TrySendError};
use crate::typed::codec::{Codec, Decoder, Encoder, encode};

impl Connection {
    /// Converts this connection into one of values. It sends values of the type `S` and receives values of the type
    /// `R`, in the format of [postcard](https://postcard.jamesmunns.com/wire-format). See [`Typed`].
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> Typed<S, R> {
        Typed::new(self, Codec::Postcard)
    }

    /// Converts this connection into one of values as [`typed`](Connection::typed) does, in the format JSON.
    /// [`crate::Connection::typed_json`], the blocking one, documents the format.
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> Typed<S, R> {
        Typed::new(self, Codec::Json)
    }
}

/// A [`Connection`] that sends values of the type `S` and receives values of the type `R`. [`crate::Typed`], the
/// blocking one, documents the formats and their limits.
///
/// It is a [`Stream`] of values and a [`Sink`] for values, so RPC crates run over it: the example `tarpc` shows one. A
/// message that is not a value is an item of the stream, an error of the kind [`Encoding`](crate::ErrorKind::Encoding),
/// and the stream goes on. Any other error ends it.
pub struct Typed<S: ?Sized, R> {
    connection: Connection,
    encoder: Encoder<S>,
    decoder: Decoder<R>,
}

impl<S: ?Sized, R> Typed<S, R> {
    fn new(connection: Connection, codec: Codec) -> Self {
        Self { connection, encoder: Encoder::new(codec), decoder: Decoder::new(codec) }
    }

    /// Writes all buffered values, then ends sending. See [`Connection::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::finish`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::finish`].
    pub async fn finish(&mut self) -> Result<()> {
        self.connection.finish().await
    }

    /// Writes all buffered values, and ends the connection. See [`Connection::close`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::close`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::close`].
    pub async fn close(self) -> Result<()> {
        self.connection.close().await
    }

    /// Splits the connection into its two directions, for two tasks. See [`Connection::split`].
    #[must_use]
    pub fn split(self) -> (TypedSender<S>, TypedReceiver<R>) {
        let Self { connection, encoder, decoder } = self;
        let (sender, receiver) = connection.split();
        (TypedSender { sender, encoder }, TypedReceiver { receiver, decoder })
    }

    /// Returns the connection, for its peer, transport and capabilities.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the connection, to send and receive bytes from now on.
    #[must_use]
    pub fn into_inner(self) -> Connection {
        self.connection
    }
}

impl<S: Serialize + ?Sized, R> Typed<S, R> {
    /// Sends one value. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be
    /// encoded. Nothing was sent then, and the connection is as before.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::send`].
    pub async fn send(&mut self, value: &S) -> Result<()> {
        let Self { connection, encoder, .. } = self;
        let message = encode(encoder, value, connection.common())?;
        connection.send(message).await
    }

    /// Sends one value without waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the reference to the value. [`TrySendError::Failed`] carries the errors of
    /// [`send`](Self::send).
    pub fn try_send<'a>(&mut self, value: &'a S) -> Result<(), TrySendError<&'a S>> {
        let Self { connection, encoder, .. } = self;
        let message = encode(encoder, value, connection.common())?;
        connection.try_send(message).map_err(|error| error.with(value))
    }

    /// Buffers a value, to be written together with the next ones. See [`Connection::feed`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::send`].
    pub async fn feed(&mut self, value: &S) -> Result<()> {
        let Self { connection, encoder, .. } = self;
        let message = encode(encoder, value, connection.common())?;
        connection.feed(message).await
    }

    /// Writes all buffered values. See [`Connection::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::flush`].
    pub async fn flush(&mut self) -> Result<()> {
        self.connection.flush().await
    }

    /// Writes buffered values without waiting. See [`Connection::try_flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::try_flush`].
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.connection.try_flush()
    }
}

impl<S: Serialize, R> Sink<S> for Typed<S, R> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_ready(Pin::new(&mut self.get_mut().connection), cx)
    }

    fn start_send(self: Pin<&mut Self>, value: S) -> Result<()> {
        let Self { connection, encoder, .. } = self.get_mut();
        let message = encode(encoder, &value, connection.common())?;
        Pin::new(connection).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_flush(Pin::new(&mut self.get_mut().connection), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_close(Pin::new(&mut self.get_mut().connection), cx)
    }
}

impl<S: ?Sized, R: DeserializeOwned> Typed<S, R> {
    /// Receives one value. Waits until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the message is not a
    /// value of this type. The next message can be received.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Connection::recv`].
    pub async fn recv(&mut self) -> Result<Option<R>> {
        let Some(message) = self.connection.recv().await? else { return Ok(None) };
        self.decoder.decode(&message, self.connection.common()).map(Some)
    }

    /// Receives one value without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<R>, TryRecvError> {
        let Some(message) = self.connection.try_recv()? else { return Ok(None) };
        Ok(Some(self.decoder.decode(&message, self.connection.common())?))
    }
}

impl<S: ?Sized, R: DeserializeOwned> Stream for Typed<S, R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { connection, decoder, .. } = self.get_mut();
        let message = ready!(Pin::new(&mut *connection).poll_next(cx));
        Poll::Ready(message.map(|message| decoder.decode(&message?, connection.common())))
    }
}

/// The sending half of a [`Typed`] connection, and a [`Sink`] for values.
///
/// Dropping it ends this direction: the peer receives `None` after the last value.
pub struct TypedSender<S: ?Sized> {
    sender: Sender,
    encoder: Encoder<S>,
}

impl<S: ?Sized> TypedSender<S> {
    /// Writes all buffered values, then ends this direction. See [`Sender::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::finish`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Sender::finish`].
    pub async fn finish(&mut self) -> Result<()> {
        self.sender.finish().await
    }

    /// Returns the half that transfers bytes, for its peer and transport.
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

impl<S: Serialize + ?Sized> TypedSender<S> {
    /// Sends one value. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Sender::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be
    /// encoded. Nothing was sent then, and the connection is as before.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Sender::send`].
    pub async fn send(&mut self, value: &S) -> Result<()> {
        let Self { sender, encoder, .. } = self;
        let message = encode(encoder, value, sender.common())?;
        sender.send(message).await
    }

    /// Sends one value without waiting.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the reference to the value. [`TrySendError::Failed`] carries the errors of
    /// [`send`](Self::send).
    pub fn try_send<'a>(&mut self, value: &'a S) -> Result<(), TrySendError<&'a S>> {
        let Self { sender, encoder, .. } = self;
        let message = encode(encoder, value, sender.common())?;
        sender.try_send(message).map_err(|error| error.with(value))
    }

    /// Buffers a value, to be written together with the next ones. See [`Sender::feed`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// Same as [`Sender::send`].
    pub async fn feed(&mut self, value: &S) -> Result<()> {
        let Self { sender, encoder, .. } = self;
        let message = encode(encoder, value, sender.common())?;
        sender.feed(message).await
    }

    /// Writes all buffered values. See [`Sender::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::flush`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Sender::flush`].
    pub async fn flush(&mut self) -> Result<()> {
        self.sender.flush().await
    }

    /// Writes buffered values without waiting. See [`Sender::try_flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Sender::try_flush`].
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.sender.try_flush()
    }
}

impl<S: Serialize> Sink<S> for TypedSender<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_ready(Pin::new(&mut self.get_mut().sender), cx)
    }

    fn start_send(self: Pin<&mut Self>, value: S) -> Result<()> {
        let Self { sender, encoder, .. } = self.get_mut();
        let message = encode(encoder, &value, sender.common())?;
        Pin::new(sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_flush(Pin::new(&mut self.get_mut().sender), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_close(Pin::new(&mut self.get_mut().sender), cx)
    }
}

/// The receiving half of a [`Typed`] connection, and a [`Stream`] of values.
///
/// Dropping it ends this direction: the peer's sends fail.
pub struct TypedReceiver<R> {
    receiver: Receiver,
    decoder: Decoder<R>,
}

impl<R> TypedReceiver<R> {
    /// Returns the half that transfers bytes, for its peer and transport.
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

impl<R: DeserializeOwned> TypedReceiver<R> {
    /// Receives one value. Waits until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Receiver::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the message is not a
    /// value of this type. The next message can be received.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<R>> {
        let Some(message) = self.receiver.recv().await? else { return Ok(None) };
        self.decoder.decode(&message, self.receiver.common()).map(Some)
    }

    /// Receives one value without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<R>, TryRecvError> {
        let Some(message) = self.receiver.try_recv()? else { return Ok(None) };
        Ok(Some(self.decoder.decode(&message, self.receiver.common())?))
    }
}

impl<R: DeserializeOwned> Stream for TypedReceiver<R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { receiver, decoder, .. } = self.get_mut();
        let message = ready!(Pin::new(&mut *receiver).poll_next(cx));
        Poll::Ready(message.map(|message| decoder.decode(&message?, receiver.common())))
    }
}

impl<S: ?Sized, R> fmt::Debug for Typed<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.connection).finish()
    }
}

impl<S: ?Sized> fmt::Debug for TypedSender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSender").field(&self.sender).finish()
    }
}

impl<R> fmt::Debug for TypedReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReceiver").field(&self.receiver).finish()
    }
}
