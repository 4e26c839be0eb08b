//! Reading in place, under the promise of the program that the publisher can be trusted. The only file of the library
//! above `shm` with unsafe code: the promise itself, and what relies on it.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use super::reader::FrameReader;
use super::received::{Body, ReceivedFrame};
use crate::error::Result;
use crate::message::Message;

impl FrameReader {
    /// Trusts the publisher from here on: its frames dereference to their bytes, without a copy and without a check.
    ///
    /// # Safety
    ///
    /// Neither the publisher nor any other process that can write to the memory changes a block before this reader has
    /// returned it by dropping the frame, or has ended. A [`FramePool`](super::FramePool) of this library keeps to
    /// that, in a process that has no memory errors.
    ///
    /// Every message that is passed to [`open`](TrustingReader::open) was sent by that publisher to this reader, and
    /// each one is opened once. A message that another process relays, or a copy that is opened again, would return a
    /// block that another frame still reads.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use parlour::Connection;
    /// use parlour::frames::{FrameLimits, FrameReader};
    ///
    /// let mut camera = Connection::connect("camera")?;
    /// let reader = FrameReader::attach(&FrameLimits::new(), |payload| camera.send(payload))?;
    /// // SAFETY: the camera is a program of ours. It publishes with a pool of this library, and nobody else sends over
    /// // this connection. Each message is opened once.
    /// let mut reader = unsafe { reader.trust_publisher() };
    /// while let Some(message) = camera.recv()? {
    ///     let frame = reader.open(message)?;
    ///     println!("{:?}", frame.iter().max());
    /// }
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub unsafe fn trust_publisher(self) -> TrustingReader {
        TrustingReader(self)
    }
}

/// A [`FrameReader`] of a program that trusts the publisher. See [`FrameReader::trust_publisher`].
#[derive(Debug)]
pub struct TrustingReader(FrameReader);

impl TrustingReader {
    /// Makes a frame of a message of the publisher, which dereferences to its bytes.
    ///
    /// # Errors
    ///
    /// Those of [`FrameReader::open`].
    pub fn open(&mut self, message: Message) -> Result<TrustedFrame> {
        Ok(TrustedFrame(self.0.open(message)?))
    }
}

/// A frame of a publisher that is trusted. Dereferences to its bytes, in the memory of the publisher. Dropping it
/// returns the block.
///
/// In a forked child it is empty, because the block belongs to the parent. A reference that was made before the fork
/// must not be used in the child.
pub struct TrustedFrame(ReceivedFrame);

impl TrustedFrame {
    /// Returns the note that was sent with the frame.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        self.0.note()
    }

    /// Returns true if the frame is in the memory of the publisher, and false if it was sent by value.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        self.0.is_lent()
    }
}

impl Deref for TrustedFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.0.body() {
            Body::Here { from } => self.0.bytes_here(*from),
            Body::Lent(borrowed) if borrowed.pool.is_in_child() => &[],
            // SAFETY: the frame holds the block until it is dropped. Only the promise of `trust_publisher` makes a
            // frame of this type: until then nobody changes the block.
            Body::Lent(borrowed) => unsafe { borrowed.pool.memory.bytes(borrowed.block, borrowed.length) },
        }
    }
}

impl AsRef<[u8]> for TrustedFrame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for TrustedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedFrame({} bytes, note of {})", self.0.len(), self.note().len())
    }
}
