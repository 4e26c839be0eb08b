//! The boundary: what comes in is checked, what goes out is a status, and no panic goes through.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::time::Duration;

use crate::error;
use crate::status::{parlour_status, status_of};

/// Why a call fails: a status, and the sentence for it.
#[derive(Debug)]
pub(crate) enum Failure {
    Error(parlour::Error),
    Here(parlour_status, Cow<'static, str>),
}

impl From<parlour::Error> for Failure {
    fn from(error: parlour::Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    pub(crate) fn null(what: &'static str) -> Self {
        Self::Here(parlour_status::PARLOUR_NULL_POINTER, format!("the pointer to {what} is NULL").into())
    }

    pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Here(parlour_status::PARLOUR_INVALID_ARGUMENT, why.into())
    }

    pub(crate) fn timed_out(why: &'static str) -> Self {
        Self::Here(parlour_status::PARLOUR_TIMED_OUT, why.into())
    }
}

/// Runs a call. Every function with a status goes through here.
pub(crate) fn run(work: impl FnOnce() -> Result<parlour_status, Failure>) -> parlour_status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(status)) => status,
        Ok(Err(Failure::Error(error))) => {
            error::remember(&error);
            status_of(error.kind())
        }
        Ok(Err(Failure::Here(status, why))) => {
            error::remember_text(&why);
            status
        }
        Err(panic) => {
            // What a panic carries may panic when it is dropped.
            std::mem::forget(panic);
            error::remember_text("a bug in the library: it panicked; the handle may be unusable");
            parlour_status::PARLOUR_INTERNAL
        }
    }
}

/// [`run`] of what gives nothing but success.
pub(crate) fn run_unit(work: impl FnOnce() -> Result<(), Failure>) -> parlour_status {
    run(|| work().map(|()| parlour_status::PARLOUR_OK))
}

/// Runs a call that has a value instead of a status.
pub(crate) fn value<T>(otherwise: T, work: impl FnOnce() -> Option<T>) -> T {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten().unwrap_or(otherwise)
}

/// A string of the caller's. The pointer is NULL or leads to one.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null("a string"));
    }
    // SAFETY: not NULL, so by the caller's contract a string that lives through the call.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| Failure::invalid("the string is not UTF-8, so it is not a name"))
}

/// Bytes of the caller's: NULL with the length 0, or so many.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    check_length(data, length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: neither NULL nor too long, so by the caller's contract so many bytes that live and stay as they are.
    Ok(unsafe { slice::from_raw_parts(data.cast(), length) })
}

/// Room of the caller's: NULL with the length 0, or so many bytes.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut c_void, length: usize) -> Result<&'a mut [u8], Failure> {
    check_length(data, length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: neither NULL nor too long, so by the caller's contract so many bytes that are this call's alone. That
    // they may not have been written yet does not matter: they are only given to the system to be written.
    Ok(unsafe { slice::from_raw_parts_mut(data.cast(), length) })
}

/// An array of the caller's: NULL with the length 0, or so many.
pub(crate) unsafe fn array<'a, T>(items: *const T, count: usize) -> Result<&'a [T], Failure> {
    check_length(items.cast(), count.saturating_mul(size_of::<T>()))?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: neither NULL nor too long, so by the caller's contract so many that live and stay as they are.
    Ok(unsafe { slice::from_raw_parts(items, count) })
}

fn check_length(data: *const c_void, length: usize) -> Result<(), Failure> {
    if length > isize::MAX as usize {
        return Err(Failure::invalid("the length is more than there can be"));
    }
    if data.is_null() && length > 0 { Err(Failure::null("bytes")) } else { Ok(()) }
}

/// A handle of the caller's, to be looked at.
pub(crate) unsafe fn shared<'a, T>(handle: *const T, what: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: NULL, or by the caller's contract a live handle.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// A handle of the caller's, which no other thread uses meanwhile.
pub(crate) unsafe fn exclusive<'a, T>(handle: *mut T, what: &'static str) -> Result<&'a mut T, Failure> {
    // SAFETY: NULL, or by the caller's contract a live handle that is this call's alone.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::null(what))
}

/// Takes a handle back from the caller; `None` for NULL.
pub(crate) unsafe fn taken<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: not NULL, so by the caller's contract one that `give` has made, and that is given back once.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// Frees a handle of the caller's.
pub(crate) unsafe fn free<T>(handle: *mut T) {
    // SAFETY: the caller's contract.
    let handle = unsafe { taken(handle) };
    value((), || {
        drop(handle);
        Some(())
    });
}

/// Gives the caller a new handle.
pub(crate) unsafe fn give<T>(out: *mut *mut T, value: T) {
    // SAFETY: checked not to be NULL by `check_out`, and writable by the caller's contract.
    unsafe { *out = Box::into_raw(Box::new(value)) };
}

/// Where a result is to go. It is NULL there until there is one, so that a failure leaves nothing behind to be used.
pub(crate) unsafe fn check_out<T>(out: *mut *mut T) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null("the result"));
    }
    // SAFETY: not NULL, so writable by the caller's contract.
    unsafe { *out = std::ptr::null_mut() };
    Ok(())
}

/// Writes a result that need not be asked for.
pub(crate) unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL, so writable by the caller's contract.
        unsafe { *out = value };
    }
}

/// Writes a result into an array of the caller's, which has room for it.
pub(crate) unsafe fn put_at<T>(items: *mut T, number: usize, value: T) {
    // SAFETY: within the caller's array.
    let place = unsafe { items.add(number) };
    // SAFETY: as above; what was there is only memory.
    unsafe { place.write(value) };
}

/// Time for which a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// The call waits for ever.
    Infinite,
    /// The call does not wait.
    Zero,
    /// The call waits this long at most.
    After(Duration),
}

impl Timeout {
    /// Converts milliseconds; less than 0 is for ever.
    pub(crate) fn of(timeout_ms: i64) -> Self {
        match u64::try_from(timeout_ms) {
            Err(_) => Self::Infinite,
            Ok(0) => Self::Zero,
            Ok(ms) => Self::After(Duration::from_millis(ms)),
        }
    }
}

/// Milliseconds of an option; less than 0 is as long as can be.
pub(crate) fn duration(ms: i64) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(run(|| panic!("a test panics on purpose")), parlour_status::PARLOUR_INTERNAL);
        assert_eq!(value(7, || panic!("so does this one")), 7);
    }
}
