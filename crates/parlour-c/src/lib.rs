//! The C library of parlour. README.md has its conventions, `include/` its headers; here is what is behind them,
//! one file per concept, in the order of the header.
#![allow(
    clippy::missing_safety_doc,
    reason = "one contract holds for every function and is at the top of parlour.h; what a function asks beyond it, it says"
)]

pub mod classic;
pub mod connection;
pub mod error;
pub mod hub;
pub mod message;
pub mod options;
pub mod peer;
pub mod server;
pub mod shared;
pub mod status;

mod guard;
