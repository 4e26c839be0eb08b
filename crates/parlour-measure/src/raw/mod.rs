//! The baselines: the bare system calls, as one would write them by hand.

mod epoll;
mod fifo;
mod frame;
mod packet;
mod stream;

use crate::contender::Contender;

pub(crate) use stream::{RawStream, RawStreamClient};

/// All baselines.
#[must_use]
pub fn contenders() -> Vec<Box<dyn Contender>> {
    vec![Box::new(RawStream), Box::new(packet::RawPacket), Box::new(fifo::RawFifo), Box::new(epoll::RawEpoll)]
}

/// What `version` says of them: the system's.
pub(crate) fn kernel() -> String {
    let uname = rustix::system::uname();
    format!("Linux {}", uname.release().to_string_lossy())
}

/// What an answer to a batch of messages is.
pub(crate) const DONE: &[u8] = b"done";
