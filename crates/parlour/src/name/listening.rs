//! Whether anybody listens on the file of a socket, as proc_net_unix(5) tells without connecting to it.
//!
//! A server that died listens no more. So where nobody holds a name and somebody listens all the same, that is a service
//! manager, which starts the server when a client comes.

use std::path::Path;
use std::time::Duration;

use super::leftovers::SOCKETS;
use crate::error::{Error, Result};
use crate::wait::{Deadline, pause};

/// The kernel drops the lock of a server that was killed some moments before its sockets, or after. On a machine that is busy
/// with other things it may be interrupted in between; and who waits all this time is about to be refused.
const DYING_MAX: Duration = Duration::from_secs(2);

/// The flag of a socket that listens, `__SO_ACCEPTCON`.
const LISTENS: u32 = 1 << 16;

/// Whether somebody listens on one of the sockets in the directory of a name that nobody holds. Where the table cannot be
/// read, or shows another network namespace than that of the listener, nobody is seen.
pub(crate) fn somebody_listens(name_path: &Path) -> bool {
    let paths = SOCKETS.map(|file_name| name_path.join(file_name));
    // The table is long where there are many connections, and most often there is nothing to look for.
    if !paths.iter().any(|path| path.symlink_metadata().is_ok()) {
        return false;
    }
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    table.lines().filter_map(listening_path).any(|listening| paths.iter().any(|path| path.as_os_str() == listening))
}

/// [`somebody_listens`] after whoever is dying is dead.
pub(crate) fn somebody_goes_on_listening(name_path: &Path) -> Result<bool> {
    let deadline = Deadline::after(DYING_MAX);
    while somebody_listens(name_path) {
        if deadline.is_over() {
            return Ok(true);
        }
        pause(Duration::from_millis(5), deadline)
            .map_err(|error| Error::io("look at", name_path.display().to_string(), error))?;
    }
    Ok(false)
}

/// The path of a line of the table, if that is a socket which listens: `Num RefCount Protocol Flags Type St Inode Path`.
fn listening_path(line: &str) -> Option<&str> {
    let mut fields = line.splitn(8, ' ').filter(|field| !field.is_empty());
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    // Inodes are padded with blanks, so the path is what begins with the first slash.
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
