//! An open descriptor with several holders.
#![allow(unsafe_code)]

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::fork::Generation;

/// A descriptor that remains open and unchanged as long as any holder exists. It counts its users. Holders that only
/// watch the descriptor do not count, and may outlive the users.
#[derive(Debug)]
pub(crate) struct SharedFd<T: ?Sized = ()> {
    // Closed before `with` is dropped: fields are dropped in this order.
    fd: OwnedFd,
    users: AtomicU16,
    /// The [`Generation`] of the process whose runtime watches the descriptor.
    watched_in: AtomicU16,
    with: T,
}

/// A descriptor whose holder does not use its data.
pub(crate) type WatchedFd = SharedFd<dyn Send + Sync>;

impl SharedFd {
    /// Wraps a descriptor that has this number of users.
    pub(crate) fn new(fd: OwnedFd, users: u16) -> Self {
        Self::with(fd, users, ())
    }
}

impl<T> SharedFd<T> {
    /// Wraps a descriptor that has this number of users, with data that is dropped after the descriptor is closed.
    pub(crate) fn with(fd: OwnedFd, users: u16, with: T) -> Self {
        Self { fd, users: AtomicU16::new(users), watched_in: AtomicU16::new(0), with }
    }
}

impl<T: ?Sized> SharedFd<T> {
    /// Returns the data that belongs to the descriptor.
    pub(crate) fn data(&self) -> &T {
        &self.with
    }

    /// Ends the use by one user and returns the number of remaining users.
    pub(crate) fn release(&self) -> u16 {
        self.users.fetch_sub(1, Ordering::AcqRel).saturating_sub(1)
    }

    /// Notes that a runtime of this process watches the descriptor.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn note_watched(&self) {
        self.watched_in.store(Generation::current().0, Ordering::Relaxed);
    }

    /// Returns true if this process is a forked child, and the runtime of its parent watches the descriptor.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn was_watched_before_fork(&self) -> bool {
        Generation(self.watched_in.load(Ordering::Relaxed)).is_before_fork()
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

/// A descriptor with one holder until another one needs to hold it. Until then it needs no allocation.
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
                // SAFETY: the descriptor is open and owned by `self`. From here on only `moved` owns it: the former
                // owner is forgotten below, and no code in between can unwind.
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
