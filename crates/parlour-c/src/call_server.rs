//! A server of calls: all requests of all clients come to one thread, and any thread answers.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use parlour::Server;
use parlour::calls::{Call, CallServer, Pusher};

use crate::call::parlour_call;
use crate::guard::{self, Failure, Timeout, duration, run_unit};
use crate::options::{CallLimits, change, parlour_server_options};
use crate::server::{c_path, c_string, options_of, parlour_shutdown};
use crate::stats::parlour_stats;
use crate::status::parlour_status;

/// A server of calls. Its clients are callers: parlour_caller, or Caller in Rust. One thread at a time may use it, and
/// takes the requests of all clients from parlour_call_server_next. The calls can be given to other threads. If another
/// thread was in a call with the server at the moment of a fork, the child must not free it.
pub struct parlour_call_server {
    server: CallServer,
    name: CString,
    path: CString,
}

/// Sends messages that answer no call, from any thread. Several threads may use it at the same time. It may outlive its
/// server. The clients get the messages from parlour_caller_next_push.
pub struct parlour_pusher {
    pusher: Pusher,
}

impl parlour_call_server {
    fn new(server: Server, limits: CallLimits) -> Result<Self, Failure> {
        let (name, path) = (c_string(server.name().as_bytes()), c_path(server.path()));
        let mut server = CallServer::new(server)?;
        if let Some(count) = limits.calls_max {
            server = server.calls_max(count);
        }
        if let Some(bytes) = limits.request_bytes_max {
            server = server.request_bytes_max(bytes);
        }
        Ok(Self { server, name, path })
    }

    fn next(&mut self, timeout: Timeout) -> Result<Call, Failure> {
        match timeout {
            Timeout::Infinite => Ok(self.server.next_call()?),
            Timeout::Zero => {
                self.server.try_next_call().map_err(|error| Failure::of_try_recv(error, "no request has arrived"))
            }
            Timeout::After(limit) => Ok(self.server.next_call_timeout(limit)?),
        }
    }
}

/// Returns the limits of the caller's options, or the defaults for NULL.
///
/// # Safety
///
/// `options` is NULL or live options that no other thread changes during the call.
unsafe fn limits_of(options: *const parlour_server_options) -> CallLimits {
    // SAFETY: NULL or live options, by the contract of this function.
    unsafe { options.as_ref() }.map(|options| options.calls).unwrap_or_default()
}

/// Sets the number of calls that one client of a server of calls may have open. A further request is answered with
/// PARLOUR_BUSY. Default 256; at least 1. Other servers are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_calls_max(
    options: *mut parlour_server_options,
    count: usize,
) -> parlour_status {
    let set = |calls: CallLimits| CallLimits { calls_max: Some(count), ..calls };
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.calls, set) }
}

/// Sets the number of bytes of the requests of one client of a server of calls that are open. A further request is
/// answered with PARLOUR_BUSY. A client without another call may send the longest message. Default 16 MiB. Other
/// servers are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_request_bytes_max(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    let set = |calls: CallLimits| CallLimits { request_bytes_max: Some(bytes), ..calls };
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.calls, set) }
}

/// Takes the name of an address, listens, and stores the new server of calls in `*server`. Free it with
/// parlour_call_server_close or parlour_call_server_free. `address` and `options` are as for parlour_server_bind.
/// `options` may be NULL for the defaults.
///
/// Errors: those of parlour_server_bind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_bind(
    address: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_call_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(server) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let limits = unsafe { limits_of(options) };
        // SAFETY: as above.
        let bound = parlour_call_server::new(unsafe { options_of(options) }.bind(address)?, limits)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(server, bound) };
        Ok(())
    })
}

/// Serves calls on the sockets that a service manager passed to this process, and stores the new server in `*server`.
/// `fd_name` and `options` are as for parlour_server_bind_listen_fds.
///
/// Errors: those of parlour_server_bind_listen_fds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_bind_listen_fds(
    fd_name: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_call_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(server) }?;
        let fd_name = match fd_name.is_null() {
            true => None,
            // SAFETY: not NULL, so the caller passes a string.
            false => Some(unsafe { guard::text(fd_name) }?),
        };
        // SAFETY: the caller passes NULL or live options.
        let limits = unsafe { limits_of(options) };
        // SAFETY: as above.
        let bound = parlour_call_server::new(unsafe { options_of(options) }.bind_listen_fds(fd_name)?, limits)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(server, bound) };
        Ok(())
    })
}

/// Waits up to `timeout_ms` for the next request of any client, and stores a handle of it in `*call`. Answer it with
/// parlour_call_reply, parlour_call_end or parlour_call_fail, which free it, or free it with parlour_call_free.
///
/// The server works only inside this function: it admits clients, and it sends the answers and pushed messages. Work
/// that takes long belongs into other threads. A client that breaks the protocol, or does not call but sends other
/// messages, is disconnected.
///
/// Errors: `*call` is then NULL.
/// - PARLOUR_TIMED_OUT: no request has arrived.
/// - PARLOUR_SHUTDOWN: the server was told to shut down (parlour_call_server_shutdown_handle). No request is begun any
///   more. Close the server.
/// - PARLOUR_HANDED_OVER: another process has taken the name over, and every client has left, or 30 s have passed.
///   Close the server.
/// - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that new clients do not find it; the present
///   clients can still be served. Or this is a forked child.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_next(
    server: *mut parlour_call_server,
    timeout_ms: i64,
    call: *mut *mut parlour_call,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(call) }?;
        // SAFETY: the caller passes NULL or a live server that no other thread uses during the call.
        let next = unsafe { guard::exclusive(server, "the server") }?.next(Timeout::of(timeout_ms))?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(call, parlour_call::new(next)) };
        Ok(())
    })
}

