//! An open descriptor that is held in several places.
#![allow(unsafe_code)]

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A descriptor that stays open, and the same one, as long as anybody holds this. It counts those who use it, which others
/// may outlive: to watch a descriptor is not to use it.
#[derive(Debug)]
pub(crate) struct SharedFd<T: ?Sized = ()> {
    // Closed before what comes with it is dropped.
    fd: OwnedFd,
    users: AtomicU32,
    with: T,
}

/// One that is held for the descriptor's sake, whatever comes with it.
pub(crate) type WatchedFd = SharedFd<dyn Send + Sync>;

impl SharedFd {
    /// So many use it.
    pub(crate) fn new(fd: OwnedFd, users: u32) -> Self {
        Self::with(fd, users, ())
    }
}

impl<T> SharedFd<T> {
    /// So many use it, and what comes with it, which is dropped after the descriptor is closed.
    pub(crate) fn with(fd: OwnedFd, users: u32, with: T) -> Self {
        Self { fd, users: AtomicU32::new(users), with }
    }
}

impl<T: ?Sized> SharedFd<T> {
    /// What comes with the descriptor.
    pub(crate) fn data(&self) -> &T {
        &self.with
    }

    /// One of them uses it no more; how many are left.
    pub(crate) fn release(&self) -> u32 {
        self.users.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }
}

impl<T: ?Sized> AsFd for SharedFd<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T: ?Sized> AsRawFd for SharedFd<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A descriptor that is held in one place, until somebody else wants to hold it too. So it costs no memory of its own before.
#[derive(Debug)]
pub(crate) enum MayShare {
    Alone(OwnedFd),
    Shared(Arc<SharedFd>),
}

impl MayShare {
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn share(&mut self) -> Arc<SharedFd> {
        match self {
            Self::Shared(shared) => Arc::clone(shared),
            Self::Alone(fd) => {
                // SAFETY: the descriptor is open and ours, and from here on it is this one's alone: the other is forgotten below,
                // and nothing in between can unwind.
                let moved = unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) };
                let shared = Arc::new(SharedFd::new(moved, 1));
                mem::forget(mem::replace(self, Self::Shared(Arc::clone(&shared))));
                shared
            }
        }
    }
}

impl AsFd for MayShare {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Alone(fd) => fd.as_fd(),
            Self::Shared(shared) => shared.as_fd(),
        }
    }
}
