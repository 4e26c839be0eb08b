//! The interface of a way for frames.

use std::hint::black_box;
use std::path::Path;

use anyhow::Result;

/// A way to bring frames from one process to several others.
pub trait FrameWay: Sync {
    /// Returns the name on the command line and in results.
    fn name(&self) -> &str;

    /// Returns the version of the library.
    fn version(&self) -> String;

    /// Describes the configuration, and where it is advised.
    fn advice(&self) -> &str;

    /// Prepares the publisher in its process, before the readers start.
    ///
    /// # Errors
    ///
    /// Returns an error if the way cannot be used on this machine.
    fn publisher(&self, place: &Path, size: usize, readers: usize) -> Result<Box<dyn FramePublisher>>;

    /// Reads frames in the process of a reader until the publisher ends it or has gone. Calls `tell` once when the
    /// reader takes part, and then for each mark. Reads every byte of each frame with [`sum`].
    ///
    /// # Errors
    ///
    /// Returns an error if a frame cannot be received.
    fn read(&self, place: &Path, size: usize, readers: usize, tell: &mut dyn FnMut() -> Result<()>) -> Result<()>;

    /// Removes files outside of `place` that processes left.
    fn clean_up(&self, _place: &Path) {}
}

/// The publisher of frames.
pub trait FramePublisher {
    /// Waits until all readers have connected. Ways without connections need not wait: the caller waits until each
    /// reader has told that it takes part.
    ///
    /// # Errors
    ///
    /// Returns an error if a reader cannot connect.
    fn meet(&mut self) -> Result<()>;

    /// Fills a frame with this byte and sends it to all readers.
    ///
    /// # Errors
    ///
    /// Returns an error if the frame cannot be sent.
    fn publish(&mut self, byte: u8) -> Result<()>;

    /// Sends a mark to all readers, after which each of them calls `tell`.
    ///
    /// # Errors
    ///
    /// Returns an error if the mark cannot be sent.
    fn mark(&mut self) -> Result<()>;
}

/// Reads every byte. The same function for all ways.
#[inline(never)]
pub fn sum(bytes: &[u8]) {
    black_box(bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>());
}
