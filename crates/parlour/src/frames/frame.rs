//! The publisher's own handles of a block: one that fills it, and those that send it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::shm::blocks::Hold;

/// A block of a [`FramePool`](super::FramePool) that only this handle can access, to be filled in place.
///
/// Dereferences to the bytes of the block. At first it has all of them, with the content of an earlier frame or zeros.
/// [`truncate`](FrameMut::truncate) makes it shorter. Dropping it returns the block unsent.
///
/// In a forked child it is empty, because the block belongs to the parent. A reference that was made before the fork
/// must not be used in the child.
pub struct FrameMut(Hold);

impl FrameMut {
    pub(super) fn new(hold: Hold) -> Self {
        Self(hold)
    }

    /// Shortens the frame to this many bytes. Has no effect if it is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Makes a frame that can be sent, and cannot be changed any more.
    #[must_use]
    pub fn freeze(self) -> Frame {
        Frame(Arc::new(self.0))
    }
}

impl Deref for FrameMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for FrameMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

impl fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameMut({} bytes)", self.0.length())
    }
}

/// A filled block of a [`FramePool`](super::FramePool), to be sent with [`FramePool::send`](super::FramePool::send).
///
/// Dereferences to its bytes, which nobody can change as long as a handle exists. A clone is another handle of the same
/// block. The block can be filled again when the last handle of this process is dropped and every reader has returned
/// it.
///
/// In a forked child it is empty, because the block belongs to the parent. A reference that was made before the fork
/// must not be used in the child.
#[derive(Clone)]
pub struct Frame(Arc<Hold>);

impl Frame {
    pub(super) fn hold(&self) -> &Hold {
        &self.0
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.length())
    }
}
