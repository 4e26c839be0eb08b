//! The boundary between C and Rust: checks of arguments, conversion of results, and the end of every panic.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;
use std::time::{Duration, Instant};

use parlour::{ErrorKind, TryRecvError, TrySendError};

use crate::error;
use crate::status::{parlour_status, status_of};

/// The failure of a call: a status, and the text for `parlour_error_message`.
#[derive(Debug)]
pub(crate) enum Failure {
    Error(parlour::Error),
    /// A system call failed. The text is the operation.
    Io(&'static str, std::io::Error),
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

    pub(crate) fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Here(parlour_status::PARLOUR_INVALID_ARGUMENT, reason.into())
    }

    /// Returns true if the status is that of this kind.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        match self {
            Self::Error(error) => error.kind() == kind,
            Self::Io(..) => kind == ErrorKind::Io,
            Self::Here(status, _) => *status == status_of(kind),
        }
    }

    fn timed_out(reason: &'static str) -> Self {
        Self::Here(parlour_status::PARLOUR_TIMED_OUT, reason.into())
    }

    /// Converts the error of a send that does not block. A full channel is a time-out.
    pub(crate) fn of_try_send<T>(error: TrySendError<T>, if_full: &'static str) -> Self {
        match error {
            TrySendError::Full(_) => Self::timed_out(if_full),
            TrySendError::Failed(error) => Self::Error(error),
        }
    }

    /// Converts the error of a call that does not block. Nothing to take is a time-out.
    pub(crate) fn of_try_recv(error: TryRecvError, if_empty: &'static str) -> Self {
        match error {
            TryRecvError::Empty => Self::timed_out(if_empty),
            TryRecvError::Failed(error) => Self::Error(error),
        }
    }
}

/// Runs a call and returns its status. Every function that returns a status uses it.
pub(crate) fn run(work: impl FnOnce() -> Result<parlour_status, Failure>) -> parlour_status {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(status)) => status,
        Ok(Err(Failure::Error(error))) => {
            error::remember(&error);
            status_of(error.kind())
        }
        Ok(Err(Failure::Io(operation, error))) => {
            error::remember_io(operation, &error);
            parlour_status::PARLOUR_IO
        }
        Ok(Err(Failure::Here(status, reason))) => {
            error::remember_text(&reason);
            status
        }
        Err(panic) => {
            // Dropping the value that a panic carries may panic again.
            std::mem::forget(panic);
            error::remember_text("the library panicked, which is a bug; free the handle, it may be unusable");
            parlour_status::PARLOUR_INTERNAL
        }
    }
}

/// Runs a call that returns `PARLOUR_OK` or fails.
pub(crate) fn run_unit(work: impl FnOnce() -> Result<(), Failure>) -> parlour_status {
    run(|| work().map(|()| parlour_status::PARLOUR_OK))
}

/// Runs a call that returns a value, not a status. Returns `otherwise` for `None` and after a panic.
pub(crate) fn value<T>(otherwise: T, work: impl FnOnce() -> Option<T>) -> T {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten().unwrap_or(otherwise)
}

/// Borrows a string of the caller.
///
/// # Safety
///
/// `text` is NULL, or a string that ends with a zero byte and lives unchanged during the call.
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::null("a string"));
    }
    // SAFETY: not NULL, so by the contract of this function a string that lives during the call.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| Failure::invalid("the string is not UTF-8, so it cannot be a name"))
}

/// Borrows bytes of the caller.
///
/// # Safety
///
/// `data` is NULL, or points to `length` initialised bytes that live unchanged during the call.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    check_length(data, length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: `data` is not NULL and `length` fits an `isize`. By the contract of this function the bytes live
    // unchanged during the call.
    Ok(unsafe { slice::from_raw_parts(data.cast(), length) })
}

/// Borrows a buffer of the caller.
///
/// # Safety
///
/// `data` is NULL, or points to `length` writable bytes that nothing else accesses during the call.
pub(crate) unsafe fn bytes_mut<'a>(data: *mut c_void, length: usize) -> Result<&'a mut [u8], Failure> {
    check_length(data, length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: `data` is not NULL and `length` fits an `isize`. By the contract of this function only this call
    // accesses the bytes. They may be uninitialised: this library never reads them, it only writes them or has the
    // kernel write them.
    Ok(unsafe { slice::from_raw_parts_mut(data.cast(), length) })
}

/// Borrows an array of the caller.
///
/// # Safety
///
/// `items` is NULL, or points to `count` aligned, initialised items that live unchanged during the call.
pub(crate) unsafe fn array<'a, T>(items: *const T, count: usize) -> Result<&'a [T], Failure> {
    check_length(items.cast(), count.saturating_mul(size_of::<T>()))?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: `items` is not NULL and the size of the array fits an `isize`. By the contract of this function the
    // items live unchanged during the call.
    Ok(unsafe { slice::from_raw_parts(items, count) })
}

fn check_length(data: *const c_void, length: usize) -> Result<(), Failure> {
    if length > isize::MAX as usize {
        return Err(Failure::invalid("the length exceeds the size of the address space"));
    }
    if data.is_null() && length > 0 { Err(Failure::null("bytes")) } else { Ok(()) }
}

/// Borrows a handle of the caller for reading.
///
/// # Safety
///
/// `handle` is NULL, or a live handle of this type that no other thread changes during the call.
pub(crate) unsafe fn shared<'a, T>(handle: *const T, what: &'static str) -> Result<&'a T, Failure> {
    // SAFETY: NULL, or by the contract of this function a live handle.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::null(what))
}

