//! A connection taken apart into its descriptors, for code that speaks the frames itself.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::connection::{Common, Connection};
use crate::error::Error;
use crate::peer::Peer;

/// The descriptors of a connection that was taken apart by [`Connection::into_bare`], with nothing read ahead of them.
///
/// What goes over them is frames, four bytes of length and the message (docs/wire.md), in both directions, from the next
/// byte on. All descriptors are close-on-exec and non-blocking.
#[derive(Debug)]
pub struct Bare {
    /// The descriptors.
    pub fds: BareFds,
    /// Who is at the other end.
    pub peer: Peer,
    /// Keeps the connection counted by its server.
    pub place: Place,
}

/// What carries a bare connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum BareFds {
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
pub struct Place(#[allow(dead_code, reason = "it is held")] Arc<Common>);

impl Place {
    pub(crate) fn of(common: Arc<Common>) -> Self {
        Self(common)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// A connection that cannot be taken apart, as it was, and why.
#[derive(Debug)]
pub struct IntoBareError {
    /// The connection, as before.
    pub connection: Box<Connection>,
    /// Why it is still one.
    pub error: Error,
}

impl fmt::Display for IntoBareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for IntoBareError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
