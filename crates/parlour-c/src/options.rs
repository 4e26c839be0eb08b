//! Settings of servers, clients and hubs.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int, c_void};
use std::{mem, ptr};

use parlour::calls::CallerOptions;
use parlour::hub::{HubOptions, SlowClientPolicy};
use parlour::{ClientFilePolicy, ConnectOptions, Origin, Peer, Reconnect, ServerOptions};

use crate::guard::{self, Failure, array, duration, run_unit};
use crate::peer::{parlour_origin, parlour_peer, transport};
use crate::status::parlour_status;

/// Settings of a server. Values are checked when they are used: a value outside its range makes parlour_server_bind
/// return PARLOUR_INVALID_OPTION.
#[derive(Default)]
pub struct parlour_server_options {
    pub(crate) options: ServerOptions,
    pub(crate) calls: CallLimits,
}

/// The settings that only a server of calls has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallLimits {
    pub(crate) calls_max: Option<usize>,
    pub(crate) request_bytes_max: Option<usize>,
}

/// Settings of a client. Values are checked when they are used: a value outside its range makes parlour_connect return
/// PARLOUR_INVALID_OPTION.
#[derive(Default)]
pub struct parlour_connect_options {
    pub(crate) options: ConnectOptions,
    pub(crate) reconnect: Reconnect,
    pub(crate) caller: CallerOptions,
}

/// Settings of a hub, besides those of its server.
#[derive(Default)]
pub struct parlour_hub_options {
    pub(crate) options: HubOptions,
}

/// A function of the caller that decides about a client: returns true to admit it. It is called once for each client,
/// in the thread that accepts, with the `user` of parlour_server_options_allow. `origin` is the other host that the
/// client comes from (parlour_connection_origin), or NULL for a client of this host. `peer` and `origin` are valid
/// during the call. It must return normally, and must not accept clients of the same server.
pub type parlour_allow =
    Option<unsafe extern "C" fn(peer: *const parlour_peer, origin: *const parlour_origin, user: *mut c_void) -> bool>;

/// A pointer of the caller, for the caller's function.
struct User(*mut c_void);

// SAFETY: only the caller's function dereferences the pointer. By the contract of `parlour_server_options_allow` any
// thread that accepts may call that function with the pointer.
unsafe impl Send for User {}
// SAFETY: as for `Send`, also for several threads at the same time.
unsafe impl Sync for User {}

/// Changes options of the caller.
///
/// # Safety
///
/// `options` is NULL or live options that no other thread uses during the call.
pub(crate) unsafe fn change<H, O: Default>(
    options: *mut H,
    inner: impl FnOnce(&mut H) -> &mut O,
    change: impl FnOnce(O) -> O,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: NULL or live options that only this call uses, by the contract of this function.
        let options = inner(unsafe { guard::exclusive(options, "the options") }?);
        *options = change(mem::take(options));
        Ok(())
    })
}

/// Creates server options with the default settings. Free them with parlour_server_options_free. Returns NULL if the
/// library panics.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_server_options_new() -> *mut parlour_server_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_free(options: *mut parlour_server_options) {
    // SAFETY: the caller passes NULL or live options, and gives them up.
    unsafe { guard::free(options) };
}

/// Sets the transports to offer: `count` numbers of enum parlour_transport at `transports`. Default: the transport in
/// the address, or `unix`. If the address has a transport, it must be among these.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: a number is not one of enum parlour_transport. The options are as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_transports(
    options: *mut parlour_server_options,
    transports: *const c_int,
    count: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        // SAFETY: the caller passes NULL or `count` numbers.
        let numbers = unsafe { array(transports, count) }?;
        let known: Option<Vec<_>> = numbers.iter().map(|&number| transport(number)).collect();
        let known = known.ok_or_else(|| Failure::invalid("a number is not one of enum parlour_transport"))?;
        options.options = mem::take(&mut options.options).transports(known);
        Ok(())
    })
}

/// Sets the mode of the socket, as for chmod(2): the users that may connect. Default 0600: this user and root. 0660
/// with parlour_server_options_group admits a group, 0666 every user. FIFOs serve this user in any case. The umask has
/// no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_mode(
    options: *mut parlour_server_options,
    mode: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.mode(mode)) }
}

