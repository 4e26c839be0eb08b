//! What a tokio runtime says about a descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::Handle;

use super::shared_fd::WatchedFd;

/// A descriptor that the current runtime watches. It is removed from there before it is closed, when this is dropped.
pub(crate) struct Readiness(AsyncFd<Watched>);

/// What is watched, with whatever comes with it.
pub(crate) struct Watched(Arc<WatchedFd>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Until it is told that it was not true, or is no more, the descriptor is ready.
pub(crate) type Ready<'a> = AsyncFdReadyGuard<'a, Watched>;

impl Readiness {
    /// Outside of a runtime this is an error. In one without I/O tokio panics.
    pub(crate) fn register(fd: Arc<WatchedFd>, interest: Interest) -> io::Result<Self> {
        let _runtime = Handle::try_current().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        // SAFETY: a `SharedFd` holds one open descriptor as long as it lives, never another one, and the `AsyncFd` holds it.
        // Nothing here gives out a mutable reference, through which it could be exchanged for another.
        let watched = unsafe { AsyncFd::register_with_interest(Watched(fd), interest) };
        Ok(Self(watched.map_err(|error| error.into_parts().1)?))
    }

    /// When it is not ready, the task that asked last is woken when it is.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_read_ready(cx)
    }

    /// Like [`poll_readable`](Self::poll_readable), with a task of its own.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_write_ready(cx)
    }

    /// Any number of tasks may wait for this.
    pub(crate) async fn readable(&self) -> io::Result<Ready<'_>> {
        self.0.readable().await
    }
}
