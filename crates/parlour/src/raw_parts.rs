//! The descriptors of a connection, for code that speaks the protocol itself.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::connection::Connection;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::peer::Peer;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::shm::stats::Direction;
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
///
/// The library does not see the messages of a connection that was taken apart. [`count_received`](Self::count_received)
/// and [`count_sent`](Self::count_sent) add them to the [counters](crate::inspect::stats) of the server.
pub struct ConnectionGuard(Arc<Common>);

impl ConnectionGuard {
    pub(crate) fn of(common: Arc<Common>) -> Self {
        Self(common)
    }

    /// Adds messages that the server has received, and their bytes without the headers, to its counters. Does nothing
    /// for a client, and for a server without counters.
    ///
    /// This makes no system call. One thread at a time may count for a direction; the counts of two are not exact.
    pub fn count_received(&self, messages: u64, bytes: u64) {
        self.count(Direction::Received, messages, bytes);
    }

    /// Adds messages that the server has sent, as [`count_received`](Self::count_received) does.
    pub fn count_sent(&self, messages: u64, bytes: u64) {
        self.count(Direction::Sent, messages, bytes);
    }

    fn count(&self, direction: Direction, messages: u64, bytes: u64) {
        if let Some(tally) = self.0.tally() {
            tally.add(direction, messages, bytes);
        }
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
        match raw_parts(&self.sender, &self.receiver) {
            Ok(parts) => Ok(parts),
            Err(error) => Err(IntoRawPartsError { connection: Box::new(self), error }),
        }
    }
}

/// Duplicates the descriptors of a connection that is given in halves.
pub(crate) fn raw_parts(sender: &Sender, receiver: &Receiver) -> Result<RawParts> {
    const TAKE_APART: Operation = Operation::IntoRawParts;
    let common = receiver.common();
    let unsupported = |detail: Cow<'static, str>| common.error(ErrorKind::Unsupported, TAKE_APART, detail);
    if !receiver.incoming.is_pristine() || !sender.is_pristine() {
        return Err(unsupported("the connection has buffered bytes or has ended".into())
            .next("take it apart before the first receive, and flush buffered messages"));
    }
    let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| common.io(TAKE_APART, error));
    let fds = match (receiver.transport(), sender.send_fd()) {
        (Transport::Unix, _) => RawFds::Unix(duplicate(receiver.recv_fd())?),
        (Transport::Fifo, Some(send)) => RawFds::Fifo { recv: duplicate(receiver.recv_fd())?, send: duplicate(send)? },
        (transport, _) => {
            return Err(unsupported(format!("{transport} needs more than descriptors").into())
                .next("connect over unix or fifo"));
        }
    };
    let guard = ConnectionGuard::of(Arc::clone(receiver.shared()));
    Ok(RawParts { fds, peer: receiver.peer().clone(), guard })
}
