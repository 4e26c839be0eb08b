//! Memory that many connections take turns with.
//!
//! A blocking connection keeps the buffers that it has made. One among thousands is idle most of the time, and its owner
//! lends it buffers while there is something to do, and takes them back when nothing waits in them any more: so the memory
//! goes by how many connections are in the middle of a message, and not by how many there are.

use super::{packet, stream};
use crate::wire::outbox::{Kept, Outbox};

/// How many buffers for receiving are kept of each kind. One thread that serves its connections in turn needs one at a time.
const KEPT_MAX: usize = 4;

/// How many are kept of those for what waits to be sent: as many as a hub answers before it writes.
const OUTBOXES_MAX: usize = 16;

/// What nobody needs at the moment.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "a connection without one is small, and boxes go from hand to hand as they are")]
pub(crate) struct Spares {
    streams: Vec<Box<stream::Intake>>,
    packets: Vec<Box<packet::Intake>>,
    outboxes: Vec<Box<Kept>>,
}

impl Spares {
    pub(super) fn intake(&mut self) -> Option<Box<stream::Intake>> {
        self.streams.pop()
    }

    pub(super) fn keep_intake(&mut self, intake: Box<stream::Intake>) {
        keep(&mut self.streams, intake, KEPT_MAX);
    }

    pub(super) fn packet_intake(&mut self) -> Option<Box<packet::Intake>> {
        self.packets.pop()
    }

    pub(super) fn keep_packet_intake(&mut self, intake: Box<packet::Intake>) {
        keep(&mut self.packets, intake, KEPT_MAX);
    }

    pub(super) fn lend_outbox(&mut self, outbox: &mut Outbox) {
        if outbox.has_no_memory() {
            if let Some(memory) = self.outboxes.pop() {
                outbox.use_memory(memory);
            }
        }
    }

    pub(super) fn take_outbox_back(&mut self, outbox: &mut Outbox) {
        if let Some(memory) = outbox.give_memory_back() {
            keep(&mut self.outboxes, memory, OUTBOXES_MAX);
        }
    }
}

fn keep<T>(spares: &mut Vec<T>, spare: T, max: usize) {
    if spares.len() < max {
        spares.push(spare);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSliceMut};

    use super::*;
    use crate::backend::half::Read;
    use crate::backend::stream::FrameReceiver;
    use crate::backend::{Fault, Incoming, MessageMax, Outgoing, Received};
    use crate::message::Message;

    /// A stream that holds these bytes and no end.
    fn receive(receiver: &mut FrameReceiver, stream: &mut &[u8], out: &mut Message) -> Result<Received, Fault> {
        receiver.try_recv(out, |spaces: &mut [IoSliceMut<'_>]| {
            let count = spaces[0].len().min(stream.len());
            let (now, later) = stream.split_at(count);
            spaces[0][..count].copy_from_slice(now);
            *stream = later;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Read::of_bytes(count)) }
        })
    }

    #[test]
    fn connections_take_turns_with_one_decoder_and_keep_it_only_while_bytes_wait() {
        let mut spares = Spares::default();
        let mut out = Message::default();
        let [mut first, mut second] = [10, 20].map(|bytes| FrameReceiver::new(MessageMax::new(bytes, 0)));

        let mut stream: &[u8] = b"\0\0\0\x03one\0\0\0\x03tw";
        assert!(matches!(receive(&mut first, &mut stream, &mut out), Ok(Received::Message)));
        first.give_back(&mut spares);
        assert!(spares.streams.is_empty(), "a message waits for its end");
        assert!(matches!(receive(&mut first, &mut &b"o"[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, b"two"[..]);
        first.give_back(&mut spares);
        assert_eq!(spares.streams.len(), 1);

        second.lend(&mut spares);
        assert!(spares.streams.is_empty());
        let stream = [&b"\0\0\0\x14"[..], &[7; 20]].concat();
        assert!(matches!(receive(&mut second, &mut &stream[..], &mut out), Ok(Received::Message)));
        assert_eq!(out, [7; 20][..], "with its own limit, and nothing of the first");
        second.give_back(&mut spares);

        first.lend(&mut spares);
        assert!(matches!(receive(&mut first, &mut &stream[..], &mut out), Err(Fault::TooLong { length: 20 })));
    }

    #[test]
    fn an_idle_connection_is_small() {
        let size = size_of::<Incoming>() + size_of::<Outgoing>();
        assert!(size <= 120, "{size} bytes");
    }
}
