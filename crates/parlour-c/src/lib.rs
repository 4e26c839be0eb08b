//! The C library of parlour. README.md describes its conventions, and `include/` has its headers. Each file here
//! implements one concept.
#![allow(
    clippy::missing_safety_doc,
    reason = "the top of parlour.h has the contract of every function; a function states only what it asks beyond it"
)]

pub mod classic;
pub mod connection;
pub mod error;
pub mod hub;
pub mod message;
pub mod options;
pub mod payload;
pub mod peer;
pub mod server;
pub mod shared;
pub mod stats;
pub mod status;

mod guard;
