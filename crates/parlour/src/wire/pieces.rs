//! Messages on a transport that keeps datagrams apart: one byte, then a message or a piece of one.

use super::frame::TooLong;

/// The most bytes of a message in one datagram. Up to about here a datagram is faster than pieces; beyond, the kernel's
/// memory for one datagram becomes hard to get.
pub(crate) const PIECE_MAX: usize = 1024 * 1024;

/// From which length on a message is expected to be followed by one of the same length. Measured: below, copying it costs
/// less than one more space does.
const EXPECTED_MIN: usize = 16 * 1024;

/// How much memory for a long message is kept for another connection.
const KEPT_MAX: usize = 1024 * 1024;

/// The byte in front of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// The message ends with this datagram.
    Last,
    /// The next datagram goes on with the same message.
    More,
}

impl Marker {
    pub(crate) fn bytes(self) -> &'static [u8; 1] {
        match self {
            Self::Last => &[0],
            Self::More => &[1],
        }
    }

    fn parse(byte: u8) -> Option<Self> {
        [Self::Last, Self::More].into_iter().find(|marker| *marker.bytes() == [byte])
    }
}

/// What a datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// It completed a message, which is in the caller's `Vec`.
    Message,
    /// A piece of a longer one.
    Piece,
}

/// What is wrong with a datagram. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPiece {
    /// The message is over the limit. `length` is what has come of it, and the rest is not waited for.
    TooLong(TooLong),
    /// The first byte is none of ours.
    Marker,
}

/// Puts messages together again.
#[derive(Debug)]
pub(crate) struct Assembler {
    length_max: usize,
    /// The pieces so far of a message that did not fit one datagram, and room for the next piece.
    long: Vec<u8>,
    long_filled: usize,
    /// How long the next message is expected to be: as long as the last one.
    expected: usize,
    /// There was a piece, and not the last.
    is_open: bool,
}

impl Assembler {
    pub(crate) fn new(length_max: usize) -> Self {
        Self { length_max, long: Vec::new(), long_filled: 0, expected: 0, is_open: false }
    }

    /// Makes this one as good as new for another connection; the memory stays, up to a bound.
    pub(crate) fn renew(&mut self, length_max: usize) {
        self.length_max = length_max;
        self.long.truncate(KEPT_MAX);
        self.long.shrink_to_fit();
        self.long_filled = 0;
        self.expected = 0;
        self.is_open = false;
    }

    /// Room for the next piece where it belongs, if it is as long as is expected; what is beyond goes elsewhere. Empty when
    /// it is to be short.
    ///
    /// The memory of `out` may be taken for it, so that one buffer is used over and over, which stays in the processor's
    /// cache, and not two in turn.
    pub(crate) fn space(&mut self, out: &mut Vec<u8>) -> &mut [u8] {
        let room = self.expected.saturating_sub(self.long_filled).min(PIECE_MAX);
        if room < EXPECTED_MIN {
            return &mut [];
        }
        if !self.is_open && out.len() > self.long.len() {
            std::mem::swap(&mut self.long, out);
        }
        let end = self.long_filled + room;
        if self.long.is_empty() {
            // Zeroed by the kernel where it is fresh.
            self.long = vec![0; end];
        } else if self.long.len() < end {
            self.long.resize(end, 0);
        }
        &mut self.long[self.long_filled..end]
    }

    /// Takes one datagram without its marker: the first `placed` bytes are in the [`space`](Assembler::space), and the rest
    /// is here. A message that it completes goes into `out`, replacing what is there.
    pub(crate) fn take(&mut self, marker: u8, placed: usize, rest: &[u8], out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let marker = Marker::parse(marker).ok_or(BadPiece::Marker)?;
        let length = self.long_filled + placed + rest.len();
        if length > self.length_max {
            return Err(BadPiece::TooLong(TooLong { length }));
        }
        if marker == Marker::Last && length == rest.len() {
            out.clear();
            out.extend_from_slice(rest);
        } else {
            // One in pieces that was not expected is put together in the caller's memory, too.
            if !self.is_open && placed == 0 && out.len() > self.long.len() {
                std::mem::swap(&mut self.long, out);
            }
            if !rest.is_empty() || marker == Marker::Last {
                self.long.truncate(self.long_filled + placed);
                self.long.extend_from_slice(rest);
            }
            self.long_filled = length;
            if marker == Marker::More {
                self.is_open = true;
                return Ok(Took::Piece);
            }
            // The two change places, so that with messages of one size nothing is allocated any more.
            std::mem::swap(&mut self.long, out);
        }
        self.long_filled = 0;
        self.expected = length;
        self.is_open = false;
        Ok(Took::Message)
    }

