//! Messages on a transport that preserves datagram boundaries: a marker byte, then a message or a piece of one.

use super::frame::TooLong;

/// The maximum number of bytes of a message in one datagram. Up to about this size one datagram is faster than pieces.
/// Beyond it, the kernel's allocation for one datagram becomes likely to fail.
pub(crate) const PIECE_MAX: usize = 1024 * 1024;

/// The minimum length of a message after which another one of the same length is expected. Measured: below it, a copy
/// costs less than one more buffer in the read.
const EXPECTED_MIN: usize = 16 * 1024;

/// The maximum size of a long message's memory that is kept for another connection.
const KEPT_MAX: usize = 1024 * 1024;

/// The byte in front of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// The message ends with this datagram.
    Last,
    /// The next datagram continues the same message.
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

/// The effect of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// The datagram completed a message, which is in the caller's `Vec`.
    Message,
    /// The datagram contained a piece of a longer message.
    Piece,
}

/// A protocol violation in a datagram. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPiece {
    /// The message exceeds the limit. `length` is the number of bytes that have arrived. The receiver does not wait for
    /// the rest.
    TooLong(TooLong),
    /// The first byte is not a valid marker.
    Marker,
}

/// Assembles messages from pieces.
#[derive(Debug)]
pub(crate) struct Assembler {
    length_max: usize,
    /// The pieces so far of a message that did not fit in one datagram, and space for the next piece.
    long: Vec<u8>,
    long_filled: usize,
    /// The expected length of the next message: the length of the last one.
    expected: usize,
    /// True if a piece has arrived and the last one has not.
    is_open: bool,
}

impl Assembler {
    pub(crate) fn new(length_max: usize) -> Self {
        Self { length_max, long: Vec::new(), long_filled: 0, expected: 0, is_open: false }
    }

    /// Resets this assembler for another connection. It keeps its memory up to a bound.
    pub(crate) fn renew(&mut self, length_max: usize) {
        self.length_max = length_max;
        self.long.truncate(KEPT_MAX);
        self.long.shrink_to_fit();
        self.long_filled = 0;
        self.expected = 0;
        self.is_open = false;
    }

    /// Returns the space for the next piece at its final position, if the piece has the expected length. Bytes beyond
    /// it must be read elsewhere. The space is empty if a short piece is expected.
    ///
    /// This may take the memory of `out` for the space. One buffer is then used repeatedly and stays in the processor's
    /// cache, instead of two in turn.
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
            // The kernel provides a new allocation zeroed.
            self.long = vec![0; end];
        } else if self.long.len() < end {
            self.long.resize(end, 0);
        }
        &mut self.long[self.long_filled..end]
    }

    /// Consumes one datagram without its marker. The first `placed` bytes are in the [`space`](Assembler::space), the
    /// others are in `rest`. If the datagram completes a message, the message replaces the content of `out`.
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
            // An unexpected message in pieces is assembled in the caller's memory as well.
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
            // The two vectors are swapped, so that messages of one size cause no further allocation.
            std::mem::swap(&mut self.long, out);
        }
        self.long_filled = 0;
        self.expected = length;
        self.is_open = false;
        Ok(Took::Message)
    }

    /// Returns the memory of the pieces, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.long.len()
    }

    /// Returns true if the connection may end here without truncating a message.
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

    /// Emulates a receiver: the bytes that fit go into the space, the others elsewhere.
    fn receive(assembler: &mut Assembler, marker: u8, piece: &[u8], out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let space = assembler.space(out);
        let placed = space.len().min(piece.len());
        space[..placed].copy_from_slice(&piece[..placed]);
        assembler.take(marker, placed, &piece[placed..], out)
    }

    #[test]
    fn messages_of_one_length_are_read_into_their_final_memory() {
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
