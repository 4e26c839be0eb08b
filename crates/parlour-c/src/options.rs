//! How servers, clients and hubs are to be. Values are checked when they are used.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_int, c_void};
use std::mem;

use parlour::hub::{HubOptions, SlowClientPolicy};
use parlour::{ClientFilePolicy, ConnectOptions, Peer, ServerOptions};

use crate::guard::{self, Failure, array, duration, run_unit};
use crate::peer::{parlour_peer, transport};
use crate::status::parlour_status;

/// How a server is to be.
#[derive(Default)]
pub struct parlour_server_options {
    pub(crate) options: ServerOptions,
}

/// How a client is to connect.
#[derive(Default)]
pub struct parlour_connect_options {
    pub(crate) options: ConnectOptions,
}

/// How a hub is to be, beyond its server.
#[derive(Default)]
pub struct parlour_hub_options {
    pub(crate) options: HubOptions,
}

/// Who may connect: called once for each client, in the thread that accepts, with what was given for `user`.
pub type parlour_allow = Option<unsafe extern "C" fn(peer: *const parlour_peer, user: *mut c_void) -> bool>;

/// A caller's pointer, which the caller makes sure may be used by the threads that accept.
struct User(*mut c_void);

// SAFETY: only the caller's function looks behind it, and by its contract it may be called by any thread.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

/// Changes options that are the caller's.
unsafe fn change<H, O: Default>(
    options: *mut H,
    inner: impl FnOnce(&mut H) -> &mut O,
    change: impl FnOnce(O) -> Result<O, Failure>,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let options = inner(unsafe { guard::exclusive(options, "the options") }?);
        // What fails has changed nothing, because it fails before it takes anything.
        *options = change(mem::take(options))?;
        Ok(())
    })
}

/// The defaults. Free them with parlour_server_options_free.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_server_options_new() -> *mut parlour_server_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. NULL is fine. What was made with them stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_free(options: *mut parlour_server_options) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(options) };
}

/// The transports to offer, as numbers of enum parlour_transport. Default: the one in the address, or unix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_transports(
    options: *mut parlour_server_options,
    transports: *const c_int,
    count: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        // SAFETY: the caller's contract.
        let numbers = unsafe { array(transports, count) }?;
        let known: Option<Vec<_>> = numbers.iter().map(|&number| transport(number)).collect();
        let known = known.ok_or_else(|| Failure::invalid("a number is not that of a transport"))?;
        options.options = mem::take(&mut options.options).transports(known);
        Ok(())
    })
}

/// The mode of the socket, as for chmod(1): who may connect. Default 0600: this user, and root.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_mode(
    options: *mut parlour_server_options,
    mode: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.mode(mode))) }
}

/// The group that the socket belongs to. Default: this process's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_group(
    options: *mut parlour_server_options,
    gid: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.group(gid))) }
}

/// Who may connect, among those that the mode lets in. Default: with a mode without rights for others, this user
/// and root; else everybody. The function may be called by any thread that accepts, as long as the server lives,
/// and must return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_allow(
    options: *mut parlour_server_options,
    allow: parlour_allow,
    user: *mut c_void,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let allow = allow.ok_or_else(|| Failure::null("the function"))?;
        let user = User(user);
        let policy = move |peer: &Peer| {
            let user = &user;
            let peer = parlour_peer::of(peer);
            // SAFETY: the caller's function, called as it was said that it would be.
            unsafe { allow(&raw const peer, user.0) }
        };
        options.options = mem::take(&mut options.options).allow(policy);
        Ok(())
    })
}

/// The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_message_max(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.message_max(bytes))) }
}

/// How many descriptors may come with one message, shared blocks among them. Default 0; at most 253.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_fds_max(
    options: *mut parlour_server_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.fds_max(count))) }
}

/// Connections at once, of all users and of each. Default 65536 and 4096; at least 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_connections_max(
    options: *mut parlour_server_options,
    of_all: usize,
    of_each_user: usize,
) -> parlour_status {
    let set = |options: ServerOptions| Ok(options.connections_max(of_all).connections_per_uid_max(of_each_user));
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// Handshakes under way at once, on transports that have one. Default 128; 1 to 65536.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_half_open_max(
    options: *mut parlour_server_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.half_open_max(count))) }
}

/// Clients that may wait to be accepted. Default 4096; the kernel caps it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_backlog(
    options: *mut parlour_server_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.backlog(count))) }
}

