//! A byte stream through shared memory: the memory, and the ring in it. docs/shm.md specifies both.
//!
//! Each side creates one memory file. It alone can write to this memory, and the peer maps it read-only, so that the
//! kernel enforces a single writer for every page. The memory contains a page of control words and the ring of the
//! bytes that this side sends:
//!
//! | word | name in docs/shm.md | written by the side that | content |
//! |---|---|---|---|
//! | `Head` | `Head` | sends | the total number of bytes that it has put into its own ring |
//! | `Tail` | `Tail` | receives | the total number of bytes that it has taken out of the peer's ring |
//! | `DataWaiter` | `Data` | receives | a number that changes when this side requests a wake-up for more bytes |
//! | `SpaceWaiter` | `Room` | sends | a number that changes when this side requests a wake-up for more space |
//!
//! Data that a peer can write is not trusted. A position is loaded once, checked at full width, and only then used.
//! Bytes are copied out before they are parsed. The memory contains no means to wake a side and no information about
//! whether a side is alive: the socket (`backend/shm`) provides both.

mod atomic;
#[cfg(any(fuzzing, all(test, not(loom))))]
pub(crate) mod hostile;
pub(crate) mod mapping;
pub(crate) mod memfd;
#[cfg(all(test, loom))]
mod model;
pub(crate) mod ring;
pub(crate) mod sealed;
#[cfg(all(test, not(loom)))]
mod tests;
