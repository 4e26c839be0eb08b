//! A client that sends requests, and receives the answer to each.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_void};

use parlour::calls::{CallStream, CallerStats};
use parlour::{Caller, Message, Payload};

use crate::connection::parlour_connection;
use crate::guard::{self, Failure, Timeout, run, run_unit};
use crate::message::parlour_message;
use crate::options::{change, parlour_connect_options};
use crate::payload::{Borrowed, parlour_payload};
use crate::peer::{parlour_peer, parlour_transport};
use crate::status::parlour_status;

/// A client that calls a server: it sends requests, and receives the answer to each. Any number of threads may call at
/// the same time, over the one connection, and no call delays another.
///
/// Each request carries a number, and so does its answer. An answer therefore reaches the call that it belongs to, in
/// whatever order the server answers, and however late. The server must answer calls: parlour_call_server, or
/// Server::serve_calls in Rust. Another one is found by the first call, gets no request, and is PARLOUR_PROTOCOL.
///
/// The library has no thread that receives. One of the threads that wait receives for all of them. While no thread is
/// in a call, nothing is received.
pub struct parlour_caller {
    caller: Caller,
}

/// The answers of a server to one request. See parlour_caller_call_stream.
pub struct parlour_call_stream {
    stream: CallStream,
}

/// The counts of a caller since it was created.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct parlour_call_stats {
    /// The number of calls that are open now.
    pub open: usize,
    /// The number of messages that answered no open call, and were dropped: the call had timed out, or was freed.
    pub late_answers: u64,
    /// The number of pushed messages that were dropped because nobody took them.
    pub pushes_dropped: u64,
}

impl parlour_call_stats {
    fn of(stats: CallerStats) -> Self {
        Self { open: stats.open, late_answers: stats.late_answers, pushes_dropped: stats.pushes_dropped }
    }
}

impl parlour_caller {
    fn call(&self, request: Payload<'_>, timeout: Timeout) -> Result<Message, Failure> {
        match timeout.limit() {
            None => Ok(self.caller.call(request)?),
            Some(limit) => Ok(self.caller.call_timeout(request, limit)?),
        }
    }

    fn stream(&self, request: Payload<'_>, timeout: Timeout) -> Result<CallStream, Failure> {
        match timeout.limit() {
            None => Ok(self.caller.call_stream(request)?),
            Some(limit) => Ok(self.caller.call_stream_timeout(request, limit)?),
        }
    }

    fn next_push(&self, timeout: Timeout) -> Result<Option<Message>, Failure> {
        match timeout {
            Timeout::Infinite => Ok(self.caller.next_push()?),
            Timeout::Zero => self
                .caller
                .try_next_push()
                .map_err(|error| Failure::of_try_recv(error, "no pushed message has arrived")),
            Timeout::After(limit) => Ok(self.caller.next_push_timeout(limit)?),
        }
    }
}

impl parlour_call_stream {
    fn next(&mut self, timeout: Timeout) -> Result<Option<Message>, Failure> {
        match timeout.limit() {
            None => Ok(self.stream.next().transpose()?),
            Some(limit) => Ok(self.stream.next_timeout(limit)?),
        }
    }
}

/// Stores a handle of a message in `*message`. Without one, the stream has ended.
///
/// # Safety
///
/// `check_out` accepted `message`.
unsafe fn give_next(message: *mut *mut parlour_message, next: Option<Message>) -> parlour_status {
    let Some(next) = next else { return parlour_status::PARLOUR_END };
    // SAFETY: `check_out` accepted the pointer, by the contract of this function.
    unsafe { guard::give(message, parlour_message { message: next }) };
    parlour_status::PARLOUR_OK
}

/// Sets how many bytes of items are kept for one stream of a caller and not taken yet. Each item counts 64 bytes more
/// than its length, and the first one is always kept. Default 1 MiB. If more arrive, the stream ends with PARLOUR_BUSY
/// after those that are kept. For parlour_caller_connect and parlour_caller_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_stream_buffer_max(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.caller, |caller| caller.stream_buffer_max(bytes)) }
}

/// Sets how many bytes of pushed messages a caller keeps that are not taken yet. Each message counts 64 bytes more than
/// its length, and the newest one is always kept. Default 1 MiB. The oldest ones are dropped and counted. For
/// parlour_caller_connect and parlour_caller_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_push_buffer_max(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.caller, |caller| caller.push_buffer_max(bytes)) }
}

