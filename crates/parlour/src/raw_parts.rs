//! A connection taken apart into its descriptors, for code that speaks the frames itself.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::connection::Connection;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::peer::Peer;
use crate::transport::Transport;

/// The descriptors of a connection that was taken apart by [`Connection::into_raw_parts`], with nothing read ahead of them.
///
/// What goes over them is frames, four bytes of length and the message (docs/wire.md), in both directions, from the next
/// byte on. All descriptors are close-on-exec and non-blocking.
#[derive(Debug)]
pub struct RawParts {
    /// The descriptors.
    pub fds: RawFds,
    /// Who is at the other end.
    pub peer: Peer,
    /// Keeps the connection counted by its server.
    pub guard: ConnectionGuard,
}

/// What carries a bare connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawFds {
    /// `unix`: one socket for both directions. Send with `MSG_NOSIGNAL`.
    Unix(OwnedFd),
    /// `fifo`: one FIFO for each direction. The first broken pipe is final: close it then, or whoever opens the FIFO later
    /// gets the rest.
    Fifo {
        /// Where messages come from.
        recv: OwnedFd,
        /// Where messages go to.
        send: OwnedFd,
    },
}

/// A place among the connections that a server counts. Dropping it gives the place to somebody else; so drop it when the
/// descriptors are closed. For a client it keeps nothing.
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

/// A connection that cannot be taken apart, as it was, and why.
#[derive(Debug)]
pub struct IntoRawPartsError {
    /// The connection, as before.
    pub connection: Box<Connection>,
    /// Why it is still one.
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
    /// Takes the connection apart into its bare descriptors, for code that speaks the frames itself or hands them to
    /// another process. Of `unix` and `fifo`, while nothing was received ahead of what was asked for and nothing waits to be
    /// sent: right after `connect` or `accept` that is so.
    ///
    /// The descriptors are duplicates of those that this connection had, which are closed.
    ///
    /// # Errors
    ///
    /// The connection comes back, as it was, with the reason.
    ///
    /// - [`ErrorKind::Unsupported`]: another transport, or bytes are in here that the descriptors do not have.
    /// - [`ErrorKind::Io`]: no descriptor is left for the duplicates.
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
            return Err(unsupported("it holds bytes that its descriptors do not have, or has ended".into())
                .next("take it apart before the first receive, and flush what was fed"));
        }
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| common.io(TAKE_APART, error));
        match (self.transport(), self.send_fd()) {
            (Transport::Unix, _) => Ok(RawFds::Unix(duplicate(self.recv_fd())?)),
            (Transport::Fifo, Some(send)) => {
                Ok(RawFds::Fifo { recv: duplicate(self.recv_fd())?, send: duplicate(send)? })
            }
            (transport, _) => Err(unsupported(format!("there is more to {transport} than descriptors").into())
                .next("connect over unix or fifo")),
        }
    }
}
