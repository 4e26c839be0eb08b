//! Fork of a role with one thread, and of a process with any number of threads.
#![allow(unsafe_code, dead_code, reason = "not every executable uses both")]

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

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

/// The descriptors that [`fork_while`] looks at have smaller numbers.
const NUMBERS: usize = 256;

/// The work of other threads during a fork. See [`fork_while`].
type During = Box<dyn FnOnce() -> Option<RawFd> + Send>;

/// The work of the next [`fork_while`].
static DURING: Mutex<Option<During>> = Mutex::new(None);
/// True while a fork of [`fork_while`] is in progress.
static IS_WATCHED: AtomicBool = AtomicBool::new(false);
/// The descriptors that were open before that work.
static WAS_OPEN: [AtomicBool; NUMBERS] = [const { AtomicBool::new(false) }; NUMBERS];
/// The number that the next descriptor of the child gets, or -1.
static NEXT_NUMBER: AtomicI32 = AtomicI32::new(-1);

/// Makes [`fork_while`] work in this process. Call this before anything of the library, so that its handlers run before
/// these before a fork, and after these in the child.
pub fn watch_forks() {
    // SAFETY: the three handlers are functions, which live as long as the program.
    let errno =
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    assert_eq!(errno, 0);
}

/// Forks a child whose memory is newer than its descriptor table: Linux copies the table first, and the other threads
/// go on in between. Here `during` is what they do. The child has its effects in memory, and none of the descriptors
/// that it opened. If `during` returns a number, the next descriptor that the child opens has it. Otherwise like
/// [`fork_among_threads`].
pub fn fork_while(during: impl FnOnce() -> Option<RawFd> + Send + 'static, child: impl FnOnce()) -> u32 {
    *DURING.lock().unwrap() = Some(Box::new(during));
    fork_among_threads(child)
}

/// Returns true if a descriptor has this number.
fn is_open(number: RawFd) -> bool {
    // SAFETY: a system call without pointers.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

extern "C" fn before_fork() {
    let Some(during) = DURING.lock().unwrap().take() else { return };
    for (number, was_open) in WAS_OPEN.iter().enumerate() {
        was_open.store(is_open(number as RawFd), Ordering::SeqCst);
    }
    NEXT_NUMBER.store(during().unwrap_or(-1), Ordering::SeqCst);
    IS_WATCHED.store(true, Ordering::SeqCst);
}

extern "C" fn after_fork_in_parent() {
    IS_WATCHED.store(false, Ordering::SeqCst);
}

extern "C" fn after_fork_in_child() {
    if !IS_WATCHED.swap(false, Ordering::SeqCst) {
        return;
    }
    for (number, was_open) in WAS_OPEN.iter().enumerate() {
        if !was_open.load(Ordering::SeqCst) {
            // SAFETY: a system call without pointers. The number is that of no descriptor, or of one that `during`
            // opened, whose copy in the child nothing has used yet.
            unsafe { libc::close(number as RawFd) };
        }
    }
    let next = NEXT_NUMBER.load(Ordering::SeqCst);
    if next < 0 {
        return;
    }
    loop {
        // SAFETY: a system call without pointers.
        let number = unsafe { libc::dup(0) };
        assert!((0..=next).contains(&number), "the number {next} is in use");
        if number == next {
            // SAFETY: created above, and no other code knows it.
            unsafe { libc::close(number) };
            return;
        }
    }
}
