//! Messages on a transport that preserves datagram boundaries: a message, a piece of one, or several messages
//! ([`super::pack`]), then a marker byte.

use super::frame::TooLong;
use super::pack::BadPack;

/// The maximum number of bytes of a message in one datagram. Up to about this size one datagram is faster than pieces.
/// Beyond it, the kernel's allocation for one datagram becomes likely to fail.
pub(crate) const PIECE_MAX: usize = 1024 * 1024;

/// The minimum length of a message after which another one of the same length is expected. Measured: below it, a copy
/// costs less than one more buffer in the read.
const EXPECTED_MIN: usize = 16 * 1024;

/// The maximum size of a long message's memory that is kept for another connection.
const KEPT_MAX: usize = 1024 * 1024;

/// The last byte of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker {
    /// The message ends with this datagram.
    Last,
    /// The next datagram continues the same message.
    More,
    /// The datagram contains several messages.
    Pack,
}

impl Marker {
    pub(crate) const fn bytes(self) -> &'static [u8; 1] {
        match self {
            Self::Last => &[0],
            Self::More => &[1],
            Self::Pack => &[2],
        }
    }

    pub(crate) const fn parse(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Last),
            1 => Some(Self::More),
            2 => Some(Self::Pack),
            _ => None,
        }
    }
}

/// The effect of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    /// The datagram completed a message, which is in the caller's `Vec`.
    Message,
    /// The datagram contained a piece of a longer message.
    Piece,
    /// The datagram contains several messages. The assembler has left them where they are.
    Pack,
}

/// A protocol violation in a datagram. It ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPiece {
    /// The message exceeds the limit. `length` is the number of bytes that have arrived. The receiver does not wait for
    /// the rest.
    TooLong(TooLong),
    /// The last byte is not a valid marker.
    Marker,
    /// A datagram of several messages violates the protocol.
    Pack(BadPack),
}

