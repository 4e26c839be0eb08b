//! Shared memory: a byte stream through rings, and blocks that are lent. docs/shm.md specifies both.
//!
//! **The byte stream.** Each side creates one memory file. It alone can write to this memory, and the peer maps it
//! read-only, so that the kernel enforces a single writer for every page. The memory contains a page of control words
//! and the ring of the bytes that this side sends:
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
//!
//! **Lent blocks.** `ledger` has the account of a pool and the return of its blocks, `pool` the memory, and `blocks`
//! both for the owner. `frames/` has the messages, the doorbell, and the end of a holder.

mod atomic;
pub(crate) mod blocks;
#[cfg(any(fuzzing, all(test, not(loom))))]
pub(crate) mod hostile;
pub(crate) mod ledger;
pub(crate) mod mapping;
pub(crate) mod memfd;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, loom))]
mod model_returns;
#[cfg(all(test, loom))]
mod model_tap;
pub(crate) mod place;
pub(crate) mod pool;
mod region;
pub(crate) mod ring;
pub(crate) mod sealed;
pub(crate) mod stats;
pub(crate) mod stats_reader;
pub(crate) mod tap;
pub(crate) mod tap_reader;
pub(crate) mod taps;
#[cfg(all(test, not(loom)))]
mod tests;
