//! The frame of a message on a byte stream: four bytes of length in network order, and the message (docs/wire.md).

use libc::c_int;

use super::errno::Errno;

pub(crate) const HEADER_LEN: usize = 4;

/// The length of the longest message in bytes. It is the default limit of every parlour program.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Returns the header of a message. Fails with `EMSGSIZE` for a message that is too long.
pub(crate) fn header(length: usize) -> Result<[u8; HEADER_LEN], Errno> {
    match u32::try_from(length) {
        Ok(short) if length <= MESSAGE_MAX => Ok(short.to_be_bytes()),
        _ => Err(Errno(libc::EMSGSIZE)),
    }
}

/// Returns the length of a message from its header. Fails with `EMSGSIZE` if the buffer is too small.
pub(crate) fn length(header: [u8; HEADER_LEN], room: usize) -> Result<usize, Errno> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MESSAGE_MAX {
        // The limit excludes the message, so the start of the next one is unknown.
        return Err(Errno(libc::EBADMSG));
    }
    if length > room { Err(Errno(libc::EMSGSIZE)) } else { Ok(length) }
}

/// Returns the error number of a server's refusal, if this byte, in the place of the first header, is one.
pub(crate) fn refusal(byte: u8) -> Option<Errno> {
    match byte {
        0x81 => Some(Errno(libc::ECONNREFUSED)),
        0x82 | 0x83 => Some(Errno(libc::EBUSY)),
        _ => None,
    }
}

/// Returns the result of a call for a message of this length. The longest message fits an `int`.
pub(crate) fn result(length: usize) -> c_int {
    c_int::try_from(length).unwrap_or(c_int::MAX)
}
