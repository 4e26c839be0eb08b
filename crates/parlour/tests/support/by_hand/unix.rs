//! UNIX socket clients with full control over bind(2), and servers with full control over listen(2) and accept(2).

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::place::chmod;
use super::{Id, Place};
use crate::support::base::leaves_files;
use crate::support::{DEADLINE, wait};

/// Creates an unbound stream socket.
pub fn socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// Connects to a server without binding a client file.
pub fn dial(path: &Path) -> UnixStream {
    UnixStream::connect(path.join("unix")).unwrap()
}

/// Creates a socket that is bound to this path with exactly this mode.
pub fn bound(path: &Path, mode: u32) -> OwnedFd {
    leaves_files();
    let socket = socket();
    fchmod(&socket, Mode::from_raw_mode(mode & 0o700)).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    chmod(path, mode);
    socket
}

/// Connects this socket to a server.
pub fn dial_with(socket: OwnedFd, path: &Path) -> UnixStream {
    connect(&socket, &SocketAddrUnix::new(path.join("unix")).unwrap()).unwrap();
    UnixStream::from(socket)
}

/// Connects as a client of the library does: with a client file in `c/`. Also returns the path of that file.
pub fn dial_bound(path: &Path) -> (UnixStream, PathBuf) {
    let file = path.join("c").join(Id::new().sock());
    (dial_with(bound(&file, 0o700), path), file)
}

/// Checks that the other side closes the connection without having sent anything.
#[track_caller]
pub fn assert_ended(mut stream: &UnixStream) {
    assert!(wait::readable(stream), "the connection is still open after {DEADLINE:?}");
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        // The server closed the socket before it had read all bytes.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("expected end of file, got {other:?}"),
    }
}

/// Creates a socket that is bound to the path of a server's socket and does not listen yet.
pub fn bound_server(place: &Place) -> OwnedFd {
    bound(&place.path().join("unix"), 0o600)
}

pub fn listen_on(socket: OwnedFd, backlog: i32) -> UnixListener {
    listen(&socket, backlog).unwrap();
    UnixListener::from(socket)
}

/// Creates a listening socket that accepts only when the test calls [`accept`].
pub fn listener(place: &Place) -> UnixListener {
    listen_on(bound_server(place), 128)
}

/// Accepts a client. Panics if none connects before the deadline.
pub fn accept(listener: &UnixListener) -> UnixStream {
    assert!(wait::readable(listener.as_fd()), "no client has connected");
    listener.accept().unwrap().0
}
