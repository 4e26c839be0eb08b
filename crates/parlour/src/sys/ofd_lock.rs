//! Open-file-description locks, fcntl(2), POSIX.1-2024.
//!
//! Unlike a lock of `F_SETLK`, such a lock belongs to the open file description. It is released when the last
//! descriptor of the description is closed, which the kernel does for a killed process. It remains when other code in
//! the process opens and closes the same file.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Must be 0 for the open-file-description commands.
        l_pid: 0,
    }
}

fn fcntl_lock(file: impl AsFd, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: for the three lock commands the third argument is a `flock`. It is live, and the call reads and
        // writes nothing else.
        let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, std::ptr::from_mut(lock)) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Acquires the write lock on the whole file without waiting. Returns false if another open file description holds it.
pub(crate) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match fcntl_lock(file, libc::F_OFD_SETLK, &mut whole_file(libc::F_WRLCK)) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Releases the lock, also for descriptors that a forked child shares.
pub(crate) fn unlock(file: impl AsFd) -> io::Result<()> {
    fcntl_lock(file, libc::F_OFD_SETLK, &mut whole_file(libc::F_UNLCK))
}

/// Returns true if another open file description holds a lock. This does not acquire the lock. The file need only be
/// open for reading.
pub(crate) fn is_locked(file: impl AsFd) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    fcntl_lock(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn one_description_at_a_time_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let (first, second) = (open(), open());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        assert!(is_locked(File::open(&path).unwrap()).unwrap());
        drop(File::open(&path).unwrap());
        assert!(is_locked(&second).unwrap(), "other code may open and close the file");
        drop(first);
        assert!(!is_locked(&second).unwrap());
        assert!(try_lock(&second).unwrap());
        unlock(&second).unwrap();
        assert!(!is_locked(open()).unwrap());
    }
}
