//! Signals are blocked while a call works, and are delivered while it sleeps.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, pollfd, sigset_t, timespec};

use super::errno::Errno;

/// The signals that a fault raises in the faulting thread. If they were blocked, the kernel would kill the process
/// without running its handlers.
const SYNCHRONOUS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// Blocks the signals of this thread while it lives. Dropping it restores the previous mask.
pub(crate) struct Blocked {
    before: sigset_t,
}

impl Blocked {
    pub(crate) fn new() -> Self {
        let mut all = MaybeUninit::<sigset_t>::uninit();
        // SAFETY: `sigfillset` initialises the set that its argument points to.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: initialised by the call before.
        let mut all = unsafe { all.assume_init() };
        for signal in SYNCHRONOUS {
            // SAFETY: the set is initialised and the signal number is valid.
            unsafe { libc::sigdelset(&raw mut all, signal) };
        }
        let mut before = all;
        // SAFETY: both sets are live and initialised; only this thread's mask changes. It cannot fail with valid
        // arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
        Self { before }
    }

    /// Sleeps until a descriptor is ready or the timeout passes, with the previous mask. Fails with `EINTR` if a
    /// handler has run.
    pub(crate) fn poll(&self, fds: &mut [pollfd], timeout_ms: Option<u32>) -> Result<usize, Errno> {
        let timeout = timeout_ms.map(|ms| timespec {
            tv_sec: libc::time_t::from(ms / 1000),
            tv_nsec: libc::c_long::from(ms % 1000) * 1_000_000,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the descriptors, the timeout (or NULL) and the mask are live and initialised during the call.
        let ready =
            unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, &raw const self.before) };
        usize::try_from(ready).map_err(|_| std::io::Error::last_os_error().into())
    }

    /// Returns true if a call that a handler interrupted must fail with `EINTR`, as system calls do: a handler that
    /// may have run was installed without `SA_RESTART`. The kernel does not report which handler has run. The handlers
    /// of faults, which runtimes and sanitizers install, have not run.
    pub(crate) fn is_to_interrupt(&self) -> bool {
        let mut asynchronous = (1..=libc::SIGRTMAX()).filter(|signal| !SYNCHRONOUS.contains(signal));
        asynchronous.any(|signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: the call changes no action. The result is writable. For an invalid number it fails and writes
            // nothing.
            let failed = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0;
            // SAFETY: initialised by the call, or zeroed, which is a valid value.
            let action = unsafe { action.assume_init() };
            let is_caught = !failed && ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
            // SAFETY: the set is initialised and the signal number is valid.
            let is_blocked = unsafe { libc::sigismember(&raw const self.before, signal) } == 1;
            is_caught && !is_blocked && action.sa_flags & libc::SA_RESTART == 0
        })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that `new` stored, initialised. The call cannot fail with valid arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// Returns true if this signal is pending.
pub(crate) fn is_pending(signal: c_int) -> bool {
    let mut pending = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: the set is writable, and the call initialises it.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: the set is initialised, and the signal number is valid.
    unsafe { libc::sigismember(pending.as_ptr(), signal) == 1 }
}

/// Takes a pending signal, so that it is not delivered. Signals are blocked.
pub(crate) fn take_back(signal: c_int, _blocked: &Blocked) {
    let mut only = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: `sigemptyset` initialises the set that its argument points to.
    unsafe { libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: the set is initialised and the signal number is valid.
    unsafe { libc::sigaddset(only.as_mut_ptr(), signal) };
    let no_wait = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the timeout are live and initialised. A NULL pointer for the information is allowed. Signals
    // are blocked, so no handler interrupts the call.
    unsafe { libc::sigtimedwait(only.as_ptr(), ptr::null_mut(), &raw const no_wait) };
}
