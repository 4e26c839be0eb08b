//! Peer credentials of a socket, from the kernel.
//!
//! rustix has `socket_peercred`, but its `Pid` is a non-zero integer, and the kernel reports 0 for a process that is
//! not visible in the PID namespace of this process: an invalid value. Therefore this module reads the structure
//! itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Not defined by the `libc` crate for every target.
const SO_PEERPIDFD: libc::c_int = 77;

/// The credentials that the kernel recorded when the peer called `connect` or `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 0 if the process is not visible in the PID namespace of this process.
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Returns the peer credentials (`SO_PEERCRED`, unix(7)).
pub(crate) fn peer_credentials(socket: impl AsFd) -> io::Result<Credentials> {
    let mut raw = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `raw` is writable for `length` bytes, both live through the call, and any bytes are a valid `ucred`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut raw).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials { pid: u32::try_from(raw.pid).unwrap_or(0), uid: raw.uid, gid: raw.gid })
}

/// Returns a pidfd of the peer (`SO_PEERPIDFD`, Linux 6.5). It refers to the process that connected, even if the
/// process id is reused. Fails with `Unsupported` on an older kernel.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut raw: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `raw` is writable for `length` bytes and both live through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut raw).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::ENOPROTOOPT) => {
                let text = "the kernel has no SO_PEERPIDFD (Linux 6.5); identify the peer by its user id";
                io::Error::new(io::ErrorKind::Unsupported, text)
            }
            _ => error,
        });
    }
    if raw < 0 {
        return Err(io::Error::other("the kernel returned no descriptor"));
    }
    // SAFETY: the kernel has just created this descriptor for this process (close-on-exec), and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kernel_reports_the_credentials_of_this_process() {
        let (end, _other) = UnixStream::pair().unwrap();
        let credentials = peer_credentials(&end).unwrap();
        assert_eq!(credentials.pid, std::process::id());
        assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
        assert_eq!(credentials.gid, rustix::process::getegid().as_raw());
    }
}
