//! The readiness of a descriptor, as a tokio runtime reports it.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::Handle;

use super::shared_fd::WatchedFd;

/// A descriptor that is registered with the current runtime. Dropping it removes it from the runtime before the
/// descriptor is closed.
///
/// In a forked child, dropping it closes the child's copy of the descriptor and leaves the runtime alone. The child
/// shares the epoll instance of the runtime, so removing the descriptor would remove it for the parent. Also, a thread
/// of the parent may have held a lock of the runtime at the fork.
///
/// The process is in the descriptor's own allocation, because each of a thousand tasks contains this type.
pub(crate) struct Readiness(ManuallyDrop<AsyncFd<Watched>>);

/// The registered descriptor, with the data that belongs to it.
pub(crate) struct Watched(Arc<WatchedFd>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A guard for observed readiness. The runtime regards the descriptor as ready until the guard's readiness is cleared.
pub(crate) type Ready<'a> = AsyncFdReadyGuard<'a, Watched>;

impl Readiness {
    /// Registers the descriptor with the current runtime. Outside of a runtime this is an error. In a runtime without
    /// I/O tokio panics.
    pub(crate) fn register(fd: Arc<WatchedFd>, interest: Interest) -> io::Result<Self> {
        let _runtime = Handle::try_current().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
        fd.note_watched();
        // SAFETY: a `SharedFd` holds the same open descriptor as long as it exists, and the `AsyncFd` holds the
        // `SharedFd`. This type provides no mutable reference through which the descriptor could be exchanged.
        let watched = unsafe { AsyncFd::register_with_interest(Watched(fd), interest) };
        let watched = watched.map_err(|error| error.into_parts().1)?;
        Ok(Self(ManuallyDrop::new(watched)))
    }

    /// Polls for read readiness. If the descriptor is not ready, the task that polled last is woken when it becomes
    /// ready.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_read_ready(cx)
    }

    /// Like [`poll_readable`](Self::poll_readable), for write readiness. It stores the waker of its own task.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready<'_>>> {
        self.0.poll_write_ready(cx)
    }

    /// Waits for read readiness. Any number of tasks may wait.
    pub(crate) async fn readable(&self) -> io::Result<Ready<'_>> {
        self.0.readable().await
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if self.0.get_ref().0.was_watched_before_fork() {
            // SAFETY: the `AsyncFd` is never dropped and never used again, so the holder of the descriptor that it
            // contains is moved out once.
            drop(unsafe { ptr::read(self.0.get_ref()) });
        } else {
            // SAFETY: nothing uses the `AsyncFd` after this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
