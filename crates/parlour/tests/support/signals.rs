//! Signal dispositions and handlers in child processes, as a host program may set them.
#![allow(unsafe_code)]

use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Restores the default disposition of SIGPIPE, which terminates the process. The Rust runtime ignores SIGPIPE.
pub fn let_sigpipe_kill() {
    // SAFETY: SIG_DFL is a valid disposition and no handler is installed. Only roles call this, as their first step.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Returns true if SIGPIPE has its default disposition.
pub fn sigpipe_kills() -> bool {
    // SAFETY: `sigaction` is plain data that the kernel fills, and all zeros are a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: without a new action the call only fills `action`, which is valid for writes.
    let result = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), &mut action) };
    assert_eq!(result, 0);
    action.sa_sigaction == libc::SIG_DFL
}

/// The number of signals that the handler of [`interrupt_on`] has handled.
static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

pub fn interruptions() -> usize {
    INTERRUPTIONS.load(Ordering::SeqCst)
}

/// Installs a handler that interrupts system calls (without `SA_RESTART`) and only counts.
pub fn interrupt_on(signal: i32) {
    extern "C" fn count(_: i32) {
        INTERRUPTIONS.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: all zeros are a valid `sigaction`: no flags, so no SA_RESTART, and an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(i32) as usize;
    // SAFETY: the handler is a function and never becomes invalid, and an atomic addition is async-signal-safe.
    let result = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Sends a signal to one thread of this process.
pub fn send_to_thread<T>(thread: &JoinHandle<T>, signal: i32) {
    // SAFETY: a thread that has exited and was not joined still has a valid `pthread_t`, and the handle proves that it
    // was not joined.
    let result = unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) };
    assert!(result == 0 || result == libc::ESRCH);
}
