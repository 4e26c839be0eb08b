//! The descriptors of a connection for tasks, for code that speaks the protocol itself.

use std::fmt;

use super::connection::Connection;
use crate::error::Error;
use crate::raw_parts::{RawParts, raw_parts};

/// The error of [`Connection::into_raw_parts`]. It returns the connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct IntoRawPartsError {
    /// The connection, unchanged.
    pub connection: Box<Connection>,
    /// The reason.
    pub error: Error,
}

impl fmt::Display for IntoRawPartsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for IntoRawPartsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Connection {
    /// Converts the connection into its descriptors, for code that speaks the protocol itself. See
    /// [`crate::Connection::into_raw_parts`], which has the same conditions.
    ///
    /// The returned descriptors are duplicates, which are registered with no runtime, and non-blocking. Register them
    /// with tokio's `UnixStream::from_std` or `AsyncFd`, also in another runtime. The descriptors of the connection are
    /// removed from its runtime and closed.
    ///
    /// # Errors
    ///
    /// [`IntoRawPartsError`] returns the connection, unchanged, with the reason:
    ///
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the connection uses `packet` or `shm`, has buffered
    ///   bytes, or has ended.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a descriptor could not be duplicated, for example because the
    ///   descriptor table is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::tokio::Connection;
    /// use parlour::{RawFds, Transport};
    /// use tokio::net::UnixStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut client, served) = Connection::pair(Transport::Unix)?;
    /// let parts = served.into_raw_parts()?;
    /// let RawFds::Unix(socket) = parts.fds else { unreachable!() };
    /// let stream = UnixStream::from_std(socket.into())?;
    /// client.send("hello").await?;
    /// stream.readable().await?;
    /// let mut frame = [0; 9];
    /// assert_eq!(stream.try_read(&mut frame)?, 9);
    /// assert_eq!(&frame, b"\0\0\0\x05hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_raw_parts(mut self) -> Result<RawParts, IntoRawPartsError> {
        match self.with_halves(raw_parts) {
            Ok(parts) => Ok(parts),
            Err(error) => Err(IntoRawPartsError { connection: Box::new(self), error }),
        }
    }
}
