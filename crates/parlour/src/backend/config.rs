//! Settings that listeners and connection attempts get from the options.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Admission;
use crate::error::{Error, ErrorKind, Operation};
use crate::name::directory::Trust;

/// What a `unix` server makes of the file that a client of its own user binds for itself.
///
/// The file shows who is connecting to anybody who lists the directory, and proves nothing that the kernel does not
/// tell better; so by default a client may come without one, and one that comes with a file must have a proper one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFilePolicy {
    /// A client may come without a file; one that bound a file must have a proper one: a socket of mode 0700, at most
    /// ten seconds old, named after the client's process id.
    #[default]
    Check,
    /// Only clients with a proper file come in. Shuts out other users and other implementations.
    Require,
    /// The file is removed and not looked at.
    Ignore,
}

/// The most that one message may have. Small, because every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageMax {
    pub(super) bytes: u32,
    pub(super) fds: u8,
}

impl MessageMax {
    /// Of bytes, up to [`MESSAGE_MAX`](crate::wire::frame::MESSAGE_MAX), and of descriptors, up to [`FDS_MAX`](crate::limits::FDS_MAX).
    pub(crate) fn new(bytes: usize, fds: usize) -> Self {
        Self { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), fds: u8::try_from(fds).unwrap_or(u8::MAX) }
    }

    pub(crate) fn bytes(self) -> usize {
        self.bytes as usize
    }

    pub(crate) fn fds(self) -> usize {
        usize::from(self.fds)
    }
}

/// What a server demands of its clients, for the listeners.
#[derive(Clone)]
pub(crate) struct ListenConfig {
    pub(crate) admission: Arc<Admission>,
    pub(crate) message_max: MessageMax,
    pub(crate) half_open_max: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) client_file: ClientFilePolicy,
    pub(crate) ring_size: usize,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) backlog: u32,
}

/// What a client demands of its server.
pub(crate) struct ConnectConfig {
    /// The server must run as this user; by default as we do, or as root.
    pub(crate) server_uid: Option<u32>,
    pub(crate) client_file: bool,
    pub(crate) message_max: MessageMax,
    pub(crate) ring_size: usize,
}

impl ConnectConfig {
    /// Whether a server of this user is one that the client wants to talk to.
    pub(crate) fn accepts(&self, uid: Option<u32>) -> bool {
        match (uid, self.server_uid) {
            (Some(uid), Some(expected)) => uid == expected,
            (Some(uid), None) => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            (None, _) => false,
        }
    }

    /// The error for a server that is not.
    pub(crate) fn refuse(&self, path: &str, uid: Option<u32>) -> Error {
        let expected = match self.server_uid {
            Some(uid) => format!("uid {uid}"),
            None => format!("uid {} or root", rustix::process::geteuid().as_raw()),
        };
        let found = uid.map_or("an unknown user".to_owned(), |uid| format!("uid {uid}"));
        Error::new(ErrorKind::Denied, Operation::Connect, path, format!("it belongs to {found}, not to {expected}"))
            .next("if that is the server you mean, say so with its uid as the expected one")
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::own().and(self.server_uid)
    }
}
