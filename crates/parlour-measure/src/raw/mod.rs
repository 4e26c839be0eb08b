//! The baselines: bare system calls, written by hand.

mod epoll;
mod fifo;
mod frame;
mod kernel;
mod packet;
mod stream;

use crate::contender::Contender;

pub use stream::raw_stream_client;

/// Returns all baselines.
pub(crate) fn contenders() -> Vec<Box<dyn Contender>> {
    vec![Box::new(stream::RawStream), Box::new(packet::RawPacket), Box::new(fifo::RawFifo), Box::new(epoll::RawEpoll)]
}
