//! One received message, and what came along with it.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;

use parlour::Message;

use crate::guard::{self, Failure, run_unit};
use crate::shared::parlour_shared;
use crate::status::parlour_status;

/// One whole message, which may be empty.
pub struct parlour_message {
    pub(crate) message: Message,
}

/// The bytes, as long as the message lives; not NULL, also of an empty one (NULL for NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_data(message: *const parlour_message) -> *const c_void {
    // SAFETY: the caller's contract.
    guard::value(std::ptr::null(), || Some(unsafe { message.as_ref() }?.message.as_ptr().cast()))
}

/// How many bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_length(message: *const parlour_message) -> usize {
    // SAFETY: the caller's contract.
    guard::value(0, || Some(unsafe { message.as_ref() }?.message.len()))
}

/// How many descriptors came along and were not taken out; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_fd_count(message: *const parlour_message) -> usize {
    // SAFETY: the caller's contract.
    guard::value(0, || Some(unsafe { message.as_ref() }?.message.fds().len()))
}

/// Takes all descriptors out: they are the caller's to close. `capacity` is how many `fds` has room for; where
/// there are more, nothing is taken and the status is PARLOUR_BUFFER_TOO_SMALL. `count` gets how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_take_fds(
    message: *mut parlour_message,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let message = unsafe { guard::exclusive(message, "the message") }?;
        // SAFETY: the caller's contract.
        unsafe { room_for(message, fds, capacity, count) }?;
        for (number, fd) in message.message.take_fds().into_iter().enumerate() {
            // SAFETY: there is room for so many.
            unsafe { guard::put_at(fds, number, fd.into_raw_fd()) };
        }
        Ok(())
    })
}

/// Takes all descriptors out as shared blocks, which are the caller's to free. When one is no such block, all are
/// closed, and the status is PARLOUR_PROTOCOL. Room is as for parlour_message_take_fds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_take_shared(
    message: *mut parlour_message,
    blocks: *mut *mut parlour_shared,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let message = unsafe { guard::exclusive(message, "the message") }?;
        // SAFETY: the caller's contract.
        unsafe { room_for(message, blocks, capacity, count) }?;
        let taken = message.message.take_shared();
        if taken.is_err() {
            // SAFETY: as above.
            unsafe { guard::put(count, 0) };
        }
        for (number, bytes) in taken?.into_iter().enumerate() {
            // SAFETY: there is room for so many.
            unsafe { guard::put_at(blocks, number, Box::into_raw(Box::new(parlour_shared { bytes }))) };
        }
        Ok(())
    })
}

/// Says how many descriptors there are, and whether there is room for them.
unsafe fn room_for<T>(
    message: &parlour_message,
    items: *mut T,
    capacity: usize,
    count: *mut usize,
) -> Result<(), Failure> {
    let present = message.message.fds().len();
    // SAFETY: the caller's contract.
    unsafe { guard::put(count, present) };
    if items.is_null() && capacity > 0 {
        return Err(Failure::null("the array"));
    }
    if present > capacity {
        let why = format!("{present} descriptors came, and there is room for {capacity}");
        return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, why.into()));
    }
    Ok(())
}

/// Frees a message, and closes the descriptors that were not taken out. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_free(message: *mut parlour_message) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(message) };
}
