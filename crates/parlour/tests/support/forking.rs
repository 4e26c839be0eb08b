//! Forking a role, which has one thread.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

/// Forks; the child does this and ends without returning, well unless it panics. Gives the child's process id.
pub fn fork(child: impl FnOnce()) -> u32 {
    assert_eq!(fs::read_dir("/proc/self/task").unwrap().count(), 1, "only a process with one thread may fork here");
    // SAFETY: the process has one thread, so the child has all of it and no lock is held by nobody.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let ended = catch_unwind(AssertUnwindSafe(child));
            process::exit(if ended.is_ok() { 0 } else { 101 });
        }
        pid => pid as u32,
    }
}

/// Waits for a child of this process and fails unless it ended well.
pub fn join(pid: u32) {
    let mut status = 0;
    // SAFETY: the status lives through the call.
    let waited = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
    assert_eq!(waited, pid as libc::pid_t, "{}", io::Error::last_os_error());
    assert_eq!(status, 0, "the forked child failed");
}
