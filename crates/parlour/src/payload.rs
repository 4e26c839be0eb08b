//! The bytes of one message to send, and the descriptors that are attached to it.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use crate::message::{Message, message_len};
use crate::shared_bytes::SharedBytes;

/// One message to send, borrowed from the caller.
///
/// Every function that sends takes `impl Into<Payload>`, so bytes are passed as they are: `send(b"hello")`,
/// `send(&vec)`, `send("text")`, `send(&message)`. Build a `Payload` to send several parts as one message, or to
/// attach descriptors or shared memory:
///
/// ```no_run
/// use std::io::IoSlice;
/// use std::os::fd::AsFd;
/// use parlour::{Connection, Payload, SharedBytes};
///
/// let mut connection = Connection::connect("store")?;
/// connection.send(b"whole")?;
/// connection.send(Payload::vectored(&[IoSlice::new(b"in "), IoSlice::new(b"parts")]))?;
///
/// let file = std::fs::File::open("/etc/hostname").expect("the file can be opened");
/// connection.send(Payload::new(b"read this").fds(&[file.as_fd()]))?;
///
/// let block = SharedBytes::new(&[0; 1 << 20])?;
/// connection.send(Payload::new(b"a frame").shared(&[&block]))?;
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    bytes: Bytes<'a>,
    attached: Attached<'a>,
}

#[derive(Clone, Copy)]
enum Bytes<'a> {
    Whole(IoSlice<'a>),
    Parts(&'a [IoSlice<'a>]),
}

/// The descriptors that are attached to a message.
#[derive(Clone, Copy)]
pub(crate) enum Attached<'a> {
    Nothing,
    Fds(&'a [BorrowedFd<'a>]),
    Shared(&'a [&'a SharedBytes]),
    /// The memory and the socket of a reader of frames. Every transport that carries blocks carries them.
    Reader(&'a [BorrowedFd<'a>]),
}

impl<'a> Payload<'a> {
    /// Creates a payload of these bytes. A message may have 0 bytes; the peer receives it as an empty message.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: Bytes::Whole(IoSlice::new(bytes)), attached: Attached::Nothing }
    }

    /// Creates a payload of one message that is stored in several parts. The parts are sent in order. The caller does
    /// not have to concatenate them. The transport may copy them: short messages are joined before the system call, and
    /// `shm` copies into the ring.
    #[inline]
    #[must_use]
    pub fn vectored(parts: &'a [IoSlice<'a>]) -> Self {
        Self { bytes: Bytes::Parts(parts), attached: Attached::Nothing }
    }

    /// Attaches open descriptors, at most 253. Replaces the attachments of the payload, including those of
    /// [`shared`](Payload::shared): a message carries descriptors or blocks, not both.
    ///
    /// The receiver gets duplicates of them, close-on-exec, in [`Message::fds`], in this order. The caller keeps its
    /// own and may close them when the send returns. Descriptors that are sent and not received yet count against
    /// `RLIMIT_NOFILE` of the sending user.
    ///
    /// `unix` and `packet` carry descriptors ([`Capabilities::descriptors`](crate::Capabilities::descriptors)). The
    /// send fails with `Unsupported` on `shm` and `fifo` and in a [`Hub`](crate::Hub), and with `MessageTooLong` for
    /// more than 253 descriptors.
    ///
    /// The receiver must allow as many ([`fds_max`](crate::ServerOptions::fds_max)). If it allows none, the send fails
    /// with `Refused` from Linux 6.16 on; on older kernels the receiver ends the connection. If it allows fewer than
    /// were sent, it ends the connection.
    #[must_use]
    pub fn fds(mut self, fds: &'a [BorrowedFd<'a>]) -> Self {
        self.attached = if fds.is_empty() { Attached::Nothing } else { Attached::Fds(fds) };
        self
    }

    /// Attaches blocks of shared memory, at most 253. Replaces the attachments of the payload, including those of
    /// [`fds`](Payload::fds).
    ///
    /// Each block is sent as one descriptor and counts towards the receiver's
    /// [`fds_max`](crate::ServerOptions::fds_max). The bytes are not copied: the receiver ([`Message::take_shared`])
    /// reads the same memory, so one block can be sent to many peers. `shm`, `packet` and `unix` carry blocks
    /// ([`Capabilities::zero_copy`](crate::Capabilities::zero_copy)). On `shm` only blocks can be sent, no other
    /// descriptors. On `fifo` the send fails with `Unsupported`. The other errors are those of [`fds`](Payload::fds).
    /// A broadcast of a [`Hub`](crate::Hub) returns the clients that cannot receive blocks.
    #[must_use]
    pub fn shared(mut self, blocks: &'a [&'a SharedBytes]) -> Self {
        self.attached = if blocks.is_empty() { Attached::Nothing } else { Attached::Shared(blocks) };
        self
    }

    /// Creates the payload by which a reader of frames attaches.
    pub(crate) fn attach(bytes: &'a [u8], fds: &'a [BorrowedFd<'a>]) -> Self {
        Self { bytes: Bytes::Whole(IoSlice::new(bytes)), attached: Attached::Reader(fds) }
    }

    /// Returns the length of the message in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Whole(bytes) => bytes.len(),
            Bytes::Parts(parts) => message_len(parts),
        }
    }

    /// Returns true if the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes of all parts into one `Vec`.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().iter().fold(Vec::with_capacity(self.len()), |mut bytes, part| {
            bytes.extend_from_slice(part);
            bytes
        })
    }

    /// Returns the bytes if they lie in one part and nothing is attached.
    #[inline]
    pub(crate) fn as_plain(&self) -> Option<&[u8]> {
        match (&self.bytes, self.attached) {
            (Bytes::Whole(bytes), Attached::Nothing) => Some(bytes),
            _ => None,
        }
    }

    /// Returns the parts of the message.
    #[inline]
    pub(crate) fn parts(&self) -> &[IoSlice<'a>] {
        match &self.bytes {
            Bytes::Whole(bytes) => std::slice::from_ref(bytes),
            Bytes::Parts(parts) => parts,
        }
    }

    /// Calls `work` with this payload and `front` in front of it.
    pub(crate) fn with_front<T>(&self, front: &[u8], work: impl FnOnce(Payload<'_>) -> T) -> T {
        match self.parts() {
            [one] => {
                let parts = [IoSlice::new(front), *one];
                work(Payload { bytes: Bytes::Parts(&parts), attached: self.attached })
            }
            several => {
                let mut parts = Vec::with_capacity(several.len() + 1);
                parts.push(IoSlice::new(front));
                parts.extend_from_slice(several);
                work(Payload { bytes: Bytes::Parts(&parts), attached: self.attached })
            }
        }
    }

    /// Returns the attachments of the message.
    #[inline]
    pub(crate) fn attached(&self) -> Attached<'a> {
        self.attached
    }

    /// Returns the blocks of shared memory of the message.
    pub(crate) fn blocks(&self) -> &'a [&'a SharedBytes] {
        match self.attached {
            Attached::Shared(blocks) => blocks,
            Attached::Nothing | Attached::Fds(_) | Attached::Reader(_) => &[],
        }
    }

    /// Calls `work` with the parts and the descriptors.
    #[inline]
    pub(crate) fn with<T>(&self, work: impl FnOnce(&[IoSlice<'_>], &[BorrowedFd<'_>]) -> T) -> T {
        match self.attached {
            Attached::Nothing => work(self.parts(), &[]),
            Attached::Fds(fds) | Attached::Reader(fds) => work(self.parts(), fds),
            Attached::Shared(blocks) => {
                let fds: Vec<_> = blocks.iter().map(|block| block.as_fd()).collect();
                work(self.parts(), &fds)
            }
        }
    }
}

