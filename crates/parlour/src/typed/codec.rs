//! Encoding and decoding of values, and the errors of both. The format is [`Codec`].
//!
//! This module does not depend on how the bytes are sent, so every API over a connection can use it.

use std::any::type_name;
use std::fmt;
use std::io;
use std::marker::PhantomData;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::Budget;
#[cfg(feature = "json")]
use super::json;
use super::undecodable::Undecodable;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};

/// The format of messages that are values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Codec {
    /// [postcard](https://postcard.jamesmunns.com/wire-format).
    #[default]
    Postcard,
    /// JSON (RFC 8259), one text for each message.
    #[cfg(feature = "json")]
    Json,
}

impl Codec {
    /// Returns the value that all of these bytes encode.
    pub(crate) fn decode<T: DeserializeOwned>(self, message: &[u8]) -> Result<T, Undecodable> {
        match self {
            Self::Postcard => decode(message),
            #[cfg(feature = "json")]
            Self::Json => json::decode(message),
        }
    }

    /// Returns the value of a received message. `which` names the message and `object` its sender, for the error.
    pub(crate) fn value<T: DeserializeOwned>(
        self,
        message: &[u8],
        which: impl fmt::Display,
        object: impl FnOnce() -> String,
    ) -> Result<T> {
        self.decode(message).map_err(|reason| {
            let (length, wanted) = (message.len(), type_name::<T>());
            let detail = format!("{which} ({length} bytes) is not a valid {wanted}: {reason}");
            Error::new(ErrorKind::Encoding, Operation::Decode, object(), detail)
                .next("receive the next message, and check that both sides use the same types and the same format")
        })
    }
}

/// An encoder of values. All messages use the same buffer, which grows to the length of the longest one; after that
/// nothing is allocated.
pub(crate) struct Encoder<S: ?Sized> {
    codec: Codec,
    buffer: Vec<u8>,
    _sent: PhantomData<fn(&S)>,
}

impl<S: ?Sized> Encoder<S> {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, buffer: Vec::new(), _sent: PhantomData }
    }
}

impl<S: ?Sized> Default for Encoder<S> {
    fn default() -> Self {
        Self::new(Codec::default())
    }
}

impl<S: Serialize + ?Sized> Encoder<S> {
    /// Returns the message for `value`, of at most `message_max` bytes. `object` names the receiver, for the error.
    pub(crate) fn encode(&mut self, value: &S, message_max: usize, object: impl FnOnce() -> String) -> Result<&[u8]> {
        self.buffer.clear();
        let mut storage = Limited { buffer: &mut self.buffer, max: message_max, is_full: false };
        let encoded = match self.codec {
            Codec::Postcard => {
                postcard::serialize_with_flavor(value, &mut storage).map_err(|reason| reason.to_string())
            }
            #[cfg(feature = "json")]
            Codec::Json => json::encode(value, &mut storage).map_err(|reason| reason.to_string()),
        };
        // An implementation of `Serialize` may hide the error of the storage.
        match encoded {
            _ if storage.is_full => {
                let detail = format!("the encoded value exceeds the limit of {message_max} bytes");
                Err(cannot_encode::<S>(ErrorKind::MessageTooLong, detail, object())
                    .next("send it in parts, or raise message_max on both sides"))
            }
            Ok(()) => Ok(&self.buffer),
            Err(reason) => Err(cannot_encode::<S>(ErrorKind::Encoding, reason, object())
                .next("nothing was sent; check the type's implementation of Serialize")),
        }
    }
}

fn cannot_encode<S: ?Sized>(kind: ErrorKind, reason: String, object: String) -> Error {
    Error::new(kind, Operation::Encode, object, format!("value of type {}: {reason}", type_name::<S>()))
}

/// A reused buffer that does not grow beyond the maximum length of a message.
pub(super) struct Limited<'a> {
    buffer: &'a mut Vec<u8>,
    max: usize,
    /// True once bytes did not fit.
    is_full: bool,
}

impl Limited<'_> {
    /// Appends bytes. Returns false if they do not fit.
    fn push(&mut self, bytes: &[u8]) -> bool {
        if self.is_full || bytes.len() > self.max - self.buffer.len() {
            self.is_full = true;
            return false;
        }
        self.buffer.extend_from_slice(bytes);
        true
    }
}

impl Flavor for &mut Limited<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.push(bytes) { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.push(bytes) { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A decoder of values. It counts the messages, for error texts.
pub(crate) struct Decoder<R> {
    codec: Codec,
    number: u64,
    _received: PhantomData<fn() -> R>,
}

impl<R> Decoder<R> {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, number: 0, _received: PhantomData }
    }
}

impl<R> Default for Decoder<R> {
    fn default() -> Self {
        Self::new(Codec::default())
    }
}

impl<R: DeserializeOwned> Decoder<R> {
    /// Returns the value of the next message.
    pub(crate) fn decode(&mut self, message: &[u8], common: &Common) -> Result<R> {
        self.number += 1;
        self.codec.value(message, format_args!("message {}", self.number), || common.object())
    }
}

/// Encodes a value as a message of the connection that `common` belongs to.
pub(crate) fn encode<'a, S: Serialize + ?Sized>(
    encoder: &'a mut Encoder<S>,
    value: &S,
    common: &Common,
) -> Result<&'a [u8]> {
    encoder.encode(value, common.message_max, || common.object())
}

/// Returns an iterator that calls a receiving function. It ends after `None` or after an error that ends the
/// connection.
pub(super) fn values<R>(mut next: impl FnMut() -> Option<Result<R>>) -> impl Iterator<Item = Result<R>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        let item = if ended { None } else { next() };
        ended = match &item {
            Some(Err(error)) => error.kind() != ErrorKind::Encoding,
            Some(Ok(_)) => false,
            None => true,
        };
        item
    })
}

/// Returns the value that all of these bytes encode, in the format of postcard.
fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, Undecodable> {
    let budget = Budget::for_message(message.len());
    let mut deserializer = postcard::Deserializer::from_bytes(message);
    let value = T::deserialize(budget.bound(&mut deserializer)).map_err(|reason| match budget.exceeded() {
        Some(what) => Undecodable::TooMuch(what),
        None => Undecodable::Postcard(reason),
    })?;
    match deserializer.finalize().map_err(Undecodable::Postcard)? {
        [] => Ok(value),
        rest => Err(Undecodable::Surplus { bytes: rest.len() }),
    }
}
