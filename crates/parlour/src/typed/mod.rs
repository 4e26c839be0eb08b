//! Values of the user's own types as messages.

mod bounded;
pub(crate) mod codec;
mod halves;

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::codec::{Decoder, Encoder};
pub use self::halves::{TypedReceiver, TypedSender};
use crate::connection::Connection;
use crate::error::{Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::wait::Deadline;

impl Connection {
    /// This connection as one of values: this side sends `Sent`, the other side `Received`. See [`Typed`].
    ///
    /// Feature `serde`.
    #[must_use]
    pub fn typed<Sent: ?Sized, Received>(self) -> Typed<Sent, Received> {
        Typed {
            connection: self,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            message: Message::default(),
        }
    }
}

/// A [`Connection`] on which this side sends values of one type and receives values of another.
///
/// One value is one message, in the format of [postcard](https://postcard.jamesmunns.com/wire-format): small, fast, and
/// without names of types or fields. So both sides must mean the same types: the `Sent` of one is the `Received` of the
/// other. A format that grows over time should be an `enum` that only gets new variants at its end.
///
/// # What cannot be decoded
///
/// A message that is no value is an error of kind [`Encoding`](crate::ErrorKind::Encoding). It says which message it was,
/// counted from 1 since [`typed`](Connection::typed) was called, how long it was, which type it should have been, and why
/// it is none. It has been taken out of the channel, and **the connection goes on**: whoever receives again gets the next
/// message. Bytes behind the end of the value are such an error.
///
/// Whatever the other side sends, memory is not allocated for elements that are only announced, and the stack is not used
/// up: values may nest 128 deep (structs, enums, options, sequences and maps count one each, so a linked list is no good
/// message), and a message may have 65,536 elements more than bytes. So an element of one byte that takes a thousand
/// bytes of memory (an option of an array, say) makes a message of 16 MiB a value of 16 GiB: for such types set a lower
/// `message_max`.
///
/// # Buffers
///
/// Values are encoded into one buffer and received into another. Both are kept and grow to the longest message, so that
/// in the end only what the values themselves hold is allocated.
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
pub struct Typed<Sent: ?Sized, Received> {
    connection: Connection,
    encoder: Encoder<Sent>,
    decoder: Decoder<Received>,
    message: Message,
}

impl<Sent: Serialize + ?Sized, Received> Typed<Sent, Received> {
    /// Sends one value. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding) when the value cannot be
    /// encoded: nothing was sent, and the connection is as before.
    pub fn send(&mut self, value: &Sent) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.connection)?;
        self.connection.send(message)
    }

    /// [`send`](Typed::send) that gives up after `timeout`. See [`Sender::send_timeout`](crate::Sender::send_timeout) for
    /// what that means.
    ///
    /// # Errors
    ///
    /// Those of `send`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): nothing of the value was sent.
    pub fn send_timeout(&mut self, value: &Sent, timeout: Duration) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.connection)?;
        self.connection.send_timeout(message, timeout)
    }

    /// [`send`](Typed::send) that does not wait. See [`Sender::try_send`](crate::Sender::try_send).
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the value (or the reference to it) back; [`TrySendError::Failed`] has the errors of
    /// `send`.
    pub fn try_send<V: Borrow<Sent>>(&mut self, value: V) -> Result<(), TrySendError<V>> {
        let message = encode(&mut self.encoder, value.borrow(), &self.connection).map_err(TrySendError::Failed)?;
        self.connection.try_send(message).map_err(|error| error.with(value))
    }

    /// Takes a value to go with the next ones. See [`Connection::feed`].
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn feed(&mut self, value: &Sent) -> Result<()> {
        let message = encode(&mut self.encoder, value, &self.connection)?;
        self.connection.feed(message)
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
    /// Blocks until a whole message has arrived, and gives its value. `None`: the other side has ended this direction,
    /// and all of its messages were received.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding) for a message that is no
    /// value: it is gone, and the next one can be received.
    pub fn recv(&mut self) -> Result<Option<Received>> {
        self.recv_until(Deadline::NEVER)
    }

    /// [`recv`](Typed::recv) that gives up after `timeout`. Part of a message that has arrived by then is kept for the
    /// next call.
    ///
    /// # Errors
    ///
    /// Those of `recv`, and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Received>> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Option<Received>> {
        let arrived = self.connection.recv_until(&mut self.message, deadline)?;
        arrived.then(|| self.decoder.decode(&self.message, self.connection.common())).transpose()
    }

    /// [`recv`](Typed::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Received>, TryRecvError> {
        let arrived = self.connection.try_recv_into(&mut self.message)?;
        let value = arrived.then(|| self.decoder.decode(&self.message, self.connection.common())).transpose();
        value.map_err(TryRecvError::Failed)
    }
}

impl<Sent: ?Sized, Received> Typed<Sent, Received> {
    /// Sends what was fed. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush`].
    pub fn flush(&mut self) -> Result<()> {
        self.connection.flush()
    }

    /// [`flush`](Typed::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::flush`].
    pub fn try_flush(&mut self) -> Result<bool> {
        self.connection.try_flush()
    }

    /// Ends sending, after what was fed is sent. See [`Connection::finish`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::finish`].
    pub fn finish(&mut self) -> Result<()> {
        self.connection.finish()
    }

    /// Sends what was fed, and ends the connection. See [`Connection::close`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::close`].
    pub fn close(self) -> Result<()> {
        self.connection.close()
    }

    /// The two directions, for two threads. See [`Connection::split`].
    #[must_use]
    pub fn split(self) -> (TypedSender<Sent>, TypedReceiver<Received>) {
        let (sender, receiver) = self.connection.split();
        (TypedSender::new(sender, self.encoder), TypedReceiver::new(receiver, self.decoder, self.message))
    }

    /// The connection, to ask it who the peer is, for the descriptors of a poll loop, and the like.
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

impl<Sent: ?Sized, Received> fmt::Debug for Typed<Sent, Received> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Typed").field(&self.connection).finish()
    }
}
