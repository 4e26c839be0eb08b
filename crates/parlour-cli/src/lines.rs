//! Splits a stream of bytes into messages. This module uses no descriptor and no clock.

/// The framing of messages in the stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each line is a message. A last line without a newline is a message too. Bytes that are not UTF-8 and carriage
    /// returns are kept unchanged.
    Lines,
    /// The bytes of one read are a message.
    Raw,
    /// Each message follows its length in bytes, a big-endian number of 4 bytes.
    Frames,
}

impl Framing {
    /// Appends a message to a stream.
    pub(crate) fn append(self, message: &[u8], stream: &mut Vec<u8>) {
        if self == Framing::Frames {
            // The limit for a message is 31 bits, so every length fits.
            stream.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        stream.extend_from_slice(message);
        if self == Framing::Lines {
            stream.push(b'\n');
        }
    }

    /// Returns true if the reader of a stream can tell where this message ends. A newline in a message cannot be told
    /// from the one that ends its line. Raw streams have no boundaries, and nobody expects them there.
    pub(crate) fn is_exact_for(self, message: &[u8]) -> bool {
        self != Framing::Lines || !message.contains(&b'\n')
    }
}

/// The length of the header of a frame in bytes.
const HEADER_BYTES: usize = 4;

/// The maximum length of a message of a raw stream in bytes, if the connection does not limit it further.
const RAW_MESSAGE_BYTES: usize = 64 * 1024;

/// The reason why a stream has no next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next message is longer than the limit.
    TooLong,
    /// The stream ended in the header of a frame.
    PartialHeader,
    /// The stream ended in a frame, of which these bytes of the message are there.
    PartialFrame { there: usize, length: usize },
}

/// Splits a stream of bytes into messages.
#[derive(Debug)]
pub(crate) struct Splitter {
    framing: Framing,
    /// The maximum length of a message in bytes. A longer one is a fault; a raw stream is cut there.
    message_max: usize,
    bytes: Vec<u8>,
    /// The offset of the next message in `bytes`.
    start: usize,
    /// The offset up to which no newline was found, so that a long line is searched once and not once per read.
    searched: usize,
    ended: bool,
}

impl Splitter {
    pub(crate) fn new(framing: Framing, message_max: usize) -> Splitter {
        Splitter { framing, message_max, bytes: Vec::new(), start: 0, searched: 0, ended: false }
    }

    /// Appends bytes that were read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Marks the end of the stream. A last line without a newline becomes a message.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Returns true if [`end`](Self::end) was called.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns true if every byte was consumed.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Returns the number of bytes that are not consumed yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Returns true if there is a zero byte beyond the first `length` bytes that are not consumed yet.
    pub(crate) fn has_zero_since(&self, length: usize) -> bool {
        self.bytes[self.start..].get(length..).is_some_and(|bytes| bytes.contains(&0))
    }

    /// Returns the next whole message, without its newline or its header. It stays until [`consume`](Self::consume).
    pub(crate) fn peek(&mut self) -> Option<&[u8]> {
        let Place { begin, end, .. } = self.place()?;
        Some(&self.bytes[begin..end])
    }

    /// Drops the message that [`peek`](Self::peek) returned.
    pub(crate) fn consume(&mut self) {
        if let Some(Place { after, .. }) = self.place() {
            self.start = after;
            self.searched = self.searched.max(after);
        }
    }

    /// Returns the reason if no message can follow, once [`peek`](Self::peek) has returned `None`.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.framing {
            Framing::Raw => None,
            Framing::Lines => (self.len() > self.message_max).then_some(Fault::TooLong),
            Framing::Frames => match self.frame_length() {
                Some(length) if length > self.message_max => Some(Fault::TooLong),
                Some(length) if self.ended => {
                    Some(Fault::PartialFrame { there: self.len().saturating_sub(HEADER_BYTES), length })
                }
                None if self.ended && !self.is_empty() => Some(Fault::PartialHeader),
                _ => None,
            },
        }
    }

    /// Returns the length in the header of the next frame.
    fn frame_length(&self) -> Option<usize> {
        let header = self.bytes[self.start..].first_chunk::<HEADER_BYTES>()?;
        usize::try_from(u32::from_be_bytes(*header)).ok()
    }

    /// Returns the place of the next whole message.
    fn place(&mut self) -> Option<Place> {
        if self.is_empty() {
            return None;
        }
        let (begin, length) = (self.start, self.bytes.len());
        match self.framing {
            Framing::Raw => {
                let end = length.min(begin + self.message_max.clamp(1, RAW_MESSAGE_BYTES));
                Some(Place { begin, end, after: end })
            }
            Framing::Lines => {
                if let Some(found) = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n') {
                    let end = self.searched + found;
                    self.searched = end;
                    return Some(Place { begin, end, after: end + 1 });
                }
                self.searched = length;
                self.ended.then_some(Place { begin, end: length, after: length })
            }
            Framing::Frames => {
                let begin = begin + HEADER_BYTES;
                let end = begin.checked_add(self.frame_length().filter(|&length| length <= self.message_max)?)?;
                (end <= length).then_some(Place { begin, end, after: end })
            }
        }
    }
}

