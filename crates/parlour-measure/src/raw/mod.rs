//! The baselines: bare system calls, written by hand.

mod epoll;
mod fifo;
mod frame;
mod kernel;
mod packed;
mod packet;
mod stream;
mod wait;

use crate::contender::Contender;

pub use stream::raw_stream_client;

/// Returns all baselines.
pub(crate) fn contenders() -> Vec<Box<dyn Contender>> {
    vec![
        Box::new(stream::RawStream { spins: false }),
        Box::new(packet::RawPacket { spins: false }),
        Box::new(packed::RawPacked),
        Box::new(fifo::RawFifo { spins: false }),
        Box::new(stream::RawStream { spins: true }),
        Box::new(packet::RawPacket { spins: true }),
        Box::new(fifo::RawFifo { spins: true }),
        Box::new(epoll::RawEpoll),
    ]
}
