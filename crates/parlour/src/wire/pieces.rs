//! Messages on a transport that keeps datagrams apart: one byte, then a message or a piece of one.

use super::frame::TooLong;

/// The most bytes of a message in one datagram. Up to about here a datagram is faster than pieces; beyond, the kernel's
/// memory for one datagram becomes hard to get.
pub(crate) const PIECE_MAX: usize = 1024 * 1024;

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
    /// The pieces so far of a message that did not fit one datagram.
    long: Vec<u8>,
    /// There was a piece, and not the last.
    is_open: bool,
}

impl Assembler {
    pub(crate) fn new(length_max: usize) -> Self {
        Self { length_max, long: Vec::new(), is_open: false }
    }

    /// Makes this one as good as new for another connection; the memory stays, up to a bound.
    pub(crate) fn renew(&mut self, length_max: usize) {
        self.length_max = length_max;
        self.long.clear();
        self.long.shrink_to(KEPT_MAX);
        self.is_open = false;
    }

    /// Takes one datagram without its marker; a message that it completes goes into `out`, replacing what is there.
    pub(crate) fn take(&mut self, marker: u8, piece: &[u8], out: &mut Vec<u8>) -> Result<Took, BadPiece> {
        let marker = Marker::parse(marker).ok_or(BadPiece::Marker)?;
        let length = self.long.len() + piece.len();
        if length > self.length_max {
            return Err(BadPiece::TooLong(TooLong { length }));
        }
        match (marker, self.is_open) {
            (Marker::Last, false) => {
                out.clear();
                out.extend_from_slice(piece);
                Ok(Took::Message)
            }
            (Marker::Last, true) => {
                self.long.extend_from_slice(piece);
                // The two change places, so that with messages of one size nothing is allocated any more.
                std::mem::swap(&mut self.long, out);
                self.long.clear();
                self.is_open = false;
                Ok(Took::Message)
            }
            (Marker::More, _) => {
                self.long.extend_from_slice(piece);
                self.is_open = true;
                Ok(Took::Piece)
            }
        }
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
        assert_eq!(assembler.take(0, b"whole", &mut out), Ok(Took::Message));
        assert_eq!(out, b"whole");
        assert_eq!(assembler.take(1, b"in ", &mut out), Ok(Took::Piece));
        assert!(!assembler.is_at_boundary());
        assert_eq!(assembler.take(1, b"", &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(0, b"pieces", &mut out), Ok(Took::Message));
        assert_eq!(out, b"in pieces");
        assert!(assembler.is_at_boundary());
        assert_eq!(assembler.take(0, b"", &mut out), Ok(Took::Message));
        assert_eq!(out, b"");
    }

    #[test]
    fn pieces_that_add_up_to_more_than_the_limit_are_refused() {
        let mut assembler = Assembler::new(10);
        let mut out = Vec::new();
        assert_eq!(assembler.take(1, b"123456", &mut out), Ok(Took::Piece));
        assert_eq!(assembler.take(0, b"78901", &mut out), Err(BadPiece::TooLong(TooLong { length: 11 })));
    }

    proptest! {
        #[test]
        fn any_split_reads_back(message in prop::collection::vec(any::<u8>(), 0..500), size in 1usize..100) {
            let mut assembler = Assembler::new(500);
            let mut out = Vec::new();
            let pieces: Vec<_> = message.chunks(size).collect();
            let (last, first) = pieces.split_last().map_or((&[][..], &[][..]), |(last, first)| (*last, first));
            for piece in first {
                prop_assert_eq!(assembler.take(1, piece, &mut out), Ok(Took::Piece));
            }
            prop_assert_eq!(assembler.take(0, last, &mut out), Ok(Took::Message));
            prop_assert_eq!(out, message);
        }

        #[test]
        fn hostile_datagrams_never_panic_and_memory_is_bounded(
            datagrams in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..50)
        ) {
            let mut assembler = Assembler::new(200);
            for (marker, piece) in &datagrams {
                let _ = assembler.take(*marker, piece, &mut Vec::new());
                prop_assert!(assembler.long.len() <= 200);
            }
        }
    }
}
