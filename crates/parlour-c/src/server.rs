//! A server: a name that is held, and the clients that connect to it.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use parlour::{Server, ServerOptions, ShutdownHandle};

use crate::connection::parlour_connection;
use crate::guard::{self, Failure, Timeout, run_unit};
use crate::options::parlour_server_options;
use crate::stats::{self, parlour_refusal, parlour_stats};
use crate::status::parlour_status;

/// A server: it holds a name and accepts clients. Any number of threads may accept at the same time.
pub struct parlour_server {
    server: Server,
    shutdown: ShutdownHandle,
    name: CString,
    path: CString,
}

/// A handle that makes a server or a hub stop waiting. Any thread, a signal handler, and a forked process may use it.
pub struct parlour_shutdown {
    pub(crate) handle: ShutdownHandle,
}

/// Returns the options of the caller, or the defaults for NULL.
///
/// # Safety
///
/// `options` is NULL or live options that no other thread changes during the call.
pub(crate) unsafe fn options_of(options: *const parlour_server_options) -> ServerOptions {
    // SAFETY: NULL or live options, by the contract of this function.
    unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default()
}

/// Converts a name or path for C. One that the system has accepted contains no zero byte.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

pub(crate) fn c_path(path: &Path) -> CString {
    c_string(path.as_os_str().as_bytes())
}

/// Takes the name of an address, listens, and stores the new server in `*server`. Free it with parlour_server_close or
/// parlour_server_free.
///
/// An address is "name" or "transport:name", where the name may have "/absolute/directory/" in front of it. A name is
/// 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot. At most one live server holds a name. After a crash the
/// name is free immediately, and this call removes the files of the dead server. `options` may be NULL for the
/// defaults. Runs no thread, and changes neither signals nor the umask.
///
/// Errors:
/// - PARLOUR_INVALID_NAME: `address` is not well formed.
/// - PARLOUR_INVALID_OPTION: an option has a value outside its range.
/// - PARLOUR_NAME_IN_USE: a live server holds the name, here or in another base directory of this user.
///   parlour_error_message() names its process.
/// - PARLOUR_UNSAFE_DIRECTORY: another user could interfere with the directory.
/// - PARLOUR_DENIED, PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_bind(
    address: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(server) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let bound = unsafe { options_of(options) }.bind(address)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(server, parlour_server::new(bound)) };
        Ok(())
    })
}

/// Serves on the sockets that a service manager passed to this process (socket activation, sd_listen_fds(3)), and
/// stores the new server in `*server`.
///
/// `fd_name` selects the descriptors of that name (FileDescriptorName=). With NULL, the sockets that lie in the
/// directory of a name are used. Each descriptor can be taken once. All passed descriptors become close-on-exec.
/// `options` may be NULL for the defaults. docs/systemd.md describes the units.
///
/// Errors: those of parlour_server_bind, after which the sockets are as before, and:
/// - PARLOUR_UNSUPPORTED: no socket was passed to this process, or it was taken before.
/// - PARLOUR_INVALID_OPTION: the sockets do not fit: a type that is wrong for the transport, connections in place of
///   listening sockets (Accept=yes), sockets of two names, or none of a name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_bind_listen_fds(
    fd_name: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(server) }?;
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options_of(options) };
        let fd_name = match fd_name.is_null() {
            true => None,
            // SAFETY: not NULL, so the caller passes a string.
            false => Some(unsafe { guard::text(fd_name) }?),
        };
        let bound = options.bind_listen_fds(fd_name)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(server, parlour_server::new(bound)) };
        Ok(())
    })
}

impl parlour_server {
    fn new(server: Server) -> Self {
        let (shutdown, name, path) =
            (server.shutdown_handle(), c_string(server.name().as_bytes()), c_path(server.path()));
        Self { server, shutdown, name, path }
    }
}

/// Accepts a client and stores its connection in `*connection`. Free it with parlour_connection_close or
/// parlour_connection_free.
///
/// Blocks up to `timeout_ms` until a client has connected and was admitted. Clients that are refused do not end the
/// wait; see parlour_server_stats. The server works only inside this call: it advances handshakes, and ends those that
/// take too long. Any number of threads may call it at the same time.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: no client has connected. No client is lost by that.
/// - PARLOUR_SHUTDOWN: the server was told to shut down, and the clients that had connected before were accepted. Over
///   `fifo` this may come up to the timeout of handshakes later.
/// - PARLOUR_HANDED_OVER: another process has taken the name over (parlour_server_options_hand_over). Open connections
///   go on. Close the server when they have ended.
/// - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that clients do not find it, or this is a
///   forked child. Close the server and bind again.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_accept(
    server: *const parlour_server,
    timeout_ms: i64,
    connection: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(connection) }?;
        // SAFETY: the caller passes NULL or a live server.
        let server = &unsafe { guard::shared(server, "the server") }?.server;
        let accepted = match Timeout::of(timeout_ms) {
            Timeout::Infinite => server.accept()?,
            Timeout::Zero => {
                server.try_accept().map_err(|error| Failure::of_try_recv(error, "no client has connected"))?
            }
            Timeout::After(duration) => server.accept_timeout(duration)?,
        };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(connection, parlour_connection::new(accepted)) };
        Ok(())
    })
}

