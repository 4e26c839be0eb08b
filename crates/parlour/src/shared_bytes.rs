//! Large immutable data that many processes read without copying it.

use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::shm::memfd::BadMemory;
use crate::shm::sealed::Sealed;

/// An immutable block of bytes in shared memory (memfd_create(2)). It is built once, sent to any number of peers by its
/// descriptor, and read by each of them in place.
///
/// The kernel guarantees that no process can change the block, not even its creator: the memory is sealed (fcntl(2),
/// `F_ADD_SEALS`), and a receiver verifies the seals before it reads. So the block dereferences to an ordinary `&[u8]`.
///
/// A clone is another handle to the same memory. The memory is freed when the last process has dropped its last clone;
/// until then it is charged to its creator. Each block that a process holds keeps one descriptor open.
///
/// The receiver has to allow descriptors, one for each block: see [`fds_max`](crate::ConnectOptions::fds_max). An
/// ordinary message is faster for less than about 64 KiB.
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, Payload, Server, SharedBytes};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/frames", base.path().display());
/// let server = Server::bind(&name)?;
/// let mut client = ConnectOptions::new().fds_max(1).connect(&name)?;
/// let mut served = server.accept()?;
///
/// let frame = SharedBytes::new(&[7; 100_000])?;
/// served.send(Payload::new(b"frame 1").shared(&[&frame]))?;
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
    /// Copies `bytes` into a new block. This is the only copy that is ever made.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`]: no memory or no descriptor is available.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        Self::made(bytes.len(), Sealed::copy_of(bytes))
    }

    /// Creates a block of `length` bytes, initially zero, which `fill` writes in place.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`]: no memory or no descriptor is available, or the kernel referred to a page of the block for
    ///   more than three seconds after `fill` (`EBUSY`).
    pub fn build(length: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self> {
        Self::made(length, Sealed::build(length, fill))
    }

    fn made(length: usize, sealed: std::io::Result<Sealed>) -> Result<Self> {
        let sealed =
            sealed.map_err(|error| Error::io(Operation::Create, format!("a shared block of {length} bytes"), error))?;
        Ok(Self(Arc::new(sealed)))
    }
}

/// A block that arrived in another way: in [`Message::fds`](crate::Message::fds), or through another library.
impl TryFrom<OwnedFd> for SharedBytes {
    type Error = Error;

    /// Verifies the seals of the memory and maps it. Takes ownership of the descriptor, and closes it on failure.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Protocol`]: the descriptor is not memory, is not sealed against every change, or is not allocated
    ///   in full, so that reading it could be a data race or raise a signal.
    /// - [`ErrorKind::Io`]: the memory cannot be mapped.
    fn try_from(memfd: OwnedFd) -> Result<Self> {
        match Sealed::adopt(memfd) {
            Ok(sealed) => Ok(Self(Arc::new(sealed))),
            Err(BadMemory::Io(error)) => Err(Error::io(Operation::Map, "a shared block", error)),
            Err(bad) => Err(Error::new(
                ErrorKind::Protocol,
                Operation::Convert,
                "a descriptor as a shared block",
                bad.to_string(),
            )
            .next("have the peer attach a block (Payload::shared)")),
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

/// Returns the descriptor of the memory, for other libraries. Its seals make it read-only.
/// [`Payload::shared`](crate::Payload::shared) does not need it.
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
