//! The socket option that accepts or refuses descriptors (`SO_PASSRIGHTS`, Linux 6.16).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Not defined by the `libc` crate yet.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Makes the kernel refuse descriptors that are sent to this socket: the sender gets `EPERM`, and none of the data that
/// it sent with them arrives. An accepted socket inherits this from the listening socket. Returns false if the kernel
/// does not support it.
pub(crate) fn refuse_descriptors(socket: impl AsFd) -> io::Result<bool> {
    set(socket, 0)
}

/// Makes the kernel accept descriptors again.
pub(crate) fn take_descriptors(socket: impl AsFd) -> io::Result<bool> {
    set(socket, 1)
}

/// Returns true if the kernel refuses descriptors that are sent to this socket, so that none can arrive.
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
