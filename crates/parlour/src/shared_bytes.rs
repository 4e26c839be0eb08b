//! Large immutable data that many processes read without copying it.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::shm::mapping::BadMemory;
use crate::shm::sealed::Sealed;

/// A block of bytes that never changes, in memory of its own (memfd_create(2)) that is handed on by its descriptor: built
/// once, sent to any number of peers, and read by each of them where it is.
///
/// The kernel guarantees that nobody can change it, not even who made it: the memory is sealed, and whoever receives it
/// makes sure of the seals before looking. So it dereferences to an ordinary `&[u8]`. The memory is freed when the last
/// process has dropped its last clone; it counts as its maker's. A clone is another handle to the same memory.
///
/// The receiver has to allow descriptors, of which each block is one ([`fds_max`](crate::ConnectOptions::fds_max)). For
/// less than about 64 KiB an ordinary message is faster.
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, Server, SharedBytes};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/frames", base.path().display());
/// let server = Server::bind(&name)?;
/// let mut client = ConnectOptions::new().fds_max(1).connect(&name)?;
/// let mut served = server.accept()?;
///
/// let frame = SharedBytes::new(&[7; 100_000])?;
/// served.send_shared(b"frame 1", &[&frame])?;
///
/// let mut message = client.recv()?.unwrap();
/// let blocks = message.take_shared()?;
/// assert_eq!(message, b"frame 1");
/// assert_eq!(blocks[0][..], [7; 100_000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Platform
///
/// Linux.
#[derive(Clone)]
pub struct SharedBytes(Arc<Sealed>);

impl SharedBytes {
    /// Copies the bytes into a block, the only copy that is ever made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: there is no memory, or no descriptor.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        Self::made(bytes.len(), Sealed::copy_of(bytes))
    }

    /// Has a block of `length` bytes, zeros at first, written in place by `fill`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: there is no memory, or no descriptor.
    pub fn build(length: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self> {
        Self::made(length, Sealed::build(length, fill))
    }

    fn made(length: usize, sealed: std::io::Result<Sealed>) -> Result<Self> {
        let sealed = sealed.map_err(|error| Error::io("make", format!("a shared block of {length} bytes"), error))?;
        Ok(Self(Arc::new(sealed)))
    }
}

/// A block that came by another way, as one of [`Message::fds`](crate::Message::fds) or through another library.
impl TryFrom<OwnedFd> for SharedBytes {
    type Error = Error;

    /// Makes sure of the seals and maps it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`]: it is not memory, not sealed against every change, or not allocated in full, so that
    /// reading it could be a data race or a signal. [`ErrorKind::Io`]: it cannot be mapped.
    fn try_from(memfd: OwnedFd) -> Result<Self> {
        match Sealed::adopt(memfd) {
            Ok(sealed) => Ok(Self(Arc::new(sealed))),
            Err(BadMemory::Io(error)) => Err(Error::io("map", "a shared block", error)),
            Err(bad) => Err(Error::new(ErrorKind::Protocol, "use", "a descriptor as a shared block", bad.to_string())
                .next("have the other side send it with send_shared")),
        }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The descriptor of the memory, read-only in effect. For other libraries; [`send_shared`](crate::Connection::send_shared)
/// needs no help.
impl AsFd for SharedBytes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}
