//! A buffer of frames to be written.

use super::frame::{self, HEADER_LEN, TooLong};

/// Framed bytes that the kernel has not accepted yet, in order.
///
/// This contains small messages that [`feed`](crate::Connection::feed) gathers for one write, and the rest of a message
/// after a partial write.
///
/// An empty buffer is a null pointer, because a program may have ten thousand of them.
#[derive(Debug, Default)]
pub(crate) struct WriteBuffer {
    kept: Option<Box<Storage>>,
}

/// The memory of a write buffer.
#[derive(Debug, Default)]
pub(crate) struct Storage {
    bytes: Vec<u8>,
    written: usize,
    /// The number of bytes in front that are the rest of a frame. Whole frames follow. In the buffer of `packet` they
    /// are a frame of its own, of the rest of a message.
    rest: usize,
}

impl WriteBuffer {
    /// Returns true if this must allocate to store the next frame.
    pub(crate) fn has_no_memory(&self) -> bool {
        self.kept.is_none()
    }

    /// Uses this empty memory for the next frames, unless the buffer has memory already.
    pub(crate) fn use_memory(&mut self, memory: Box<Storage>) {
        self.kept.get_or_insert(memory);
    }

    /// Takes the memory out of the buffer and returns it, if the buffer is empty.
    pub(crate) fn give_memory_back(&mut self) -> Option<Box<Storage>> {
        self.kept.take_if(|kept| kept.pending().is_empty())
    }

    /// Returns the bytes that are still to be written.
    #[inline]
    pub(crate) fn pending(&self) -> &[u8] {
        self.kept.as_deref().map_or(&[], Storage::pending)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Returns true if a part of the first frame was written, or of its message in the buffer of `packet`.
    pub(crate) fn is_in_frame(&self) -> bool {
        let Some(kept) = &self.kept else { return false };
        let mut end = kept.rest;
        while let Some(header) = kept.bytes.get(end..kept.written).and_then(<[u8]>::first_chunk::<HEADER_LEN>) {
            end = end.saturating_add(HEADER_LEN + frame::length(*header));
        }
        end != kept.written && !kept.pending().is_empty()
    }

    /// Appends one whole frame, if no more than `max` bytes are pending afterwards. Returns true if it did.
    #[inline]
    pub(crate) fn push_within(&mut self, message: &[u8], max: usize) -> bool {
        let bytes = HEADER_LEN + message.len();
        let Some(header) = frame::header(message.len()).filter(|_| self.pending().len() + bytes <= max) else {
            return false;
        };
        let kept = self.kept.get_or_insert_default();
        kept.bytes.reserve(bytes);
        kept.bytes.extend_from_slice(&header);
        kept.bytes.extend_from_slice(message);
        true
    }

    /// Appends one whole frame of a message that is given in parts.
    pub(crate) fn push<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]> + Clone) -> Result<(), TooLong> {
        let length = parts.clone().into_iter().map(<[u8]>::len).fold(0, usize::saturating_add);
        let header = frame::header(length).ok_or(TooLong { length })?;
        self.push_raw(&header);
        parts.into_iter().for_each(|part| self.push_raw(part));
        Ok(())
    }

    /// Appends bytes that are framed already.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.kept.get_or_insert_default().bytes.extend_from_slice(bytes);
    }

    /// Appends these pieces of one frame without their first `skip` bytes, which were written.
    pub(crate) fn push_behind<'a>(&mut self, skip: usize, pieces: impl IntoIterator<Item = &'a [u8]>) {
        let is_first = self.is_empty();
        let mut skip = skip;
        for piece in pieces {
            let skipped = skip.min(piece.len());
            self.push_raw(&piece[skipped..]);
            skip -= skipped;
        }
        if let Some(kept) = self.kept.as_mut().filter(|_| is_first) {
            kept.rest = kept.bytes.len();
        }
    }

    /// Appends the rest of a message, without its first `skip` bytes, as a frame of its own with this header.
    pub(crate) fn push_rest<'a>(
        &mut self,
        header: &[u8; HEADER_LEN],
        skip: usize,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) {
        let is_first = self.is_empty();
        self.push_raw(header);
        self.push_behind(skip, pieces);
        if let Some(kept) = self.kept.as_mut().filter(|_| is_first && skip > 0) {
            kept.rest = kept.bytes.len();
        }
    }

    /// Returns the frames in front that have at most `max` bytes together, if there are several. None of them is the
    /// rest of a message.
    pub(crate) fn several(&self, max: usize) -> Option<&[u8]> {
        let kept = self.kept.as_ref().filter(|kept| kept.rest <= kept.written)?;
        let pending = kept.pending();
        let (mut count, mut end) = (0, 0);
        while let Some(header) = pending.get(end..).and_then(<[u8]>::first_chunk::<HEADER_LEN>) {
            let next = end + HEADER_LEN + frame::length(*header);
            if next > max.min(pending.len()) {
                break;
            }
            (count, end) = (count + 1, next);
        }
        pending.get(..end).filter(|_| count > 1)
    }

    /// Records that the first `count` pending bytes were written. Returns the part of `count` that exceeds the buffer:
    /// these bytes belong to the data that the same call wrote behind the buffer.
    pub(crate) fn advance(&mut self, count: usize) -> usize {
        let Some(kept) = &mut self.kept else { return count };
        let taken = count.min(kept.pending().len());
        kept.written += taken;
        if kept.pending().is_empty() {
            kept.clear();
        }
        count - taken
    }

    /// Records that the first `count` bytes of the first frame's message were written. `count` must be at least the
    /// length of a header and less than the length of the message. The rest of the message becomes a frame of its own.
    pub(crate) fn shorten_first(&mut self, count: usize) {
        let Some(kept) = &mut self.kept else { return };
        let Some(header) = kept.pending().first_chunk::<HEADER_LEN>() else { return };
        let Some(left) = frame::length(*header).checked_sub(count) else { return };
        let Some(header) = frame::header(left) else { return };
        // The new header replaces the last bytes that were written.
        kept.written += count;
        kept.rest = kept.written + HEADER_LEN + left;
        let place = kept.written..kept.written + HEADER_LEN;
        if let Some(place) = kept.bytes.get_mut(place) {
            place.copy_from_slice(&header);
        }
    }
}

