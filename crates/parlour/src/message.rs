//! One received message.

use std::fmt;
use std::io::IoSlice;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::shared_bytes::SharedBytes;

/// One whole message, as the other side sent it; it may be empty.
///
/// Dereferences to its bytes; [`into_vec`](Message::into_vec) gives them away without a copy. Messages are equal when their
/// bytes are.
///
/// Descriptors that came along ([`send_with_fds`](crate::Connection::send_with_fds)) are in it, close-on-exec, and are
/// closed with it unless they are taken out.
#[derive(Default)]
pub struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    /// Receives into a caller's `Vec`, and closes the descriptors.
    pub(crate) fn receive_into<R>(bytes: &mut Vec<u8>, receive: impl FnOnce(&mut Self) -> R) -> R {
        let mut message = Self { bytes: std::mem::take(bytes), fds: Vec::new() };
        let result = receive(&mut message);
        *bytes = message.bytes;
        result
    }

    /// The bytes, without a copy. Descriptors that came along are closed.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }

    /// The descriptors that came along, in the order in which they were sent. None come unless
    /// [`fds_max`](crate::ConnectOptions::fds_max) allows it.
    #[must_use]
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// The descriptors that came along, now the caller's. The bytes are dropped; see [`take_fds`](Message::take_fds).
    #[must_use]
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Takes the descriptors out and leaves the bytes.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Takes out the blocks that came along with [`send_shared`](crate::Connection::send_shared), and leaves the bytes.
    ///
    /// # Errors
    ///
    /// Those of [`SharedBytes::try_from`]: when one of the descriptors is not such a block. All of them are closed then.
    pub fn take_shared(&mut self) -> Result<Vec<SharedBytes>> {
        self.take_fds().into_iter().map(SharedBytes::try_from).collect()
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
    /// The length and the beginning, readable: a log line stays a line.
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
