//! Messages that are serialised values of the caller's types.

mod bounded;
pub(crate) mod codec;
mod halves;
#[cfg(feature = "json")]
mod json;
#[cfg(test)]
mod tests;
pub(crate) mod undecodable;

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::codec::{Codec, Decoder, Encoder, encode, values};
pub use self::halves::{TypedReceiver, TypedSender};
use crate::connection::Connection;
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::{Message, Received};
use crate::wait::Deadline;

impl Connection {
    /// Converts this connection into one of values. It sends values of the type `S` and receives values of the type
    /// `R`, in the format of [postcard](https://postcard.jamesmunns.com/wire-format). See [`Typed`].
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> Typed<S, R> {
        Typed::new(self, Codec::Postcard)
    }

    /// Converts this connection into one of values as [`typed`](Connection::typed) does, in the format JSON.
    ///
    /// Use it for peers that are not written in Rust: shell scripts (`parlour call`), Python (`json.loads`), and people
    /// who read the messages. Between programs in Rust, [`typed`](Connection::typed) is faster and its messages are
    /// shorter. Both sides must use the same format; a message in the other one is an error of the kind
    /// [`Encoding`](crate::ErrorKind::Encoding).
    ///
    /// Each message is one JSON text in UTF-8, as serde_json writes it: an enum is its variant's name (`"Stop"`), or an
    /// object with that name (`{"Add":[2,3]}`); a struct is an object, in which unknown fields are ignored unless the
    /// type denies them. White space around the value is allowed. Three kinds of values have no form of their own: a
    /// float that is not finite is sent as `null`, which is not a float to the receiver; the keys of a map must be
    /// strings, numbers or enums without content, otherwise encoding fails; bytes are arrays of numbers. The limits
    /// that [`Typed`] describes hold. In addition, arrays and objects may nest 127 levels deep.
    ///
    /// # Examples
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Request {
    ///     Add(i64, i64),
    /// }
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/sums", base.path().display());
    /// // let name = "sums";
    /// let server = parlour::Server::bind(&name)?;
    /// let serving = std::thread::spawn(move || -> parlour::Result<()> {
    ///     let mut client = server.accept()?.typed_json::<Option<i64>, Request>();
    ///     while let Some(Request::Add(a, b)) = client.recv()? {
    ///         client.send(&a.checked_add(b))?;
    ///     }
    ///     Ok(())
    /// });
    ///
    /// // A client in any language: parlour call sums '{"Add":[2,3]}'
    /// let mut connection = parlour::Connection::connect(&name)?;
    /// connection.send(r#"{"Add":[2,3]}"#)?;
    /// assert_eq!(connection.recv()?.unwrap(), b"5");
    /// connection.close()?;
    /// serving.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> Typed<S, R> {
        Typed::new(self, Codec::Json)
    }
}

/// A [`Connection`] that sends values of the type `S` and receives values of the type `R`.
///
/// One value is one message. Both sides must agree on the types and on the format: the `S` of one side is the `R` of
/// the other.
///
/// - [`Connection::typed`] uses [postcard](https://postcard.jamesmunns.com/wire-format). The format is small and fast,
///   and contains no names of types or fields. Types that change over time should be an `enum` that gets new variants
///   only at its end.
/// - `Connection::typed_json`, with the feature `json`, uses JSON, which programs in any language read.
///   It contains the names of fields and variants, so these must not change. A new field should have a default.
///
/// # Decoding errors
///
/// A message that is not a value of the type is an error of the kind [`Encoding`](crate::ErrorKind::Encoding). The
/// error states the number of the message, counted from 1 since [`typed`](Connection::typed) was called, its length,
/// the expected type and the reason. The message has been taken out of the channel, and **the connection goes on**: the
/// next receive returns the next message. Bytes after the end of a value are such an error, too.
///
/// With JSON the text also states the line and the column. What it quotes from the message is escaped and cut.
///
/// No message makes the decoder allocate memory for elements that are only announced, or exhaust the stack. Values may
/// nest 128 levels deep (a struct, enum, option, sequence or map is one level, so a linked list is not a good message).
/// A message may have at most 65,536 elements more than it has bytes. An element of one byte may still take a thousand
/// bytes of memory (an option of an array, for example), so that a message of 16 MiB becomes a value of 16 GiB. Set a
/// lower `message_max` for such types.
///
/// # Buffers
///
/// Values are encoded into one buffer and received into another. Both are kept and grow to the length of the longest
/// message. After that, only the values themselves allocate.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// enum Request {
///     Add(i64, i64),
///     Negate(i64),
/// }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Response(Result<i64, String>);
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/sums", base.path().display());
/// // let name = "sums";
/// let server = parlour::Server::bind(&name)?;
/// let serving = std::thread::spawn(move || -> parlour::Result<()> {
///     let mut client = server.accept()?.typed::<Response, Request>();
///     while let Some(request) = client.recv()? {
///         let sum = match request {
///             Request::Add(a, b) => a.checked_add(b),
///             Request::Negate(a) => a.checked_neg(),
///         };
///         client.send(&Response(sum.ok_or_else(|| "too large".to_owned())))?;
///     }
///     Ok(())
/// });
///
/// let mut connection = parlour::Connection::connect(&name)?.typed::<Request, Response>();
/// connection.send(&Request::Add(2, 3))?;
/// assert_eq!(connection.recv()?, Some(Response(Ok(5))));
/// connection.send(&Request::Negate(i64::MIN))?;
/// assert_eq!(connection.recv()?, Some(Response(Err("too large".to_owned()))));
/// connection.close()?;
/// serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Typed<S: ?Sized, R> {
    connection: Connection,
    encoder: Encoder<S>,
    decoder: Decoder<R>,
    message: Message,
}

