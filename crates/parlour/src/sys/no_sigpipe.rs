//! Writing to a FIFO without ever raising `SIGPIPE` in the host, and without touching its signal dispositions.
//!
//! Implementation notes: `pwritev2(2)` with `RWF_NOSIGNAL` from Linux 6.18. Before that the signal is blocked for the
//! thread during `writev` and taken back if the write raised it, as libpq does. `--cfg parlour_sigpipe_mask` forces the
//! second way; vmsplice(2) knows no other.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags};

/// Not in rustix yet; `include/uapi/linux/fs.h`.
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// Set once the kernel has said that it does not know `RWF_NOSIGNAL`. A race costs a second try, so no ordering.
static MASK_INSTEAD: AtomicBool = AtomicBool::new(cfg!(parlour_sigpipe_mask));

/// Writes to a FIFO; a reader that has gone is `BrokenPipe` and never a signal.
pub(crate) fn write_vectored(fifo: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let fifo = fifo.as_fd();
    if !MASK_INSTEAD.load(Ordering::Relaxed) {
        // A FIFO has no position: `u64::MAX` is the call's word for "none".
        match rustix::io::pwritev2(fifo, parts, u64::MAX, RWF_NOSIGNAL) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => MASK_INSTEAD.store(true, Ordering::Relaxed),
            result => return Ok(result?),
        }
    }
    write_masked(fifo, parts)
}

fn write_masked(fifo: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    masked(|| rustix::io::writev(fifo, parts))
}

/// Makes a system call that puts something into a FIFO, with the signal blocked.
pub(super) fn masked(call: impl FnOnce() -> rustix::io::Result<usize>) -> io::Result<usize> {
    let blocked = BlockedSigpipe::new()?;
    let result = call();
    if result == Err(Errno::PIPE) {
        blocked.take_back();
    }
    Ok(result?)
}

/// `SIGPIPE` is blocked in this thread while this lives.
struct BlockedSigpipe {
    sigpipe: libc::sigset_t,
    before: libc::sigset_t,
    was_pending: bool,
}

impl BlockedSigpipe {
    fn new() -> io::Result<Self> {
        let mut sigpipe = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set that its argument points to.
        unsafe { libc::sigemptyset(sigpipe.as_mut_ptr()) };
        // SAFETY: initialised by the call before.
        let mut sigpipe: libc::sigset_t = unsafe { sigpipe.assume_init() };
        // SAFETY: the set is initialised and the signal number is valid.
        unsafe { libc::sigaddset(&raw mut sigpipe, libc::SIGPIPE) };
        // SAFETY: both sets are live, one initialised and one to be initialised; only this thread's mask changes.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const sigpipe, before.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: initialised by the successful call before.
        let before: libc::sigset_t = unsafe { before.assume_init() };
        // SAFETY: the set is initialised and the signal number is valid.
        let was_blocked = unsafe { libc::sigismember(&raw const before, libc::SIGPIPE) } == 1;
        let mut blocked = Self { sigpipe, before, was_pending: false };
        // One that was not blocked is not pending: it would have been delivered.
        if was_blocked {
            blocked.was_pending = is_pending()?;
        }
        Ok(blocked)
    }

    /// Takes the `SIGPIPE` that a write of ours raised, unless one was pending before and the two are one now.
    fn take_back(&self) {
        if self.was_pending {
            return;
        }
        let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: the set and the timeout are live and initialised; the information is not asked for.
            let taken =
                unsafe { libc::sigtimedwait(&raw const self.sigpipe, std::ptr::null_mut(), &raw const no_wait) };
            if taken >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                return;
            }
        }
    }
}

impl Drop for BlockedSigpipe {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that `new` found. The call cannot fail with valid arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Whether a `SIGPIPE` waits for this thread.
fn is_pending() -> io::Result<bool> {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the set is writable; the call initialises it.
    if unsafe { libc::sigpending(pending.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: initialised by the successful call before.
    Ok(unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) } == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe without a reader, with the test's thread ready to tell whether `SIGPIPE` came: it is blocked, so that it
    /// would stay pending.
    fn write_and_see_whether_a_signal_comes(
        write: impl FnOnce(BorrowedFd<'_>, &[IoSlice<'_>]) -> io::Result<usize> + Send + 'static,
    ) {
        std::thread::spawn(move || {
            let outer = BlockedSigpipe::new().unwrap();
            assert!(!is_pending().unwrap());
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            drop(reader);
            let error = write(writer.as_fd(), &[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(!is_pending().unwrap(), "no signal was left behind");
            drop(outer);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_signal() {
        write_and_see_whether_a_signal_comes(|fifo, parts| write_vectored(fifo, parts));
    }

    #[test]
    fn the_way_of_older_kernels_takes_its_signal_back() {
        write_and_see_whether_a_signal_comes(write_masked);
    }

    #[test]
    fn nor_do_lent_pages_raise_one() {
        use crate::sys::splice_pages::SplicePages;
        write_and_see_whether_a_signal_comes(|fifo, _| SplicePages::new(1).unwrap().lend(0..1, fifo));
    }
}
