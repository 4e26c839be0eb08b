//! A decoder that splits a byte stream into messages.

use super::frame::{self, HEADER_LEN, TooLong};

/// The number of bytes that one read may return. One read returns many small messages. Above 64 KiB the cost of a
/// system call is negligible, but one read should return a whole message of that length with its header.
const BUFFER_LEN: usize = EXPECTED_MAX + 4096;

/// The number of bytes that the first reads may return. A connection with little traffic then never zeroes the whole
/// buffer.
const FIRST_LEN: usize = 4096;

/// The maximum length of a message that is copied without a function call.
const SHORT: usize = 64;

/// The minimum length of a message after which the decoder expects another one of the same length, and the maximum
/// number of bytes of it that are read directly into the memory of the message. Measured: below the minimum, a copy
/// costs less than one more buffer in the read.
const EXPECTED_MIN: usize = 16 * 1024;
const EXPECTED_MAX: usize = 64 * 1024;

/// The memory that may be allocated for a long message before any of its bytes have arrived. A peer that announces 16
/// MiB and sends nothing therefore costs at most this much. Above this, the memory is at most twice the bytes that have
/// arrived.
const AHEAD_MAX: usize = 1024 * 1024;

/// Splits a byte stream into messages. Every transport that is a byte stream uses it.
///
/// [`next`](Decoder::next) has three outcomes:
/// - `Ok(true)`: a whole message has arrived and was moved to the caller's `Vec`.
/// - `Ok(false)`: no whole message has arrived. The caller reads into [`spaces`](Decoder::spaces), passes the number of
///   bytes read to [`filled`](Decoder::filled), and calls `next` again.
/// - `Err`: the announced length exceeds the limit. Every later call returns the same error. Nothing was allocated for
///   the message.
///
/// Messages that fit in the buffer are copied out of it. A longer message is assembled in a separate `Vec` into which
/// the reads go directly. When the message is complete, this `Vec` is swapped with the caller's: this copies nothing,
/// and allocates nothing once both are large enough. A message of 16 KiB or more that follows one of the same length is
/// handled like this, too: the decoder has its bytes read into the separate `Vec` before it has seen the header, and
/// corrects the placement if the message has another length.
#[derive(Debug)]
pub(crate) struct Decoder {
    length_max: usize,
    /// Empty until the first read, then `FIRST_LEN` bytes, and `BUFFER_LEN` bytes after a read has filled it or when a
    /// message does not fit. Bytes `start..end` are not yet consumed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The message that does not fit in the buffer. The `Vec` is longer than the bytes that have arrived: its bytes are
    /// initialised in advance, and only once, even if it is reused.
    long: Vec<u8>,
    long_filled: usize,
    long_len: Option<usize>,
    /// True if `long` is the caller's memory and the caller has the previous memory of `long`.
    has_taken: bool,
    /// The expected number of bytes of the next message if it is to be read directly into its own memory, otherwise 0.
    expected: usize,
    /// The size of the space that the last `spaces` offered for the expected message.
    offered: usize,
    /// True if headers have a bit for a mark.
    has_marks: bool,
    /// True if the frame in `long`, or the frame that was returned last, has a mark.
    is_marked: bool,
}

impl Decoder {
    pub(crate) fn new(length_max: usize) -> Self {
        Self {
            length_max,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            long: Vec::new(),
            long_filled: 0,
            long_len: None,
            has_taken: false,
            expected: 0,
            offered: 0,
            has_marks: false,
            is_marked: false,
        }
    }

    /// Accepts headers of [`frame::marked_header`] as well. Without this, a marked header announces a length above any
    /// limit.
    pub(crate) fn with_marks(mut self) -> Self {
        self.has_marks = true;
        self
    }

    /// Resets this decoder for another connection. It keeps its memory up to a bound.
    pub(crate) fn renewed(mut self, length_max: usize) -> Self {
        self.long.truncate(AHEAD_MAX);
        self.long.shrink_to_fit();
        let expected = self.expected.min(length_max);
        Self { buffer: self.buffer, long: self.long, expected, ..Self::new(length_max) }
    }