/// Sets the group of the socket. Default: the group of this process. This process must be a member of it or run as
/// root. parlour_server_bind refuses (gid_t) -1, which is not a group, with PARLOUR_INVALID_OPTION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_group(
    options: *mut parlour_server_options,
    gid: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.group(gid)) }
}

/// Sets the function that decides about each client that the mode admits. Default: with a mode without rights for
/// others, this user and root; otherwise every user. `user` may be NULL. The function and `user` must stay valid as
/// long as the options and every server that was bound with them. Threads that accept at the same time may call the
/// function at the same time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_allow(
    options: *mut parlour_server_options,
    allow: parlour_allow,
    user: *mut c_void,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let allow = allow.ok_or_else(|| Failure::null("the function"))?;
        let user = User(user);
        let policy = move |peer: &Peer| {
            let user = &user;
            let origin = peer.origin().map(|origin| parlour_origin::of(Some(origin)));
            let origin = origin.as_ref().map_or(ptr::null(), ptr::from_ref);
            let peer = parlour_peer::of(peer);
            // SAFETY: the caller passes a function that any thread that accepts may call with a peer, an origin or
            // NULL, and this `user`.
            unsafe { allow(&raw const peer, origin, user.0) }
        };
        options.options = mem::take(&mut options.options).allow(policy);
        Ok(())
    })
}

/// Sets the length of the longest message that this side sends or receives, in bytes. Default 16 MiB; at most 2 GiB -
/// 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_message_max(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.message_max(bytes)) }
}

/// Sets the number of descriptors that a received message may have, shared blocks included. Default 0; at most 253. A
/// peer that sends more loses the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_fds_max(
    options: *mut parlour_server_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.fds_max(count)) }
}

/// Sets the number of connections that may be open, of all users together and of each user; at least 1.
///
/// Default: as many as three quarters of the descriptors that this process may have open (RLIMIT_NOFILE), at most
/// 65536. A connection takes one descriptor, and two over `fifo`. For each user all of them, or a quarter of them if
/// the mode lets other users connect; at most 4096. parlour_server_stats returns the limits that are in effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_connections_max(
    options: *mut parlour_server_options,
    of_all: usize,
    of_each_user: usize,
) -> parlour_status {
    let set = |options: ServerOptions| options.connections_max(of_all).connections_per_uid_max(of_each_user);
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// Sets the memory that clients may take in this process, all users together and each user, in bytes; at least 1.
///
/// Messages that have not arrived completely and take more than 64 KiB count, and this side's rings of `shm`. Receiving
/// from a connection that needs more fails with PARLOUR_BUSY and loses nothing; a hub ends that connection. A client
/// over `shm` that would exceed the limit is refused.
///
/// Default: a quarter of the machine's memory, but at least 128 MiB and at most 1 GiB. For each user all of it, or a
/// quarter of it if the mode lets other users connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_memory_max(
    options: *mut parlour_server_options,
    of_all: usize,
    of_each_user: usize,
) -> parlour_status {
    let set = |options: ServerOptions| options.memory_max(of_all).memory_per_uid_max(of_each_user);
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// Sets the number of handshakes that may be in progress, on transports that have one (`shm`, `fifo`). Default 128; 1
/// to 65536.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_half_open_max(
    options: *mut parlour_server_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.half_open_max(count)) }
}

/// Sets the number of clients that may wait to be accepted. Default 4096; the kernel caps it (net.core.somaxconn).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_backlog(
    options: *mut parlour_server_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.backlog(count)) }
}

/// Sets the time that a client may take for its handshake, in milliseconds. Default 5000; more than 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_handshake_timeout(
    options: *mut parlour_server_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ServerOptions| options.handshake_timeout(duration(ms));
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// Lets parlour_server_bind take the name over from the live server that holds it, and wait for it for up to `ms`
/// milliseconds. Default: a name that a live server holds is PARLOUR_NAME_IN_USE. Clients notice nothing: those that
/// have connected to that server stay with it, and the others are clients of the new one. That server must accept or
/// wait for a client meanwhile, be of the same user, and have parlour_server_options_hand_over set. PARLOUR_BUSY: it
/// did not answer in time, and keeps the name. docs/hand-over.md has the details.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_take_over(
    options: *mut parlour_server_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ServerOptions| options.take_over(duration(ms));
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// Sets whether another process of this user may take the name over. Default true. Accepting then returns
/// PARLOUR_HANDED_OVER, and open connections go on. Servers of a service manager's sockets hand nothing over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_hand_over(
    options: *mut parlour_server_options,
    hand_over: bool,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.hand_over(hand_over)) }
}

