//! One received message.

use std::fmt;
use std::ops::Deref;

/// One whole message, as the other side sent it; it may be empty.
///
/// Dereferences to its bytes; [`into_vec`](Message::into_vec) gives them away without a copy.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The bytes, without a copy.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

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
    /// The length and the beginning, readable: a log line stays a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        let shown = &self.bytes[..self.bytes.len().min(SHOWN)];
        let more = if self.bytes.len() > SHOWN { "…" } else { "" };
        write!(f, "Message({} bytes, \"{}{more}\")", self.bytes.len(), shown.escape_ascii())
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
