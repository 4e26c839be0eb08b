//! Large immutable data that many processes read without copying it.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use parlour::SharedBytes;

use crate::guard::{self, Failure, run_unit};
use crate::status::parlour_status;

/// A block of bytes that never changes, in memory of its own (memfd_create(2)) that a process passes to others by its
/// descriptor. The memory is sealed: the kernel guarantees that no process can change it, including its creator.
pub struct parlour_shared {
    pub(crate) bytes: SharedBytes,
}

/// A function of the caller that writes a new block in place: `length` bytes at `data`, initially zero. `user` is the
/// argument of parlour_shared_build. It must return normally.
pub type parlour_fill = Option<unsafe extern "C" fn(data: *mut c_void, length: usize, user: *mut c_void)>;

/// Creates a block from a copy of `length` bytes at `data`, and stores it in `*shared`. Free it with
/// parlour_shared_free. `data` may be NULL if `length` is 0. Sending and receiving the block copies nothing. For less
/// than about 64 KiB an ordinary message is faster.
///
/// Errors:
/// - PARLOUR_IO: there is no memory or no descriptor left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_new(
    data: *const c_void,
    length: usize,
    shared: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shared) }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let bytes = SharedBytes::new(unsafe { guard::bytes(data, length) }?)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Creates a block of `length` bytes that `fill` writes in place, and stores it in `*shared`. Calls `fill` once, with
/// `user`, before it returns. `user` may be NULL. Free the block with parlour_shared_free.
///
/// Errors:
/// - PARLOUR_IO: there is no memory or no descriptor left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_build(
    length: usize,
    fill: parlour_fill,
    user: *mut c_void,
    shared: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shared) }?;
        let fill = fill.ok_or_else(|| Failure::null("the function"))?;
        let bytes = SharedBytes::build(length, |bytes| {
            // SAFETY: the caller passes a function that accepts a buffer of this length and this `user`.
            unsafe { fill(bytes.as_mut_ptr().cast(), bytes.len(), user) };
        })?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Creates a block from the descriptor of one, for example one of parlour_message_take_fds, and stores it in
/// `*shared`. Takes the ownership of `fd`, also when it fails (unless `fd` is negative): the caller must not close it.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: `fd` is negative.
/// - PARLOUR_PROTOCOL: the descriptor is not memory, is not sealed against every change, or is not allocated in full,
///   so that reading it could be a data race or raise a signal.
/// - PARLOUR_IO: the memory cannot be mapped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_from_fd(fd: c_int, shared: *mut *mut parlour_shared) -> parlour_status {
    run_unit(|| {
        if fd < 0 {
            return Err(Failure::invalid("the descriptor is negative"));
        }
        // SAFETY: not -1, so the caller passes an open descriptor, and gives it up.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shared) }?;
        let bytes = SharedBytes::try_from(fd)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shared, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Creates another handle of the same memory and stores it in `*clone`. Free it with parlour_shared_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_clone(
    shared: *const parlour_shared,
    clone: *mut *mut parlour_shared,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(clone) }?;
        // SAFETY: the caller passes NULL or a live block.
        let bytes = unsafe { guard::shared(shared, "the block") }?.bytes.clone();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(clone, parlour_shared { bytes }) };
        Ok(())
    })
}

/// Returns the bytes of a block. They are valid as long as the handle. Writing to them raises SIGSEGV. Returns NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_data(shared: *const parlour_shared) -> *const c_void {
    // SAFETY: the caller passes NULL or a live block.
    guard::value(std::ptr::null(), || Some(unsafe { shared.as_ref() }?.bytes.as_ptr().cast()))
}

/// Returns the length of a block in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_length(shared: *const parlour_shared) -> usize {
    // SAFETY: the caller passes NULL or a live block.
    guard::value(0, || Some(unsafe { shared.as_ref() }?.bytes.len()))
}

/// Returns the descriptor of the memory of a block. The block owns it. Returns -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_fd(shared: *const parlour_shared) -> c_int {
    // SAFETY: the caller passes NULL or a live block.
    guard::value(-1, || Some(unsafe { shared.as_ref() }?.bytes.as_fd().as_raw_fd()))
}

/// Frees a handle of a block. The memory is freed with the last handle in any process. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shared_free(shared: *mut parlour_shared) {
    // SAFETY: the caller passes NULL or a live block, and gives it up.
    unsafe { guard::free(shared) };
}