/// The parts of a datagram that was received into the [`space`](Assembler::space) and, behind it, a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    pub(crate) marker: u8,
    /// The number of bytes in front of the marker that are in the space.
    pub(crate) placed: usize,
    /// The bytes in front of the marker that are in the buffer.
    pub(crate) rest: &'a [u8],
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

    /// Finds the marker of a datagram of which `placed` bytes are in the [`space`](Self::space), and the others in
    /// `behind`. Returns `None` if the datagram is empty.
    #[inline]
    pub(crate) fn split<'a>(&self, placed: usize, behind: &'a [u8]) -> Option<Split<'a>> {
        if let Some((&marker, rest)) = behind.split_last() {
            return Some(Split { marker, placed, rest });
        }
        let end = self.long.get(self.long_filled..)?.get(..placed)?;
        end.split_last().map(|(&marker, before)| Split { marker, placed: before.len(), rest: &[] })
    }

    /// Consumes one datagram. If it completes a message, the message replaces the content of `out`.
    pub(crate) fn take(&mut self, datagram: Split<'_>, out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let Split { marker, placed, rest } = datagram;
        let marker = Marker::parse(marker).ok_or(BadPiece::Marker)?;
        if marker == Marker::Pack {
            if self.is_open {
                return Err(BadPiece::Pack(BadPack::InMessage));
            }
            // The next one is probably packed, too.
            self.expected = 0;
            return Ok(Took::Pack);
        }
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

    /// Returns the number of bytes of an incomplete message that have arrived.
    pub(crate) fn partial_len(&self) -> usize {
        if self.is_open { self.long_filled } else { 0 }
    }

    /// Returns the first bytes of the [`space`](Self::space), where a datagram has `placed` bytes. For a datagram that
    /// the assembler has left there ([`Took::Pack`]).
    pub(crate) fn placed(&self, placed: usize) -> &[u8] {
        self.long.get(..placed).unwrap_or_default()
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

    /// A datagram of which no byte is in the space.
    fn whole(marker: u8, rest: &[u8]) -> Split<'_> {
        Split { marker, placed: 0, rest }
    }

    #[test]
    fn a_message_in_one_datagram_and_one_in_pieces_read_back() {
        let mut assembler = Assembler::new(100);
        let mut out = Vec::new();
        assert_eq!(assembler.take(whole(0, b"whole"), &mut out), Ok(Took::Message));
        assert_eq!(out, b"whole");
        assert_eq!(assembler.take(whole(1, b"in "), &mut out), Ok(Took::Piece));
        assert!(!assembler.is_at_boundary());
        assert_eq!(assembler.take(whole(1, b""), &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(whole(0, b"pieces"), &mut out), Ok(Took::Message));
        assert_eq!(out, b"in pieces");
        assert!(assembler.is_at_boundary());
        assert_eq!(assembler.take(whole(0, b""), &mut out), Ok(Took::Message));
        assert_eq!(out, b"");
    }

    /// Emulates a receiver: the bytes that fit go into the space, the others elsewhere.
    fn receive(assembler: &mut Assembler, marker: u8, piece: &[u8], out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let datagram = [piece, &[marker]].concat();
        let space = assembler.space(out);
        let placed = space.len().min(datagram.len());
        space[..placed].copy_from_slice(&datagram[..placed]);
        let split = assembler.split(placed, &datagram[placed..]).unwrap();
        assert_eq!((split.marker, split.placed + split.rest.len()), (marker, piece.len()));
        assembler.take(split, out)
    }

    #[test]
    fn the_marker_is_the_last_byte_wherever_the_datagram_ends() {
        let mut assembler = Assembler::new(1 << 20);
        let mut out = Vec::new();
        assert_eq!(assembler.split(0, b""), None);
        for length in [20_000, 20_000, 19_999, 20_000, 1, 20_001, 20_001, 0, 20_000, 20_000, 40_000] {
            assert_eq!(receive(&mut assembler, 0, &vec![1; length], &mut out), Ok(Took::Message));
            assert_eq!(out, vec![1; length]);
        }
        let space = assembler.space(&mut out).len();
        assert_eq!((space, assembler.split(0, b"")), (40_000, None), "an empty datagram has no marker");
        assembler.space(&mut out)[39_999] = 7;
        let short = Split { marker: 7, placed: 39_999, rest: b"" };
        assert_eq!(assembler.split(space, b""), Some(short));
        assert_eq!(assembler.split(space, b"\x02"), Some(Split { marker: 2, placed: space, rest: b"" }));
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
    fn a_packed_datagram_is_left_where_it_is_and_does_not_interrupt_a_message() {
        let mut assembler = Assembler::new(1 << 20);
        let mut out = Vec::new();
        for _ in 0..2 {
            assert_eq!(receive(&mut assembler, 0, &[7; 50_000], &mut out), Ok(Took::Message));
        }
        let mut message = std::mem::take(&mut out);
        assembler.space(&mut message)[..3].copy_from_slice(b"one");
        let pack = Split { marker: 2, placed: 3, rest: b" and more" };
        assert_eq!(assembler.take(pack, &mut message), Ok(Took::Pack));
        assert_eq!(assembler.placed(3), b"one");
        assert!(assembler.is_at_boundary() && assembler.space(&mut message).is_empty());
        assert_eq!(assembler.take(whole(1, b"a piece"), &mut message), Ok(Took::Piece));
        assert!(matches!(assembler.take(whole(2, b"\0\0\0\0"), &mut message), Err(BadPiece::Pack(_))));
    }

    #[test]
    fn pieces_that_add_up_to_more_than_the_limit_are_refused() {
        let mut assembler = Assembler::new(10);
        let mut out = Vec::new();
        assert_eq!(assembler.take(whole(1, b"123456"), &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(whole(0, b"78901"), &mut out), Err(BadPiece::TooLong(TooLong { length: 11 })));
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
                let _ = assembler.take(whole(*marker, piece), &mut Vec::new());
                prop_assert!(assembler.long_filled <= 200 && assembler.long.len() <= 200);
            }
        }
    }
}
