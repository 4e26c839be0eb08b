//! The state that both halves of a connection share, and the errors that they make of faults.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::admission::Permit;
use crate::backend::fault::{Fault, LostFds};
use crate::error::{Error, ErrorKind, Operation};
use crate::peer::Peer;
use crate::transport::{Capabilities, Transport};

/// What both halves know.
pub(crate) struct Common {
    /// The server's name in quotes, for messages.
    pub(crate) display_name: Arc<str>,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    /// The longest message in bytes, in both directions.
    pub(crate) message_max: usize,
    /// How often a call looks again before it sleeps.
    pub(crate) spin_limit: u32,
    /// Counts the connection with its server until both halves are gone.
    pub(crate) _permit: Option<Permit>,
}

impl Drop for Common {
    fn drop(&mut self) {
        tracing::debug!(server = %self.display_name, transport = %self.transport, peer = %self.peer, "disconnected");
    }
}

impl Common {
    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation, detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(kind, operation, self.object(), detail)
    }

    pub(crate) fn io(&self, operation: Operation, error: io::Error) -> Error {
        Error::io(operation, self.object(), error)
    }

    pub(crate) fn object(&self) -> String {
        other_side(&self.display_name, &self.peer)
    }

    pub(crate) fn fault(&self, operation: Operation, fault: Fault) -> Error {
        error_of(fault, operation, self.object(), self.message_max)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.transport.capabilities(self.message_max)
    }

    /// What both halves show of themselves.
    pub(crate) fn debug(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        f.debug_struct(what)
            .field("server", &self.display_name)
            .field("transport", &self.transport)
            .field("peer", &format_args!("{}", self.peer))
            .finish_non_exhaustive()
    }
}

/// The other side, for messages: the name tells which server, the process id which of its clients.
pub(crate) fn other_side(display_name: &str, peer: &Peer) -> String {
    match peer.pid() {
        Some(pid) => format!("{display_name} (pid {pid})"),
        None => display_name.to_owned(),
    }
}

/// The error that a fault of a connection is to its user.
pub(crate) fn error_of(fault: Fault, operation: Operation, object: String, message_max: usize) -> Error {
    let error = |kind, detail: Cow<'static, str>| Error::new(kind, operation, object.clone(), detail);
    match fault {
        Fault::Disconnected => {
            error(ErrorKind::Disconnected, "the other side has gone, or receives no more".into()).next("connect again")
        }
        Fault::Reset => {
            error(ErrorKind::Disconnected, "the other side has gone without reading all that was sent".into())
                .next("it refused us, ended early or died; connect again")
        }
        Fault::Truncated => error(ErrorKind::Truncated, "the other side went in the middle of a message".into())
            .next("connect again; what was received before is whole"),
        Fault::TooLong { length } => error(
            ErrorKind::MessageTooLong,
            format!("the message has {length} bytes and {message_max} are allowed").into(),
        )
        .next("send it in parts, or raise message_max on both sides"),
        Fault::FdsRefused => error(ErrorKind::Refused, "the other side takes no descriptors; nothing was sent".into())
            .next("have it allow some (the option fds_max)"),
        Fault::Fds(LostFds::NotAllowed) => {
            error(ErrorKind::Protocol, "descriptors came with a message, and none are allowed".into())
                .next("allow some (the option fds_max), and connect again")
        }
        Fault::Fds(LostFds::TooMany { came, allowed }) => error(
            ErrorKind::Protocol,
            format!("{came} descriptors came with a message, and {allowed} are allowed").into(),
        )
        .next("raise fds_max, and connect again"),
        Fault::Fds(LostFds::TableFull) => error(
            ErrorKind::Io,
            "this process has no room for the descriptors of a message, so that they are lost".into(),
        )
        .next("raise the limit on open descriptors (ulimit -n), and connect again"),
        Fault::Protocol(what) => {
            error(ErrorKind::Protocol, what.into()).next("the other side does not speak this protocol")
        }
        Fault::Io(failure) => Error::io(operation, object, failure),
    }
}