impl Storage {
    #[inline]
    fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn clear(&mut self) {
        /// The memory that an idle connection may keep: the size that `feed` gathers. A larger allocation is freed.
        const KEPT: usize = 128 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.written = 0;
        self.rest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_in_order_across_partial_writes() {
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push([&b"one"[..]]).unwrap();
        write_buffer.push([&b""[..]]).unwrap();
        let mut written = write_buffer.pending()[..5].to_vec();
        assert_eq!(write_buffer.advance(5), 0);
        write_buffer.push([&b"two"[..]]).unwrap();
        written.extend_from_slice(write_buffer.pending());
        assert_eq!(written, b"\0\0\0\x03one\0\0\0\0\0\0\0\x03two");
        assert_eq!(write_buffer.advance(20), 20 - 13, "the surplus belongs to the caller");
        assert!(write_buffer.is_empty());
    }

    #[test]
    fn the_rest_of_a_first_message_becomes_a_frame_of_its_own() {
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push([&b"0123456789"[..]]).unwrap();
        write_buffer.push([&b"next"[..]]).unwrap();
        write_buffer.shorten_first(4);
        assert_eq!(write_buffer.pending(), b"\0\0\0\x06456789\0\0\0\x04next");
        write_buffer.shorten_first(5);
        assert_eq!(write_buffer.pending(), b"\0\0\0\x019\0\0\0\x04next");
    }

    #[test]
    fn a_part_of_a_frame_that_was_written_is_known() {
        let mut write_buffer = WriteBuffer::default();
        assert!(!write_buffer.is_in_frame());
        write_buffer.push_behind(6, [&b"\0\0\0\x05"[..], b"begun"]);
        write_buffer.push([&b""[..]]).unwrap();
        write_buffer.push([&b"next"[..]]).unwrap();
        let inside: Vec<bool> = (0..15)
            .map(|_| {
                let is_in_frame = write_buffer.is_in_frame();
                write_buffer.advance(1);
                is_in_frame
            })
            .collect();
        let frames = [vec![true; 3], vec![false, true, true, true], vec![false], vec![true; 7]].concat();
        assert_eq!(inside, frames);
        assert!(!write_buffer.is_in_frame(), "all was written");
        write_buffer.push([&b"whole"[..]]).unwrap();
        assert!(!write_buffer.is_in_frame());
    }

    #[test]
    fn several_whole_messages_may_go_as_one_and_the_rest_of_a_message_alone() {
        let mut write_buffer = WriteBuffer::default();
        assert_eq!(write_buffer.several(100), None);
        write_buffer.push([&b"one"[..]]).unwrap();
        assert_eq!(write_buffer.several(100), None, "it is alone");
        write_buffer.push([&b""[..]]).unwrap();
        write_buffer.push([&b"three"[..]]).unwrap();
        let all = b"\0\0\0\x03one\0\0\0\0\0\0\0\x05three";
        for (max, expected) in [(10, None), (11, Some(&all[..11])), (19, Some(&all[..11])), (20, Some(&all[..]))] {
            assert_eq!(write_buffer.several(max), expected, "{max}");
        }
        write_buffer.advance(7);
        assert_eq!(write_buffer.several(100), Some(&all[7..]));

        // The beginning of each of these messages was sent.
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push_rest(b"\0\0\0\x04", 2, [&b"be"[..], b"hind"]);
        write_buffer.push([&b"next"[..]]).unwrap();
        write_buffer.push([&b"0123456789"[..]]).unwrap();
        write_buffer.push([&b"last"[..]]).unwrap();
        assert_eq!(write_buffer.several(100), None);
        write_buffer.advance(8);
        assert!(write_buffer.several(100).is_some());
        write_buffer.advance(8);
        write_buffer.shorten_first(4);
        assert_eq!(write_buffer.several(100), None);
        write_buffer.advance(10);
        write_buffer.push([&b""[..]]).unwrap();
        assert_eq!(write_buffer.several(100), Some(&b"\0\0\0\x04last\0\0\0\0"[..]));
    }

    #[test]
    fn a_large_rest_is_not_kept_once_written() {
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push([&vec![7; 1 << 20][..]]).unwrap();
        write_buffer.advance(usize::MAX);
        assert!(write_buffer.kept.unwrap().bytes.capacity() <= 128 * 1024);
    }
}
