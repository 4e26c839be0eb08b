//! Telling a service manager how things stand, as sd_notify(3) describes it: datagrams to the socket in `$NOTIFY_SOCKET`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::output;

/// The variable, which programs that this one starts must not find: what they say is not ours.
pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";

/// A service manager that wants to know, if there is one.
pub(crate) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Manager {
    /// The one in the environment. One that cannot be reached is told of on stderr and is no reason to end.
    pub(crate) fn from_environment() -> Manager {
        let to = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            None => None,
            Some(value) => {
                let socket = || Ok((UnixDatagram::unbound()?, address(&value)?));
                socket()
                    .map_err(|error: io::Error| {
                        output::note(format_args!("nobody is told when clients may come: {error}"))
                    })
                    .ok()
            }
        };
        Manager { to }
    }

    /// Clients may come.
    pub(crate) fn ready(&self, status: impl std::fmt::Display) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// No more clients may come.
    pub(crate) fn stopping(&self, status: impl std::fmt::Display) {
        self.say(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    fn say(&self, message: &str) {
        let Some((socket, address)) = &self.to else { return };
        // The manager's queue may be full for a moment; that is waited for, as sd_notify(3) does.
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            output::note(format_args!("the service manager was not told: {error}"));
        }
    }
}

/// A path, or behind an `@` an abstract name.
fn address(value: &OsStr) -> io::Result<SocketAddr> {
    match value.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(value),
        _ => {
            let value = value.to_string_lossy();
            Err(io::Error::other(format!("$NOTIFY_SOCKET is neither a path nor an abstract name: {value:?}")))
        }
    }
}

/// A line break would begin another assignment.
fn one_line(text: impl std::fmt::Display) -> String {
    text.to_string().replace(|c: char| c.is_control(), " ")
}
