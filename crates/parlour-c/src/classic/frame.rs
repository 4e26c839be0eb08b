//! A message as it goes over a byte stream: four bytes of length, and so many bytes (docs/wire.md).

use libc::c_int;

use super::errno::Errno;

pub(crate) const HEADER_LEN: usize = 4;

/// The longest message, in bytes: the default of every parlour program.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// The header of a message that is to be sent.
pub(crate) fn header(length: usize) -> Result<[u8; HEADER_LEN], Errno> {
    match u32::try_from(length) {
        Ok(short) if length <= MESSAGE_MAX => Ok(short.to_be_bytes()),
        _ => Err(Errno(libc::EMSGSIZE)),
    }
}

/// The length of the message behind a header, if there is room for it.
pub(crate) fn length(header: [u8; HEADER_LEN], room: usize) -> Result<usize, Errno> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MESSAGE_MAX {
        // What follows cannot be told apart from messages.
        return Err(Errno(libc::EBADMSG));
    }
    if length > room { Err(Errno(libc::EMSGSIZE)) } else { Ok(length) }
}

/// What a call gives for a message of this length. No message is too long for an `int`.
pub(crate) fn result(length: usize) -> c_int {
    c_int::try_from(length).unwrap_or(c_int::MAX)
}