    /// Moves the next whole message into `out` and replaces the content of `out`.
    ///
    /// If no whole message has arrived, this may take the memory of `out` for a long message that follows. If all of
    /// that message arrives before the caller gives up, one buffer is used repeatedly and stays in the processor's
    /// cache, instead of two in turn. A caller that gives up gets the memory back from
    /// [`give_memory_back`](Decoder::give_memory_back), unless bytes have arrived in it.
    pub(crate) fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, TooLong> {
        if self.next_short(out) {
            return Ok(true);
        }
        if let Some(length) = self.long_len {
            if self.long_filled < length {
                return Ok(false);
            }
            self.long.truncate(length);
            std::mem::swap(&mut self.long, out);
            self.long_filled = 0;
            self.long_len = None;
            self.note_length(length);
            return Ok(true);
        }
        let Some(length) = self.announced() else {
            if self.expected > 0 {
                self.take_memory(out);
            }
            return Ok(false);
        };
        if length > self.length_max {
            return Err(TooLong { length });
        }
        self.is_marked = self.has_marks && frame::is_marked(self.buffer[self.start]);
        let body = &self.buffer[self.start + HEADER_LEN..self.end];
        // This is a message with a mark: `next_short` has returned all others.
        if let Some(message) = body.get(..length) {
            out.clear();
            out.extend_from_slice(message);
            self.consume(HEADER_LEN + length);
            self.note_length(length);
            return Ok(true);
        }
        if HEADER_LEN + length > BUFFER_LEN {
            let arrived = body.len();
            self.take_memory(out);
            grow(&mut self.long, arrived, length);
            self.long[..arrived].copy_from_slice(&self.buffer[self.start + HEADER_LEN..self.end]);
            self.long_filled = arrived;
            self.long_len = Some(length);
            self.consume(HEADER_LEN + arrived);
        }
        Ok(false)
    }

    /// Does the same as [`next`](Decoder::next) for the most frequent kind of message: short, completely buffered, and
    /// without a mark. `false` has no meaning for other messages.
    #[inline]
    pub(crate) fn next_short(&mut self, out: &mut Vec<u8>) -> bool {
        let Some((header, behind)) = self.buffer[self.start..self.end].split_first_chunk::<HEADER_LEN>() else {
            return false;
        };
        // With a mark, the length exceeds any limit.
        let length = frame::length(*header);
        let Some(message) = behind.get(..length).filter(|_| length <= self.length_max && self.long_len.is_none())
        else {
            return false;
        };
        out.clear();
        // A copy of constant length compiles to one or two moves without a call. The bytes behind the message are
        // truncated.
        match self.buffer[self.start + HEADER_LEN..].first_chunk::<SHORT>() {
            Some(chunk) if length <= SHORT && out.capacity() >= SHORT => {
                out.extend_from_slice(chunk);
                out.truncate(length);
            }
            _ => out.extend_from_slice(message),
        }
        self.is_marked = false;
        self.consume(HEADER_LEN + length);
        self.note_length(length);
        true
    }

    /// Returns the next message where it is, if it is completely buffered and without a mark. `None` has no meaning for
    /// other messages.
    #[inline]
    pub(crate) fn next_in_place(&mut self) -> Option<&[u8]> {
        let length = self.len_in_place()?;
        let begin = self.start + HEADER_LEN;
        // The buffer stays as it is until bytes are read.
        self.consume(HEADER_LEN + length);
        self.note_length(length);
        self.is_marked = false;
        self.buffer.get(begin..begin + length)
    }

    /// Returns the length of the message that [`next_in_place`](Decoder::next_in_place) returns.
    #[inline]
    pub(crate) fn len_in_place(&self) -> Option<usize> {
        let (header, behind) = self.buffer[self.start..self.end].split_first_chunk::<HEADER_LEN>()?;
        // With a mark, the length exceeds any limit.
        let length = frame::length(*header);
        (length <= behind.len() && length <= self.length_max && self.long_len.is_none()).then_some(length)
    }

    /// Returns true if [`next`](Decoder::next) would return a message or an error without more bytes.
    pub(crate) fn has_next(&self) -> bool {
        match (self.long_len, self.announced()) {
            (Some(length), _) => self.long_filled == length,
            (None, Some(length)) => length > self.length_max || self.end - self.start >= HEADER_LEN + length,
            (None, None) => false,
        }
    }

    /// Returns the number of further bytes until [`next`](Decoder::next) returns a message or an error, if the stream
    /// continues with `coming`. The first four bytes of `coming` suffice. If `coming` does not complete the header,
    /// returns the number of bytes that the buffered header lacks.
    pub(crate) fn missing(&self, coming: &[u8]) -> usize {
        if self.has_next() {
            return 0;
        }
        if let Some(length) = self.long_len {
            return length - self.long_filled;
        }
        let here = &self.buffer[self.start..self.end];
        let mut header = [0; HEADER_LEN];
        let known = header.iter_mut().zip(here.iter().chain(coming)).map(|(place, &byte)| *place = byte).count();
        let length = self.length_of(header);
        match known == HEADER_LEN && length <= self.length_max {
            true => HEADER_LEN + length - here.len(),
            false => HEADER_LEN - here.len(),
        }
    }

