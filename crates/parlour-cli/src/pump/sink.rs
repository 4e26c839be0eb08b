//! The local stream to which a pump writes.

use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::lines::Framing;
use crate::output;

/// The number of bytes that a pipe accepts without blocking once `poll(2)` reports it as writable (`PIPE_BUF` on
/// Linux).
const BLOCKING_WRITE_BYTES: usize = 4096;

/// A descriptor that is written only after `poll(2)` has reported it as writable, and the bytes to be written.
pub(super) struct Sink {
    fd: OwnedFd,
    bytes: Vec<u8>,
    written: usize,
    /// The maximum number of bytes of one write, so that it cannot block.
    write_max: usize,
    is_terminal: bool,
}

impl Sink {
    /// Creates a sink whose open file description other processes share, so that it must not be made non-blocking.
    pub(super) fn shared(fd: OwnedFd) -> Sink {
        let is_terminal = fd.is_terminal();
        Sink { fd, bytes: Vec::new(), written: 0, write_max: BLOCKING_WRITE_BYTES, is_terminal }
    }

    /// Creates a sink whose open file description only this process uses, and which is non-blocking.
    pub(super) fn ours(fd: OwnedFd) -> Sink {
        Sink { write_max: usize::MAX, ..Sink::shared(fd) }
    }

    /// Adds a message. Lines for a terminal are made printable.
    pub(super) fn push(&mut self, message: &[u8], framing: Framing) {
        match self.is_terminal && framing == Framing::Lines {
            true => framing.append(&output::for_terminal(message), &mut self.bytes),
            false => framing.append(message, &mut self.bytes),
        }
    }

    /// Returns the number of bytes that are not written yet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes once. Returns false if the reader has closed the stream.
    pub(super) fn write_some(&mut self) -> rustix::io::Result<bool> {
        let end = self.bytes.len().min(self.written.saturating_add(self.write_max));
        match rustix::io::write(&self.fd, &self.bytes[self.written..end]) {
            Ok(count) => {
                self.written += count;
                if self.is_empty() {
                    self.bytes.clear();
                    self.written = 0;
                }
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