/// The offsets at which the next message begins and ends, and at which the one after it begins.
struct Place {
    begin: usize,
    end: usize,
    after: usize,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn all(splitter: &mut Splitter) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some(message) = splitter.peek() {
            found.push(message.to_vec());
            splitter.consume();
        }
        found
    }

    #[test]
    fn lines_do_not_depend_on_the_boundaries_of_reads() {
        let text = b"one\n\n\xff\xfe three\r\nlast";
        let expected: Vec<Vec<u8>> =
            vec![b"one".to_vec(), b"".to_vec(), b"\xff\xfe three\r".to_vec(), b"last".to_vec()];
        for step in 1..=text.len() {
            let mut splitter = Splitter::new(Framing::Lines, 100);
            let mut found = Vec::new();
            for piece in text.chunks(step) {
                splitter.push(piece);
                found.extend(all(&mut splitter));
            }
            assert_eq!(found, expected[..3], "reads of {step} bytes, before the end");
            splitter.end();
            found.extend(all(&mut splitter));
            assert_eq!(found, expected, "reads of {step} bytes");
            assert!(splitter.is_empty());
        }
    }

    #[test]
    fn a_newline_at_the_end_is_not_followed_by_an_empty_line() {
        let mut splitter = Splitter::new(Framing::Lines, 100);
        splitter.push(b"one\n");
        splitter.end();
        assert_eq!(all(&mut splitter), vec![b"one".to_vec()]);
    }

    #[test]
    fn peek_returns_the_same_line_until_it_is_consumed() {
        let mut splitter = Splitter::new(Framing::Lines, 100);
        splitter.push(b"one\ntwo\n");
        assert_eq!(splitter.peek(), Some(&b"one"[..]));
        splitter.push(b"three\n");
        assert_eq!(splitter.peek(), Some(&b"one"[..]));
        assert_eq!(all(&mut splitter).len(), 3);
    }

    #[test]
    fn raw_splits_bytes_at_the_maximum_message_length() {
        let mut splitter = Splitter::new(Framing::Raw, 4);
        splitter.push(b"ab\ncdef");
        assert_eq!(all(&mut splitter), vec![b"ab\nc".to_vec(), b"def".to_vec()]);
        splitter.end();
        assert!(splitter.peek().is_none());
    }

    #[test]
    fn frames_do_not_depend_on_the_boundaries_of_reads() {
        let messages = [b"one".to_vec(), b"".to_vec(), b"\0\n\r\xff".to_vec(), vec![b'x'; 300]];
        let mut stream = Vec::new();
        messages.iter().for_each(|message| Framing::Frames.append(message, &mut stream));
        for step in 1..=stream.len() {
            let mut splitter = Splitter::new(Framing::Frames, 300);
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                splitter.push(piece);
                found.extend(all(&mut splitter));
                assert_eq!(splitter.fault(), None);
            }
            splitter.end();
            assert_eq!(found, messages, "reads of {step} bytes");
            assert!(splitter.is_empty() && splitter.fault().is_none());
        }
    }

    #[test]
    fn a_stream_that_ends_in_a_frame_is_a_fault_at_every_offset() {
        let mut frame = Vec::new();
        Framing::Frames.append(b"five!", &mut frame);
        for length in 1..frame.len() {
            let mut splitter = Splitter::new(Framing::Frames, 5);
            splitter.push(&frame[..length]);
            assert!(splitter.peek().is_none() && splitter.fault().is_none(), "{length} bytes, more may come");
            splitter.end();
            assert!(splitter.peek().is_none());
            let expected = match length.checked_sub(HEADER_BYTES) {
                Some(there) => Fault::PartialFrame { there, length: 5 },
                None => Fault::PartialHeader,
            };
            assert_eq!(splitter.fault(), Some(expected), "{length} bytes");
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_a_fault_as_soon_as_its_length_is_there() {
        for length in [5, u32::MAX] {
            let mut splitter = Splitter::new(Framing::Frames, 4);
            splitter.push(&length.to_be_bytes());
            assert!(splitter.peek().is_none());
            assert_eq!(splitter.fault(), Some(Fault::TooLong));
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_a_fault_before_its_end() {
        let mut splitter = Splitter::new(Framing::Lines, 4);
        splitter.push(b"four");
        assert!(splitter.peek().is_none() && splitter.fault().is_none());
        splitter.push(b"!");
        assert_eq!(splitter.fault(), Some(Fault::TooLong));
    }

    #[test]
    fn only_a_line_with_a_newline_in_it_is_inexact() {
        assert!(Framing::Lines.is_exact_for(b"\0\r\xff") && Framing::Lines.is_exact_for(b""));
        assert!(!Framing::Lines.is_exact_for(b"one\n"));
        assert!(Framing::Raw.is_exact_for(b"one\n") && Framing::Frames.is_exact_for(b"one\n"));
    }
}