/// Sets whether any other server of this user may take the name, without parlour_server_options_take_over: for a
/// program that stands in for servers that may come. Default false. parlour_server_bind of the other server may then
/// block for up to 1 second. Accepting returns PARLOUR_HANDED_OVER, and open connections go on. A server that yields
/// takes no name from another one, also not from one that yields: PARLOUR_NAME_IN_USE. PARLOUR_INVALID_OPTION of
/// parlour_server_bind: a time for taking over is set, or handing over is switched off.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_yields(
    options: *mut parlour_server_options,
    yields: bool,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.yields(yields)) }
}

/// Sets whether the server counts messages and bytes, in memory that other processes of this user can read
/// (parlour_name_stats). Default true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_stats(
    options: *mut parlour_server_options,
    stats: bool,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.stats(stats)) }
}

/// Sets how long a hub serves its connected clients after a hand-over, in milliseconds. Default: 30000. Then
/// parlour_hub_next_event returns PARLOUR_HANDED_OVER.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_hand_over_grace(
    options: *mut parlour_server_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ServerOptions| options.hand_over_grace(duration(ms));
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, set) }
}

/// The check of the file that a client that runs as the server's user binds for itself on `unix`. A valid file is a
/// socket of mode 0700, of the user of the server. The process id in its name and its age do not matter.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_client_file {
    /// A client needs no file. If it has one, the file must be valid. The default.
    PARLOUR_CLIENT_FILE_CHECK = 0,
    /// Only clients with a valid file are admitted. This excludes other users and other implementations.
    PARLOUR_CLIENT_FILE_REQUIRE = 1,
    /// The file is removed and not checked.
    PARLOUR_CLIENT_FILE_IGNORE = 2,
}

/// Sets the check of the clients' own files on `unix`: a number of enum parlour_client_file.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_client_file. The options are as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_client_file(
    options: *mut parlour_server_options,
    policy: c_int,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let policy = match policy {
            0 => ClientFilePolicy::Check,
            1 => ClientFilePolicy::Require,
            2 => ClientFilePolicy::Ignore,
            _ => return Err(Failure::invalid("the number is not one of enum parlour_client_file")),
        };
        options.options = mem::take(&mut options.options).client_file(policy);
        Ok(())
    })
}

/// Sets the capacity of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two
/// from 64 KiB to 64 MiB. The memory is allocated when the connection is made. Longer messages flow through it in
/// pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_ring_size(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.ring_size(bytes)) }
}

/// Sets the maximum capacity of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the
/// capacity of this side's own ring if that is larger. A peer with a larger ring is refused. The peer allocates the
/// memory of its ring; this side keeps that memory in use until the connection ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_peer_ring_max(
    options: *mut parlour_server_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.peer_ring_max(bytes)) }
}

/// Sets the number of times that a blocking call polls, and yields the processor, before it sleeps in the kernel.
/// Default 40; 0 sleeps immediately. A wait costs up to some 20 microseconds of processor time this way, and a peer
/// that answers immediately is heard several times sooner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_server_options_spin_limit(
    options: *mut parlour_server_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |server| &mut server.options, |options: ServerOptions| options.spin_limit(count)) }
}

/// Creates client options with the default settings. Free them with parlour_connect_options_free. Returns NULL if the
/// library panics.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_connect_options_new() -> *mut parlour_connect_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_free(options: *mut parlour_connect_options) {
    // SAFETY: the caller passes NULL or live options, and gives them up.
    unsafe { guard::free(options) };
}

