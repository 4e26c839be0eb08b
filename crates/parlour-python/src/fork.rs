//! The number of forks, which distinguishes a process from its forked children without a system call.
#![allow(unsafe_code, reason = "pthread_atfork(3) is a C interface")]

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of forks between the process that has loaded the module and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The generation of a process. A child of a bare clone(2) has that of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn current() -> Self {
        Self(GENERATION.load(Ordering::Relaxed))
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Begins to count, once for the process.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: the handler only changes an atomic, and an extension module is never unloaded.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
