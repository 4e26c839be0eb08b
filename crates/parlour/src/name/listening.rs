//! Detection of a process that listens on the file of a socket, from proc_net_unix(5) and without a connection.
//!
//! A dead server does not listen. If no server holds a name and a process listens there nevertheless, that process is a
//! service manager, which starts the server when a client connects.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Operation, Result};
use crate::transport::Transport;
use crate::wait::{Deadline, pause};

/// The longest wait for a killed server to vanish. The kernel releases the lock of a killed process shortly before or
/// after it closes the sockets. On a busy machine the exit may be interrupted in between. Only a caller that is about
/// to be refused waits this long.
const DYING_MAX: Duration = Duration::from_secs(2);

/// `__SO_ACCEPTCON`, the flag of a listening socket.
const LISTENS: u32 = 1 << 16;

/// Returns true if a process listens on one of the sockets in the directory of a name that no server holds. Returns
/// false if the table cannot be read, or if it shows another network namespace than that of the listener.
pub(crate) fn somebody_listens(name_path: &Path) -> bool {
    let sockets = Transport::ALL.iter().filter(|transport| transport.socket_type().is_some());
    let paths: Vec<_> = sockets.map(|transport| name_path.join(transport.file_name())).collect();
    // The table is long on a machine with many connections, and most directories have no socket to look for.
    if !paths.iter().any(|path| path.symlink_metadata().is_ok()) {
        return false;
    }
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    table.lines().filter_map(listening_path).any(|listening| paths.iter().any(|path| path.as_os_str() == listening))
}

/// Returns true if a process keeps listening, once a server that is being killed has had the time to vanish. See
/// [`somebody_listens`].
pub(crate) fn somebody_goes_on_listening(name_path: &Path) -> Result<bool> {
    let deadline = Deadline::after(DYING_MAX);
    while somebody_listens(name_path) {
        if deadline.is_over() {
            return Ok(true);
        }
        pause(Duration::from_millis(5), deadline)
            .map_err(|error| Error::io(Operation::Inspect, name_path.display().to_string(), error))?;
    }
    Ok(false)
}

/// Returns the path of a line of the table if it describes a listening socket. The columns are `Num RefCount Protocol
/// Flags Type St Inode Path`.
fn listening_path(line: &str) -> Option<&str> {
    let mut fields = line.splitn(8, ' ').filter(|field| !field.is_empty());
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    // Inodes are padded with blanks, so the path begins at the first slash.
    let path = line.find(" /").map(|at| &line[at + 1..])?;
    (flags & LISTENS != 0).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_listen_are_seen() {
        let listening = "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/parlour/wc/unix";
        let connected = "0000000000000000: 00000003 00000000 00000000 0001 03     7 /run/parlour/wc/unix";
        assert_eq!(listening_path(listening), Some("/run/parlour/wc/unix"));
        assert_eq!(listening_path(connected), None);
        assert_eq!(listening_path(&listening.replace(" 12345", "    45")), Some("/run/parlour/wc/unix"));
        assert_eq!(listening_path("0000000000000000: 00000002 00000000 00010000 0001 01 12345 @abstract"), None);
        assert_eq!(listening_path("0000000000000000: 00000002 00000000 00010000 0001 01 12345"), None);
        assert_eq!(listening_path("Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(listening_path(""), None);
    }
}
