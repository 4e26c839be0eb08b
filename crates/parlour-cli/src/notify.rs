//! Notifications to a service manager, as sd_notify(3) specifies: datagrams to the socket in `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::output;

/// The environment variable with the socket. Programs that this process starts do not inherit it, because their
/// notifications would be attributed to this process.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// The service manager to notify, if there is one.
pub(crate) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Manager {
    /// Returns the manager that the environment names. An address that cannot be used is reported on stderr, and the
    /// program continues without notifications.
    pub(crate) fn from_environment() -> Manager {
        let to = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            None => None,
            Some(value) => {
                let socket = || Ok((UnixDatagram::unbound()?, address(&value)?));
                socket()
                    .map_err(|error: io::Error| {
                        output::note(format_args!("no notifications are sent to the service manager: {error}"))
                    })
                    .ok()
            }
        };
        Manager { to }
    }

    /// Notifies the manager that this process is the main process of the service from here on.
    pub(crate) fn main_process(&self) {
        self.say(&format!("MAINPID={}", std::process::id()));
    }

    /// Notifies the manager that clients can connect.
    pub(crate) fn ready(&self, status: impl std::fmt::Display) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Notifies the manager that the server stops.
    pub(crate) fn stopping(&self, status: impl std::fmt::Display) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    fn say(&self, message: &str) {
        let Some((socket, address)) = &self.to else { return };
        // The send blocks while the manager's queue is full, as in sd_notify(3).
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            output::note(format_args!("notifying the service manager failed: {error}"));
        }
    }
}

/// Parses the address of the socket: an absolute path, or `@` and an abstract name.
fn address(value: &OsStr) -> io::Result<SocketAddr> {
    match value.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(value),
        _ => {
            let value = value.to_string_lossy();
            Err(io::Error::other(format!("$NOTIFY_SOCKET is neither an absolute path nor an abstract name: {value:?}")))
        }
    }
}

/// Replaces control characters by spaces. A line break would begin another assignment.
fn one_line(text: impl std::fmt::Display) -> String {
    text.to_string().replace(|c: char| c.is_control(), " ")
}
