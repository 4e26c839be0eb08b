//! The descriptors of a connection, for code that speaks the protocol itself.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::connection::Connection;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::peer::Peer;
use crate::transport::Transport;

/// The descriptors of a connection. See [`Connection::into_raw_parts`].
///
/// The next byte in each direction begins a frame: four bytes of length, and the message (docs/wire.md). All
/// descriptors are close-on-exec and non-blocking.
#[derive(Debug)]
#[non_exhaustive]
pub struct RawParts {
    /// The descriptors.
    pub fds: RawFds,
    /// The identity of the peer.
    pub peer: Peer,
    /// Keeps the connection counted by its server. Drop it after closing the descriptors.
    pub guard: ConnectionGuard,
}

/// The descriptors of a connection, by transport.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawFds {
    /// `unix`: one socket for both directions. Send with `MSG_NOSIGNAL`. A client whose server refuses it receives one
    /// byte, `0x81`, `0x82` or `0x83`, and then the end (docs/wire.md, section 3).
    Unix(OwnedFd),
    /// `fifo`: one FIFO for each direction. The first `EPIPE` is final. Close the FIFO then; otherwise a process that
    /// opens it later receives the rest of the data.
    Fifo {
        /// The read end of the FIFO from the peer.
        recv: OwnedFd,
        /// The write end of the FIFO to the peer.
        send: OwnedFd,
    },
}

/// A place among the connections that a server counts.
///
/// Dropping it frees the place for another client, so drop it after the descriptors are closed. A guard of a client's
/// connection holds no place.
pub struct ConnectionGuard(#[allow(dead_code, reason = "it is held")] Arc<Common>);

impl ConnectionGuard {
    pub(crate) fn of(common: Arc<Common>) -> Self {
        Self(common)
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionGuard")
    }
}

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
    /// Converts the connection into its descriptors, for code that speaks the protocol itself or passes the descriptors
    /// to another process.
    ///
    /// The transport must be `unix` or `fifo`. No bytes may be buffered in either direction, and neither direction may
    /// have ended. This holds directly after `connect` or `accept`.
    ///
    /// The returned descriptors are duplicates. Those of the connection are closed.
    ///
    /// # Errors
    ///
    /// [`IntoRawPartsError`] returns the connection, unchanged, with the reason:
    ///
    /// - [`ErrorKind::Unsupported`]: the connection uses another transport, has buffered bytes, or has ended.
    /// - [`ErrorKind::Io`]: a descriptor could not be duplicated, for example because the descriptor table is full.
    pub fn into_raw_parts(self) -> std::result::Result<RawParts, IntoRawPartsError> {
        match self.raw_fds() {
            Ok(fds) => {
                let peer = self.peer().clone();
                Ok(RawParts { fds, peer, guard: ConnectionGuard::of(Arc::clone(self.receiver.shared())) })
            }
            Err(error) => Err(IntoRawPartsError { connection: Box::new(self), error }),
        }
    }

    fn raw_fds(&self) -> Result<RawFds> {
        const TAKE_APART: Operation = Operation::IntoRawParts;
        let common = self.receiver.common();
        let unsupported = |detail: Cow<'static, str>| common.error(ErrorKind::Unsupported, TAKE_APART, detail);
        if !self.receiver.incoming.is_pristine() || !self.sender.is_pristine() {
            return Err(unsupported("the connection has buffered bytes or has ended".into())
                .next("take it apart before the first receive, and flush buffered messages"));
        }
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| common.io(TAKE_APART, error));
        match (self.transport(), self.send_fd()) {
            (Transport::Unix, _) => Ok(RawFds::Unix(duplicate(self.recv_fd())?)),
            (Transport::Fifo, Some(send)) => {
                Ok(RawFds::Fifo { recv: duplicate(self.recv_fd())?, send: duplicate(send)? })
            }
            (transport, _) => Err(unsupported(format!("{transport} needs more than descriptors").into())
                .next("connect over unix or fifo")),
        }
    }
}