/// Borrows a handle of the caller for changing.
///
/// # Safety
///
/// `handle` is NULL, or a live handle of this type that no other thread uses during the call.
pub(crate) unsafe fn exclusive<'a, T>(handle: *mut T, what: &'static str) -> Result<&'a mut T, Failure> {
    // SAFETY: NULL, or by the contract of this function a live handle that only this call uses.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::null(what))
}

/// Takes the ownership of a handle from the caller. Returns `None` for NULL.
///
/// # Safety
///
/// `handle` is NULL, or a live handle of this type. The caller does not use it any more.
pub(crate) unsafe fn taken<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: not NULL, so by the contract of this function a handle that a `Box` made and that is taken once.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// Frees a handle of the caller. Does nothing for NULL.
///
/// # Safety
///
/// As for [`taken`].
pub(crate) unsafe fn free<T>(handle: *mut T) {
    // SAFETY: the contract of this function is that of `taken`.
    let handle = unsafe { taken(handle) };
    value((), || {
        drop(handle);
        Some(())
    });
}

/// Stores a new handle in a variable of the caller, who owns the handle from then on.
///
/// # Safety
///
/// [`check_out`] accepted `out`.
pub(crate) unsafe fn give<T>(out: *mut *mut T, value: T) {
    // SAFETY: `check_out` found `out` not to be NULL, so by its contract it is writable.
    unsafe { *out = Box::into_raw(Box::new(value)) };
}

/// Checks the variable of the caller that gets a handle, and sets it to NULL, so that a failure leaves no invalid
/// handle in it.
///
/// # Safety
///
/// `out` is NULL or writable during the call.
pub(crate) unsafe fn check_out<T>(out: *mut *mut T) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null("the result"));
    }
    // SAFETY: not NULL, so writable by the contract of this function.
    unsafe { *out = std::ptr::null_mut() };
    Ok(())
}

/// Stores a result in a variable of the caller. Does nothing for NULL.
///
/// # Safety
///
/// `out` is NULL or writable. What it points to needs no destructor.
pub(crate) unsafe fn put<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL, so writable by the contract of this function.
        unsafe { *out = value };
    }
}

/// Stores a result in an array of the caller.
///
/// # Safety
///
/// `items` points to a writable array of more than `index` items, which need no destructor.
pub(crate) unsafe fn put_at<T>(items: *mut T, index: usize, value: T) {
    // SAFETY: `index` is within the array by the contract of this function.
    let place = unsafe { items.add(index) };
    // SAFETY: writable by the contract of this function. The previous content needs no destructor.
    unsafe { place.write(value) };
}

/// The time for which a call may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    Infinite,
    Zero,
    After(Duration),
}

impl Timeout {
    /// Converts milliseconds. A negative number is an infinite timeout.
    pub(crate) fn of(timeout_ms: i64) -> Self {
        match u64::try_from(timeout_ms) {
            Err(_) => Self::Infinite,
            Ok(0) => Self::Zero,
            Ok(ms) => Self::After(Duration::from_millis(ms)),
        }
    }

    /// Returns the limit. `None` is an infinite timeout.
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::Infinite => None,
            Self::Zero => Some(Duration::ZERO),
            Self::After(duration) => Some(duration),
        }
    }

    /// Begins to count the time down, for a call of several steps. A time that the clock cannot represent is infinite.
    pub(crate) fn remaining(self) -> Remaining {
        Remaining(self.limit().and_then(|limit| Instant::now().checked_add(limit)))
    }
}

/// The time that a call has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remaining(Option<Instant>);

impl Remaining {
    /// Returns the time, or `None` for an infinite one.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// Converts the milliseconds of an option. A negative number is the longest duration.
pub(crate) fn duration(ms: i64) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(run(|| panic!("a test panics on purpose")), parlour_status::PARLOUR_INTERNAL);
        assert_eq!(value(7, || panic!("a test panics on purpose")), 7);
    }

    #[test]
    fn a_negative_timeout_is_infinite_and_zero_does_not_block() {
        assert_eq!([-1, i64::MIN].map(Timeout::of), [Timeout::Infinite; 2]);
        assert_eq!(Timeout::of(0), Timeout::Zero);
        assert_eq!(Timeout::of(50), Timeout::After(Duration::from_millis(50)));
        assert_eq!([-1, 0, 50].map(|ms| Timeout::of(ms).limit()), [None, Some(Duration::ZERO), Some(duration(50))]);
    }
}
