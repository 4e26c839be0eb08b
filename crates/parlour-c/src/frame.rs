//! A block of a pool in the hands of its publisher.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::c_void;

use parlour::frames::{Frame, FrameMut};

use crate::guard::{self, Failure, run_unit};
use crate::status::parlour_status;

/// A frame of a pool: a block that this process fills in place, and then sends to any number of readers. It has all
/// bytes of the block at first, with the content of an earlier frame or zeros. One thread at a time may use it, and it
/// may outlive its pool. In a forked child it is empty, because the block belongs to the parent.
pub struct parlour_frame {
    /// `None` only while a block changes its state, which cannot fail.
    state: Option<State>,
}

enum State {
    Filling(FrameMut),
    /// It was sent, or is being sent.
    Frozen(Frame),
}

impl parlour_frame {
    pub(crate) fn new(frame: FrameMut) -> Self {
        Self { state: Some(State::Filling(frame)) }
    }

    /// Ends the writing, and returns the frame.
    pub(crate) fn frozen(&mut self) -> Result<&Frame, Failure> {
        self.state = match self.state.take() {
            Some(State::Filling(frame)) => Some(State::Frozen(frame.freeze())),
            other => other,
        };
        match &self.state {
            Some(State::Frozen(frame)) => Ok(frame),
            _ => Err(Failure::invalid("the frame is unusable")),
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self.state.as_ref()? {
            State::Filling(frame) => Some(frame),
            State::Frozen(frame) => Some(frame),
        }
    }
}

/// Returns the bytes of a frame, to be written. They are valid as long as the handle, and must not be written any more
/// once the frame is sent. Returns NULL for a frame that was sent, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_buffer(frame: *mut parlour_frame) -> *mut c_void {
    // SAFETY: the caller passes NULL or a live frame that no other thread uses during the call.
    guard::value(std::ptr::null_mut(), || match unsafe { frame.as_mut() }?.state.as_mut()? {
        State::Filling(frame) => Some(frame.as_mut_ptr().cast()),
        State::Frozen(_) => None,
    })
}

/// Returns the bytes of a frame, to be read, also after it was sent. They are valid as long as the handle. Returns NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_data(frame: *const parlour_frame) -> *const c_void {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(std::ptr::null(), || Some(unsafe { frame.as_ref() }?.bytes()?.as_ptr().cast()))
}

/// Returns the length of a frame in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_length(frame: *const parlour_frame) -> usize {
    // SAFETY: the caller passes NULL or a live frame.
    guard::value(0, || Some(unsafe { frame.as_ref() }?.bytes()?.len()))
}

/// Shortens a frame to `length` bytes. Has no effect if it is not longer.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: the frame was sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_truncate(frame: *mut parlour_frame, length: usize) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live frame that no other thread uses during the call.
        match &mut unsafe { guard::exclusive(frame, "the frame") }?.state {
            Some(State::Filling(frame)) => {
                frame.truncate(length);
                Ok(())
            }
            _ => Err(Failure::invalid("the frame was sent, and cannot be changed any more")),
        }
    })
}

/// Frees a frame. Its block can be filled again when every reader has returned it, and at once if it was not sent. Does
/// nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_frame_free(frame: *mut parlour_frame) {
    // SAFETY: the caller passes NULL or a live frame, and gives it up.
    unsafe { guard::free(frame) };
}
