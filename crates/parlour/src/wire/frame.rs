//! The frame of a message on a byte stream: a big-endian length of four bytes, then that many bytes.

/// Length of the header in front of a message, in bytes.
pub(crate) const HEADER_LEN: usize = 4;

/// The greatest message length that a limit may allow: 2 GiB - 1. Other implementations of this framing (Python's
/// `multiprocessing.connection`) give greater lengths another meaning.
pub(crate) const MESSAGE_MAX: usize = i32::MAX as usize;

/// The bytes that make the end of a stream an error if they are the last ones behind a frame: a part of a header.
pub(crate) const CUT: [u8; 1] = [0];

/// A length above the receiver's limit. It is reported before any memory is allocated for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) length: usize,
}

/// Returns the header of a message of `length` bytes, or `None` if `length` does not fit in 31 bits.
#[inline]
pub(crate) fn header(length: usize) -> Option<[u8; HEADER_LEN]> {
    if length > MESSAGE_MAX {
        return None;
    }
    u32::try_from(length).ok().map(u32::to_be_bytes)
}

/// Returns the length that a header announces.
#[inline]
pub(crate) fn length(header: [u8; HEADER_LEN]) -> usize {
    u32::from_be_bytes(header) as usize
}

/// The bit that the length of a message never uses.
const MARK: u8 = 0x80;

/// Returns the header of a message of `length` bytes with a mark. Only for transports on which both ends are parlour.
pub(crate) fn marked_header(length: usize) -> Option<[u8; HEADER_LEN]> {
    let mut header = header(length)?;
    header[0] |= MARK;
    Some(header)
}

/// Returns true if a header that begins with this byte has a mark.
pub(crate) fn is_marked(first: u8) -> bool {
    first & MARK != 0
}

/// Returns the length that a header announces, without its mark if it has one.
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
