//! Connections without a server.
#![allow(unsafe_code)]

use std::ffi::c_int;

use crate::connection::parlour_connection;
use crate::guard::{self, Failure, run_unit};
use crate::options::parlour_connect_options;
use crate::peer;
use crate::status::parlour_status;

/// Creates both ends of a connection over `transport`, a number of enum parlour_transport, without a server, a name or
/// a file, and stores them in `*one` and `*other`. It is to a connection what socketpair(2) is to a socket: for tests,
/// and for two threads. Free each end with parlour_connection_close or parlour_connection_free.
///
/// The peer of each end is this process. Of the options, those about messages and memory apply to both ends; `options`
/// may be NULL for the defaults.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: `transport` is not one of enum parlour_transport.
/// - PARLOUR_INVALID_OPTION: an option has a value outside its range.
/// - PARLOUR_UNSUPPORTED: `shm`, and memfd_create(2) does not work here.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_pair(
    transport: c_int,
    options: *const parlour_connect_options,
    one: *mut *mut parlour_connection,
    other: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(one) }?;
        // SAFETY: as above.
        unsafe { guard::check_out(other) }?;
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let transport = peer::transport(transport)
            .ok_or_else(|| Failure::invalid("the transport is not one of enum parlour_transport"))?;
        let (first, second) = options.pair(transport)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(one, parlour_connection::new(first)) };
        // SAFETY: as above.
        unsafe { guard::give(other, parlour_connection::new(second)) };
        Ok(())
    })
}

/// Takes the connection that the parent of this process passed to it, and stores it in `*connection`. The environment
/// variable PARLOUR_FD has the number of the descriptor, in decimal digits. Free the connection with
/// parlour_connection_close or parlour_connection_free.
///
/// The descriptor is one end of socketpair(2), of the type SOCK_STREAM or SOCK_SEQPACKET. A parent in C makes the pair
/// with SOCK_CLOEXEC, clears FD_CLOEXEC of one end in the child, between fork(2) and exec, and talks over its own end
/// as the documentation of the protocol describes. A parent in Rust calls Connection::spawn. The process that made the
/// pair must run as this user or root, or as the user of parlour_connect_options_server_uid.
///
/// A process takes the connection once. The descriptor becomes close-on-exec. The environment is not changed. Of the
/// options, those about messages apply; `options` may be NULL for the defaults.
///
/// Errors: after an error the descriptor is as it was.
/// - PARLOUR_UNSUPPORTED: the variable is not set, or this process has taken the connection.
/// - PARLOUR_INVALID_OPTION: the variable is malformed, the descriptor is not open, is no connected UNIX socket of one
///   of these types, or is not the one with the inode in PARLOUR_FD_INODE; or an option has a value outside its range.
/// - PARLOUR_DENIED: another user made the pair.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connection_from_env(
    options: *const parlour_connect_options,
    connection: *mut *mut parlour_connection,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(connection) }?;
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let inherited = options.from_env()?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(connection, parlour_connection::new(inherited)) };
        Ok(())
    })
}
