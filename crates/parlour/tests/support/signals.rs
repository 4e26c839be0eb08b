//! Signals in child processes: what a host program may do with them, and parlour must live with.
#![allow(unsafe_code)]

use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Sets SIGPIPE back to what a C program starts with: it kills. The runtime of Rust ignores it.
pub fn let_sigpipe_kill() {
    // SAFETY: SIG_DFL is a valid disposition and no handler is installed; only roles call this, as their first step.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Whether SIGPIPE still has that disposition.
pub fn sigpipe_kills() -> bool {
    // SAFETY: zero bytes are a valid `sigaction`, which is plain data for the kernel to fill.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: with no new action this only fills `action`, which lives until it returns.
    let result = unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), &mut action) };
    assert_eq!(result, 0);
    action.sa_sigaction == libc::SIG_DFL
}

/// How often a signal of [`interrupt_on`] was handled.
static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

pub fn interruptions() -> usize {
    INTERRUPTIONS.load(Ordering::SeqCst)
}

/// Has this signal interrupt system calls and do nothing else but count: a handler without `SA_RESTART`.
pub fn interrupt_on(signal: i32) {
    extern "C" fn count(_: i32) {
        INTERRUPTIONS.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: zero bytes are a valid `sigaction`: no flags, so no SA_RESTART, and an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(i32) as usize;
    // SAFETY: the handler is a function for the whole life of the process, and an atomic addition is async-signal-safe.
    let result = unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Sends a signal to one thread of this process.
pub fn send_to_thread<T>(thread: &JoinHandle<T>, signal: i32) {
    // SAFETY: a thread that has ended and was not joined still has a valid `pthread_t`, and the handle proves that it
    // was not joined.
    let result = unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) };
    assert!(result == 0 || result == libc::ESRCH);
}
