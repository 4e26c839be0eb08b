//! The baselines: the bare system calls, as one would write them by hand.

mod epoll;
mod fifo;
mod frame;
mod packet;
mod stream;

use std::path::Path;

use anyhow::Result;

use crate::contender::{Client, Contender};
use crate::work::Work;

use stream::{RawStream, RawStreamClient};

/// All baselines.
pub(crate) fn contenders() -> Vec<Box<dyn Contender>> {
    vec![Box::new(RawStream), Box::new(packet::RawPacket), Box::new(fifo::RawFifo), Box::new(epoll::RawEpoll)]
}

/// What `version` says of them: the system's.
pub(crate) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("Linux {}", uname.release().to_string_lossy())
}

/// What an answer to a batch of messages is.
pub const DONE: &[u8] = b"done";

/// A client of any server whose wire is that of `raw-stream`, so that what differs between such servers is nothing but
/// them.
///
/// # Errors
///
/// Nobody listens there.
pub fn raw_stream_client(path: &Path, work: Work) -> Result<Box<dyn Client>> {
    Ok(Box::new(RawStreamClient::connect(path, work)?))
}