/// Returns a descriptor that is readable when parlour_server_accept has something to do, deadlines of handshakes
/// included. Then call parlour_server_accept with a timeout of 0 until it returns PARLOUR_TIMED_OUT. For waiting only.
/// The server owns it. Returns -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_fd(server: *const parlour_server) -> c_int {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(-1, || Some(unsafe { server.as_ref() }?.server.as_fd().as_raw_fd()))
}

/// Returns the name of a server, without transport and directory. The server owns the string. Returns NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_name(server: *const parlour_server) -> *const c_char {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.name.as_ptr()))
}

/// Returns the path of the name's directory, in which clients find the server. The server owns the string. Returns
/// NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_path(server: *const parlour_server) -> *const c_char {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.path.as_ptr()))
}

/// Stores the counts of clients in `*stats`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_stats(
    server: *const parlour_server,
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

/// Returns the number of attempts to connect that the server refused for a reason, a number of enum
/// parlour_refusal_reason. Returns 0 for any other number and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_refused_by(server: *const parlour_server, reason: c_int) -> u64 {
    // SAFETY: the caller passes NULL or a live server.
    guard::value(0, || Some(stats::refused_by(&unsafe { server.as_ref() }?.server.stats(), reason)))
}

/// Stores the oldest refusal that no earlier call stored in `*refusal`, and returns true. Returns false if there is
/// none, and for NULL. Does not block.
///
/// Refusals are queued from the first call on, up to 256; further ones are only counted (parlour_server_stats). Call
/// this once before accepting, and then whenever parlour_server_accept with a timeout returns, or from another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_next_refusal(
    server: *const parlour_server,
    refusal: *mut parlour_refusal,
) -> bool {
    guard::value(false, || {
        if refusal.is_null() {
            return None;
        }
        // SAFETY: the caller passes NULL or a live server.
        let next = unsafe { server.as_ref() }?.server.next_refusal()?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(refusal, parlour_refusal::of(&next)) };
        Some(true)
    })
}

/// Tells a server to shut down: no further client can connect. parlour_server_accept returns the clients that had
/// connected before, and PARLOUR_SHUTDOWN in every thread once none is left. So accept until PARLOUR_SHUTDOWN before
/// parlour_server_close, which disconnects those that are left.
/// Connections go on. Async-signal-safe. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_shutdown(server: *const parlour_server) {
    guard::value((), || {
        // SAFETY: the caller passes NULL or a live server.
        unsafe { server.as_ref() }?.shutdown.shutdown();
        Some(())
    });
}

/// Stores a handle in `*shutdown` that does the same as parlour_server_shutdown. It may outlive the server. Free it
/// with parlour_shutdown_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_shutdown_handle(
    server: *const parlour_server,
    shutdown: *mut *mut parlour_shutdown,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shutdown) }?;
        // SAFETY: the caller passes NULL or a live server.
        let handle = unsafe { guard::shared(server, "the server") }?.shutdown.clone();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shutdown, parlour_shutdown { handle }) };
        Ok(())
    })
}

/// Tells the server or the hub of the handle to shut down. Has no effect if it was freed. In a forked child it tells
/// the server of the parent. Async-signal-safe. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shutdown_ask(shutdown: *const parlour_shutdown) {
    guard::value((), || {
        // SAFETY: the caller passes NULL or a live handle.
        unsafe { shutdown.as_ref() }?.handle.shutdown();
        Some(())
    });
}

/// Frees a shutdown handle. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shutdown_free(shutdown: *mut parlour_shutdown) {
    // SAFETY: the caller passes NULL or a live handle, and gives it up.
    unsafe { guard::free(shutdown) };
}

/// Removes the server's files and the directory of the name, releases the name, and frees the server in any case.
/// Connections that are open go on. Clients that were not accepted yet are disconnected. No thread may be in a call on
/// the server: call parlour_server_shutdown first, and wait for the threads.
///
/// Errors:
/// - PARLOUR_IO: a file cannot be removed. The name is free all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_close(server: *mut parlour_server) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live server, and gives it up.
        let server = unsafe { guard::taken(server) }.ok_or_else(|| Failure::null("the server"))?;
        Ok(server.server.close()?)
    })
}

/// Does the same as parlour_server_close, and reports no error. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_free(server: *mut parlour_server) {
    // SAFETY: the caller passes NULL or a live server, and gives it up.
    unsafe { guard::free(server) };
}
