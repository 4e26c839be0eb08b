//! Signals that a thread handles later.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

/// While it exists, this thread handles no signal. Those that arrive are handled at its end.
pub(crate) struct BlockedSignals {
    /// The mask that the thread had before.
    mask: libc::sigset_t,
    /// The mask belongs to a thread, so this cannot be sent to another one.
    thread: PhantomData<*const ()>,
}

impl BlockedSignals {
    pub(crate) fn begin() -> io::Result<Self> {
        let mut all = MaybeUninit::uninit();
        let mut mask = MaybeUninit::uninit();
        // SAFETY: `sigfillset` initialises the set that its argument points to.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: the first set was initialised by the previous call, and this call initialises the second one. Only
        // the mask of this thread changes.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), mask.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: initialised by the previous call, which succeeded.
        Ok(Self { mask: unsafe { mask.assume_init() }, thread: PhantomData })
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the mask that the thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
    }
}
