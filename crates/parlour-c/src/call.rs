//! A request that a server answers.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_void};
use std::ptr;

use parlour::calls::Call;

use crate::guard::{self, Failure, Timeout, run_unit};
use crate::message::parlour_message;
use crate::peer::parlour_peer;
use crate::status::parlour_status;

/// A request of a client, which is to be answered, at once or later, by any thread and in any order. One thread at a
/// time may use it, as every handle. It may outlive its server.
///
/// parlour_call_reply, parlour_call_end and parlour_call_fail answer a call and free it, whatever they return. A call
/// that is freed without an answer fails at its caller, so no caller waits for ever. The answers of the thread that
/// takes the calls are sent by its next parlour_call_server_next.
pub struct parlour_call {
    call: Call,
}

impl parlour_call {
    pub(crate) fn new(call: Call) -> Self {
        Self { call }
    }
}

/// Answers a call of the caller, who gives it up.
///
/// # Safety
///
/// `call` is NULL or a live call.
unsafe fn finish(call: *mut parlour_call, answer: impl FnOnce(Call) -> Result<(), Failure>) -> parlour_status {
    run_unit(|| {
        // SAFETY: NULL or a live call that the caller gives up, by the contract of this function.
        let taken = unsafe { guard::taken(call) }.ok_or_else(|| Failure::null("the call"))?;
        answer(taken.call)
    })
}

/// Returns the bytes of a request. The call owns them. The pointer is not NULL even for an empty request. Returns NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_data(call: *const parlour_call) -> *const c_void {
    // SAFETY: the caller passes NULL or a live call.
    guard::value(ptr::null(), || Some(unsafe { call.as_ref() }?.call.as_ptr().cast()))
}

/// Returns the length of a request in bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_length(call: *const parlour_call) -> usize {
    // SAFETY: the caller passes NULL or a live call.
    guard::value(0, || Some(unsafe { call.as_ref() }?.call.len()))
}

/// Takes the request out of a call, with its descriptors, and stores a handle of it in `*request`. Free it with
/// parlour_message_free. An empty request stays in the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_take_request(
    call: *mut parlour_call,
    request: *mut *mut parlour_message,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(request) }?;
        // SAFETY: the caller passes NULL or a live call that no other thread uses during the call.
        let message = unsafe { guard::exclusive(call, "the call") }?.call.take_request();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(request, parlour_message { message }) };
        Ok(())
    })
}

/// Returns the number of the client that calls, which is unique within the server, for parlour_pusher_push. Returns 0
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_client(call: *const parlour_call) -> u64 {
    // SAFETY: the caller passes NULL or a live call.
    guard::value(0, || Some(unsafe { call.as_ref() }?.call.client()))
}

/// Stores the identity of the client in `*peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_peer(call: *const parlour_call, peer: *mut parlour_peer) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller passes NULL or a live call.
        let call = unsafe { guard::shared(call, "the call") }?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(peer, parlour_peer::of(call.call.peer())) };
        Ok(())
    })
}

/// Returns true if nobody waits for the answer any more: the call has timed out or was given up, or the client has
/// gone. A thread that works long looks from time to time. Returns false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_is_cancelled(call: *const parlour_call) -> bool {
    // SAFETY: the caller passes NULL or a live call.
    guard::value(false, || Some(unsafe { call.as_ref() }?.call.is_cancelled()))
}

/// Waits up to `timeout_ms` until nobody waits for the answer any more. Several threads may wait for the same call.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: the caller still waits.
/// - PARLOUR_BUSY: this thread was the last one that called parlour_call_server_next, and would not learn of it.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_wait_cancelled(call: *const parlour_call, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live call.
        let call = &unsafe { guard::shared(call, "the call") }?.call;
        match Timeout::of(timeout_ms).limit() {
            None => Ok(call.wait_cancelled()?),
            Some(limit) => Ok(call.wait_cancelled_timeout(limit)?),
        }
    })
}

/// Answers with one of several messages: the `length` bytes at `data`. The call stays open; parlour_call_end ends the
/// answers. Blocks up to `timeout_ms` while more than 1 MiB of items waits for the client. Several threads may send
/// items of the same call.
///
/// Errors: nothing was sent, and the call is still open.
/// - PARLOUR_TIMED_OUT: the client takes the items too slowly.
/// - PARLOUR_BUSY: the client takes the items too slowly, and this thread was the last one that called
///   parlour_call_server_next, which must not wait for a client. Send many items from another thread.
/// - PARLOUR_DISCONNECTED: nobody waits for the answer any more, as after parlour_call_is_cancelled.
/// - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
/// - PARLOUR_SHUTDOWN: the server has ended.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_item(
    call: *const parlour_call,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live call.
        let call = &unsafe { guard::shared(call, "the call") }?.call;
        // SAFETY: the caller passes NULL or `length` bytes.
        let item = unsafe { guard::bytes(data, length) }?;
        match Timeout::of(timeout_ms).limit() {
            None => Ok(call.item(item)?),
            Some(limit) => Ok(call.item_timeout(item, limit)?),
        }
    })
}

/// Answers a call with one message, the `length` bytes at `data`, and frees it in any case. Does not block: the message
/// is queued.
///
/// Errors: the call fails at its caller, if it still waits.
/// - PARLOUR_DISCONNECTED: nobody waits for the answer any more.
/// - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
/// - PARLOUR_SHUTDOWN: the server has ended.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_reply(
    call: *mut parlour_call,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    let reply = |call: Call| {
        // SAFETY: the caller passes NULL or `length` bytes.
        let answer = unsafe { guard::bytes(data, length) }?;
        Ok(call.reply(answer)?)
    };
    // SAFETY: the caller passes NULL or a live call, and gives it up.
    unsafe { finish(call, reply) }
}

/// Ends the answers that parlour_call_item has sent, and frees the call in any case. Does not block.
///
/// Errors: those of parlour_call_reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_end(call: *mut parlour_call) -> parlour_status {
    // SAFETY: the caller passes NULL or a live call, and gives it up.
    unsafe { finish(call, |call| Ok(call.end()?)) }
}

/// Answers a call with an error, and frees it in any case. The caller gets PARLOUR_CALL_FAILED and this text. A text
/// that is longer than a message may be is cut. Does not block.
///
/// Errors: those of parlour_call_reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_fail(call: *mut parlour_call, text: *const c_char) -> parlour_status {
    let fail = |call: Call| {
        // SAFETY: the caller passes NULL or a string.
        let text = unsafe { guard::text(text) }?;
        Ok(call.fail(text)?)
    };
    // SAFETY: the caller passes NULL or a live call, and gives it up.
    unsafe { finish(call, fail) }
}

/// Frees a call. It fails at its caller. In a forked child the parent's call is not affected. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_free(call: *mut parlour_call) {
    // SAFETY: the caller passes NULL or a live call, and gives it up.
    unsafe { guard::free(call) };
}
