//! `ReceivedFrame`: a frame that is copied out.

use std::fmt;
use std::ops::Range;

use super::borrowed::Borrowed;
use crate::error::Result;

/// The place of the bytes of a frame.
#[derive(Debug)]
pub(super) enum Body {
    Lent(Borrowed),
    /// In the message, from this byte on.
    Here {
        from: usize,
    },
}

/// A frame of a publisher that is not trusted. Its bytes can be copied. Dropping it returns the block to the publisher.
pub struct ReceivedFrame {
    body: Body,
    message: Vec<u8>,
    note: Range<usize>,
}

impl ReceivedFrame {
    pub(super) fn new(body: Body, message: Vec<u8>, note: Range<usize>) -> Self {
        Self { body, message, note }
    }

    pub(super) fn body(&self) -> &Body {
        &self.body
    }

    /// Returns the bytes of a frame that was sent by value.
    pub(super) fn bytes_here(&self, from: usize) -> &[u8] {
        self.message.get(from..).unwrap_or_default()
    }

    /// Returns the note that was sent with the frame.
    #[must_use]
    pub fn note(&self) -> &[u8] {
        self.message.get(self.note.clone()).unwrap_or_default()
    }

    /// Returns the length of the frame in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Lent(borrowed) => borrowed.length,
            Body::Here { from } => self.bytes_here(*from).len(),
        }
    }

    /// Returns true if the frame has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if the frame is in the memory of the publisher, and false if it was sent by value.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        matches!(self.body, Body::Lent(_))
    }

    /// Copies the frame into `bytes`, in place of their content.
    ///
    /// # Errors
    ///
    /// `bytes` has unspecified content.
    ///
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the publisher changed the block before this frame was
    ///   dropped, so the copy may be torn.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): this is a forked child.
    pub fn copy_to(&self, bytes: &mut Vec<u8>) -> Result<()> {
        match &self.body {
            Body::Here { from } => {
                bytes.clear();
                bytes.extend_from_slice(self.bytes_here(*from));
                Ok(())
            }
            Body::Lent(borrowed) => {
                // A vector that is used again is not zeroed again.
                bytes.resize(borrowed.length, 0);
                borrowed.copy_to(bytes)
            }
        }
    }

    /// Copies the frame into memory of the caller, as many bytes as fit, and returns their number.
    ///
    /// # Errors
    ///
    /// Those of [`copy_to`](Self::copy_to).
    pub fn copy_to_slice(&self, bytes: &mut [u8]) -> Result<usize> {
        let count = bytes.len().min(self.len());
        let Some(place) = bytes.get_mut(..count) else { return Ok(0) };
        match &self.body {
            Body::Here { from } => {
                let bytes = self.bytes_here(*from).get(..count).unwrap_or_default();
                place.copy_from_slice(bytes);
                Ok(count)
            }
            Body::Lent(borrowed) => borrowed.copy_to(place).map(|()| count),
        }
    }

    /// Returns a copy of the frame.
    ///
    /// # Errors
    ///
    /// Those of [`copy_to`](Self::copy_to).
    pub fn to_vec(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Debug for ReceivedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedFrame({} bytes, note of {})", self.len(), self.note.len())
    }
}
