//! Faults of an established connection.

use std::io;

/// What ends a connection, or this direction of it.
#[derive(Debug)]
pub(crate) enum Fault {
    Disconnected,
    /// The peer has gone without reading all that we sent.
    Reset,
    Truncated,
    /// The peer sent what has no meaning.
    Protocol(&'static str),
    TooLong {
        length: usize,
    },
    /// The other side takes no descriptors. Nothing was sent, and the connection is as before.
    FdsRefused,
    /// Descriptors came that this side does not have, and their message is worth nothing without.
    Fds(LostFds),
    Io(io::Error),
}

/// Why descriptors that have come were closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostFds {
    NotAllowed,
    TooMany {
        came: u16,
        allowed: u16,
    },
    /// This process can have no more open.
    TableFull,
}

impl LostFds {
    /// Neither can be more than the kernel sends with two messages.
    pub(super) fn too_many(came: usize, allowed: usize) -> Self {
        let small = |count| u16::try_from(count).unwrap_or(u16::MAX);
        Self::TooMany { came: small(came), allowed: small(allowed) }
    }
}

impl Fault {
    pub(super) fn from_write(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                Self::Disconnected
            }
            io::ErrorKind::Unsupported => Self::FdsRefused,
            _ => Self::Io(error),
        }
    }
}
