//! The frame of a message on a byte stream: four bytes of big-endian length, then that many bytes.

/// Bytes before the message.
pub(crate) const HEADER_LEN: usize = 4;

/// The longest message that any limit may allow: 2 GiB - 1. Other implementations of this framing (Python's
/// `multiprocessing.connection`) give the lengths above it another meaning.
pub(crate) const MESSAGE_MAX: usize = i32::MAX as usize;

/// A length that is over the receiver's limit; raised before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) length: usize,
}

/// The header of a message of `length` bytes, or `None` above what 31 bits can say.
#[inline]
pub(crate) fn header(length: usize) -> Option<[u8; HEADER_LEN]> {
    if length > MESSAGE_MAX {
        return None;
    }
    u32::try_from(length).ok().map(u32::to_be_bytes)
}

/// The length that a header announces.
#[inline]
pub(crate) fn length(header: [u8; HEADER_LEN]) -> usize {
    u32::from_be_bytes(header) as usize
}

/// The bit that the lengths of messages leave free.
const MARK: u8 = 0x80;

/// The header of a message of `length` bytes with a mark, for transports whose two ends are both ours.
pub(crate) fn marked_header(length: usize) -> Option<[u8; HEADER_LEN]> {
    let mut header = header(length)?;
    header[0] |= MARK;
    Some(header)
}

/// Whether a header that begins with this byte has a mark.
pub(crate) fn is_marked(first: u8) -> bool {
    first & MARK != 0
}

/// The length that a header announces, where it may have a mark.
pub(crate) fn length_beside_mark(mut header: [u8; HEADER_LEN]) -> usize {
    header[0] &= !MARK;
    length(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_four_big_endian_bytes() {
        assert_eq!(header(0), Some([0, 0, 0, 0]));
        assert_eq!(header(0x0102_0304), Some([1, 2, 3, 4]));
        assert_eq!(header(MESSAGE_MAX), Some([0x7f, 0xff, 0xff, 0xff]));
        assert_eq!(header(MESSAGE_MAX + 1), None);
        assert_eq!(length([0xff, 0xff, 0xff, 0xff]), u32::MAX as usize);
        assert_eq!(marked_header(0x0102_0304), Some([0x81, 2, 3, 4]));
        assert_eq!(length_beside_mark([0x81, 2, 3, 4]), 0x0102_0304);
        assert_eq!([is_marked(0x81), is_marked(0x7f)], [true, false]);
    }
}
