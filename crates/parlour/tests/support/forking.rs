//! Fork of a role with one thread, and of a process with any number of threads.
#![allow(unsafe_code, dead_code, reason = "not every executable uses both")]

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

/// Forks. The child calls the closure and exits, with success unless the closure panics. Returns the child's process
/// id.
pub fn fork(child: impl FnOnce()) -> u32 {
    assert_eq!(fs::read_dir("/proc/self/task").unwrap().count(), 1, "the process must be single-threaded to fork");
    // SAFETY: the process is single-threaded, so no lock can be held by a thread that does not exist in the child.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            let ended = catch_unwind(AssertUnwindSafe(child));
            process::exit(if ended.is_ok() { 0 } else { 101 });
        }
        pid => pid as u32,
    }
}

/// Waits for a child of this process. Panics unless it exited with success.
pub fn join(pid: u32) {
    let mut status = 0;
    // SAFETY: `status` is valid for writes during the call.
    let waited = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
    assert_eq!(waited, pid as libc::pid_t, "{}", io::Error::last_os_error());
    assert_eq!(status, 0, "the forked child failed");
}

/// Forks a process that may have other threads. The child calls the closure and ends, without running destructors or
/// exit handlers, with success unless the closure panics. A child that hangs is killed by SIGALRM. Returns the child's
/// process id.
pub fn fork_among_threads(child: impl FnOnce()) -> u32 {
    // SAFETY: the C library makes its allocator usable in the child. The closure is the code under test, which must
    // not wait for a lock that another thread held; the alarm ends a child that does.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        0 => {
            // SAFETY: two system calls without pointers.
            unsafe { libc::alarm(crate::support::DEADLINE.as_secs() as libc::c_uint) };
            let ended = catch_unwind(AssertUnwindSafe(child));
            // SAFETY: as above.
            unsafe { libc::_exit(if ended.is_ok() { 0 } else { 101 }) }
        }
        pid => pid as u32,
    }
}

/// Takes a value out of a place that other threads of the parent use. Call it once for each value, in a forked child.
pub fn take_in_child<T>(place: &T) -> T {
    // SAFETY: the child has one thread, which does not use the place again, and ends without running destructors.
    unsafe { std::ptr::read(place) }
}
