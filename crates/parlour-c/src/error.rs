//! The sentence for the last failure of a thread.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_int};
use std::io;

struct Last {
    message: CString,
    system: c_int,
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

pub(crate) fn remember(error: &parlour::Error) {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    keep(&error.to_string(), source.and_then(io::Error::raw_os_error).unwrap_or(0));
}

pub(crate) fn remember_text(text: &str) {
    keep(text, 0);
}

fn keep(text: &str, system: c_int) {
    // A zero byte would end it early.
    let message = CString::new(text.replace('\0', "?")).unwrap_or_default();
    // At the very end of a thread there is no place for it any more, and nobody to ask for it.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(Last { message, system })));
}

/// What went wrong in the last call of this thread that failed: one sentence that names the operation, the object,
/// the reason and, where there is one, the next step. "" when none has failed. It is the library's, and valid until
/// the next call of this thread that fails. Never NULL. Not for signal handlers.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_error_message() -> *const c_char {
    const NONE: &CStr = c"";
    LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|last| last.message.as_ptr()))
        .ok()
        .flatten()
        .unwrap_or(NONE.as_ptr())
}

/// The `errno` of the system call behind the last failure of this thread; 0 where there was none.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_error_errno() -> c_int {
    LAST.try_with(|last| last.try_borrow().ok()?.as_ref().map(|last| last.system)).ok().flatten().unwrap_or(0)
}
