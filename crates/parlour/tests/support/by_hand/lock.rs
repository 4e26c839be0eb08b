//! Locks on files: the lock that owns a name, and an independent lock that shows whether a process is alive.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes the open-file-description lock that a server holds on its `lock` file. Returns `false` if it is held.
pub fn take(file: &File) -> bool {
    set(file, libc::F_OFD_SETLK, libc::F_WRLCK)
}

/// Takes a traditional record lock (`F_SETLK`), which belongs to a process. Returns `false` if another process holds
/// it.
///
/// When a process exits, the kernel releases its record locks when it closes the descriptors, and
/// open-file-description locks only after that. So a server that takes the name of a dead owner finds the owner's
/// record lock released.
pub fn take_witness(file: &File) -> bool {
    set(file, libc::F_SETLK, libc::F_WRLCK)
}

/// Releases that lock.
pub fn release_witness(file: &File) {
    assert!(set(file, libc::F_SETLK, libc::F_UNLCK));
}

fn set(file: &File, command: i32, kind: i32) -> bool {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: for these commands the third argument is a pointer to a `flock`, which is valid during the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == 0 {
        return true;
    }
    let error = io::Error::last_os_error();
    assert!(matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)), "lock: {error}");
    false
}
