//! The local stream from which a pump reads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::lines::Splitter;

/// The maximum number of bytes of one read: the size of a pipe's buffer.
const READ_BYTES: usize = 64 * 1024;

/// A descriptor that is read only after `poll(2)` has reported it as readable, so that it may be a blocking one.
pub(super) struct Source {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Source {
    pub(super) fn new(fd: OwnedFd) -> Source {
        Source { fd, buffer: vec![0; READ_BYTES] }
    }

    /// Returns true if a read would return data or end of file without blocking.
    pub(super) fn is_readable_now(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
    }

    /// Reads once. Returns false at end of file.
    pub(super) fn read_some(&mut self, into: &mut Splitter) -> rustix::io::Result<bool> {
        match rustix::io::read(&self.fd, &mut self.buffer[..]) {
            Ok(0) => Ok(false),
            Ok(count) => {
                into.push(&self.buffer[..count]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads the bytes that are available now, and none that arrive later.
    pub(super) fn read_what_is_there(&mut self, into: &mut Splitter) -> rustix::io::Result<()> {
        let mut left = rustix::io::ioctl_fionread(&self.fd)?;
        while left > 0 {
            let before = into.len();
            if !self.read_some(into)? {
                break;
            }
            let count = (into.len() - before) as u64;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
        }
        Ok(())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
