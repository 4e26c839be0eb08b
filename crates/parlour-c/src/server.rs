//! A name that is held, and the clients that come.
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
use crate::status::parlour_status;

/// Holds a name. Any number of threads may accept at once.
pub struct parlour_server {
    server: Server,
    shutdown: ShutdownHandle,
    name: CString,
    path: CString,
}

/// Makes a server, or a hub, stop waiting; from any thread, any process that was forked, and a signal handler.
pub struct parlour_shutdown {
    pub(crate) handle: ShutdownHandle,
}

/// Options of the caller's; NULL is the defaults.
pub(crate) unsafe fn options_of(options: *const parlour_server_options) -> ServerOptions {
    // SAFETY: NULL, or by the caller's contract a live handle.
    unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default()
}

/// A name or path for C. There is no zero byte in one that the system has taken.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    CString::new(bytes).unwrap_or_default()
}

pub(crate) fn c_path(path: &Path) -> CString {
    c_string(path.as_os_str().as_bytes())
}

/// Takes the name of an address and listens. An address is "name", "transport:name", or either with
/// "/absolute/directory/" in front of the name. `options` may be NULL: the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_bind(
    address: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(server) }?;
        // SAFETY: the caller's contract.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller's contract.
        let bound = unsafe { options_of(options) }.bind(address)?;
        // SAFETY: checked above.
        unsafe { guard::give(server, parlour_server::new(bound)) };
        Ok(())
    })
}

/// Serves on the sockets that a service manager made and handed over, sd_listen_fds(3). `fd_name` is the descriptor
/// name to take (FileDescriptorName=), or NULL for all; `options` may be NULL. PARLOUR_UNSUPPORTED: nothing was
/// handed over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_bind_listen_fds(
    fd_name: *const c_char,
    options: *const parlour_server_options,
    server: *mut *mut parlour_server,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(server) }?;
        // SAFETY: the caller's contract.
        let options = unsafe { options_of(options) };
        let bound = match fd_name.is_null() {
            true => options.bind_listen_fds()?,
            // SAFETY: the caller's contract.
            false => options.bind_listen_fds_named(unsafe { guard::text(fd_name) }?)?,
        };
        // SAFETY: checked above.
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

/// Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until a client has connected. PARLOUR_TIMED_OUT
/// loses no client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_accept(
    server: *const parlour_server,
    timeout_ms: i64,
    connection: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(connection) }?;
        // SAFETY: the caller's contract.
        let server = &unsafe { guard::shared(server, "the server") }?.server;
        let accepted = match Timeout::of(timeout_ms) {
            Timeout::Infinite => server.accept()?,
            Timeout::Zero => server.try_accept()?.ok_or_else(|| Failure::timed_out("no client is there"))?,
            Timeout::After(duration) => server.accept_timeout(duration)?,
        };
        // SAFETY: checked above.
        unsafe { guard::give(connection, parlour_connection::new(accepted)) };
        Ok(())
    })
}

/// A descriptor that is readable when parlour_server_accept would not wait: call it with 0 then, until it says
/// PARLOUR_TIMED_OUT. For waiting only. -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_fd(server: *const parlour_server) -> c_int {
    // SAFETY: the caller's contract.
    guard::value(-1, || Some(unsafe { server.as_ref() }?.server.as_fd().as_raw_fd()))
}

/// The bare name, as long as the server lives. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_name(server: *const parlour_server) -> *const c_char {
    // SAFETY: the caller's contract.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.name.as_ptr()))
}

/// The name's directory, as long as the server lives. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_path(server: *const parlour_server) -> *const c_char {
    // SAFETY: the caller's contract.
    guard::value(ptr::null(), || Some(unsafe { server.as_ref() }?.path.as_ptr()))
}

/// How many clients were turned away; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_refused(server: *const parlour_server) -> u64 {
    // SAFETY: the caller's contract.
    guard::value(0, || Some(unsafe { server.as_ref() }?.server.refused().count))
}

/// Makes everybody who accepts, now and later, get PARLOUR_SHUTDOWN. Safe in a signal handler. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_shutdown(server: *const parlour_server) {
    guard::value((), || {
        // SAFETY: the caller's contract.
        unsafe { server.as_ref() }?.shutdown.shutdown();
        Some(())
    });
}

/// A handle for doing that which may outlive the server. Free it with parlour_shutdown_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_shutdown_handle(
    server: *const parlour_server,
    shutdown: *mut *mut parlour_shutdown,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(shutdown) }?;
        // SAFETY: the caller's contract.
        let handle = unsafe { guard::shared(server, "the server") }?.shutdown.clone();
        // SAFETY: checked above.
        unsafe { guard::give(shutdown, parlour_shutdown { handle }) };
        Ok(())
    })
}

/// Asks the server, or the hub, to stop. Safe in a signal handler, also when it is gone. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shutdown_ask(shutdown: *const parlour_shutdown) {
    guard::value((), || {
        // SAFETY: the caller's contract.
        unsafe { shutdown.as_ref() }?.handle.shutdown();
        Some(())
    });
}

/// Frees a shutdown handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_shutdown_free(shutdown: *mut parlour_shutdown) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(shutdown) };
}

/// Gives the name up, frees the server, and says how that went; it is freed in any case. Connections go on. Nobody
/// may be in a call of it any more: shut it down first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_close(server: *mut parlour_server) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let server = unsafe { guard::taken(server) }.ok_or_else(|| Failure::null("the server"))?;
        Ok(server.server.close()?)
    })
}

/// parlour_server_close for who does not want to know how it went. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_free(server: *mut parlour_server) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(server) };
}
