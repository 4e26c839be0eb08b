//! The classic seven operations, as `parlour/unix_sockets.h` and `parlour/fifo.h` give them.
//!
//! Handles are descriptors and the caller's own structs, so a connection is nothing in this library: frames go
//! straight between its descriptors and the caller's buffer. What is kept here is which servers there are and who
//! sleeps, behind one lock.
//!
//! A signal handler may come at any time and call some of these functions. Three rules make that safe:
//!
//! 1. Signals are blocked while a call works, and come in only where it sleeps: ppoll(2) lets them in and out without
//!    a gap (`signals`). So a handler never finds a lock held by its own thread or a message half read.
//! 2. What a handler may call allocates and frees nothing (`table`, `Server::release`), so it does not matter what code
//!    of the program it has interrupted.
//! 3. After it has slept, a call finds out whether its handle is still what it was (`wait`).

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
