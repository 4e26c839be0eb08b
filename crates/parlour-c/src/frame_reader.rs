//! The side that receives frames.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::c_void;

use parlour::frames::{FrameLimits, FrameReader, ReceivedFrame, TrustedFrame, TrustingReader};
use rustix::process::geteuid;

use crate::connection::parlour_connection;
use crate::guard::{self, Failure, Timeout, run_unit};
use crate::message::parlour_message;
use crate::status::parlour_status;

/// The side that receives the frames of a pool over one connection. It need not live as long as its frames. A program
/// opens every message that is a frame: the block of a message that it frees unopened stays with this reader until the
/// reader and its frames are freed.
pub struct parlour_frame_reader {
    /// `None` only while it changes its kind, which cannot fail.
    kind: Option<Kind>,
}

enum Kind {
    Copying(FrameReader),
    Trusting(TrustingReader),
}

/// A frame that was received. Freeing it returns the block to the publisher.
pub struct parlour_received_frame {
    frame: Received,
    /// The length when it was opened: a forked child sees a trusted frame as empty.
    opened_length: usize,
}

enum Received {
    Copied(ReceivedFrame),
    Trusted(TrustedFrame),
}

/// Asks the publisher at the other end of a connection to admit this process as a reader, and stores the new reader in
/// `*reader`. Free it with parlour_frame_reader_free. The publisher passes the message to parlour_frame_pool_admit.
///
/// `frame_max` is the longest frame, and `bytes_max` the largest pool in bytes that this process maps; 0 stands for the
/// defaults, 256 MiB and 4 GiB. The frames of a larger pool arrive as copies. Blocks up to `timeout_ms` while the
/// channel is full.
///
/// Errors: those of parlour_send_payload. PARLOUR_REFUSED if the publisher allows no descriptors, and
/// PARLOUR_UNSUPPORTED on `fifo`. And:
/// - PARLOUR_IO: no memory or no descriptor is available.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_reader_attach(
    connection: *mut parlour_connection,
    frame_max: u64,
    bytes_max: u64,
    timeout_ms: i64,
    reader: *mut *mut parlour_frame_reader,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(reader) }?;
        // SAFETY: the caller passes NULL or a live connection that no other thread uses during the call.
        let mut sending = unsafe { guard::exclusive(connection, "the connection") }?.sending()?;
        let mut limits = FrameLimits::new();
        if frame_max > 0 {
            limits = limits.frame_max(frame_max);
        }
        if bytes_max > 0 {
            limits = limits.bytes_max(bytes_max);
        }
        let limit = Timeout::of(timeout_ms).limit();
        let attached = FrameReader::attach(&limits, |payload| sending.send(payload, limit))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(reader, parlour_frame_reader { kind: Some(Kind::Copying(attached)) }) };
        Ok(())
    })
}

/// Trusts the publisher at the other end of this connection: from now on parlour_received_frame_data returns the bytes
/// of frames in the memory of the publisher, without a copy and without a check.
///
/// The caller promises that neither the publisher nor a process that can write to its memory changes a block before
/// this reader has returned it: the pool of this library keeps to that, in a process without memory errors. The caller
/// also promises that each message that is opened was sent by this publisher to this reader, and is opened once. If a
/// promise is broken, the bytes may change while they are read. Reading them never raises a signal.
///
/// Errors:
/// - PARLOUR_DENIED: the publisher runs neither as the user of this process nor as root. Its frames can be copied.
/// - PARLOUR_INVALID_ARGUMENT: it is trusted already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_reader_trust_publisher(
    reader: *mut parlour_frame_reader,
    connection: *const parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live reader that no other thread uses during the call.
        let reader = unsafe { guard::exclusive(reader, "the reader") }?;
        // SAFETY: the caller passes NULL or a live connection.
        let uid = unsafe { guard::shared(connection, "the connection") }?.peer().uid();
        if uid != Some(geteuid().as_raw()) && uid != Some(0) {
            let reason = "the publisher of the frames is another user; copy its frames";
            return Err(Failure::Here(parlour_status::PARLOUR_DENIED, reason.into()));
        }
        match reader.kind.take() {
            Some(Kind::Copying(copying)) => {
                // SAFETY: the caller makes the promises that the description of this function names.
                reader.kind = Some(Kind::Trusting(unsafe { copying.trust_publisher() }));
                Ok(())
            }
            other => {
                reader.kind = other;
                Err(Failure::invalid("the publisher is trusted already"))
            }
        }
    })
}

/// Returns true if a message is a frame, to be opened with parlour_frame_reader_open. Returns false for NULL. A message
/// of the program that begins with the bytes c0 04 00 00 or c0 05 00 00 may be taken for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_reader_is_frame(message: *const parlour_message) -> bool {
    // SAFETY: the caller passes NULL or a live message.
    guard::value(false, || Some(FrameReader::is_frame(&unsafe { message.as_ref() }?.message)))
}

