//! Faults of an established connection.

use std::io;

use crate::admission::Rejection;
use crate::wire::hello::Reason;

/// A condition that ends a connection or one direction of it, or that refuses a message.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The peer has disconnected, or does not receive any more.
    Disconnected,
    /// The peer disconnected without reading all that this side sent.
    Reset,
    /// The server refused this client, before any message.
    Refused(Reason),
    /// The peer disconnected mid-message.
    Truncated,
    /// The peer violated the protocol.
    Protocol(&'static str),
    /// The message is longer than the limit.
    TooLong { length: usize },
    /// The peer allows no descriptors. Nothing was sent, and the connection can still be used.
    FdsRefused,
    /// Descriptors of a received message were lost, so the message is not returned.
    Fds(LostFds),
    /// The client may take no more memory. The connection can still be used.
    NoMemory(Rejection),
    /// A system call failed.
    Io(io::Error),
}

/// The reason why received descriptors were closed immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostFds {
    /// This side allows none.
    NotAllowed,
    /// There were more than this side allows.
    TooMany { came: u16, allowed: u16 },
    /// The descriptor table of this process is full.
    TableFull,
}

impl LostFds {
    /// Creates `TooMany`. Both counts fit into 16 bits: neither exceeds what the kernel sends with two messages.
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
