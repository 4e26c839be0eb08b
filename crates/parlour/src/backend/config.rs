//! Settings that listeners and connection attempts take from the options.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Admission;
use crate::error::{Error, ErrorKind, Operation};
use crate::name::directory::Trust;
use crate::sys::id_maps::{IdKind, is_known};

/// The policy of a server for the files that clients of its own user bind for themselves, on socket transports.
///
/// The file shows people who list the directory which process is connecting. It proves nothing beyond the peer
/// credentials of the kernel. Therefore a client needs no file by default, but a file that exists must be valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFilePolicy {
    /// A client may connect without a file. A client that bound a file is refused unless the file is valid: a socket of
    /// mode 0700, of the user of the server. The process id in its name and its age do not matter.
    #[default]
    Check,
    /// Only clients with a valid file are admitted. This excludes other users and other implementations.
    Require,
    /// The file is removed and not checked.
    Ignore,
}

/// The limits of one message: bytes and descriptors. Small, because every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageMax {
    pub(super) bytes: u32,
    pub(super) fds: u8,
}

impl MessageMax {
    /// Creates limits of at most [`MESSAGE_MAX`](crate::wire::frame::MESSAGE_MAX) bytes and
    /// [`FDS_MAX`](crate::limits::FDS_MAX) descriptors.
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

/// The settings of listeners.
#[derive(Clone)]
pub(crate) struct ListenConfig {
    pub(crate) admission: Arc<Admission>,
    pub(crate) message_max: MessageMax,
    pub(crate) half_open_max: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) client_file: ClientFilePolicy,
    pub(crate) ring_size: usize,
    pub(crate) peer_ring_max: usize,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) backlog: u32,
}

impl ListenConfig {
    /// Returns the mode and the group of the sockets.
    pub(crate) fn access(&self) -> (u32, u32) {
        (self.mode, self.group.unwrap_or_else(|| rustix::process::getegid().as_raw()))
    }
}

/// The settings of an attempt to connect.
pub(crate) struct ConnectConfig {
    /// The user that the server must run as. `None`: the user of this process, or root.
    pub(crate) server_uid: Option<u32>,
    pub(crate) client_file: bool,
    /// The text of the file that shows the origin, if the client has one.
    pub(crate) origin: Option<String>,
    pub(crate) message_max: MessageMax,
    pub(crate) ring_size: usize,
    pub(crate) peer_ring_max: usize,
    /// An attempt sleeps in the kernel if the queue of the server is full. For the blocking API, after an attempt that
    /// did not sleep.
    pub(crate) may_sleep: bool,
}

impl ConnectConfig {
    /// Returns true if the client may talk to a server of this user. A user without an id in this user namespace is
    /// nobody's expected one.
    pub(crate) fn accepts(&self, uid: Option<u32>) -> bool {
        match (uid.filter(|&uid| is_known(uid, IdKind::User)), self.server_uid) {
            (Some(uid), Some(expected)) => uid == expected,
            (Some(uid), None) => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            (None, _) => false,
        }
    }

    /// Returns true if the client may talk to a server at a socket of this user, or at which this user listens, in the
    /// directory of a name that belongs to `directory_uid`. A service manager of root creates the sockets of a server
    /// that it starts, and listens there until the server does. A server itself has a directory of its own user, so in
    /// the directory of the expected user root listens for that user.
    pub(crate) fn accepts_socket(&self, uid: Option<u32>, directory_uid: u32) -> bool {
        self.accepts(uid)
            || uid.is_some_and(|uid| uid == 0 && is_known(uid, IdKind::User)) && self.accepts(Some(directory_uid))
    }

    /// Creates the error for a server of a user that [`accepts`](Self::accepts) rejects.
    pub(crate) fn refuse(&self, path: &str, uid: Option<u32>) -> Error {
        let expected = match self.server_uid {
            Some(uid) => format!("uid {uid}"),
            None => format!("uid {} or root", rustix::process::geteuid().as_raw()),
        };
        let known = uid.filter(|&uid| is_known(uid, IdKind::User));
        let found = known.map_or("a user without an id in this user namespace".to_owned(), |uid| format!("uid {uid}"));
        let detail = format!("the server belongs to {found}, not to {expected}");
        Error::new(ErrorKind::Denied, Operation::Connect, path, detail).next(match known {
            Some(uid) => {
                format!("if this is the intended server, expect its user (option server_uid, --server-uid {uid})")
            }
            None => "map that user into the namespace, or run the server as the user of this process".to_owned(),
        })
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::own().and(self.server_uid)
    }
}
