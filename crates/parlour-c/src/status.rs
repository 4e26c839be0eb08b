//! What a call says: a number for each kind of failure.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CStr, c_char};

use parlour::ErrorKind;

/// What has become of a call. Numbers are never reused; new ones may be added, so a `switch` needs a `default`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_status {
    /// It has done what it says.
    PARLOUR_OK = 0,
    /// The other side sends no more, and everything that it sent was received. Not a failure: there is no message
    /// for it.
    PARLOUR_END = 1,
    /// A pointer that must not be NULL is.
    PARLOUR_NULL_POINTER = 2,
    /// A value has no meaning, or a string is not UTF-8.
    PARLOUR_INVALID_ARGUMENT = 3,
    /// The caller's memory is too small for the result, which is kept for the next call.
    PARLOUR_BUFFER_TOO_SMALL = 4,
    /// A bug in the library: it has panicked, and that was caught. The handle may be unusable; free it.
    PARLOUR_INTERNAL = 5,
    /// An address or a name is not well formed.
    PARLOUR_INVALID_NAME = 16,
    /// An option has a value that cannot be used.
    PARLOUR_INVALID_OPTION = 17,
    /// A live server holds the name.
    PARLOUR_NAME_IN_USE = 18,
    /// The server's files were removed or replaced by somebody else, or the server was carried into a forked child.
    PARLOUR_NAME_LOST = 19,
    /// Nobody serves the name.
    PARLOUR_NO_SERVER = 20,
    /// The other side answered, and said no.
    PARLOUR_REFUSED = 21,
    /// The system, or a check of the other side's identity, does not permit it.
    PARLOUR_DENIED = 22,
    /// The server is there but had no room until the deadline.
    PARLOUR_BUSY = 23,
    /// The time is over. What was being received stays with the connection; what was being sent was not sent.
    PARLOUR_TIMED_OUT = 24,
    /// The other side has gone.
    PARLOUR_DISCONNECTED = 25,
    /// The other side went in the middle of a message.
    PARLOUR_TRUNCATED = 26,
    /// A message is longer than the limit.
    PARLOUR_MESSAGE_TOO_LONG = 27,
    /// The other side broke the protocol.
    PARLOUR_PROTOCOL = 28,
    /// A value could not be made a message, or a message not a value. (No function of this library says so yet.)
    PARLOUR_ENCODING = 29,
    /// A directory's owner, mode or type lets somebody else interfere.
    PARLOUR_UNSAFE_DIRECTORY = 30,
    /// This transport, platform or state cannot do it.
    PARLOUR_UNSUPPORTED = 31,
    /// The server was told to shut down.
    PARLOUR_SHUTDOWN = 32,
    /// Any other failure of a system call.
    PARLOUR_IO = 33,
}

use parlour_status::*;

/// The status of each kind. A kind that is not here is a failure of the system's, and a test finds it missing.
const KINDS: [(ErrorKind, parlour_status, &CStr); 18] = [
    (ErrorKind::InvalidName, PARLOUR_INVALID_NAME, c"invalid name"),
    (ErrorKind::InvalidOption, PARLOUR_INVALID_OPTION, c"invalid option"),
    (ErrorKind::NameInUse, PARLOUR_NAME_IN_USE, c"name in use"),
    (ErrorKind::NameLost, PARLOUR_NAME_LOST, c"name lost"),
    (ErrorKind::NoServer, PARLOUR_NO_SERVER, c"no server"),
    (ErrorKind::Refused, PARLOUR_REFUSED, c"refused"),
    (ErrorKind::Denied, PARLOUR_DENIED, c"denied"),
    (ErrorKind::Busy, PARLOUR_BUSY, c"busy"),
    (ErrorKind::TimedOut, PARLOUR_TIMED_OUT, c"timed out"),
    (ErrorKind::Disconnected, PARLOUR_DISCONNECTED, c"disconnected"),
    (ErrorKind::Truncated, PARLOUR_TRUNCATED, c"truncated"),
    (ErrorKind::MessageTooLong, PARLOUR_MESSAGE_TOO_LONG, c"message too long"),
    (ErrorKind::Protocol, PARLOUR_PROTOCOL, c"protocol error"),
    (ErrorKind::Encoding, PARLOUR_ENCODING, c"encoding error"),
    (ErrorKind::UnsafeDirectory, PARLOUR_UNSAFE_DIRECTORY, c"unsafe directory"),
    (ErrorKind::Unsupported, PARLOUR_UNSUPPORTED, c"unsupported"),
    (ErrorKind::Shutdown, PARLOUR_SHUTDOWN, c"shut down"),
    (ErrorKind::Io, PARLOUR_IO, c"system error"),
];

/// Those that are none of the library's in Rust.
const OTHERS: [(parlour_status, &CStr); 6] = [
    (PARLOUR_OK, c"ok"),
    (PARLOUR_END, c"end"),
    (PARLOUR_NULL_POINTER, c"null pointer"),
    (PARLOUR_INVALID_ARGUMENT, c"invalid argument"),
    (PARLOUR_BUFFER_TOO_SMALL, c"buffer too small"),
    (PARLOUR_INTERNAL, c"internal error"),
];

pub(crate) fn status_of(kind: ErrorKind) -> parlour_status {
    KINDS.iter().find(|(other, ..)| *other == kind).map_or(PARLOUR_IO, |(_, status, _)| *status)
}

/// A few words for a status, such as "name in use"; "unknown status" for a number that is none. Never NULL, never
/// to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_status_name(status: i32) -> *const c_char {
    let kinds = KINDS.iter().map(|(_, known, name)| (*known, *name));
    let name = kinds.chain(OTHERS).find(|(known, _)| *known as i32 == status).map(|(_, name)| name);
    name.unwrap_or(c"unknown status").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_of_its_own_and_its_name() {
        for kind in ErrorKind::ALL {
            let rows: Vec<_> = KINDS.iter().filter(|(other, ..)| other == kind).collect();
            assert_eq!(rows.len(), 1, "{kind:?}");
            let (_, status, name) = rows[0];
            assert_eq!(name.to_str().unwrap(), kind.to_string());
            let spelled: String = format!("{status:?}").trim_start_matches("PARLOUR_").replace('_', "").to_lowercase();
            assert_eq!(spelled, format!("{kind:?}").to_lowercase());
        }
    }

    /// What programs were built with stays what it means. A new status gets a new line here.
    #[test]
    fn numbers_are_what_they_have_always_been() {
        let numbers: Vec<i32> =
            OTHERS.iter().map(|row| row.0 as i32).chain(KINDS.iter().map(|row| row.1 as i32)).collect();
        let expected: Vec<i32> = (0..=5).chain(16..=33).collect();
        assert_eq!(numbers, expected);
    }
}
