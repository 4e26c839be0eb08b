//! The result of a call: a number for each kind of failure.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CStr, c_char};

use parlour::ErrorKind;

/// The result of a call. The numbers do not change and are never reused. New ones may be added, so a `switch` needs a
/// `default`. parlour_error_message() has the text of a failure.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_status {
    /// The call succeeded.
    PARLOUR_OK = 0,
    /// The end of the stream: the peer sends no more, and everything that it sent was received. This is not a failure,
    /// and parlour_error_message() does not change.
    PARLOUR_END = 1,
    /// A pointer that must not be NULL is NULL.
    PARLOUR_NULL_POINTER = 2,
    /// An argument is invalid, or a string is not UTF-8.
    PARLOUR_INVALID_ARGUMENT = 3,
    /// The buffer or array of the caller is too small for the result, which is kept for the next call.
    PARLOUR_BUFFER_TOO_SMALL = 4,
    /// A bug in the library: it panicked, and the panic was caught. The handle may be unusable. Free it, unless the
    /// function is one that frees it (..._close, ..._split).
    PARLOUR_INTERNAL = 5,
    /// An address or a name is not well formed.
    PARLOUR_INVALID_NAME = 16,
    /// An option has a value outside its range.
    PARLOUR_INVALID_OPTION = 17,
    /// A live server holds the name.
    PARLOUR_NAME_IN_USE = 18,
    /// The server's files were removed or replaced by another process, or this is a forked child of the server.
    PARLOUR_NAME_LOST = 19,
    /// No server holds the name.
    PARLOUR_NO_SERVER = 20,
    /// The peer rejected the request: the server the connection, or the receiver the descriptors.
    PARLOUR_REFUSED = 21,
    /// The system, or a check of the peer's identity, does not permit the operation.
    PARLOUR_DENIED = 22,
    /// The server did not accept the client before the deadline, has reached a limit, or a system call of the server
    /// failed; or a message needs more memory than the client may take; or the write buffer of a client of a hub is
    /// full. The caller may try again.
    PARLOUR_BUSY = 23,
    /// The timeout has passed. A receive keeps a partial message for the next call. A send returns this only if it sent
    /// nothing of the message. parlour_flush and parlour_finish keep unwritten messages buffered;
    /// parlour_connection_close loses them.
    PARLOUR_TIMED_OUT = 24,
    /// The peer has disconnected.
    PARLOUR_DISCONNECTED = 25,
    /// The peer disconnected mid-message.
    PARLOUR_TRUNCATED = 26,
    /// A message is longer than the limit.
    PARLOUR_MESSAGE_TOO_LONG = 27,
    /// The peer broke the protocol.
    PARLOUR_PROTOCOL = 28,
    /// A value could not be encoded, or a message could not be decoded. No function returns this yet.
    PARLOUR_ENCODING = 29,
    /// The owner, mode or type of a directory lets another user interfere.
    PARLOUR_UNSAFE_DIRECTORY = 30,
    /// This transport, platform or state does not support the operation.
    PARLOUR_UNSUPPORTED = 31,
    /// The server or hub was told to shut down.
    PARLOUR_SHUTDOWN = 32,
    /// A system call failed. parlour_error_errno() is its `errno`.
    PARLOUR_IO = 33,
    /// The connection of a session has ended, and what was sent over it may be lost. The next call connects again.
    PARLOUR_LOST = 34,
    /// Another process has taken the name of the server or hub over.
    PARLOUR_HANDED_OVER = 35,
    /// The server answered a call with an error, or dropped the call. The connection can still be used.
    PARLOUR_CALL_FAILED = 36,
}

use parlour_status::*;

/// The status of each kind. A kind that is missing here becomes `PARLOUR_IO`, and a test fails.
const KINDS: [(ErrorKind, parlour_status, &CStr); 21] = [
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
    (ErrorKind::Lost, PARLOUR_LOST, c"lost"),
    (ErrorKind::HandedOver, PARLOUR_HANDED_OVER, c"handed over"),
    (ErrorKind::CallFailed, PARLOUR_CALL_FAILED, c"call failed"),
];

/// The statuses without a kind in the Rust library.
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

/// Returns the status with this number. An `int` of a C program may hold any number.
pub(crate) fn status_with_number(number: i32) -> Option<parlour_status> {
    let known = KINDS.iter().map(|(_, status, _)| *status).chain(OTHERS.iter().map(|(status, _)| *status));
    known.into_iter().find(|status| *status as i32 == number)
}

/// Returns a short name of a status, such as "name in use", or "unknown status" for any other number. The string is
/// static. Async-signal-safe.
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

    /// Programs are compiled with these numbers. A new status extends the list.
    #[test]
    fn the_numbers_do_not_change() {
        let numbers: Vec<i32> =
            OTHERS.iter().map(|row| row.0 as i32).chain(KINDS.iter().map(|row| row.1 as i32)).collect();
        let expected: Vec<i32> = (0..=5).chain(16..=36).collect();
        assert_eq!(numbers, expected);
    }
}
