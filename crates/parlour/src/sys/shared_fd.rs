//! An open descriptor that is held in several places.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// A descriptor that stays open, and the same one, as long as anybody holds this. It counts those who use it, which others
/// may outlive: to watch a descriptor is not to use it.
#[derive(Debug)]
pub(crate) struct SharedFd {
    fd: OwnedFd,
    users: AtomicU32,
}

impl SharedFd {
    /// So many use it.
    pub(crate) fn new(fd: OwnedFd, users: u32) -> Self {
        Self { fd, users: AtomicU32::new(users) }
    }

    /// One of them uses it no more; how many are left.
    pub(crate) fn let_go(&self) -> u32 {
        self.users.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SharedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
