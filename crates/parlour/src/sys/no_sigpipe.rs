//! Writing to a FIFO without raising `SIGPIPE` in the host and without changing its signal dispositions.
//!
//! Implementation notes: Linux 6.18 and newer have `pwritev2(2)` with `RWF_NOSIGNAL`. On older kernels the signal is
//! blocked for the thread during `writev` and consumed if the write raised it, as in libpq.
//! `--cfg parlour_sigpipe_mask` forces the second method. It is the only method for vmsplice(2).
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, ReadWriteFlags};

/// Not defined by rustix yet. See `include/uapi/linux/fs.h`.
const RWF_NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

/// Set when the kernel has reported that it does not support `RWF_NOSIGNAL`. A race costs a second attempt, so relaxed
/// ordering suffices.
static MASK_INSTEAD: AtomicBool = AtomicBool::new(cfg!(parlour_sigpipe_mask));

/// Writes to a FIFO. A missing reader is the error `BrokenPipe` and never raises a signal.
pub(crate) fn write_vectored(fifo: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let fifo = fifo.as_fd();
    if !MASK_INSTEAD.load(Ordering::Relaxed) {
        // A FIFO has no position: `u64::MAX` means "no offset" to this call.
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

/// Makes a system call that writes to a FIFO while the signal is blocked.
pub(super) fn masked(call: impl FnOnce() -> rustix::io::Result<usize>) -> io::Result<usize> {
    let blocked = BlockedSigpipe::new()?;
    let result = call();
    if result == Err(Errno::PIPE) {
        blocked.take_back();
    }
    Ok(result?)
}

/// Blocks `SIGPIPE` in this thread while it exists.
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
        // SAFETY: initialised by the previous call.
        let mut sigpipe: libc::sigset_t = unsafe { sigpipe.assume_init() };
        // SAFETY: the set is initialised and the signal number is valid.
        unsafe { libc::sigaddset(&raw mut sigpipe, libc::SIGPIPE) };
        // SAFETY: both sets are live. One is initialised, the call initialises the other. Only this thread's mask
        // changes.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const sigpipe, before.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: initialised by the previous call, which succeeded.
        let before: libc::sigset_t = unsafe { before.assume_init() };
        // SAFETY: the set is initialised and the signal number is valid.
        let was_blocked = unsafe { libc::sigismember(&raw const before, libc::SIGPIPE) } == 1;
        let mut blocked = Self { sigpipe, before, was_pending: false };
        // A signal that was not blocked is not pending: it would have been delivered.
        if was_blocked {
            blocked.was_pending = is_pending()?;
        }
        Ok(blocked)
    }

    /// Consumes the `SIGPIPE` that a write raised, unless one was pending before: then the two have merged.
    fn take_back(&self) {
        if self.was_pending {
            return;
        }
        let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            // SAFETY: the set and the timeout are live and initialised. A null pointer is allowed for the signal
            // information.
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
        // SAFETY: `before` is the mask that `new` saved. The call cannot fail with valid arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Returns true if a `SIGPIPE` is pending for this thread.
fn is_pending() -> io::Result<bool> {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the set is writable, and the call initialises it.
    if unsafe { libc::sigpending(pending.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: initialised by the previous call, which succeeded.
    Ok(unsafe { libc::sigismember(pending.as_ptr(), libc::SIGPIPE) } == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes to a pipe without a reader. The test's thread blocks `SIGPIPE`, so that a raised signal would remain
    /// pending and be detected.
    fn assert_that_writing_raises_no_signal(
        write: impl FnOnce(BorrowedFd<'_>, &[IoSlice<'_>]) -> io::Result<usize> + Send + 'static,
    ) {
        std::thread::spawn(move || {
            let outer = BlockedSigpipe::new().unwrap();
            assert!(!is_pending().unwrap());
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            drop(reader);
            let error = write(writer.as_fd(), &[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(!is_pending().unwrap(), "no signal is pending afterwards");
            drop(outer);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_missing_reader_is_an_error_and_not_a_signal() {
        assert_that_writing_raises_no_signal(|fifo, parts| write_vectored(fifo, parts));
    }

    #[test]
    fn the_method_for_older_kernels_consumes_its_signal() {
        assert_that_writing_raises_no_signal(write_masked);
    }

    #[test]
    fn lending_pages_without_a_reader_raises_no_signal() {
        use crate::sys::splice_pages::SplicePages;
        assert_that_writing_raises_no_signal(|fifo, _| SplicePages::new(1).unwrap().splice_into(0..1, fifo));
    }
}
