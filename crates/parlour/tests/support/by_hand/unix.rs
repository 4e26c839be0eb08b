//! Clients over UNIX sockets that bind what and where they like, and servers that listen when they like.

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

/// A stream socket of its own.
pub fn socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

/// Connects without a file of one's own.
pub fn dial(path: &Path) -> UnixStream {
    UnixStream::connect(path.join("unix")).unwrap()
}

/// A socket that is bound to this path with exactly this mode.
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

/// Connects as a client of ours does: with a proper file of its own. Gives that file's path too.
pub fn dial_bound(path: &Path) -> (UnixStream, PathBuf) {
    let file = path.join("c").join(Id::new().sock());
    (dial_with(bound(&file, 0o700), path), file)
}

/// Whether the other side ends this connection without having sent anything.
#[track_caller]
pub fn assert_ended(mut stream: &UnixStream) {
    assert!(wait::readable(stream), "the connection is still open after {DEADLINE:?}");
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        // It was closed before it had read all that was sent.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}, not the end"),
    }
}

/// A socket that is bound as the one of a server and does not listen yet.
pub fn bound_server(place: &Place) -> OwnedFd {
    bound(&place.path().join("unix"), 0o600)
}

pub fn listen_on(socket: OwnedFd, backlog: i32) -> UnixListener {
    listen(&socket, backlog).unwrap();
    UnixListener::from(socket)
}

/// A server that accepts when the test does.
pub fn listener(place: &Place) -> UnixListener {
    listen_on(bound_server(place), 128)
}

/// Accepts; fails when nobody comes.
pub fn accept(listener: &UnixListener) -> UnixStream {
    assert!(wait::readable(listener.as_fd()), "nobody has come");
    listener.accept().unwrap().0
}