impl Attached<'_> {
    /// Returns the number of descriptors.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Fds(fds) | Self::Reader(fds) => fds.len(),
            Self::Shared(blocks) => blocks.len(),
        }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Self::new(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Self::new(text.as_bytes())
    }
}

/// Sends the bytes of a received message again, without its descriptors.
impl<'a> From<&'a Message> for Payload<'a> {
    #[inline]
    fn from(message: &'a Message) -> Self {
        Self::new(message)
    }
}

impl<'a> From<&'a [IoSlice<'a>]> for Payload<'a> {
    #[inline]
    fn from(parts: &'a [IoSlice<'a>]) -> Self {
        Self::vectored(parts)
    }
}

impl fmt::Debug for Payload<'_> {
    /// Shows the length and the number of descriptors, so that a log line stays short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len()).field("fds", &self.attached.count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<'a>(payload: impl Into<Payload<'a>>) -> Vec<u8> {
        payload.into().to_vec()
    }

    #[test]
    fn everything_that_is_bytes_converts() {
        let parts = [IoSlice::new(b"he"), IoSlice::new(b"llo")];
        let vec = b"hello".to_vec();
        let all = [
            bytes(b"hello"),
            bytes(&b"hello"[..]),
            bytes(&vec),
            bytes("hello"),
            bytes(&"hello".to_owned()),
            bytes(&parts[..]),
        ];
        assert!(all.iter().all(|bytes| bytes == b"hello"));
        assert_eq!(Payload::vectored(&parts).len(), 5);
        assert!(Payload::new(&[]).is_empty());
    }

    #[test]
    fn only_whole_bytes_without_attachments_are_plain() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Payload::new(b"a").as_plain(), Some(&b"a"[..]));
        assert_eq!(Payload::new(b"a").fds(&[]).as_plain(), Some(&b"a"[..]));
        assert_eq!(Payload::new(b"a").fds(&[file.as_fd()]).as_plain(), None);
        assert_eq!(Payload::vectored(&[IoSlice::new(b"a")]).as_plain(), None);
    }
}
