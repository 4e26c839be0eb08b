//! One message to send, as a struct of the caller.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use libc::iovec;
use parlour::{Payload, SharedBytes};

use crate::guard::{self, Failure};
use crate::shared::parlour_shared;

/// One message to send: its bytes, and the descriptors or shared blocks that are attached to it.
///
/// Initialise the struct to zero and set the fields that are needed; a count or length of 0 means "none". A message
/// without bytes is an empty message, which is valid. The caller keeps the ownership of everything, and may reuse and
/// free it after the call. The pointers are read during the call only.
///
/// Example: `{.data = "read this", .length = 9, .fds = &fd, .fd_count = 1}` is a message with one descriptor.
///
/// PARLOUR_INVALID_ARGUMENT: both `length` and `part_count` are not 0; both `fd_count` and `block_count` are not 0; or
/// a descriptor is negative. PARLOUR_NULL_POINTER: an array is NULL although its count is not 0, or a block is NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct parlour_payload {
    /// The bytes of the message, if they lie in one part.
    pub data: *const c_void,
    /// The number of bytes at `data`.
    pub length: usize,
    /// The bytes of the message, if they lie in several parts. They are sent in order, and are not copied together
    /// first, as with writev(2). A part may be empty.
    pub parts: *const iovec,
    /// The number of elements of `parts`.
    pub part_count: usize,
    /// Open descriptors, at most 253. The receiver gets duplicates. `unix` and `packet` carry them, and the receiver
    /// must allow as many (parlour_server_options_fds_max, parlour_connect_options_fds_max).
    pub fds: *const c_int,
    /// The number of elements of `fds`.
    pub fd_count: usize,
    /// Shared blocks, at most 253. They are not copied; the receiver maps the same memory. `shm`, `packet` and `unix`
    /// carry them, and the receiver must allow as many descriptors.
    pub blocks: *const *const parlour_shared,
    /// The number of elements of `blocks`.
    pub block_count: usize,
}

/// A payload of the caller, checked and borrowed.
pub(crate) struct Borrowed<'a> {
    bytes: &'a [u8],
    parts: Vec<IoSlice<'a>>,
    fds: Vec<BorrowedFd<'a>>,
    blocks: Vec<&'a SharedBytes>,
}

impl<'a> Borrowed<'a> {
    /// Checks a payload and borrows what it points to.
    ///
    /// # Safety
    ///
    /// `payload` is NULL or points to a payload. Each pointer in it is NULL or points to as many items as its count or
    /// length says. All of them live unchanged during the call. The descriptors are open, and the blocks are live.
    pub(crate) unsafe fn of(payload: *const parlour_payload) -> Result<Self, Failure> {
        // SAFETY: NULL or a payload, by the contract of this function.
        let payload = unsafe { guard::shared(payload, "the payload") }?;
        if payload.length > 0 && payload.part_count > 0 {
            return Err(Failure::invalid("the payload has both data and parts; set one of them"));
        }
        if payload.fd_count > 0 && payload.block_count > 0 {
            return Err(Failure::invalid("the payload has both descriptors and blocks; send them with two messages"));
        }

        // SAFETY: NULL or `length` bytes, by the contract of this function.
        let bytes = unsafe { guard::bytes(payload.data, payload.length) }?;
        // SAFETY: NULL or `part_count` elements, by the contract of this function.
        let parts = unsafe { guard::array(payload.parts, payload.part_count) }?;
        let part = |part: &iovec| {
            // SAFETY: each part is NULL or as many bytes as it says, by the contract of this function.
            Ok(IoSlice::new(unsafe { guard::bytes(part.iov_base, part.iov_len) }?))
        };
        let parts = parts.iter().map(part).collect::<Result<_, Failure>>()?;

        // SAFETY: NULL or `fd_count` elements, by the contract of this function.
        let numbers: &[c_int] = unsafe { guard::array(payload.fds, payload.fd_count) }?;
        if numbers.iter().any(|&fd| fd < 0) {
            return Err(Failure::invalid("a descriptor of the payload is negative"));
        }
        // SAFETY: not -1, and open during the call by the contract of this function.
        let fds = numbers.iter().map(|&fd| unsafe { BorrowedFd::borrow_raw(fd) }).collect();

        // SAFETY: NULL or `block_count` elements, by the contract of this function.
        let handles: &[*const parlour_shared] = unsafe { guard::array(payload.blocks, payload.block_count) }?;
        let block = |&handle: &*const parlour_shared| {
            // SAFETY: NULL or a live block, by the contract of this function.
            Ok(&unsafe { guard::shared(handle, "a block") }?.bytes)
        };
        let blocks = handles.iter().map(block).collect::<Result<_, Failure>>()?;
        Ok(Self { bytes, parts, fds, blocks })
    }

    /// Returns the payload for the Rust library.
    pub(crate) fn payload(&self) -> Payload<'_> {
        let payload = match self.parts.is_empty() {
            true => Payload::new(self.bytes),
            false => Payload::vectored(&self.parts),
        };
        // Each of the two replaces what the other one attached.
        match self.blocks.is_empty() {
            true => payload.fds(&self.fds),
            false => payload.shared(&self.blocks),
        }
    }
}
