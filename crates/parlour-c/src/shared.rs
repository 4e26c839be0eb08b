//! Large data that many processes read without copying it.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use parlour::SharedBytes;

use crate::guard::{self, Failure, run_unit};
use crate::status::parlour_status;

/// A block of bytes that never changes, in memory that is handed on by its descriptor.
pub struct parlour_shared {
    pub(crate) bytes: SharedBytes,
}

/// Writes a block in place: `length` bytes at `data`, zeros at first. It must return.
pub type parlour_fill = Option<unsafe extern "C" fn(data: *mut c_void, length: usize, user: *mut c_void)>;

/// Copies bytes into a block, the only copy that is ever made. `data` may be NULL when `length` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_new(
    data: *const c_void,
    length: usize,
    shared: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(shared) }?;
        // SAFETY: the caller's contract.
        let bytes = SharedBytes::new(unsafe { guard::bytes(data, length) }?)?;
        // SAFETY: checked above.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Has a block of `length` bytes written in place by `fill`, which is called once, with `user`, before this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_build(
    length: usize,
    fill: parlour_fill,
    user: *mut c_void,
    shared: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(shared) }?;
        let fill = fill.ok_or_else(|| Failure::null("the function"))?;
        let bytes = SharedBytes::build(length, |bytes| {
            // SAFETY: the caller's function, called as it was said that it would be.
            unsafe { fill(bytes.as_mut_ptr().cast(), bytes.len(), user) };
        })?;
        // SAFETY: checked above.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Makes a block of a descriptor of one that came by another way. Takes the descriptor in any case: it is not to be
/// closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_from_fd(fd: c_int, shared: *mut *mut parlour_shared) -> parlour_status {
    run_unit(|| {
        if fd < 0 {
            return Err(Failure::invalid("the number is not that of a descriptor"));
        }
        // SAFETY: not -1, so by the caller's contract a descriptor, which is ours from here on.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(shared) }?;
        let bytes = SharedBytes::try_from(fd)?;
        // SAFETY: checked above.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Another handle to the same memory, to be freed on its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_clone(
    shared: *const parlour_shared,
    clone: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(clone) }?;
        // SAFETY: the caller's contract.
        let bytes = unsafe { guard::shared(shared, "the block") }?.bytes.clone();
        // SAFETY: checked above.
        unsafe { guard::give(clone, parlour_shared { bytes }) };
        Ok(())
    })
}

/// The bytes, as long as the block lives. Writing to them is a fault. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_data(shared: *const parlour_shared) -> *const c_void {
    // SAFETY: the caller's contract.
    guard::value(std::ptr::null(), || Some(unsafe { shared.as_ref() }?.bytes.as_ptr().cast()))
}

/// How many bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_length(shared: *const parlour_shared) -> usize {
    // SAFETY: the caller's contract.
    guard::value(0, || Some(unsafe { shared.as_ref() }?.bytes.len()))
}

/// The descriptor of the memory, which stays the block's; -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_fd(shared: *const parlour_shared) -> c_int {
    // SAFETY: the caller's contract.
    guard::value(-1, || Some(unsafe { shared.as_ref() }?.bytes.as_fd().as_raw_fd()))
}

/// Frees a handle; the memory goes with the last one of all processes. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_free(shared: *mut parlour_shared) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(shared) };
}
