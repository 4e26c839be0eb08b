//! The bytes on the wire, without I/O: nothing in here sees a descriptor, a path that exists, or a clock.
//!
//! Everything that a peer sent is parsed here and nowhere else, so this is what the property tests and the fuzzers
//! drive. `docs/wire.md` describes the formats for people.
#![forbid(unsafe_code)]

pub(crate) mod client_file;
pub(crate) mod decoder;
pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod nonce;
pub(crate) mod pieces;
pub(crate) mod request;
pub(crate) mod shm_hello;
pub(crate) mod write_buffer;