impl<S: ?Sized, R> Typed<S, R> {
    fn new(connection: Connection, codec: Codec) -> Self {
        Self { connection, encoder: Encoder::new(codec), decoder: Decoder::new(codec), message: Message::default() }
    }
}

impl<S: Serialize + ?Sized, R> Typed<S, R> {
    /// Sends one value. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be
    /// encoded. Nothing was sent then, and the connection is as before.
    pub fn send(&mut self, value: &S) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.connection.common())?;
        self.connection.send(message)
    }

    /// Sends one value, and gives up after `timeout`. See
    /// [`Connection::send_timeout`](crate::Connection::send_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Typed::send), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing of the value
    /// was sent.
    pub fn send_timeout(&mut self, value: &S, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.connection.common())?;
        self.connection.send_timeout(message, timeout)
    }

    /// Sends one value without blocking. See [`Connection::try_send`](crate::Connection::try_send).
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the value, or the reference to it. [`TrySendError::Failed`] carries the errors of
    /// [`send`](Typed::send).
    pub fn try_send<V: Borrow<S>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        let message = encode(&mut self.encoder, value.borrow(), self.connection.common())?;
        self.connection.try_send(message).map_err(|error| error.with(value))
    }

    /// Buffers a value, to be written together with the next ones. See [`Connection::feed`](crate::Connection::feed).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Typed::send).
    pub fn feed(&mut self, value: &S) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.connection.common())?;
        self.connection.feed(message)
    }

    /// Buffers a value as [`feed`](Typed::feed) does, and gives up after `timeout` when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Typed::send_timeout).
    pub fn feed_timeout(&mut self, value: &S, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, self.connection.common())?;
        self.connection.feed_timeout(message, timeout)
    }
}

impl<S: ?Sized, R: DeserializeOwned> Typed<S, R> {
    /// Receives one value. Blocks until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the message is not a
    /// value of this type. The next message can be received.
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
        match self.connection.recv_until(&mut self.message, deadline)? {
            Received::Message => self.decoder.decode(&self.message, self.connection.common()).map(Some),
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
        match self.connection.receiver.try_recv_message(&mut self.message)? {
            Received::Message => Ok(Some(self.decoder.decode(&self.message, self.connection.common())?)),
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

impl<S: ?Sized, R> Typed<S, R> {
    /// Writes all buffered values. See [`Connection::flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush`].
    pub fn flush(&mut self) -> Result<()> {
        self.connection.flush()
    }

    /// Writes all buffered values, and gives up after `timeout`. See [`Connection::flush_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush_timeout`].
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.connection.flush_timeout(timeout)
    }

    /// Writes buffered values without blocking. See [`Connection::try_flush`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::try_flush`].
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        self.connection.try_flush()
    }

    /// Writes all buffered values, then ends sending. See [`Connection::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.connection.finish()
    }

    /// Ends sending, and gives up after `timeout`. See [`Connection::finish_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::finish_timeout`].
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.connection.finish_timeout(timeout)
    }

    /// Writes all buffered values, and ends the connection. See [`Connection::close`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::close`].
    pub fn close(self) -> Result<()> {
        self.connection.close()
    }

    /// Ends the connection, and gives up writing after `timeout`. See [`Connection::close_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::close_timeout`].
    pub fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.connection.close_timeout(timeout)
    }

    /// Splits the connection into its two directions, for two threads. See [`Connection::split`].
    #[must_use]
    pub fn split(self) -> (TypedSender<S>, TypedReceiver<R>) {
        let (sender, receiver) = self.connection.split();
        (TypedSender::new(sender, self.encoder), TypedReceiver::new(receiver, self.decoder, self.message))
    }

    /// Returns the connection, for its peer, transport and descriptors.
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

impl<S: ?Sized, R> fmt::Debug for Typed<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.connection).finish()
    }
}