/// Connects to the server that holds a name, and stores a caller in `*caller`. Free it with parlour_caller_free.
///
/// `address` and `options` are as for parlour_connect. `options` may be NULL for the defaults.
///
/// Errors: those of parlour_connect, and:
/// - PARLOUR_IO: no descriptor is available. A caller takes one beside those of its connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_connect(
    address: *const c_char,
    options: *const parlour_connect_options,
    caller: *mut *mut parlour_caller,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(caller) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let connected = match unsafe { options.as_ref() } {
            Some(options) => options.caller.caller(options.options.connect(address)?)?,
            None => Caller::connect(address)?,
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(caller, parlour_caller { caller: connected }) };
        Ok(())
    })
}

/// Makes calls over a connection on which nothing was sent and received, such as that of parlour_connection_from_env,
/// and stores a caller in `*caller`. Free it with parlour_caller_free. Takes the connection, which must not be used or
/// freed any more. Of `options`, only those of callers apply; NULL stands for the defaults.
///
/// Errors: after PARLOUR_NULL_POINTER and PARLOUR_UNSUPPORTED the connection is as before, and otherwise it was freed.
/// - PARLOUR_UNSUPPORTED: the connection was split, or belongs to a session.
/// - PARLOUR_DISCONNECTED: the server has ended the connection.
/// - PARLOUR_IO: no descriptor is available.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_new(
    connection: *mut parlour_connection,
    options: *const parlour_connect_options,
    caller: *mut *mut parlour_caller,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(caller) }?;
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.caller.clone()).unwrap_or_default();
        // SAFETY: the caller passes NULL or a live connection, and gives it up.
        let whole = unsafe { parlour_connection::taken(connection) }?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(caller, parlour_caller { caller: options.caller(whole)? }) };
        Ok(())
    })
}

/// Sends a request of `length` bytes at `data`, waits for the answer, and stores a handle of it in `*answer`. Free it
/// with parlour_message_free. Any number of threads may call at the same time.
///
/// `timeout_ms` includes the wait for the channel to take the request. After it the server is told that the answer is
/// not wanted any more, and an answer that arrives nevertheless is dropped. The server may have executed the request. A
/// timeout of 0 is too short for any answer.
///
/// Errors: none but the last four ends the connection.
/// - PARLOUR_TIMED_OUT: no answer has arrived. The text says so if no request was sent.
/// - PARLOUR_CALL_FAILED: the server answered with an error, or dropped the call. parlour_error_failure() is its text.
/// - PARLOUR_BUSY: the server has as many open calls of this client, or as many bytes of their requests, as it allows.
///   It did not begin this one. Call again later.
/// - PARLOUR_MESSAGE_TOO_LONG: the request, with its header of 8 bytes, is longer than the limit.
/// - PARLOUR_UNSUPPORTED: the server answered with several messages. Use parlour_caller_call_stream.
/// - PARLOUR_NAME_LOST: this is a forked child.
/// - PARLOUR_DISCONNECTED, PARLOUR_TRUNCATED: the server has gone. It may have executed the request.
/// - PARLOUR_PROTOCOL: the server does not answer calls, or broke the protocol.
/// - PARLOUR_REFUSED: the server did not admit this client.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_call(
    caller: *const parlour_caller,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
    answer: *mut *mut parlour_message,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(answer) }?;
        // SAFETY: the caller passes NULL or a live caller.
        let caller = unsafe { guard::shared(caller, "the caller") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let request = unsafe { guard::bytes(data, length) }?;
        let message = caller.call(Payload::new(request), Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(answer, parlour_message { message }) };
        Ok(())
    })
}

/// Calls as parlour_caller_call does, with a request of bytes in one part or in several, and descriptors or shared
/// blocks. See parlour_payload. The server gets them with parlour_call_take_request.
///
/// Errors: those of parlour_caller_call, parlour_payload and parlour_send_payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_call_payload(
    caller: *const parlour_caller,
    payload: *const parlour_payload,
    timeout_ms: i64,
    answer: *mut *mut parlour_message,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(answer) }?;
        // SAFETY: the caller passes NULL or a live caller.
        let caller = unsafe { guard::shared(caller, "the caller") }?;
        // SAFETY: the caller passes NULL or a payload that is as parlour_payload describes it.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        let message = caller.call(borrowed.payload(), Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(answer, parlour_message { message }) };
        Ok(())
    })
}

