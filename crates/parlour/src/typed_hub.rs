//! A hub whose messages are values.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, TryRecvError};
use crate::hub::{Client, Event, Hub};
use crate::typed::codec::{Codec, Encoder};

impl Hub {
    /// Converts this hub into one of values. It sends values of the type `S` and receives values of the type `R`, in
    /// the format of [`Connection::typed`](crate::Connection::typed). See [`TypedHub`].
    #[must_use]
    pub fn typed<S: ?Sized, R>(self) -> TypedHub<S, R> {
        TypedHub::new(self, Codec::Postcard)
    }

    /// Converts this hub into one of values, in the format JSON. See
    /// [`Connection::typed_json`](crate::Connection::typed_json).
    #[cfg(feature = "json")]
    #[must_use]
    pub fn typed_json<S: ?Sized, R>(self) -> TypedHub<S, R> {
        TypedHub::new(self, Codec::Json)
    }
}

/// A [`Hub`] that sends values of the type `S` and receives values of the type `R`. One value is one message.
///
/// The `S` of the hub is the `R` of its clients, and the reverse. A value for several clients is encoded once.
///
/// # Decoding errors
///
/// A message that is not a value of the type is a [`TypedEvent::Message`] with an error of the kind
/// [`Encoding`](crate::ErrorKind::Encoding). It concerns this message only: the connection of the client goes on,
/// unless the program disconnects it. The limits for hostile messages are those of [`Typed`](crate::Typed).
///
/// # Examples
///
/// ```
/// use parlour::{Connection, TypedEvent};
/// use parlour::hub::{Event, Hub};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/sums", base.path().display());
/// let mut hub = Hub::bind(&name)?.typed::<i64, (i64, i64)>();
/// let mut client = Connection::connect(&name)?.typed::<(i64, i64), i64>();
/// client.send(&(2, 3))?;
/// loop {
///     match hub.next_event()? {
///         TypedEvent::Message(client, Ok((a, b))) => break hub.send(client, &(a + b))?,
///         TypedEvent::Message(client, Err(error)) => {
///             eprintln!("{error}");
///             hub.hub_mut().disconnect(client)?;
///         }
///         TypedEvent::Other(Event::Left(client, reason)) => println!("{client} has left: {reason}"),
///         TypedEvent::Other(_) => {}
///     }
/// }
/// hub.hub_mut().flush()?;
/// assert_eq!(client.recv()?, Some(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedHub<S: ?Sized, R> {
    hub: Hub,
    codec: Codec,
    encoder: Encoder<S>,
    _received: PhantomData<fn() -> R>,
}

/// An event of a [`TypedHub`].
#[derive(Debug)]
pub enum TypedEvent<R> {
    /// A client has sent a message: a value, or an error of the kind [`Encoding`](crate::ErrorKind::Encoding).
    Message(Client, Result<R>),
    /// Another event. It is never [`Event::Message`].
    Other(Event),
}

impl<S: ?Sized, R> TypedHub<S, R> {
    fn new(hub: Hub, codec: Codec) -> Self {
        Self { hub, codec, encoder: Encoder::new(codec), _received: PhantomData }
    }

    /// Returns the hub, for its clients and counts.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Returns the hub, to flush it, to disconnect clients, for its handles and its topics. Messages that are received
    /// through it are bytes.
    pub fn hub_mut(&mut self) -> &mut Hub {
        &mut self.hub
    }

    /// Returns the hub of bytes.
    #[must_use]
    pub fn into_inner(self) -> Hub {
        self.hub
    }

    /// Releases the name, writes buffered messages, and ends every connection. See [`Hub::close`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::close`].
    pub fn close(self) -> Result<()> {
        self.hub.close()
    }
}

impl<S: ?Sized, R: DeserializeOwned> TypedHub<S, R> {
    /// Returns the next event. Blocks until there is one. See [`Hub::next_event`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::next_event`]. A message that is not a value is not an error of this function.
    pub fn next_event(&mut self) -> Result<TypedEvent<R>> {
        let event = self.hub.next_event()?;
        Ok(self.decode(event))
    }

    /// Returns the next event, and gives up after `timeout`. See [`Hub::next_event_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::next_event_timeout`].
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Result<TypedEvent<R>> {
        let event = self.hub.next_event_timeout(timeout)?;
        Ok(self.decode(event))
    }

    /// Returns the next event without blocking. See [`Hub::try_next_event`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::try_next_event`].
    pub fn try_next_event(&mut self) -> Result<TypedEvent<R>, TryRecvError> {
        let event = self.hub.try_next_event()?;
        Ok(self.decode(event))
    }

    fn decode(&self, event: Event) -> TypedEvent<R> {
        match event {
            Event::Message(client, message) => {
                let object = || format!("client {client} of {}", self.hub.display_name());
                TypedEvent::Message(client, self.codec.value(&message, "the message", object))
            }
            other => TypedEvent::Other(other),
        }
    }
}

impl<S: Serialize + ?Sized, R> TypedHub<S, R> {
    /// Sends one value to a client. See [`Hub::send`].
    ///
    /// # Errors
    ///
    /// Those of [`Hub::send`], and [`ErrorKind::Encoding`](crate::ErrorKind::Encoding): the value cannot be encoded.
    /// Nothing was sent then.
    pub fn send(&mut self, client: Client, value: &S) -> Result<()> {
        let Self { hub, encoder, .. } = self;
        hub.send(client, encode(encoder, hub, value)?)
    }

    /// Sends one value to these clients. Returns those that did not get it. See [`Hub::send_to`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedHub::send) and of [`Hub::send_to`].
    pub fn send_to(&mut self, clients: impl IntoIterator<Item = Client>, value: &S) -> Result<Vec<Client>> {
        let Self { hub, encoder, .. } = self;
        hub.send_to(clients, encode(encoder, hub, value)?)
    }

    /// Sends one value to every client that has joined. Returns those that did not get it. See [`Hub::broadcast`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedHub::send) and of [`Hub::broadcast`].
    pub fn broadcast(&mut self, value: &S) -> Result<Vec<Client>> {
        let Self { hub, encoder, .. } = self;
        hub.broadcast(encode(encoder, hub, value)?)
    }

    /// Sends one value to every client that has joined except this one. Returns those that did not get it. See
    /// [`Hub::broadcast_except`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedHub::send) and of [`Hub::broadcast_except`].
    pub fn broadcast_except(&mut self, client: Client, value: &S) -> Result<Vec<Client>> {
        let Self { hub, encoder, .. } = self;
        hub.broadcast_except(client, encode(encoder, hub, value)?)
    }

    /// Sends one value to the clients that have subscribed to a topic. See [`Hub::publish`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](TypedHub::send) and of [`Hub::publish`].
    pub fn publish(&mut self, topic: impl AsRef<str>, value: &S) -> Result<Vec<Client>> {
        let Self { hub, encoder, .. } = self;
        hub.publish(topic, encode(encoder, hub, value)?)
    }
}

/// Encodes a value as a message to the clients of a hub.
fn encode<'a, S: Serialize + ?Sized>(encoder: &'a mut Encoder<S>, hub: &Hub, value: &S) -> Result<&'a [u8]> {
    encoder.encode(value, hub.message_max(), || format!("the clients of {}", hub.display_name()))
}

impl<S: ?Sized, R> fmt::Debug for TypedHub<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedHub").field(&self.hub).finish()
    }
}
