//! A byte stream through shared memory: the memory itself, and the ring in it. docs/shm.md describes both for people.
//!
//! Each side makes one piece of memory, which it alone can write and the other maps read-only, so that the kernel
//! enforces one writer for every page. In it are a page of control words and the ring of what this side sends:
//!
//! | word | written by the side that | says |
//! |---|---|---|
//! | `Head` | sends | how many bytes it has put into its own ring, ever |
//! | `Tail` | receives | how many bytes it has taken out of the other's ring, ever |
//! | `Data` | receives | a number that changes when it wants to be told of more bytes |
//! | `Room` | sends | a number that changes when it wants to be told of more room |
//!
//! What a peer can write is not trusted: a position is loaded once, checked at full width, and only then used; bytes
//! are copied out before anybody looks at them. How a side is told, and who lives, is the business of the socket
//! (`backend/shm`): there is no such thing in the memory.

mod atomic;
#[cfg(any(fuzzing, all(test, not(loom))))]
pub(crate) mod hostile;
pub(crate) mod mapping;
#[cfg(all(test, loom))]
mod model;
pub(crate) mod ring;
pub(crate) mod sealed;
#[cfg(all(test, not(loom)))]
mod tests;