/// Sets the time that connecting to a live server may take, in milliseconds. Default 5000; more than 0. A negative
/// number is no limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_timeout(
    options: *mut parlour_connect_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ConnectOptions| options.timeout(duration(ms));
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// Sets the time to wait until a server holds the name, in milliseconds. Default 0: no wait. A negative number is no
/// limit. The wait sleeps until a file appears in one of the directories where the server could be. An error that
/// waiting cannot cure, such as a server of another user, ends it immediately.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_wait_for_server(
    options: *mut parlour_connect_options,
    ms: i64,
) -> parlour_status {
    let set = |options: ConnectOptions| options.wait_for_server(duration(ms));
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// Sets how a session connects again, in milliseconds; a negative number is the longest time. Connections without a
/// session are not affected.
///
/// - `delay_min_ms`: the first pause after a failure. Default 50; 1 to 86,400,000. No two attempts that reach a server
///   begin within this time.
/// - `delay_max_ms`: the longest pause. Default 5,000; from `delay_min_ms` to 86,400,000.
/// - `stable_after_ms`: how long a connection must live to count as a success if no message is received over it.
///   Default 1,000. After a success the pauses begin at the minimum again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_reconnect(
    options: *mut parlour_connect_options,
    delay_min_ms: i64,
    delay_max_ms: i64,
    stable_after_ms: i64,
) -> parlour_status {
    let set = |reconnect: Reconnect| {
        let reconnect = reconnect.delay_min(duration(delay_min_ms)).delay_max(duration(delay_max_ms));
        reconnect.stable_after(duration(stable_after_ms))
    };
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.reconnect, set) }
}

/// Sets the user that the server must run as. Default: this user or root. This side checks it before it sends a byte,
/// trusts the directories of that user, and first searches the default bases of that user.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_server_uid(
    options: *mut parlour_connect_options,
    uid: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.server_uid(uid)) }
}

/// Sets whether the client binds a file of its own on `unix`, where it may. Default true. The file shows in the name's
/// directory which process connects, and costs two system calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_client_file(
    options: *mut parlour_connect_options,
    bind: bool,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.client_file(bind)) }
}

/// Sets the origin of the client, for a bridge that connects for the client of another host: the name of that host, and
/// what that host claims about the client: its user id and its process id, or -1, and the name of its program, or NULL.
/// The strings are copied. A server of the same user finds it with parlour_connection_origin. A server of another user
/// is shown nothing, unless the client runs as root.
///
/// Connecting fails with PARLOUR_INVALID_OPTION if the host does not consist of 1 to 253 characters of A-Z a-z 0-9
/// . _ - and :, and with the error of the system call if the file that shows the origin cannot be created.
///
/// - PARLOUR_INVALID_ARGUMENT: an id is above 4294967295. The options are as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_origin(
    options: *mut parlour_connect_options,
    host: *const c_char,
    uid: i64,
    pid: i64,
    program: *const c_char,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let connect = unsafe { guard::exclusive(options, "the options") }?;
        // SAFETY: the caller passes NULL or a string.
        let mut origin = Origin::new(unsafe { guard::text(host) }?);
        let id = |id: i64| match u32::try_from(id) {
            Ok(id) => Ok(Some(id)),
            Err(_) if id < 0 => Ok(None),
            Err(_) => Err(Failure::invalid("an id is above 4294967295")),
        };
        if let Some(uid) = id(uid)? {
            origin = origin.with_uid(uid);
        }
        if let Some(pid) = id(pid)? {
            origin = origin.with_pid(pid);
        }
        if !program.is_null() {
            // SAFETY: not NULL, so the caller passes a string.
            origin = origin.with_program(unsafe { guard::text(program) }?);
        }
        connect.options = mem::take(&mut connect.options).origin(origin);
        Ok(())
    })
}

/// Sets the length of the longest message that this side sends or receives, in bytes. Default 16 MiB; at most 2 GiB -
/// 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_message_max(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    let set = |options: ConnectOptions| options.message_max(bytes);
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, set) }
}

/// Sets the number of descriptors that a received message may have, shared blocks included. Default 0; at most 253. A
/// peer that sends more loses the connection.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_fds_max(
    options: *mut parlour_connect_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.fds_max(count)) }
}

/// Sets the capacity of the ring through which this side sends over `shm`, in bytes. Default 1 MiB; a power of two
/// from 64 KiB to 64 MiB. The memory is allocated when the connection is made. Longer messages flow through it in
/// pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_ring_size(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.ring_size(bytes)) }
}

/// Sets the maximum capacity of the ring through which the peer sends over `shm`, in bytes. Default 16 MiB, or the
/// capacity of this side's own ring if that is larger. A peer with a larger ring is refused. The peer allocates the
/// memory of its ring; this side keeps that memory in use until the connection ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_peer_ring_max(
    options: *mut parlour_connect_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.peer_ring_max(bytes)) }
}

