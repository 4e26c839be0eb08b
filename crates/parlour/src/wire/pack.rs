//! Several small messages in one datagram: each message behind its length, as on a byte stream, then a marker.

use std::ops::Range;

use super::frame::{HEADER_LEN, TooLong};

/// The maximum number of bytes in front of the marker. Measured: longer datagrams gain nothing.
pub(crate) const PACK_MAX: usize = 64 * 1024;

/// A violation of the rules for packed datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPack {
    Empty,
    TooLong,
    /// A message exceeds the limit.
    Message(TooLong),
    EndsInLength,
    EndsInMessage,
    InMessage,
    WithFds,
}

impl BadPack {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Empty => "a packed datagram has no message",
            Self::TooLong => "a packed datagram is longer than the maximum",
            Self::Message(_) => "a message in a packed datagram is too long",
            Self::EndsInLength => "a packed datagram ends in a length",
            Self::EndsInMessage => "a packed datagram ends in a message",
            Self::InMessage => "a packed datagram came in the middle of a message",
            Self::WithFds => "descriptors came with a packed datagram",
        }
    }
}

/// The messages of a packed datagram that were not received yet: a range of the buffer that has the datagram.
#[derive(Debug, Default)]
pub(crate) struct Pack {
    at: usize,
    end: usize,
}

impl Pack {
    /// Begins with the bytes in front of the marker. They have at least one message, unless they are refused.
    pub(crate) fn new(range: Range<usize>) -> Result<Self, BadPack> {
        match range.len() {
            0 => Err(BadPack::Empty),
            length if length > PACK_MAX => Err(BadPack::TooLong),
            _ => Ok(Self { at: range.start, end: range.end }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Returns the place of the messages in the buffer.
    pub(crate) fn range(&self) -> Range<usize> {
        self.at..self.end
    }

    /// Returns true if [`next`](Self::next) returns a message.
    pub(crate) fn has_next(&self, buffer: &[u8], length_max: usize) -> bool {
        Self { at: self.at, end: self.end }.next(buffer, length_max).is_ok_and(|message| message.is_some())
    }

    /// Returns the next message of the buffer, or `None` after the last one. An error is returned again.
    #[inline]
    pub(crate) fn next<'a>(&mut self, buffer: &'a [u8], length_max: usize) -> Result<Option<&'a [u8]>, BadPack> {
        let Some(rest) = buffer.get(self.range()).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() else {
            return Err(BadPack::EndsInLength);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > length_max {
            return Err(BadPack::Message(TooLong { length }));
        }
        let Some(message) = behind.get(..length) else {
            return Err(BadPack::EndsInMessage);
        };
        self.at += HEADER_LEN + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn packed(messages: &[Vec<u8>]) -> Vec<u8> {
        messages.iter().flat_map(|message| [&(message.len() as u32).to_be_bytes()[..], message].concat()).collect()
    }

    /// Returns the messages, and the reason why there are no more.
    fn unpack(bytes: &[u8], length_max: usize) -> (Vec<Vec<u8>>, Option<BadPack>) {
        let mut messages = Vec::new();
        let mut pack = match Pack::new(0..bytes.len()) {
            Ok(pack) => pack,
            Err(bad) => return (messages, Some(bad)),
        };
        loop {
            match pack.next(bytes, length_max) {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => return (messages, None),
                Err(bad) => {
                    assert_eq!(pack.next(bytes, length_max), Err(bad));
                    assert!(!pack.is_empty());
                    return (messages, Some(bad));
                }
            }
        }
    }

    #[test]
    fn the_messages_before_a_torn_or_long_one_are_there() {
        let good = packed(&[b"one".to_vec(), Vec::new()]);
        for (bad, reason) in [
            (&b"\0\0\0"[..], BadPack::EndsInLength),
            (b"\0\0\0\x05torn", BadPack::EndsInMessage),
            (b"\0\0\0\x0b", BadPack::Message(TooLong { length: 11 })),
            (b"\xff\xff\xff\xff", BadPack::Message(TooLong { length: u32::MAX as usize })),
        ] {
            let found = unpack(&[&good, bad].concat(), 10);
            assert_eq!(found, (vec![b"one".to_vec(), Vec::new()], Some(reason)));
            let has_next = |bytes: &[u8]| Pack::new(0..bytes.len()).unwrap().has_next(bytes, 10);
            assert!(has_next(&good) && !has_next(bad));
        }
    }

    #[test]
    fn a_pack_of_nothing_or_of_too_much_is_refused() {
        assert!(matches!(Pack::new(1..1), Err(BadPack::Empty)));
        assert!(Pack::new(1..1 + PACK_MAX).is_ok());
        assert!(matches!(Pack::new(1..2 + PACK_MAX), Err(BadPack::TooLong)));
    }

    proptest! {
        #[test]
        fn any_messages_read_back(messages in vec(vec(any::<u8>(), 0..300), 1..50)) {
            prop_assert_eq!(unpack(&packed(&messages), 300), (messages, None));
        }

        #[test]
        fn junk_yields_no_more_than_its_bytes(bytes in vec(any::<u8>(), 0..300), small: bool) {
            let bytes: Vec<u8> = bytes.into_iter().map(|byte| if small { byte % 3 } else { byte }).collect();
            let (messages, bad) = unpack(&bytes, 200);
            let length = packed(&messages).len();
            prop_assert!(bytes.starts_with(&packed(&messages)) && (bad.is_some() || length == bytes.len()));
        }
    }
}
