//! System calls that neither the standard library nor rustix offers. They contain no policy.
//!
//! This is the only file of the program with unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::process::{Resource, Rlimit, setrlimit};

/// The maximum size of an entry of the group database. A group can have very many members.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Returns true if this process ignores the signal.
pub(crate) fn is_ignored(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the call reads the disposition into memory of the right size and changes nothing.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call has succeeded, so it has initialised the memory.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Unblocks a signal in this thread, and so in the threads that it starts later.
pub(crate) fn unblock(signal: c_int) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the memory has the right size.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `sigemptyset` has initialised the set.
    if unsafe { libc::sigaddset(set.as_mut_ptr(), signal) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the set is initialised, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Returns the id of a group, or `None` if there is no such group: getgrnam_r(3), which reads every database that
/// nsswitch.conf(5) lists.
pub(crate) fn group_id(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let mut buffer = vec![0; 4096];
    loop {
        match group_id_in(&name, &mut buffer) {
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && buffer.len() < GROUP_BYTES_MAX => {
                buffer.resize(buffer.len() * 4, 0);
            }
            // Some databases report an unknown name in this way.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
            found => return found,
        }
    }
}

fn group_id_in(name: &CStr, buffer: &mut [libc::c_char]) -> io::Result<Option<u32>> {
    let mut group = MaybeUninit::<libc::group>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: the name ends with a zero byte. The other pointers refer to memory that outlives the call, and the length
    // is that of the buffer.
    let error = unsafe {
        libc::getgrnam_r(name.as_ptr(), group.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    match error {
        0 if found.is_null() => Ok(None),
        // SAFETY: the call has found the group, so it has initialised the memory.
        0 => Ok(Some(unsafe { group.assume_init() }.gr_gid)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Makes a descriptor close-on-exec. Does nothing if it is not open.
pub(crate) fn close_on_exec(number: RawFd) {
    // SAFETY: a system call on a number, without pointers. It changes no flag but this one, the only one that exists.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Sets the limit on descriptors (`RLIMIT_NOFILE`) of the process that the command starts.
pub(crate) fn limit_descriptors_of(command: &mut Command, limit: Rlimit) {
    // SAFETY: between fork and exec the closure makes one system call, and neither allocates nor locks.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Nofile, limit)?)) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_group_is_found_by_name_and_an_unknown_one_is_not() {
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(group_id("no-such-group-of-parlour").unwrap(), None);
        assert_eq!(group_id("zero\0byte").unwrap(), None);
        assert_eq!(group_id("").unwrap(), None);
    }
}