/// Sends a request of `length` bytes at `data` that has several answers, and stores a handle of them in `*stream`. Free
/// it with parlour_call_stream_free. Blocks up to `timeout_ms` until the request is sent, and for the first call until
/// the server has said that it answers calls.
///
/// Errors: those of parlour_caller_call that concern the request. After PARLOUR_TIMED_OUT nothing was sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_call_stream(
    caller: *const parlour_caller,
    data: *const c_void,
    length: usize,
    timeout_ms: i64,
    stream: *mut *mut parlour_call_stream,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(stream) }?;
        // SAFETY: the caller passes NULL or a live caller.
        let caller = unsafe { guard::shared(caller, "the caller") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let request = unsafe { guard::bytes(data, length) }?;
        let begun = caller.stream(Payload::new(request), Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(stream, parlour_call_stream { stream: begun }) };
        Ok(())
    })
}

/// Waits up to `timeout_ms` for the next answer, and stores a handle of it in `*answer`. Free it with
/// parlour_message_free. A server that gives one answer gives a stream of one.
///
/// Returns PARLOUR_OK, or PARLOUR_END after the last answer; `*answer` is then NULL.
///
/// Errors: those of parlour_caller_call. All but PARLOUR_TIMED_OUT end the stream: PARLOUR_END follows.
/// - PARLOUR_TIMED_OUT: no answer has arrived. A later call returns it.
/// - PARLOUR_BUSY: more answers have arrived than are kept (parlour_connect_options_stream_buffer_max).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_stream_next(
    stream: *mut parlour_call_stream,
    timeout_ms: i64,
    answer: *mut *mut parlour_message,
) -> parlour_status {
    run(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(answer) }?;
        // SAFETY: the caller passes NULL or a live stream that no other thread uses during the call.
        let next = unsafe { guard::exclusive(stream, "the stream") }?.next(Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        Ok(unsafe { give_next(answer, next) })
    })
}

/// Frees a stream. If it has not ended, the server is told that no more answers are wanted. Never blocks. Does nothing
/// for NULL. A stream keeps the connection of its caller open, and may be freed after the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_stream_free(stream: *mut parlour_call_stream) {
    // SAFETY: the caller passes NULL or a live stream, and gives it up.
    unsafe { guard::free(stream) };
}

/// Waits up to `timeout_ms` for the next message that the server has pushed, which answers no call, and stores a handle
/// of it in `*message`. Free it with parlour_message_free. Pushed messages that arrive during calls are kept
/// (parlour_connect_options_push_buffer_max).
///
/// Returns PARLOUR_OK, or PARLOUR_END when the server has ended the connection; `*message` is then NULL.
///
/// Errors: those of parlour_recv, and:
/// - PARLOUR_PROTOCOL: the server does not answer calls, or broke the protocol.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_next_push(
    caller: *const parlour_caller,
    timeout_ms: i64,
    message: *mut *mut parlour_message,
) -> parlour_status {
    run(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(message) }?;
        // SAFETY: the caller passes NULL or a live caller.
        let next = unsafe { guard::shared(caller, "the caller") }?.next_push(Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        Ok(unsafe { give_next(message, next) })
    })
}

/// Stores the counts of a caller in `*stats`. They are 0 in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_stats(
    caller: *const parlour_caller,
    stats: *mut parlour_call_stats,
) -> parlour_status {
    run_unit(|| {
        if stats.is_null() {
            return Err(Failure::null("the stats"));
        }
        // SAFETY: the caller passes NULL or a live caller.
        let counted = unsafe { guard::shared(caller, "the caller") }?.caller.stats();
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(stats, parlour_call_stats::of(counted)) };
        Ok(())
    })
}

/// Stores the identity of the server in `*peer`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_peer(caller: *const parlour_caller, peer: *mut parlour_peer) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller passes NULL or a live caller.
        let caller = unsafe { guard::shared(caller, "the caller") }?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(peer, parlour_peer::of(caller.caller.peer())) };
        Ok(())
    })
}

/// Returns the transport of the connection, or PARLOUR_TRANSPORT_NONE for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_transport(caller: *const parlour_caller) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller passes NULL or a live caller.
        Some(parlour_transport::of(unsafe { caller.as_ref() }?.caller.transport()))
    })
}

/// Frees a caller, and ends its connection unless streams are left. Does nothing for NULL. No thread may be in a call:
/// let them end first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_caller_free(caller: *mut parlour_caller) {
    // SAFETY: the caller passes NULL or a live caller, and gives it up.
    unsafe { guard::free(caller) };
}
