//! Both sides of the wire protocol, written without the library, one step at a time. Also tools for close inspection:
//! name directories made without the library, locks, other users, snapshots of files, and the cost of threads.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "each test executable uses only a part, and a test fails by panicking"
)]

pub mod candidate;
pub mod cost;
pub mod driver;
pub mod fifo_client;
pub mod fifo_server;
pub mod generation;
pub mod line;
pub mod lock;
pub mod options;
pub mod place;
pub mod rng;
pub mod roles;
pub mod scarce;
pub mod shm;
pub mod sigpipe;
pub mod snapshot;
pub mod steps;
pub mod trace;
pub mod unix;
pub mod user;
pub mod watch;

pub use driver::Driver;
pub use fifo_client::FifoClient;
pub use fifo_server::FifoServer;
pub use line::Id;
pub use place::Place;