    /// Returns the number of frames that have begun and that [`next`](Decoder::next) has not returned yet.
    pub(crate) fn begun(&self) -> usize {
        let mut begun = usize::from(self.long_len.is_some());
        let mut rest = &self.buffer[self.start..self.end];
        while !rest.is_empty() {
            begun += 1;
            let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() else { break };
            rest = behind.get(self.length_of(*header)..).unwrap_or(&[]);
        }
        begun
    }

    /// Returns the number of bytes that have arrived and that [`next`](Decoder::next) has not returned.
    pub(crate) fn partial_len(&self) -> usize {
        self.long_filled + (self.end - self.start)
    }

    /// Returns true if the stream may end here without truncating a message.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.long_len.is_none() && self.start == self.end
    }

    /// Returns the spaces for the next bytes of the stream, in order. The first is never empty. Call this after
    /// [`next`](Decoder::next) has returned `Ok(false)`.
    pub(crate) fn spaces(&mut self) -> [&mut [u8]; 3] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; FIRST_LEN];
        }
        if let Some(length) = self.long_len {
            grow(&mut self.long, self.long_filled, length);
            let target = self.long.len().min(length);
            // The next message may begin only behind the end of this message.
            let ahead = if target == length { &mut self.buffer[..] } else { &mut [] };
            return [&mut self.long[self.long_filled..target], ahead, &mut []];
        }
        if self.expected > 0 && self.start == self.end {
            self.buffer.resize(BUFFER_LEN, 0);
            grow(&mut self.long, 0, self.expected);
            self.offered = self.expected;
            let (header, behind) = self.buffer.split_at_mut(HEADER_LEN);
            // If the message has another length, all bytes must fit in the buffer.
            let behind_len = behind.len() - self.offered;
            return [header, &mut self.long[..self.offered], &mut behind[..behind_len]];
        }
        let is_full = self.end == self.buffer.len();
        if is_full || self.needed() > self.buffer.len() - self.start {
            if is_full || self.needed() > self.buffer.len() {
                self.buffer.resize(BUFFER_LEN, 0);
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        [&mut self.buffer[self.end..], &mut [], &mut []]
    }

    /// Records that the first `count` bytes of [`spaces`](Decoder::spaces) now contain bytes of the stream.
    pub(crate) fn filled(&mut self, count: usize) {
        if self.offered > 0 {
            return self.filled_as_expected(count);
        }
        let Some(length) = self.long_len else {
            self.end = (self.end + count).min(self.buffer.len());
            return;
        };
        let here = count.min(self.long.len().min(length) - self.long_filled);
        self.long_filled += here;
        self.end = (self.end + count - here).min(self.buffer.len());
    }

    /// Does the same as [`filled`](Decoder::filled) if the last `spaces` offered the memory of an expected message.
    fn filled_as_expected(&mut self, count: usize) {
        let offered = std::mem::take(&mut self.offered);
        let header = count.min(HEADER_LEN);
        let body = (count - header).min(offered);
        let behind = (count - header - body).min(self.buffer.len() - HEADER_LEN - offered);
        (self.start, self.end) = (0, header);
        match self.announced() {
            // All bytes that were read there belong to this message. More of it may be in the buffer.
            Some(length) if (body..=self.length_max).contains(&length) => {
                self.is_marked = self.has_marks && frame::is_marked(self.buffer[0]);
                let more = behind.min(length - body);
                grow(&mut self.long, body, length);
                self.long[body..body + more].copy_from_slice(&self.buffer[HEADER_LEN..HEADER_LEN + more]);
                self.long_filled = body + more;
                self.long_len = Some(length);
                self.end = HEADER_LEN + behind;
                self.consume(HEADER_LEN + more);
            }
            // The message is shorter or too long, or its header is incomplete: restore the order of the bytes in the
            // buffer.
            _ => {
                self.expected = 0;
                self.buffer.copy_within(HEADER_LEN..HEADER_LEN + behind, HEADER_LEN + body);
                self.buffer[HEADER_LEN..HEADER_LEN + body].copy_from_slice(&self.long[..body]);
                self.end = header + body + behind;
            }
        }
    }

    /// Returns the memory of the incomplete message that has memory of its own, as it is after the next
    /// [`spaces`](Decoder::spaces), in bytes.
    #[inline]
    pub(crate) fn long_memory(&self) -> usize {
        self.long_len.map_or(0, |length| self.long.len().max(target(self.long_filled, length)).min(length))
    }

    /// Takes the caller's memory for a long message if it is larger than `long`.
    fn take_memory(&mut self, out: &mut Vec<u8>) {
        if out.len() > self.long.len() {
            std::mem::swap(&mut self.long, out);
            self.has_taken = true;
        }
    }

    /// Gives the caller back the memory that [`next`](Decoder::next) has taken, if no bytes have arrived in it.
    pub(crate) fn give_memory_back(&mut self, out: &mut Vec<u8>) {
        if self.has_taken && self.long_len.is_none() {
            std::mem::swap(&mut self.long, out);
            self.has_taken = false;
        }
    }

    /// Records the length of a returned message to predict the length of the next one.
    #[inline]
    fn note_length(&mut self, length: usize) {
        self.has_taken = false;
        self.expected = if length < EXPECTED_MIN { 0 } else { length.min(EXPECTED_MAX) };
    }

    /// Returns the length in the header at `start`, or `None` if the header is incomplete.
    fn announced(&self) -> Option<usize> {
        let header = self.buffer[self.start..self.end].first_chunk::<HEADER_LEN>()?;
        Some(self.length_of(*header))
    }

    fn length_of(&self, header: [u8; HEADER_LEN]) -> usize {
        if self.has_marks { frame::length_beside_mark(header) } else { frame::length(header) }
    }

    /// Returns true if the frame that [`next`](Decoder::next) returned last had a mark.
    pub(crate) fn was_marked(&self) -> bool {
        self.is_marked
    }

    /// Returns the number of bytes that the frame at `start` takes in the buffer. If its header is incomplete, returns
    /// the length of the header.
    fn needed(&self) -> usize {
        HEADER_LEN + self.announced().unwrap_or(0)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }
}

