//! A connection attempt for loops of events.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use super::Connecting;
use crate::connection::Connection;
use crate::error::Result;
use crate::options::ConnectOptions;
use crate::wait_fd::WaitFd;

/// A connection attempt that never blocks, for loops of events.
///
/// [`try_finish`](PendingConnection::try_finish) advances the attempt. While it returns `None`, wait until the
/// descriptor of this value is readable. It is another descriptor after each such call. It covers the deadlines of the
/// options, too, so the loop needs no timer. Dropping the attempt ends it and leaves no file behind; the server may
/// accept a client that has disconnected.
///
/// An attempt ends with the connection or with an error. A later call begins another attempt.
///
/// # Examples
///
/// ```
/// use std::os::fd::AsFd;
///
/// use parlour::{ConnectOptions, Server};
/// # use rustix::event::{PollFd, PollFlags, poll};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let base = tempfile::tempdir()?;
/// # let address = base.path().join("hello").display().to_string();
/// let server = Server::bind(&address)?;
/// let mut pending = ConnectOptions::new().begin(&address)?;
/// let mut client = loop {
///     if let Some(connection) = pending.try_finish()? {
///         break connection;
///     }
///     poll(&mut [PollFd::new(&pending, PollFlags::IN)], None)?;
/// };
/// client.send("hello")?;
/// # assert_eq!(server.accept()?.recv()?.expect("a message"), b"hello");
/// # Ok(())
/// # }
/// ```
pub struct PendingConnection {
    connecting: Connecting,
    wait_fd: WaitFd,
}

impl ConnectOptions {
    /// Begins to connect to the server of this name, without blocking. See [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption): a value is outside the range that its setter
    ///   states.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    pub fn begin(&self, address: impl AsRef<str>) -> Result<PendingConnection> {
        PendingConnection::of(Connecting::new(address.as_ref(), self)?)
    }
}

impl PendingConnection {
    pub(super) fn of(connecting: Connecting) -> Result<Self> {
        let wait_fd = wait_fd(&connecting)?;
        Ok(Self { connecting, wait_fd })
    }

    /// Advances the attempt as far as that is possible without blocking. Returns `None` while the connection is not
    /// established.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`].
    pub fn try_finish(&mut self) -> Result<Option<Connection>> {
        if let Some(connection) = self.connecting.step()? {
            return Ok(Some(connection));
        }
        self.wait_fd = wait_fd(&self.connecting)?;
        Ok(None)
    }
}

/// Gathers the descriptors that the next step waits for.
fn wait_fd(connecting: &Connecting) -> Result<WaitFd> {
    WaitFd::new(&connecting.wait_set()).map_err(|error| connecting.failed(error))
}

impl AsFd for PendingConnection {
    /// Returns the descriptor that is readable when the next step can be taken. For waiting only.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wait_fd.as_fd()
    }
}

impl fmt::Debug for PendingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingConnection").field("server", &self.connecting.object()).finish_non_exhaustive()
    }
}
