//! A host process with the default disposition of SIGPIPE, as in any C program.
#![allow(unsafe_code)]

use std::fs;
use std::mem::MaybeUninit;

use crate::support::signals;

/// Returns the signal lines of `/proc/thread-self/status`: pending, blocked, ignored and caught signals.
pub fn signals_of_this_thread() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("Sig") || line.starts_with("ShdPnd"));
    // SigQ counts the queued signals of all processes of this user.
    lines.filter(|line| !line.starts_with("SigQ")).map(str::to_owned).collect()
}

/// Blocks SIGPIPE and makes it pending for this thread.
pub fn make_sigpipe_pending() {
    signals::let_sigpipe_kill();
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set, which is valid for writes.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, and the signal number is valid.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: the set is initialised, and a null pointer for the old mask is allowed.
    assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) }, 0);
    // SAFETY: the signal is blocked, so it stays pending for this thread.
    assert_eq!(unsafe { libc::raise(libc::SIGPIPE) }, 0);
}

/// Returns true if SIGPIPE is pending.
pub fn is_sigpipe_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set, which is valid for writes.
    assert_eq!(unsafe { libc::sigpending(set.as_mut_ptr()) }, 0);
    // SAFETY: the set is initialised, and the signal number is valid.
    unsafe { libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1 }
}