/// Sets the number of times that a blocking call polls, and yields the processor, before it sleeps in the kernel.
/// Default 40; 0 sleeps immediately. A wait costs up to some 20 microseconds of processor time this way, and a peer
/// that answers immediately is heard several times sooner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_connect_options_spin_limit(
    options: *mut parlour_connect_options,
    count: u32,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |connect| &mut connect.options, |options: ConnectOptions| options.spin_limit(count)) }
}

/// The action of a hub if a message would exceed parlour_hub_options_write_buffer_max for a client that does not read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_slow_client_policy {
    /// The client is disconnected. The default.
    PARLOUR_SLOW_CLIENT_DISCONNECT = 0,
    /// The message is refused: parlour_hub_send returns PARLOUR_BUSY, and parlour_hub_broadcast counts the client as
    /// missed.
    PARLOUR_SLOW_CLIENT_REFUSE = 1,
    /// The hub waits until there is room, up to a limit, and serves no other client meanwhile. Then the client is
    /// disconnected.
    PARLOUR_SLOW_CLIENT_WAIT = 2,
}

/// Creates hub options with the default settings. Free them with parlour_hub_options_free. Returns NULL if the library
/// panics.
#[unsafe(no_mangle)]
pub extern "C" fn parlour_hub_options_new() -> *mut parlour_hub_options {
    guard::value(std::ptr::null_mut(), || Some(Box::into_raw(Box::default())))
}

/// Frees options. Does nothing for NULL. Servers, connections and hubs that were created with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_free(options: *mut parlour_hub_options) {
    // SAFETY: the caller passes NULL or live options, and gives them up.
    unsafe { guard::free(options) };
}

/// Sets the number of bytes that the hub may buffer for one client, four for each message included, besides those that
/// the kernel holds. Default 1 MiB. A message is always buffered if nothing else is buffered for the client, so with 0
/// one message at a time is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_write_buffer_max(
    options: *mut parlour_hub_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |hub| &mut hub.options, |options: HubOptions| options.write_buffer_max(bytes)) }
}

/// Sets the number of bytes that may wait in the queue of the hub's handles (parlour_hub_handle), 64 for each message
/// included. Default 1 MiB. A message is always queued if no other one is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_handle_queue_max(
    options: *mut parlour_hub_options,
    bytes: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |hub| &mut hub.options, |options: HubOptions| options.handle_queue_max(bytes)) }
}

/// Sets the number of shared blocks that may wait for one client, and in the queue of the hub's handles. Default 16. A
/// message with blocks always waits if no other block does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_blocks_max(
    options: *mut parlour_hub_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |hub| &mut hub.options, |options: HubOptions| options.blocks_max(count)) }
}

/// Sets the number of topics whose last value is kept for clients that subscribe later, and the number of bytes of
/// these values, with their topics. If there are more, those that were published longest ago are dropped. Defaults: 0,
/// which keeps no values, and 1 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_kept_values(
    options: *mut parlour_hub_options,
    count: usize,
    bytes: usize,
) -> parlour_status {
    let set = |options: HubOptions| options.kept_values_max(count).kept_bytes_max(bytes);
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |hub| &mut hub.options, set) }
}

/// Sets the number of subscriptions that one client may have (parlour_hub_subscribe). Default 1000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_subscriptions_max(
    options: *mut parlour_hub_options,
    count: usize,
) -> parlour_status {
    // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
    unsafe { change(options, |hub| &mut hub.options, |options: HubOptions| options.subscriptions_max(count)) }
}

/// Sets the policy for a client that does not read: a number of enum parlour_slow_client_policy. Default:
/// PARLOUR_SLOW_CLIENT_DISCONNECT. `wait_ms` is the limit of PARLOUR_SLOW_CLIENT_WAIT in milliseconds; a negative
/// number is no limit.
///
/// Errors:
/// - PARLOUR_INVALID_ARGUMENT: the number is not one of enum parlour_slow_client_policy. The options are as before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_options_slow_client_policy(
    options: *mut parlour_hub_options,
    policy: c_int,
    wait_ms: i64,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or live options that no other thread uses during the call.
        let options = unsafe { guard::exclusive(options, "the options") }?;
        let policy = match policy {
            0 => SlowClientPolicy::Disconnect,
            1 => SlowClientPolicy::Refuse,
            2 => SlowClientPolicy::Wait(duration(wait_ms)),
            _ => return Err(Failure::invalid("the number is not one of enum parlour_slow_client_policy")),
        };
        options.options = mem::take(&mut options.options).slow_client_policy(policy);
        Ok(())
    })
}
