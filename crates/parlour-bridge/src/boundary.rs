//! The position in a stream of messages: between two of them, or within one.

/// The length of the header of a message, in bytes: docs/wire.md, section 1.
const HEADER_LEN: usize = 4;

/// Messages and their bytes, without the headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The messages that have passed as a whole.
    pub messages: u64,
    /// The bytes of messages that have passed, also of one that has not passed as a whole.
    pub bytes: u64,
}

/// Follows the bytes of a stream of messages, and counts the messages, without keeping them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boundary {
    header: [u8; HEADER_LEN],
    /// The number of bytes of the next header that have passed.
    have: usize,
    /// The number of bytes of the message that have not passed yet.
    rest: usize,
    passed: Passed,
}

impl Boundary {
    /// Bytes have passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                self.passed.bytes += passed as u64;
                self.passed.messages += u64::from(self.rest == 0);
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            // The usual case, for the speed of short messages.
            if let (0, Some((&header, others))) = (self.have, bytes.split_first_chunk()) {
                self.begin(header);
                bytes = others;
                continue;
            }
            if let Some(byte) = self.header.get_mut(self.have) {
                *byte = first;
            }
            self.have += 1;
            bytes = others;
            if self.have == HEADER_LEN {
                self.have = 0;
                self.begin(self.header);
            }
        }
    }

    /// A message with this header begins. An empty one has passed.
    fn begin(&mut self, header: [u8; HEADER_LEN]) {
        self.rest = u32::from_be_bytes(header) as usize;
        self.passed.messages += u64::from(self.rest == 0);
    }

    /// Returns what has passed since the last call.
    pub fn take_passed(&mut self) -> Passed {
        std::mem::take(&mut self.passed)
    }

    /// Returns true if the bytes so far are whole messages.
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.have == 0 && self.rest == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_end_of_each_message_is_a_boundary_and_nothing_else_is(
            lengths in prop::collection::vec(0..600usize, 0..8),
            piece in 1..700usize,
        ) {
            let (mut stream, mut ends) = (Vec::new(), vec![0]);
            for len in lengths {
                stream.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
                stream.resize(stream.len() + len, 0xff);
                ends.push(stream.len());
            }
            let (mut boundary, mut at, count) = (Boundary::default(), 0, ends.len() as u64 - 1);
            let bytes = (stream.len() - 4 * (ends.len() - 1)) as u64;
            for part in stream.chunks(piece) {
                boundary.advance(part);
                at += part.len();
                prop_assert_eq!(boundary.is_between_messages(), ends.contains(&at));
            }
            prop_assert_eq!(boundary.take_passed(), Passed { messages: count, bytes });
            prop_assert_eq!(boundary.take_passed(), Passed::default());
        }
    }
}