    /// Whether the connection may end here without tearing a message.
    pub(crate) fn is_at_boundary(&self) -> bool {
        !self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_in_one_datagram_and_one_in_pieces_read_back() {
        let mut assembler = Assembler::new(100);
        let mut out = Vec::new();
        assert_eq!(assembler.take(0, 0, b"whole", &mut out), Ok(Took::Message));
        assert_eq!(out, b"whole");
        assert_eq!(assembler.take(1, 0, b"in ", &mut out), Ok(Took::Piece));
        assert!(!assembler.is_at_boundary());
        assert_eq!(assembler.take(1, 0, b"", &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(0, 0, b"pieces", &mut out), Ok(Took::Message));
        assert_eq!(out, b"in pieces");
        assert!(assembler.is_at_boundary());
        assert_eq!(assembler.take(0, 0, b"", &mut out), Ok(Took::Message));
        assert_eq!(out, b"");
    }

    /// As a receiver does: what fits the space goes there, the rest elsewhere.
    fn receive(assembler: &mut Assembler, marker: u8, piece: &[u8], out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let space = assembler.space(out);
        let placed = space.len().min(piece.len());
        space[..placed].copy_from_slice(&piece[..placed]);
        assembler.take(marker, placed, &piece[placed..], out)
    }

    #[test]
    fn messages_of_one_length_go_where_they_belong() {
        let mut assembler = Assembler::new(1 << 20);
        let mut out = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for round in 0..20u8 {
            assert_eq!(receive(&mut assembler, 0, &[round; 50_000], &mut out), Ok(Took::Message));
            assert_eq!(out, [round; 50_000]);
            if round >= 2 {
                assert_eq!(assembler.space(&mut out).len(), 50_000);
                assert_eq!(receive(&mut assembler, 0, &[round; 50_000], &mut out), Ok(Took::Message));
                seen.insert(out.as_ptr());
            }
        }
        assert_eq!(seen.len(), 1, "one buffer is enough");
    }

    #[test]
    fn pieces_that_add_up_to_more_than_the_limit_are_refused() {
        let mut assembler = Assembler::new(10);
        let mut out = Vec::new();
        assert_eq!(assembler.take(1, 0, b"123456", &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(0, 0, b"78901", &mut out), Err(BadPiece::TooLong(TooLong { length: 11 })));
    }

    proptest! {
        #[test]
        fn any_messages_in_any_pieces_read_back(
            lengths in prop::collection::vec(prop_oneof![0usize..500, 16_000usize..40_000, Just(30_000usize)], 1..8),
            size in prop_oneof![1usize..100, 5_000usize..50_000],
        ) {
            let mut assembler = Assembler::new(40_000);
            let mut out = Vec::new();
            for (number, &length) in lengths.iter().enumerate() {
                let message: Vec<u8> = (0..length).map(|at| (at * 31 + number) as u8).collect();
                let pieces: Vec<_> = message.chunks(size).collect();
                let (last, first) = pieces.split_last().map_or((&[][..], &[][..]), |(last, first)| (*last, first));
                for piece in first {
                    prop_assert_eq!(receive(&mut assembler, 1, piece, &mut out), Ok(Took::Piece));
                }
                prop_assert_eq!(receive(&mut assembler, 0, last, &mut out), Ok(Took::Message));
                prop_assert_eq!(&out, &message);
                prop_assert!(assembler.is_at_boundary());
            }
        }

        #[test]
        fn hostile_datagrams_never_panic_and_memory_is_bounded(
            datagrams in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..50)
        ) {
            let mut assembler = Assembler::new(200);
            for (marker, piece) in &datagrams {
                let _ = assembler.take(*marker, 0, piece, &mut Vec::new());
                prop_assert!(assembler.long_filled <= 200 && assembler.long.len() <= 200);
            }
        }
    }
}
