//! Wire formats, without I/O. No file in this module uses a descriptor, an existing path or a clock.
//!
//! All bytes that a peer sent are parsed in this module and nowhere else. The property tests and the fuzzers therefore
//! drive this module. `docs/wire.md` specifies the formats.
#![forbid(unsafe_code)]

pub(crate) mod call;
pub(crate) mod child_fd;
pub(crate) mod client_file;
pub(crate) mod control;
pub(crate) mod decoder;
pub(crate) mod frame;
pub(crate) mod frames;
pub(crate) mod hello;
pub(crate) mod listen_fds;
pub(crate) mod nonce;
pub(crate) mod origin;
pub(crate) mod pack;
pub(crate) mod pieces;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod shm_hello;
pub(crate) mod stats;
pub(crate) mod tap;
pub(crate) mod tap_request;
pub(crate) mod tap_ring;
pub(crate) mod write_buffer;
