//! Values of the user's own types as messages, for tasks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_sink::Sink;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use crate::error::{Error, Result, TryRecvError};
use crate::typed::codec::{Decoder, Encoder};

impl Connection {
    /// This connection as one of values: this side sends `Sent`, the other side `Received`. See [`Typed`].
    ///
    /// Features `tokio` and `serde`.
    #[must_use]
    pub fn typed<Sent: ?Sized, Received>(self) -> Typed<Sent, Received> {
        Typed { connection: self, encoder: Encoder::default(), decoder: Decoder::default() }
    }
}

/// A [`Connection`] on which this side sends values of one type and receives values of another. The blocking one, which says
/// in what format and within what bounds, is [`crate::Typed`].
///
/// As a [`Stream`] it gives values; as a [`Sink`] it takes them. So an RPC crate runs over it as it is: the example
/// `tarpc` shows one. A message that is no value is an item of the stream that is an error of kind
/// [`Encoding`](crate::ErrorKind::Encoding), and the stream goes on; any other error ends it.
pub struct Typed<Sent: ?Sized, Received> {
    connection: Connection,
    encoder: Encoder<Sent>,
    decoder: Decoder<Received>,
}

impl<Sent: Serialize + ?Sized, Received> Typed<Sent, Received> {
    /// Sends one value. WaitSet while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding) when the value cannot be
    /// encoded: nothing was sent, and the connection is as before.
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::send`].
    pub async fn send(&mut self, value: &Sent) -> Result<()> {
        let Self { connection, encoder, .. } = self;
        let message = encode(encoder, value, connection)?;
        connection.send(message).await
    }

    /// Takes a value to go with the next ones. See [`Connection::feed`].
    ///
    /// # Errors
    ///
    /// Those of `send`.
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::feed`].
    pub async fn feed(&mut self, value: &Sent) -> Result<()> {
        let Self { connection, encoder, .. } = self;
        let message = encode(encoder, value, connection)?;
        connection.feed(message).await
    }
}

fn encode<'a, Sent: Serialize + ?Sized>(
    encoder: &'a mut Encoder<Sent>,
    value: &Sent,
    connection: &Connection,
) -> Result<&'a [u8]> {
    encoder.encode(value, connection.capabilities().message_max, connection.common())
}

impl<Sent: ?Sized, Received: DeserializeOwned> Typed<Sent, Received> {
    /// WaitSet until a whole message has arrived, and gives its value. `None`: the other side has ended this direction,
    /// and all of its messages were received.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding) for a message that is no
    /// value: it is gone, and the next one can be received.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has received nothing: what has come of a message is kept.
    pub async fn recv(&mut self) -> Result<Option<Received>> {
        let Some(message) = self.connection.recv().await? else { return Ok(None) };
        self.decoder.decode(&message, self.connection.common()).map(Some)
    }

    /// [`recv`](Typed::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Received>, TryRecvError> {
        let Some(message) = self.connection.try_recv()? else { return Ok(None) };
        self.decoder.decode(&message, self.connection.common()).map(Some).map_err(TryRecvError::Failed)
    }
}

impl<Sent: ?Sized, Received> Typed<Sent, Received> {
    /// Sends what was fed. WaitSet while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::flush`].
    pub async fn flush(&mut self) -> Result<()> {
        self.connection.flush().await
    }

    /// Ends sending, after what was fed is sent. See [`Connection::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::finish`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::finish`].
    pub async fn finish(&mut self) -> Result<()> {
        self.connection.finish().await
    }

    /// Sends what was fed, and ends the connection. See [`Connection::close`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::close`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::close`].
    pub async fn close(self) -> Result<()> {
        self.connection.close().await
    }

    /// The connection, to ask it who the peer is, and the like.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, to go on with bytes. What was fed is still to be sent, and nothing received is lost.
    #[must_use]
    pub fn into_inner(self) -> Connection {
        self.connection
    }
}

impl<Sent: ?Sized, Received: DeserializeOwned> Stream for Typed<Sent, Received> {
    type Item = Result<Received>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { connection, decoder, .. } = self.get_mut();
        let message = ready!(Pin::new(&mut *connection).poll_next(cx));
        Poll::Ready(message.map(|message| decoder.decode(&message?, connection.common())))
    }
}

impl<Sent: Serialize, Received> Sink<Sent> for Typed<Sent, Received> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_ready(Pin::new(&mut self.get_mut().connection), cx)
    }

    fn start_send(self: Pin<&mut Self>, value: Sent) -> Result<()> {
        let Self { connection, encoder, .. } = self.get_mut();
        let message = encode(encoder, &value, connection)?;
        Pin::new(connection).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_flush(Pin::new(&mut self.get_mut().connection), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Sink::<&[u8]>::poll_close(Pin::new(&mut self.get_mut().connection), cx)
    }
}

impl<Sent: ?Sized, Received> fmt::Debug for Typed<Sent, Received> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.connection).finish()
    }
}
