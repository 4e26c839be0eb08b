//! The seven classic operations of `parlour/unix_sockets.h` and `parlour/fifo.h`.
//!
//! Handles are descriptors and structs of the caller, so this library keeps no state for a connection: it moves frames
//! directly between the descriptors and the caller's buffer. One table, behind one lock, has the servers and the calls
//! that sleep.
//!
//! A signal handler may run at any time and call some of these functions. Three rules make that safe:
//!
//! 1. Signals are blocked while a call works. Handlers run only while it sleeps, because ppoll(2) unblocks and blocks
//!    signals atomically (`signals`). So a handler never finds a lock held by its own thread or a message half read.
//! 2. The functions that a handler may call do not allocate or free memory (`table`, `Server::release`), so it does not
//!    matter which code of the program the handler interrupted.
//! 3. After a sleep, a call checks that its handle still refers to the same file (`wait`).

pub mod fifo;
pub mod unix_sockets;

mod errno;
mod frame;
mod listen;
mod servers;
mod signals;
mod sleepers;
mod table;
mod wait;
