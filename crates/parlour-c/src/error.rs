//! The text and the `errno` of the last failure of each thread.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

struct Last {
    message: CString,
    system: c_int,
    /// The text of the server that answered a call with an error.
    failure: CString,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

pub(crate) fn remember(error: &parlour::Error) {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    keep(&error.to_string(), source.and_then(io::Error::raw_os_error).unwrap_or(0), error.failure().unwrap_or(""));
}

pub(crate) fn remember_io(operation: &str, error: &io::Error) {
    keep(&format!("cannot {operation}: {error}"), error.raw_os_error().unwrap_or(0), "");
}

pub(crate) fn remember_text(text: &str) {
    keep(text, 0, "");
}

fn keep(text: &str, system: c_int, failure: &str) {
    // A zero byte would end the C string early.
    let [message, failure] = [text, failure].map(|text| CString::new(text.replace('\0', "?")).unwrap_or_default());
    let next = Last { message, system, failure };
    // This fails only while the thread destroys its thread-local storage. The text is then lost.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(next)));
}

/// Returns the text of the last failure of the calling thread.
///
/// The text is one line that names the operation, the object, the reason and, where there is one, the next step, for
/// example "cannot connect to 'wc': no server has this name; start the server". A call that succeeds does not change
/// it. After a call with a `timeout_ms` of 0 that returned PARLOUR_TIMED_OUT, the text is only the reason.
///
/// Returns "" if no call has failed in this thread, and never NULL. The library owns the string. It is valid until the
/// next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_error_message() -> *const c_char {
    const NONE: &CStr = c"";
    LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|last| last.message.as_ptr()))
        .ok()
        .flatten()
        .unwrap_or(NONE.as_ptr())
}

/// Returns the `errno` of the system call that caused the last failure of the calling thread, or 0 if no system call
/// caused it.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_error_errno() -> c_int {
    LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|last| last.system)).ok().flatten().unwrap_or(0)
}

/// Returns the text with which a server answered a call, if the last failure of the calling thread is
/// PARLOUR_CALL_FAILED. If the server gave none, the text says why. After any other failure returns "", and never NULL.
///
/// This is the text as the server sent it, with control characters; zero bytes are replaced by '?'. Escape it before it
/// is printed, or print parlour_error_message(), in which it is escaped. The library owns the string. It is valid until
/// the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_error_failure() -> *const c_char {
    const NONE: &CStr = c"";
    LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|last| last.failure.as_ptr()))
        .ok()
        .flatten()
        .unwrap_or(NONE.as_ptr())
}
