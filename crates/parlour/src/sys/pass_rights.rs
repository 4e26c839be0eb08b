//! Whether a socket takes descriptors (`SO_PASSRIGHTS`, Linux 6.16).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Not in the `libc` crate yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors that are sent to this socket: the sender gets `EPERM`, and nothing of what it sent
/// with them arrives. A socket that is accepted has this from the one that listens. `Ok(false)`: the kernel cannot.
pub(crate) fn refuse_descriptors(socket: impl AsFd) -> io::Result<bool> {
    set(socket, 0)
}

/// Has the kernel take them again.
pub(crate) fn take_descriptors(socket: impl AsFd) -> io::Result<bool> {
    set(socket, 1)
}

/// Whether descriptors that are sent to this socket are refused by the kernel, so that none can come.
pub(crate) fn refuses_descriptors(socket: impl AsFd) -> bool {
    let mut value: libc::c_int = 1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `value` is writable for `length` bytes, and both live through the call.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw mut value).cast(), &raw mut length) };
    result == 0 && value == 0
}

fn set(socket: impl AsFd, value: libc::c_int) -> io::Result<bool> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is readable for `length` bytes and lives through the call.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const value).cast(), length)
    };
    match (result, io::Error::last_os_error()) {
        (0, _) => Ok(true),
        (_, error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        (_, error) => Err(error),
    }
}
