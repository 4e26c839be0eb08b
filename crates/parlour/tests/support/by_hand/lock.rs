//! Locks on files: the one that owns a name, and an independent one to witness it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes the open-file-description lock that a server holds on the lock of its name; `false` when it is held.
pub fn take(file: &File) -> bool {
    set(file, libc::F_OFD_SETLK, libc::F_WRLCK)
}

/// Takes a lock of the older kind, of the whole process; `false` when another process holds it.
///
/// When a process ends, the kernel gives these up while it closes the descriptors, and open-file-description locks only
/// after that. So whoever takes a name that its owner died with finds that owner's witness gone.
pub fn take_witness(file: &File) -> bool {
    set(file, libc::F_SETLK, libc::F_WRLCK)
}

/// Gives that lock up.
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
    // SAFETY: for these commands the third argument is a `flock`, which lives through the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == 0 {
        return true;
    }
    let error = io::Error::last_os_error();
    assert!(matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)), "lock: {error}");
    false
}
