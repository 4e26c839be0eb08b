//! Detection of a process that keeps a socket of a name, without a connection to it.
//!
//! A dead server keeps no socket. If no server holds a name and a process keeps one of its sockets nevertheless, that
//! process is a service manager, which starts the server when a client connects.
//!
//! The kernel is asked with connect(2) on a socket of a type that no transport uses. The kernel looks for the socket
//! that is bound to the inode of the file, and compares the types only then: `ECONNREFUSED` means that no socket is
//! bound to the file, and `EPROTOTYPE` that one is. The process with that socket notices nothing, so no service is
//! started. Only root and the user of this process can put a socket into the directory, so no other user decides the
//! answer. `/proc/net/unix` has the same information as text, but other users write lines of that text; and like
//! sock_diag(7), it shows one network namespace only.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::directory;
use crate::error::{Error, Operation, Result};
use crate::transport::Transport;
use crate::wait::{Deadline, pause};

/// The longest wait for a killed server to vanish. The kernel releases the lock of a killed process shortly before or
/// after it closes the sockets. On a busy machine the exit may be interrupted in between. Only a caller that is about
/// to be refused waits this long.
const DYING_MAX: Duration = Duration::from_secs(2);

/// The type of the asking socket, which no transport uses.
const ASKING: SocketType = SocketType::DGRAM;

/// Returns true if a process has a socket that is bound to a socket file of this name. The caller knows that no server
/// holds the name.
///
/// # Errors
///
/// The system call failed for another reason than the state of the file. The caller must not take the file for a
/// leftover then.
pub(crate) fn somebody_listens(name_directory: impl AsFd, path: &Path) -> Result<bool> {
    for transport in Transport::ALL.iter().filter(|transport| transport.socket_type().is_some()) {
        let file_name = transport.file_name();
        let is_bound = is_bound(&name_directory, path, file_name)
            .map_err(|errno| Error::io(Operation::Inspect, path.join(file_name).display().to_string(), errno))?;
        if is_bound {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true if a process keeps a socket, once a server that is being killed has had the time to vanish. See
/// [`somebody_listens`].
pub(crate) fn somebody_goes_on_listening(name_directory: impl AsFd, path: &Path) -> Result<bool> {
    let deadline = Deadline::after(DYING_MAX);
    while somebody_listens(&name_directory, path)? {
        if deadline.is_over() {
            return Ok(true);
        }
        pause(Duration::from_millis(5), deadline)
            .map_err(|error| Error::io(Operation::Inspect, path.display().to_string(), error))?;
    }
    Ok(false)
}

/// Returns true if a socket is bound to the inode of this file.
fn is_bound(name_directory: impl AsFd, path: &Path, file_name: &str) -> Result<bool, Errno> {
    let is_socket = || match statat(&name_directory, file_name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Socket),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    };
    // The removal of leftovers reports files of other types.
    if !is_socket()? {
        return Ok(false);
    }
    let address = SocketAddrUnix::new(directory::socket_path(&name_directory, path, file_name))?;
    let socket = socket_with(AddressFamily::UNIX, ASKING, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &address) {
        // A datagram socket has the place of a transport's socket.
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        // The file was removed in the meantime, or its path cannot be resolved (`/proc` is missing).
        Err(errno @ Errno::NOENT) if is_socket()? => Err(errno),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use rustix::net::{bind, listen};

    fn seqpacket(path: &Path) -> OwnedFd {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        socket
    }

    #[test]
    fn a_socket_of_any_type_is_seen_while_a_process_has_it() {
        let top = tempfile::tempdir().unwrap();
        let directory = File::open(top.path()).unwrap();
        let listens = || somebody_listens(&directory, top.path()).unwrap();
        assert!(!listens());
        let (unix, packet) = (top.path().join("unix"), top.path().join("packet"));
        let listener = UnixListener::bind(&unix).unwrap();
        assert!(listens());
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the question is a client");
        drop(listener);
        assert!(unix.exists() && !listens());
        let socket = seqpacket(&packet);
        assert!(listens(), "a manager has bound the socket and is about to listen");
        listen(&socket, 1).unwrap();
        assert!(listens());
        drop(socket);
        assert!(!listens());
        std::fs::remove_file(&unix).unwrap();
        let datagram = UnixDatagram::bind(&unix).unwrap();
        assert!(listens());
        datagram.set_nonblocking(true).unwrap();
        assert!(datagram.recv(&mut [0]).is_err(), "the question is a message");
    }

    #[test]
    fn the_file_decides_and_not_a_path() {
        let top = tempfile::tempdir().unwrap();
        let (here, there) = (top.path().join("here"), top.path().join("there"));
        std::fs::create_dir(&here).unwrap();
        std::fs::create_dir(&there).unwrap();
        let directory = File::open(&here).unwrap();
        let listens = || somebody_listens(&directory, &here).unwrap();
        let _elsewhere = UnixListener::bind(there.join("unix")).unwrap();
        let moved = UnixListener::bind(here.join("unix")).unwrap();
        std::fs::rename(here.join("unix"), here.join("old")).unwrap();
        drop(UnixListener::bind(here.join("unix")).unwrap());
        assert!(!listens(), "the path of the socket that was moved away is that of a leftover now");
        std::fs::remove_file(here.join("unix")).unwrap();
        std::fs::hard_link(here.join("old"), here.join("packet")).unwrap();
        assert!(listens());
        drop(moved);
        assert!(!listens());
        std::os::unix::fs::symlink(there.join("unix"), here.join("unix")).unwrap();
        assert!(!listens(), "a link is not followed");
    }

    #[test]
    fn a_long_path_is_asked_for_through_the_descriptor() {
        let top = tempfile::tempdir().unwrap();
        let long = top.path().join("d".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let directory = File::open(&long).unwrap();
        let path = directory::socket_path(&directory, &long, "unix");
        let listener = UnixListener::bind(path).unwrap();
        assert!(somebody_listens(&directory, &long).unwrap());
        drop(listener);
        assert!(!somebody_listens(&directory, &long).unwrap());
    }
}
