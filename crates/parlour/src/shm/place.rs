//! The place of a memory file, by which other processes of the user find it, and the clock of the times in it.
#![allow(unsafe_code)]

/// Returns the time since the boot in nanoseconds, including the time for which the system slept.
pub(crate) fn now() -> u64 {
    // The function of the C library, which makes no system call. That of rustix reads the vDSO itself, and does not
    // work under valgrind.
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes during the call. The call does not fail for this clock; the time is 0 then.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The place of the counters, for other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) fd: i32,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}