/// Enlarges `long` for a message of `length` bytes of which `filled` have arrived: to the whole length if that is not
/// far ahead, otherwise to twice the bytes that have arrived, but at least to `AHEAD_MAX`.
fn grow(long: &mut Vec<u8>, filled: usize, length: usize) {
    if long.len() > filled && long.len() >= length.min(AHEAD_MAX) {
        return;
    }
    let target = target(filled, length);
    if long.is_empty() {
        // The kernel provides a new allocation zeroed, so untouched pages cost nothing.
        *long = vec![0; target];
    } else if long.len() < target {
        long.resize(target, 0);
    }
}

/// Returns the size to which [`grow`] enlarges.
fn target(filled: usize, length: usize) -> usize {
    length.min(filled.saturating_mul(2).max(AHEAD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame_of(message: &[u8]) -> Vec<u8> {
        [&frame::header(message.len()).unwrap(), message].concat()
    }

    /// Feeds `stream` in pieces of the given sizes, repeated cyclically, and collects the messages.
    fn decode(decoder: &mut Decoder, stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, TooLong> {
        decode_with(decoder, stream, sizes, false)
    }

    /// Does the same, and takes messages where they are if that is possible.
    fn decode_with(
        decoder: &mut Decoder,
        stream: &[u8],
        sizes: &[usize],
        in_place: bool,
    ) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut messages = Vec::new();
        let mut rest = stream;
        let mut out = Vec::new();
        for &size in sizes.iter().cycle() {
            loop {
                let length = decoder.len_in_place().filter(|_| in_place);
                if let Some(length) = length {
                    let message = decoder.next_in_place().expect("its length is known");
                    assert_eq!(message.len(), length);
                    messages.push(message.to_vec());
                } else if decoder.next(&mut out)? {
                    messages.push(out.clone());
                } else {
                    break;
                }
            }
            if rest.is_empty() {
                break;
            }
            let mut taken = 0;
            for space in decoder.spaces() {
                let count = space.len().min(size - taken).min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                taken += count;
            }
            assert!(taken > 0, "the first space is never empty");
            decoder.filled(taken);
        }
        Ok(messages)
    }

    #[test]
    fn three_frames_decode_alike_at_every_split_point() {
        let messages: [&[u8]; 3] = [b"first", b"", b"third message"];
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame_of(message)).collect();
        for first in 1..stream.len() {
            let mut decoder = Decoder::new(100);
            let got = decode(&mut decoder, &stream, &[first, stream.len()]).unwrap();
            assert_eq!(got, messages, "split after {first} bytes");
            assert!(decoder.is_at_boundary());
        }
        let got = decode(&mut Decoder::new(100), &stream, &[1]).unwrap();
        assert_eq!(got, messages, "one byte at a time");
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
        for length in [101, i32::MAX as u32, 1 << 31, u32::MAX] {
            let mut decoder = Decoder::new(100);
            let error = decode(&mut decoder, &length.to_be_bytes(), &[4]).unwrap_err();
            assert_eq!(error.length, length as usize);
            assert_eq!(decoder.long.capacity(), 0);
            assert!(decoder.has_next(), "`next` would return the error");
            assert_eq!(decoder.next(&mut Vec::new()), Err(error), "the error is permanent");
        }
    }

    #[test]
    fn give_memory_back_returns_the_memory_unless_bytes_have_arrived() {
        let message = vec![7; 20_000];
        let mut decoder = Decoder::new(1 << 20);
        let mut out = Vec::new();
        let receive = |decoder: &mut Decoder, out: &mut Vec<u8>, bytes: &[u8]| {
            assert!(!decoder.next(out).unwrap());
            let mut rest = bytes;
            for space in decoder.spaces() {
                let (now, later) = rest.split_at(space.len().min(rest.len()));
                space[..now.len()].copy_from_slice(now);
                rest = later;
            }
            decoder.filled(bytes.len());
        };
        let frame = frame_of(&message);
        // The first read is short, because the buffer has `FIRST_LEN` bytes.
        for part in [&frame[..4000], &frame[4000..]] {
            receive(&mut decoder, &mut out, part);
        }
        assert!(decoder.next(&mut out).unwrap());
        let of_caller = out.as_ptr();
        assert!(!decoder.next(&mut out).unwrap());
        assert_ne!(out.as_ptr(), of_caller, "the decoder took it for the expected message");
        decoder.give_memory_back(&mut out);
        assert_eq!((out.as_ptr(), out.len()), (of_caller, message.len()));
        decoder.give_memory_back(&mut out);
        assert_eq!(out.as_ptr(), of_caller, "the memory is returned only once");

        receive(&mut decoder, &mut out, &frame[..10_000]);
        assert!(!decoder.next(&mut out).unwrap());
        decoder.give_memory_back(&mut out);
        assert_ne!(out.as_ptr(), of_caller, "it contains half a message");
        receive(&mut decoder, &mut out, &frame[10_000..]);
        assert!(decoder.next(&mut out).unwrap());
        assert_eq!((&out, out.as_ptr()), (&message, of_caller));
    }

    #[test]
    fn an_announced_length_costs_little_until_the_bytes_arrive() {
        let mut decoder = Decoder::new(16 << 20);
        decode(&mut decoder, &frame::header(16 << 20).unwrap(), &[4]).unwrap();
        let _ = decoder.spaces();
        assert!(decoder.long.capacity() <= AHEAD_MAX, "{}", decoder.long.capacity());
    }

    #[test]
    fn a_torn_message_is_not_a_boundary() {
        let stream = frame_of(b"hello");
        for cut in 1..stream.len() {
            let mut decoder = Decoder::new(100);
            decode(&mut decoder, &stream[..cut], &[cut]).unwrap();
            assert!(!decoder.is_at_boundary(), "cut after {cut} bytes");
        }
        let mut decoder = Decoder::new(1 << 20);
        decode(&mut decoder, &frame_of(&[1; 100_000])[..90_000], &[7000]).unwrap();
        assert!(!decoder.is_at_boundary(), "inside a long message");
    }

    #[test]
    fn long_messages_of_one_size_are_swapped_without_allocating() {
        let stream = frame_of(&[9; 300_000]);
        let mut decoder = Decoder::new(1 << 20);
        let mut out = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for round in 0..20 {
            let mut rest = &stream[..];
            while !decoder.next(&mut out).unwrap() {
                let [space, ..] = decoder.spaces();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                decoder.filled(count);
            }
            assert_eq!(out, [9; 300_000]);
            if round >= 2 {
                seen.insert(out.as_ptr());
            }
        }
        assert_eq!(seen.len(), 1, "one buffer is enough");
    }

    /// A read that ends with a message makes the decoder expect another message of the same length. Other messages then
    /// follow, and each read returns as many of their bytes as fit.
    #[test]
    fn a_message_of_an_unexpected_length_is_decoded_correctly() {
        const EXPECTED: usize = 20_000;
        let message = |length: usize, seed: usize| (0..length).map(|at| (at * 31 + seed) as u8).collect::<Vec<u8>>();
        for length in [0, 5, EXPECTED - 1, EXPECTED, EXPECTED + 1, EXPECTED_MAX, BUFFER_LEN, 300_000] {
            for step in [1, HEADER_LEN, HEADER_LEN + 1, 9, EXPECTED, EXPECTED + HEADER_LEN, EXPECTED + 100, 1 << 20] {
                let mut decoder = Decoder::new(1 << 20);
                let first = message(EXPECTED, 1);
                assert_eq!(decode(&mut decoder, &frame_of(&first), &[1 << 20]), Ok(vec![first]));
                let messages = [message(length, 2), message(7, 3), message(30_000, 4)];
                let stream: Vec<u8> = messages.iter().flat_map(|message| frame_of(message)).collect();
                // The size of the first read, then of all others.
                let mut sizes = vec![step];
                sizes.resize(64, 1 << 20);
                let got = decode(&mut decoder, &stream, &sizes);
                assert!(got.as_deref() == Ok(&messages[..]), "{length} bytes after {EXPECTED}, {step} at first");
                assert!(decoder.is_at_boundary());
            }
        }
        // A message that is too long is not mistaken for the expected one either.
        let mut decoder = Decoder::new(EXPECTED);
        decode(&mut decoder, &frame_of(&message(EXPECTED, 1)), &[1 << 20]).unwrap();
        let error = decode(&mut decoder, &frame_of(&message(EXPECTED + 1, 2)), &[1 << 20]).unwrap_err();
        assert_eq!(error.length, EXPECTED + 1);
    }

    #[test]
    fn missing_is_exact_at_every_split_point() {
        let messages: [Vec<u8>; 3] = [b"first".to_vec(), Vec::new(), vec![3; 100_000]];
        for message in messages {
            let stream = frame_of(&message);
            for cut in (0..stream.len()).filter(|cut| cut % 997 < 12) {
                let mut decoder = Decoder::new(1 << 20);
                decode(&mut decoder, &stream[..cut], &[cut.max(1)]).unwrap();
                let coming = &stream[cut..stream.len().min(cut + HEADER_LEN)];
                assert_eq!(decoder.missing(coming), stream.len() - cut, "cut after {cut} bytes");
                assert_eq!(decoder.missing(&[]), if cut < 4 { 4 - cut } else { stream.len() - cut });
            }
        }
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.missing(&101u32.to_be_bytes()), HEADER_LEN, "the error needs no more");
        decode(&mut decoder, &101u32.to_be_bytes(), &[4]).unwrap_err();
        assert_eq!(decoder.missing(&[]), 0);
    }

    proptest! {
        #[test]
        fn any_messages_in_any_pieces_come_out_the_same(
            lengths in prop::collection::vec(
                prop_oneof![
                    0usize..10,
                    4000usize..5000,
                    // Several messages of one length, and shorter and longer ones in between.
                    Just(20_000usize),
                    Just(65_536usize),
                    16_000usize..17_000,
                    65_000usize..66_000,
                    100_000usize..300_000,
                ], 1..12),
            sizes in prop::collection::vec(1usize..100_000, 1..6),
        ) {
            let messages: Vec<Vec<u8>> = lengths.iter().enumerate()
                .map(|(index, &length)| (0..length).map(|at| (at * 31 + index) as u8).collect())
                .collect();
            let stream: Vec<u8> = messages.iter().flat_map(|message| frame_of(message)).collect();
            let mut decoder = Decoder::new(1 << 20);
            let got = decode(&mut decoder, &stream, &sizes).unwrap();
            prop_assert_eq!(&got, &messages);
            prop_assert!(decoder.is_at_boundary());
            let mut decoder = Decoder::new(1 << 20);
            let got = decode_with(&mut decoder, &stream, &sizes, true).unwrap();
            prop_assert_eq!(got, messages);
            prop_assert!(decoder.is_at_boundary());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..40) {
            let found = decode(&mut Decoder::new(1000), &bytes, &[size]);
            let in_place = decode_with(&mut Decoder::new(1000), &bytes, &[size], true);
            prop_assert_eq!(found.map_err(|error| error.length), in_place.map_err(|error| error.length));
        }
    }
}