/// How long a client may take for its handshake, in milliseconds. Default 5000; more than 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_handshake_timeout(
    options: *mut parlour_server_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ServerOptions| Ok(options.handshake_timeout(duration(ms)));
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// What a unix server makes of the file that a client of its own user binds for itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_client_file {
    /// A client may come without one; one that has a file must have a proper one. The default.
    PARLOUR_CLIENT_FILE_CHECK = 0,
    /// Only clients with a proper file come in.
    PARLOUR_CLIENT_FILE_REQUIRE = 1,
    /// The file is removed and not looked at.
    PARLOUR_CLIENT_FILE_IGNORE = 2,
}

/// What to make of the clients' own files on unix: a number of enum parlour_client_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_client_file(
    options: *mut parlour_server_options,
    policy: c_int,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let policy = match policy {
            0 => ClientFilePolicy::Check,
            1 => ClientFilePolicy::Require,
            2 => ClientFilePolicy::Ignore,
            _ => return Err(Failure::invalid("the number is not that of a policy")),
        };
        options.options = mem::take(&mut options.options).client_file(policy);
        Ok(())
    })
}

/// How much a connection over shm holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64
/// KiB to 64 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_ring_size(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.ring_size(bytes))) }
}

/// How often a blocking call looks again, yielding the processor in between, before it sleeps. Default 40; 0 sleeps
/// at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_spin_limit(
    options: *mut parlour_server_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| Ok(options.spin_limit(count))) }
}

/// The defaults. Free them with parlour_connect_options_free.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_connect_options_new() -> *mut parlour_connect_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. NULL is fine. What was made with them stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_free(options: *mut parlour_connect_options) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(options) };
}

/// How long connecting to a server that is there may take, in milliseconds. Default 5000; more than 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_timeout(
    options: *mut parlour_connect_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ConnectOptions| Ok(options.timeout(duration(ms)));
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// How long to wait for a server that is not there yet, in milliseconds; less than 0 is for ever. Default 0: not at
/// all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_wait_for_server(
    options: *mut parlour_connect_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ConnectOptions| Ok(options.wait_for_server(duration(ms)));
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// The user that the server must run as. Default: our own user, or root.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_server_uid(
    options: *mut parlour_connect_options,
    uid: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| Ok(options.server_uid(uid))) }
}

/// Whether to bind a file of our own on unix, where we may. Default true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_client_file(
    options: *mut parlour_connect_options,
    bind: bool,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| Ok(options.client_file(bind))) }
}

/// The longest message in bytes, sent or received. Default 16 MiB; at most 2 GiB - 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_message_max(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    let set = |options: ConnectOptions| Ok(options.message_max(bytes));
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// How many descriptors may come with one message, shared blocks among them. Default 0; at most 253.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_fds_max(
    options: *mut parlour_connect_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| Ok(options.fds_max(count))) }
}

/// How much a connection over shm holds of what this side sends, in bytes. Default 1 MiB; a power of two from 64
/// KiB to 64 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_ring_size(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| Ok(options.ring_size(bytes))) }
}

/// How often a blocking call looks again, yielding the processor in between, before it sleeps. Default 40; 0 sleeps
/// at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_spin_limit(
    options: *mut parlour_connect_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| Ok(options.spin_limit(count))) }
}

/// What happens when more than write_buffer_max would wait to be sent to a client of a hub.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_slow_client_policy {
    /// The client is disconnected. The default.
    PARLOUR_SLOW_CLIENT_DISCONNECT = 0,
    /// The message is refused: PARLOUR_BUSY, or for a broadcast the client is among those who did not get it.
    PARLOUR_SLOW_CLIENT_REFUSE = 1,
    /// The hub waits until there is room, so long; then the client is disconnected.
    PARLOUR_SLOW_CLIENT_WAIT = 2,
}

/// The defaults. Free them with parlour_hub_options_free.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_hub_options_new() -> *mut parlour_hub_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. NULL is fine. What was made with them stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_free(options: *mut parlour_hub_options) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(options) };
}

/// How many bytes may wait to be sent to one client, beyond what the kernel holds for it. Default 1 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_unsent_max(
    options: *mut parlour_hub_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller's contract.
    unsafe { change(options, |hub| &mut hub.options, |options: HubOptions| Ok(options.write_buffer_max(bytes))) }
}

/// What happens to a client for which more would wait: a number of enum parlour_slow_client_policy. `wait_ms` is for
/// PARLOUR_SLOW_CLIENT_WAIT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_when_slow(
    options: *mut parlour_hub_options,
    what: c_int,
    wait_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let what = match what {
            0 => SlowClientPolicy::Disconnect,
            1 => SlowClientPolicy::Refuse,
            2 => SlowClientPolicy::Wait(duration(wait_ms)),
            _ => return Err(Failure::invalid("the number is not one of enum parlour_slow_client_policy")),
        };
        options.options = mem::take(&mut options.options).slow_client_policy(what);
        Ok(())
    })
}
