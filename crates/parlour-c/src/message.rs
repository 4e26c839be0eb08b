//! One received message, with its descriptors.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::os::fd::IntoRawFd;

use parlour::Message;

use crate::guard::{self, Failure, run_unit};
use crate::shared::parlour_shared;
use crate::status::parlour_status;

/// One received message, whole, as the peer sent it. It may be empty.
pub struct parlour_message {
    pub(crate) message: Message,
}

/// Returns the bytes of a message. The message owns them. The pointer is not NULL even for an empty message. Returns
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_data(message: *const parlour_message) -> *const c_void {
    // SAFETY: the caller passes NULL or a live message.
    guard::value(std::ptr::null(), || Some(unsafe { message.as_ref() }?.message.as_ptr().cast()))
}

/// Returns the length of a message in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_length(message: *const parlour_message) -> usize {
    // SAFETY: the caller passes NULL or a live message.
    guard::value(0, || Some(unsafe { message.as_ref() }?.message.len()))
}

/// Returns the number of descriptors that a message still has, or 0 for NULL. There are none unless
/// parlour_server_options_fds_max or parlour_connect_options_fds_max allows some.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_fd_count(message: *const parlour_message) -> usize {
    // SAFETY: the caller passes NULL or a live message.
    guard::value(0, || Some(unsafe { message.as_ref() }?.message.fds().len()))
}

/// Takes all descriptors out of a message, in the order in which they were sent, and stores them in `fds`, an array of
/// `capacity` elements. The caller closes them. They are close-on-exec. `fds` may be NULL if `capacity` is 0. Stores
/// the number of descriptors in `*count`, which may be NULL.
///
/// Errors:
/// - PARLOUR_BUFFER_TOO_SMALL: there are more descriptors than `capacity`. Nothing was taken, and `*count` is their
///   number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_take_fds(
    message: *mut parlour_message,
    fds: *mut c_int,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live message that no other thread uses during the call.
        let message = unsafe { guard::exclusive(message, "the message") }?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { check_capacity(message, fds, capacity, count) }?;
        for (index, fd) in message.message.take_fds().into_iter().enumerate() {
            // SAFETY: `check_capacity` found more elements than `index` in the array.
            unsafe { guard::put_at(fds, index, fd.into_raw_fd()) };
        }
        Ok(())
    })
}

/// Takes all descriptors out of a message as shared blocks, and stores them in `blocks`, an array of `capacity`
/// elements. Free each with parlour_shared_free. `blocks` may be NULL if `capacity` is 0. Stores the number of blocks
/// in `*count`, which may be NULL.
///
/// Errors:
/// - PARLOUR_BUFFER_TOO_SMALL: there are more descriptors than `capacity`. Nothing was taken, and `*count` is their
///   number.
/// - PARLOUR_PROTOCOL: one of the descriptors is not a shared block. All of them were closed, and `*count` is 0.
/// - PARLOUR_IO: a block cannot be mapped. All descriptors were closed, and `*count` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_take_shared(
    message: *mut parlour_message,
    blocks: *mut *mut parlour_shared,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live message that no other thread uses during the call.
        let message = unsafe { guard::exclusive(message, "the message") }?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { check_capacity(message, blocks, capacity, count) }?;
        let taken = message.message.take_shared();
        if taken.is_err() {
            // SAFETY: the caller passes NULL or a writable pointer.
            unsafe { guard::put(count, 0) };
        }
        for (index, bytes) in taken?.into_iter().enumerate() {
            // SAFETY: `check_capacity` found more elements than `index` in the array.
            unsafe { guard::put_at(blocks, index, Box::into_raw(Box::new(parlour_shared { bytes }))) };
        }
        Ok(())
    })
}

/// Stores the number of descriptors in `*count`, and checks that an array of the caller can hold them.
///
/// # Safety
///
/// `count` is NULL or writable.
unsafe fn check_capacity<T>(
    message: &parlour_message,
    items: *mut T,
    capacity: usize,
    count: *mut usize,
) -> Result<(), Failure> {
    let present = message.message.fds().len();
    // SAFETY: NULL or writable, by the contract of this function.
    unsafe { guard::put(count, present) };
    if items.is_null() && capacity > 0 {
        return Err(Failure::null("the array"));
    }
    if present > capacity {
        let reason = format!("the message has {present} descriptors, and the array holds {capacity}");
        return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, reason.into()));
    }
    Ok(())
}

/// Frees a message and closes the descriptors that it still has. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_message_free(message: *mut parlour_message) {
    // SAFETY: the caller passes NULL or a live message, and gives it up.
    unsafe { guard::free(message) };
}
