//! Signals stay out while a call works, and come in while it sleeps.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, pollfd, sigset_t, timespec};

use super::errno::Errno;

/// What a bug raises in the thread that has it: blocked, it would end the program without its own handlers or a
/// debugger.
const SYNCHRONOUS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGSYS];

/// While this lives, no handler runs in this thread. Then the mask is again what it was.
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

    /// Sleeps until a descriptor is ready or the time is over, with the mask of before. `Err(EINTR)`: a handler has
    /// run.
    pub(crate) fn poll(&self, fds: &mut [pollfd], timeout_ms: Option<u32>) -> Result<usize, Errno> {
        let timeout = timeout_ms.map(|ms| timespec {
            tv_sec: libc::time_t::from(ms / 1000),
            tv_nsec: libc::c_long::from(ms % 1000) * 1_000_000,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the descriptors, the timeout (or NULL) and the mask are live and initialised through the call.
        let ready =
            unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout, &raw const self.before) };
        usize::try_from(ready).map_err(|_| std::io::Error::last_os_error().into())
    }

    /// Whether a call that a handler has interrupted is to fail, as those of the system do: a handler that may have
    /// run was installed without `SA_RESTART`. Which one has run, nobody tells; but those of faults, which runtimes
    /// and sanitizers install, have not.
    pub(crate) fn is_to_interrupt(&self) -> bool {
        let mut asynchronous = (1..=libc::SIGRTMAX()).filter(|signal| !SYNCHRONOUS.contains(signal));
        asynchronous.any(|signal| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: only asks; the result is live and writable. Numbers that are none fail and write nothing.
            let failed = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0;
            // SAFETY: zeroed at least, which is a valid value.
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
        // SAFETY: `before` is the mask that `new` found. The call cannot fail with valid arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

/// Whether this signal waits to be let in.
pub(crate) fn is_pending(signal: c_int) -> bool {
    let mut pending = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: the set is writable; the call initialises it.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: the set is initialised, and the signal number is valid.
    unsafe { libc::sigismember(pending.as_ptr(), signal) == 1 }
}

/// Takes a signal that waits to be let in, so that it never is. Signals are blocked.
pub(crate) fn take_back(signal: c_int, _blocked: &Blocked) {
    let mut only = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: `sigemptyset` initialises the set that its argument points to.
    unsafe { libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: the set is initialised and the signal number is valid.
    unsafe { libc::sigaddset(only.as_mut_ptr(), signal) };
    let no_wait = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the timeout are live and initialised; the information is not asked for. No handler
    // interrupts it.
    unsafe { libc::sigtimedwait(only.as_ptr(), ptr::null_mut(), &raw const no_wait) };
}
