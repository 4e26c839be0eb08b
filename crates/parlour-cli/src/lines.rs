//! Splits a stream of bytes into messages. This module uses no descriptor and no clock.

/// The framing of messages in the stream of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each line is a message. A last line without a newline is a message too. Bytes that are not UTF-8 and carriage
    /// returns are kept unchanged.
    Lines,
    /// The bytes of one read are a message.
    Raw,
}

/// Splits a stream of bytes into messages.
#[derive(Debug)]
pub(crate) struct Splitter {
    framing: Framing,
    /// The maximum length of a message with [`Framing::Raw`], in bytes.
    raw_max: usize,
    bytes: Vec<u8>,
    /// The offset of the next message in `bytes`.
    start: usize,
    /// The offset up to which no newline was found, so that a long line is searched once and not once per read.
    searched: usize,
    ended: bool,
}

impl Splitter {
    pub(crate) fn new(framing: Framing, raw_max: usize) -> Splitter {
        Splitter { framing, raw_max: raw_max.max(1), bytes: Vec::new(), start: 0, searched: 0, ended: false }
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

    /// Returns the next whole message, without its newline. It stays until [`consume`](Self::consume).
    pub(crate) fn peek(&mut self) -> Option<&[u8]> {
        let (end, _) = self.next_end()?;
        Some(&self.bytes[self.start..end])
    }

    /// Drops the message that [`peek`](Self::peek) returned.
    pub(crate) fn consume(&mut self) {
        if let Some((_, after)) = self.next_end() {
            self.start = after;
            self.searched = self.searched.max(after);
        }
    }

    /// Returns the offset at which the next message ends, and the offset at which the one after it begins.
    fn next_end(&mut self) -> Option<(usize, usize)> {
        if self.is_empty() {
            return None;
        }
        let length = self.bytes.len();
        match self.framing {
            Framing::Raw => {
                let end = length.min(self.start + self.raw_max);
                Some((end, end))
            }
            Framing::Lines => {
                if let Some(found) = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n') {
                    let end = self.searched + found;
                    self.searched = end;
                    return Some((end, end + 1));
                }
                self.searched = length;
                self.ended.then_some((length, length))
            }
        }
    }
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
            let mut splitter = Splitter::new(Framing::Lines, 1);
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
        let mut splitter = Splitter::new(Framing::Lines, 1);
        splitter.push(b"one\n");
        splitter.end();
        assert_eq!(all(&mut splitter), vec![b"one".to_vec()]);
    }

    #[test]
    fn peek_returns_the_same_line_until_it_is_consumed() {
        let mut splitter = Splitter::new(Framing::Lines, 1);
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
}
