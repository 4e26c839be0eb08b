//! The C library of parlour. README.md describes its conventions, and `include/` has its headers. Each file here
//! implements one concept.
#![allow(
    clippy::missing_safety_doc,
    reason = "the top of parlour.h has the contract of every function; a function states only what it asks beyond it"
)]

pub mod call;
pub mod call_server;
pub mod caller;
pub mod classic;
pub mod connection;
pub mod error;
pub mod frame;
pub mod frame_pool;
pub mod frame_reader;
pub mod hub;
pub mod hub_groups;
pub mod hub_handle;
pub mod message;
pub mod name_watch;
pub mod options;
pub mod pair;
pub mod payload;
pub mod peer;
pub mod server;
pub mod session;
pub mod shared;
pub mod stats;
pub mod status;

mod guard;
mod roster;