/// Makes a frame of a message of the publisher, and stores it in `*frame`. Free it with parlour_received_frame_free.
/// Frees `message`, also when it fails, but not if a pointer is NULL.
///
/// Errors:
/// - PARLOUR_PROTOCOL: the message is not a frame, or the publisher broke the protocol. End the connection.
/// - PARLOUR_UNSUPPORTED: this is a forked child.
/// - PARLOUR_IO: the memory of the publisher could not be mapped, so this frame is lost. The next one attempts it
///   again. Or no descriptor was available: attach again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_reader_open(
    reader: *mut parlour_frame_reader,
    message: *mut parlour_message,
    frame: *mut *mut parlour_received_frame,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(frame) }?;
        // SAFETY: the caller passes NULL or a live reader that no other thread uses during the call.
        let reader = unsafe { guard::exclusive(reader, "the reader") }?;
        // SAFETY: the caller passes NULL or a live message, and gives it up.
        let message = unsafe { guard::taken(message) }.ok_or_else(|| Failure::null("the message"))?.message;
        let opened = match &mut reader.kind {
            Some(Kind::Copying(reader)) => Received::Copied(reader.open(message)?),
            Some(Kind::Trusting(reader)) => Received::Trusted(reader.open(message)?),
            None => return Err(Failure::invalid("the reader is unusable")),
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(frame, parlour_received_frame::new(opened)) };
        Ok(())
    })
}

/// Frees a reader. Frames that it has opened remain valid. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_reader_free(reader: *mut parlour_frame_reader) {
    // SAFETY: the caller passes NULL or a live reader, and gives it up.
    unsafe { guard::free(reader) };
}

impl parlour_received_frame {
    fn new(frame: Received) -> Self {
        let mut opened = Self { frame, opened_length: 0 };
        opened.opened_length = opened.length();
        opened
    }

    fn note(&self) -> &[u8] {
        match &self.frame {
            Received::Copied(frame) => frame.note(),
            Received::Trusted(frame) => frame.note(),
        }
    }

    fn length(&self) -> usize {
        match &self.frame {
            Received::Copied(frame) => frame.len(),
            Received::Trusted(frame) => frame.len(),
        }
    }

    fn copy_to(&self, buffer: &mut [u8]) -> Result<(), Failure> {
        match &self.frame {
            Received::Copied(frame) => Ok(frame.copy_to_slice(buffer).map(drop)?),
            Received::Trusted(frame) => {
                // It is empty in a forked child.
                let Some(bytes) = frame.get(..buffer.len()).filter(|_| frame.len() == self.opened_length) else {
                    let reason = "this is a forked child, and the frame belongs to the parent: copy it before the fork";
                    return Err(Failure::Here(parlour_status::PARLOUR_UNSUPPORTED, reason.into()));
                };
                buffer.copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}

/// Returns the length of a frame in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_length(frame: *const parlour_received_frame) -> usize {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(0, || Some(unsafe { frame.as_ref() }?.length()))
}

/// Returns the note that was sent with a frame. The frame owns it. The pointer is not NULL even for an empty note.
/// Returns NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_note(frame: *const parlour_received_frame) -> *const c_void {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(std::ptr::null(), || Some(unsafe { frame.as_ref() }?.note().as_ptr().cast()))
}

/// Returns the length of the note of a frame in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_note_length(frame: *const parlour_received_frame) -> usize {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(0, || Some(unsafe { frame.as_ref() }?.note().len()))
}

/// Returns true if a frame is in the memory of the publisher, and false if it arrived as a copy, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_is_lent(frame: *const parlour_received_frame) -> bool {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(false, || match &unsafe { frame.as_ref() }?.frame {
        Received::Copied(frame) => Some(frame.is_lent()),
        Received::Trusted(frame) => Some(frame.is_lent()),
    })
}

/// Copies a frame into a buffer of `size` bytes, and checks that the publisher did not change it meanwhile, unless the
/// publisher is trusted. Stores the length of the frame in `*length`. `buffer` may be NULL if `size` is 0.
///
/// Errors: the buffer has unspecified content then, except after the first one.
/// - PARLOUR_BUFFER_TOO_SMALL: the frame is longer than `size`. `*length` is its length, and the buffer is unchanged.
/// - PARLOUR_PROTOCOL: the publisher changed the block before this frame was freed, so the copy may be torn.
/// - PARLOUR_UNSUPPORTED: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_copy(
    frame: *const parlour_received_frame,
    buffer: *mut c_void,
    size: usize,
    length: *mut usize,
) -> parlour_status {
    run_unit(|| {
        if length.is_null() {
            return Err(Failure::null("the length"));
        }
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, 0) };
        // SAFETY: the caller passes NULL or a live frame.
        let frame = unsafe { guard::shared(frame, "the frame") }?;
        // SAFETY: the caller passes NULL or `size` writable bytes that nothing else accesses during the call.
        let buffer = unsafe { guard::bytes_mut(buffer, size) }?;
        let needed = frame.length();
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(length, needed) };
        let Some(buffer) = buffer.get_mut(..needed) else {
            let reason = format!("the frame has {needed} bytes, and the buffer {size}");
            return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, reason.into()));
        };
        frame.copy_to(buffer)
    })
}

/// Returns the bytes of a frame in place, if the publisher is trusted (parlour_frame_reader_trust_publisher). They are
/// valid as long as the handle. Writing to them raises SIGSEGV. Returns NULL if the publisher was not trusted when the
/// frame was opened, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_data(frame: *const parlour_received_frame) -> *const c_void {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(std::ptr::null(), || match &unsafe { frame.as_ref() }?.frame {
        Received::Trusted(frame) => Some(frame.as_ptr().cast()),
        Received::Copied(_) => None,
    })
}

/// Frees a frame, and returns its block to the publisher. Any thread may do this. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_received_frame_free(frame: *mut parlour_received_frame) {
    // SAFETY: the caller passes NULL or a live frame, and gives it up.
    unsafe { guard::free(frame) };
}