/// Returns a descriptor that is readable when parlour_call_server_next has something to do. Before each wait, call
/// parlour_call_server_next with a timeout of 0 until it returns PARLOUR_TIMED_OUT: it sends the answers. For waiting
/// only. The server owns it. Returns -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_fd(server: *const parlour_call_server) -> c_int {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(-1, || Some(unsafe { server.as_ref() }?.server.as_fd().as_raw_fd()))
}

/// Returns the name of a server, without transport and directory. The server owns the string. Returns NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_name(server: *const parlour_call_server) -> *const c_char {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.name.as_ptr()))
}

/// Returns the path of the name's directory, in which clients find the server. The server owns the string. Returns
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_path(server: *const parlour_call_server) -> *const c_char {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.path.as_ptr()))
}

/// Stores the counts of clients in `*stats`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_stats(
    server: *const parlour_call_server,
    stats: *mut parlour_stats,
) -> parlour_status {
    run_unit(|| {
        if stats.is_null() {
            return Err(Failure::null("the stats"));
        }
        // SAFETY: the caller passes NULL or a live server.
        let counted = unsafe { guard::shared(server, "the server") }?.server.stats();
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(stats, parlour_stats::of(&counted)) };
        Ok(())
    })
}

/// Stores a handle in `*shutdown` with which any thread and any signal handler can make parlour_call_server_next return
/// PARLOUR_SHUTDOWN. It may outlive the server. Free it with parlour_shutdown_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_shutdown_handle(
    server: *const parlour_call_server,
    shutdown: *mut *mut parlour_shutdown,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shutdown) }?;
        // SAFETY: the caller passes NULL or a live server.
        let handle = unsafe { guard::shared(server, "the server") }?.server.shutdown_handle();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shutdown, parlour_shutdown { handle }) };
        Ok(())
    })
}

/// Ends a server, and frees it in any case. No request is begun any more. Waits up to `timeout_ms` for the calls that
/// other threads have, and for clients that do not read their answers, and ends every connection. The calls that are
/// left are cancelled. They must still be freed. Answer or free the calls of this thread before, because nobody else
/// can.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: some clients did not read all that was sent to them, and the rest is lost.
/// - PARLOUR_NAME_LOST: this is a forked child. The server of the parent is not affected.
/// - PARLOUR_IO: a file of the server cannot be removed. The name is free all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_close(
    server: *mut parlour_call_server,
    timeout_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live server, and gives it up.
        let taken = unsafe { guard::taken(server) }.ok_or_else(|| Failure::null("the server"))?;
        Ok(taken.server.close_timeout(duration(timeout_ms))?)
    })
}

/// Ends a server without waiting, and frees it. Calls that are open are cancelled, and answers that a full channel does
/// not take are lost. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_call_server_free(server: *mut parlour_call_server) {
    // SAFETY: the caller passes NULL or a live server, and gives it up.
    unsafe { guard::free(server) };
}

/// Stores a new pusher of a server in `*pusher`. Free it with parlour_pusher_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_pusher_new(
    server: *const parlour_call_server,
    pusher: *mut *mut parlour_pusher,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(pusher) }?;
        // SAFETY: the caller passes NULL or a live server.
        let made = unsafe { guard::shared(server, "the server") }?.server.pusher();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(pusher, parlour_pusher { pusher: made }) };
        Ok(())
    })
}

/// Sends one message to the client with this number (parlour_call_client): the `length` bytes at `data`. Does not
/// block: the message is queued. A client that has left misses it, which is not an error. A client that takes its
/// messages so slowly that more than 1 MiB waits for it is disconnected.
///
/// Errors:
/// - PARLOUR_BUSY: more than 1 MiB of pushed messages waits for parlour_call_server_next. Push again later.
/// - PARLOUR_MESSAGE_TOO_LONG: the message, with its header of 8 bytes, is longer than the limit.
/// - PARLOUR_SHUTDOWN: the server has ended.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_pusher_push(
    pusher: *const parlour_pusher,
    client: u64,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live pusher.
        let pusher = unsafe { guard::shared(pusher, "the pusher") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        Ok(pusher.pusher.push(client, unsafe { guard::bytes(data, length) }?)?)
    })
}

/// Sends one message to every client, as parlour_pusher_push does.
///
/// Errors: those of parlour_pusher_push.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_pusher_push_all(
    pusher: *const parlour_pusher,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live pusher.
        let pusher = unsafe { guard::shared(pusher, "the pusher") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        Ok(pusher.pusher.push_all(unsafe { guard::bytes(data, length) }?)?)
    })
}

/// Frees a pusher. The server and other pushers are not affected. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_pusher_free(pusher: *mut parlour_pusher) {
    // SAFETY: the caller passes NULL or a live pusher, and gives it up.
    unsafe { guard::free(pusher) };
}
