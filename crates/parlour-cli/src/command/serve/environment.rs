//! The environment of a program, which identifies its client.

use std::process::Command;

use parlour::{Peer, Provenance, Transport};

use crate::{notify, sys};

/// The number of the first descriptor that a service manager passes, sd_listen_fds(3).
const FIRST_PASSED: i32 = 3;

/// Variables with their values. `None` removes a variable, so that the program does not inherit a value that describes
/// `parlour serve` itself.
pub(super) struct Environment(Vec<(&'static str, Option<String>)>);

/// Returns the variables for one client of the server `name`, where `number` counts the clients of its user.
///
/// The first five are set as s6-ipcserverd sets them, so that programs written for it work unchanged. If the user is
/// not known, IPCREMOTEEUID and IPCREMOTEEGID are not set, and IPCCONNNUM is empty. IPCREMOTEPATH is always set and
/// always empty, because the file that a client binds is removed before its first message.
pub(super) fn of(peer: &Peer, transport: Transport, name: &str, number: usize) -> Environment {
    let text = |value: Option<u32>| value.map(|value| value.to_string());
    // A value that is not known has no provenance.
    let provenance =
        |value: Option<u32>, provenance: Provenance| value.map(|_| provenance.to_string().replace(' ', "-"));
    Environment(vec![
        ("PROTO", Some("IPC".to_owned())),
        ("IPCREMOTEEUID", text(peer.uid())),
        ("IPCREMOTEEGID", text(peer.gid())),
        ("IPCREMOTEPATH", Some(String::new())),
        ("IPCCONNNUM", Some(peer.uid().map(|_| number.to_string()).unwrap_or_default())),
        // The service manager addresses these variables to this process only.
        ("LISTEN_PID", None),
        ("LISTEN_FDS", None),
        ("LISTEN_FDNAMES", None),
        (notify::VARIABLE, None),
        ("PARLOUR_NAME", Some(name.to_owned())),
        ("PARLOUR_TRANSPORT", Some(transport.to_string())),
        ("PARLOUR_PEER_PID", text(peer.pid())),
        ("PARLOUR_PEER_UID", text(peer.uid())),
        ("PARLOUR_PEER_GID", text(peer.gid())),
        ("PARLOUR_PEER_PID_VOUCHED", provenance(peer.pid(), peer.pid_provenance())),
        ("PARLOUR_PEER_UID_VOUCHED", provenance(peer.uid(), peer.uid_provenance())),
        ("PARLOUR_PEER_GID_VOUCHED", provenance(peer.gid(), peer.gid_provenance())),
    ])
}

/// Makes the descriptors that a service manager passed to this process close-on-exec, so that no program inherits them.
///
/// The library does the same, but only for a server that serves the passed sockets. Descriptors that the manager did
/// not announce are from whoever started this process, for the programs to inherit, as with any command of a shell.
pub(super) fn keep_passed_descriptors() {
    let number = |variable| std::env::var(variable).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") == Some(std::process::id())
        && let Some(count) = number("LISTEN_FDS").and_then(|count| u16::try_from(count).ok())
    {
        (FIRST_PASSED..FIRST_PASSED + i32::from(count)).for_each(sys::close_on_exec);
    }
}

impl Environment {
    /// Sets and removes the variables in the environment of a command.
    pub(super) fn apply(self, command: &mut Command) {
        for (variable, value) in self.0 {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
    }
}
