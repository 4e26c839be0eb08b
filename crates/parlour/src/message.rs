//! One received message.

use std::fmt;
use std::io::IoSlice;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::shared_bytes::SharedBytes;

/// One received message, whole, as the peer sent it. It may be empty.
///
/// Dereferences to its bytes. Two messages are equal if their bytes are.
///
/// Descriptors that the peer attached ([`Payload::fds`](crate::Payload::fds)) are part of the message. They are
/// close-on-exec, and are closed with the message unless they are taken out of it.
#[derive(Default)]
pub struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    /// Makes a message of bytes and descriptors, for a program that keeps them apart or has received them in another
    /// way.
    ///
    /// # Examples
    ///
    /// ```
    /// let message = parlour::Message::new(b"hello".to_vec(), Vec::new());
    /// assert_eq!(message, b"hello");
    /// ```
    #[must_use]
    pub fn new(bytes: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
        Self { bytes, fds }
    }

    /// Receives into a `Vec` of the caller, and closes the descriptors. Returns the length of the message.
    pub(crate) fn receive_into<E>(
        bytes: &mut Vec<u8>,
        receive: impl FnOnce(&mut Self) -> Result<Received, E>,
    ) -> Result<Option<usize>, E> {
        let mut message = Self { bytes: std::mem::take(bytes), fds: Vec::new() };
        let received = receive(&mut message);
        *bytes = message.bytes;
        Ok(received?.then(bytes.len()))
    }

    /// Removes bytes at the front.
    pub(crate) fn remove_front(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }

    /// Returns the bytes without copying them. Descriptors of the message are closed.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the descriptors of the message, in the order in which they were sent. There are none unless
    /// [`fds_max`](crate::ConnectOptions::fds_max) allows some.
    #[must_use]
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Returns the descriptors of the message, and drops the bytes. See [`take_fds`](Message::take_fds) to keep both.
    #[must_use]
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Takes the descriptors out of the message. The bytes stay.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Takes the blocks of shared memory ([`Payload::shared`](crate::Payload::shared)) out of the message. The bytes
    /// stay.
    ///
    /// # Errors
    ///
    /// Those of [`SharedBytes::try_from`], if one of the descriptors is not a block. All descriptors are then closed.
    pub fn take_shared(&mut self) -> Result<Vec<SharedBytes>> {
        self.take_fds().into_iter().map(SharedBytes::try_from).collect()
    }
}

/// The outcome of an attempt to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A whole message, in the memory of the caller.
    Message,
    /// No whole message has arrived: wait until the descriptor is readable.
    Empty,
    /// The peer ended this direction between messages.
    Closed,
}

impl Received {
    /// Returns `message` if one was received.
    #[inline]
    pub(crate) fn then<T>(self, message: T) -> Option<T> {
        (self == Self::Message).then_some(message)
    }
}

/// Returns the length in bytes of a message that is given in parts.
pub(crate) fn message_len(parts: &[IoSlice<'_>]) -> usize {
    parts.iter().map(|part| part.len()).fold(0, usize::saturating_add)
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Message {}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Message> for Vec<u8> {
    fn from(message: Message) -> Self {
        message.bytes
    }
}

impl fmt::Debug for Message {
    /// Shows the length and the escaped beginning, so that a log line stays one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let shown = &self.bytes[..self.bytes.len().min(SHOWN)];
        let more = if self.bytes.len() > SHOWN { "…" } else { "" };
        write!(f, "Message({} bytes, \"{}{more}\"", self.bytes.len(), shown.escape_ascii())?;
        match self.fds.len() {
            0 => f.write_str(")"),
            count => write!(f, ", {count} descriptors)"),
        }
    }
}

impl PartialEq<[u8]> for Message {
    fn eq(&self, other: &[u8]) -> bool {
        self.bytes == other
    }
}

impl PartialEq<&[u8]> for Message {
    fn eq(&self, other: &&[u8]) -> bool {
        self.bytes == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Message {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.bytes == *other
    }
}
