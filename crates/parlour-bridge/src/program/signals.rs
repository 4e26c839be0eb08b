//! The signals that a program asks for. Each is one byte in a socket, so that a task can wait for it.
//!
//! The feature `signal` of tokio would open a socket pair in every runtime of the workspace.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Signals that are caught from now on, for as long as the process runs.
pub(crate) struct Signals(UnixStream);

impl Signals {
    /// Catches signals.
    pub(crate) fn catch(numbers: &[i32]) -> io::Result<Self> {
        let (signals, writable) = std::os::unix::net::UnixStream::pair()?;
        for &number in numbers {
            pipe::register(number, writable.try_clone()?)?;
        }
        signals.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(signals)?))
    }

    /// Catches those that ask the process to end.
    pub(crate) fn to_end() -> io::Result<Self> {
        Self::catch(&[SIGTERM, SIGINT])
    }

    /// Completes at the next signal, and returns true. The handlers keep the other end open, so that only the end of
    /// the runtime gives false.
    pub(crate) async fn next(&mut self) -> bool {
        self.0.read_u8().await.is_ok()
    }
}
