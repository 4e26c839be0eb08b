//! A host in which SIGPIPE kills, as in any C program.
#![allow(unsafe_code)]

use std::fs;
use std::mem::MaybeUninit;

use crate::support::signals;

/// What `/proc` says about the signals of this process and thread: pending, blocked, ignored, caught.
pub fn signals_of_this_thread() -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("Sig") || line.starts_with("ShdPnd"));
    // SigQ counts what is queued for this user, in all processes.
    lines.filter(|line| !line.starts_with("SigQ")).map(str::to_owned).collect()
}

/// Has SIGPIPE pending for this thread, blocked.
pub fn make_sigpipe_pending() {
    signals::let_sigpipe_kill();
    let mut set = MaybeUninit::uninit();
    // SAFETY: it initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, and the signal is one.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: the set is initialised, and the old mask is not asked for.
    assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) }, 0);
    // SAFETY: the signal is blocked, so it stays pending for this thread.
    assert_eq!(unsafe { libc::raise(libc::SIGPIPE) }, 0);
}

/// Whether it still is.
pub fn is_sigpipe_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it initialises the set that it is given.
    assert_eq!(unsafe { libc::sigpending(set.as_mut_ptr()) }, 0);
    // SAFETY: the set is initialised, and the signal is one.
    unsafe { libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1 }
}
