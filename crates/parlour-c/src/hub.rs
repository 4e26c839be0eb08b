//! A server and all its clients in one thread.
#![allow(unsafe_code, non_camel_case_types)]

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use parlour::Hub;
use parlour::hub::{Client, DisconnectReason, Event, HubOptions};

use crate::guard::{self, Failure, Timeout, duration, run_unit};
use crate::message::parlour_message;
use crate::options::{parlour_hub_options, parlour_server_options};
use crate::peer::{parlour_peer, parlour_transport};
use crate::server::{c_path, c_string, options_of, parlour_shutdown};
use crate::status::{parlour_status, status_of};

/// Holds a name and serves all clients that come, in the thread that calls it.
pub struct parlour_hub {
    hub: Hub,
    /// Those who have joined and of whom it was not told that they have left.
    clients: HashMap<u64, Client>,
    name: CString,
    path: CString,
    /// What the last event said in words.
    text: CString,
}

/// What has happened.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_event_kind {
    /// Nothing: the call failed, or the time was over.
    PARLOUR_EVENT_NONE = 0,
    /// A client has connected and was let in: `client`, `peer`.
    PARLOUR_EVENT_JOINED = 1,
    /// A client has sent a message: `client`, `message`, which is the caller's to free.
    PARLOUR_EVENT_MESSAGE = 2,
    /// A client sends no more, and still receives: `client`. Call parlour_hub_finish when there is nothing more for
    /// it.
    PARLOUR_EVENT_FINISHED = 3,
    /// A client's connection has ended: `client`, `why`, `status`, `text`.
    PARLOUR_EVENT_LEFT = 4,
    /// A client was turned away before it joined: `peer`, as far as it was known, `text`.
    PARLOUR_EVENT_REFUSED = 5,
}

/// Why a client has left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_disconnect_reason {
    /// It has not; or for a reason that this header does not know.
    PARLOUR_DISCONNECT_NONE = 0,
    /// It has closed its connection, or its process has ended, or both sides have finished.
    PARLOUR_DISCONNECT_CLOSED = 1,
    /// parlour_hub_disconnect was called.
    PARLOUR_DISCONNECT_DISCONNECTED = 2,
    /// It did not take what was sent to it.
    PARLOUR_DISCONNECT_SLOW = 3,
    /// Its connection has failed: `status` and `text` say how.
    PARLOUR_DISCONNECT_FAILED = 4,
}

/// One event. `kind` says which of the others have a meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct parlour_event {
    /// What has happened.
    pub kind: parlour_event_kind,
    /// Why a client has left.
    pub why: parlour_disconnect_reason,
    /// What was wrong with a connection that failed.
    pub status: parlour_status,
    /// Which client: a number that is never given to another, from 1. 0 is nobody.
    pub client: u64,
    /// What it has sent. To be freed with parlour_message_free.
    pub message: *mut parlour_message,
    /// Who it is.
    pub peer: parlour_peer,
    /// The same for people, or NULL. It is the hub's, and valid until the next event is asked for.
    pub text: *const c_char,
}

impl parlour_event {
    const NONE: Self = Self {
        kind: parlour_event_kind::PARLOUR_EVENT_NONE,
        why: parlour_disconnect_reason::PARLOUR_DISCONNECT_NONE,
        status: parlour_status::PARLOUR_OK,
        client: 0,
        message: ptr::null_mut(),
        peer: parlour_peer::UNKNOWN,
        text: ptr::null(),
    };
}

impl parlour_hub {
    fn new(hub: Hub) -> Self {
        let (name, path) = (c_string(hub.name().as_bytes()), c_path(hub.path()));
        Self { hub, clients: HashMap::new(), name, path, text: CString::default() }
    }

    fn next(&mut self, timeout: Timeout) -> Result<Option<Event>, parlour::Error> {
        match timeout {
            Timeout::Infinite => self.hub.next_event().map(Some),
            Timeout::Zero => self.hub.try_next_event(),
            Timeout::After(duration) => self.hub.next_event_timeout(duration),
        }
    }

    fn say(&mut self, text: &str) -> *const c_char {
        self.text = CString::new(text.replace('\0', "?")).unwrap_or_default();
        self.text.as_ptr()
    }

    fn event(&mut self, event: Event) -> parlour_event {
        use parlour_event_kind::*;
        let of = |kind, client: Client| parlour_event { kind, client: client.number(), ..parlour_event::NONE };
        match event {
            Event::Joined(client, peer) => {
                self.clients.insert(client.number(), client);
                parlour_event { peer: parlour_peer::of(&peer), ..of(PARLOUR_EVENT_JOINED, client) }
            }
            Event::Message(client, message) => {
                let message = Box::into_raw(Box::new(parlour_message { message }));
                parlour_event { message, ..of(PARLOUR_EVENT_MESSAGE, client) }
            }
            Event::Finished(client) => of(PARLOUR_EVENT_FINISHED, client),
            Event::Left(client, why) => {
                self.clients.remove(&client.number());
                let text = self.say(&why.to_string());
                let (why, status) = match &why {
                    DisconnectReason::Closed => {
                        (parlour_disconnect_reason::PARLOUR_DISCONNECT_CLOSED, parlour_status::PARLOUR_OK)
                    }
                    DisconnectReason::Disconnected => {
                        (parlour_disconnect_reason::PARLOUR_DISCONNECT_DISCONNECTED, parlour_status::PARLOUR_OK)
                    }
                    DisconnectReason::Slow => {
                        (parlour_disconnect_reason::PARLOUR_DISCONNECT_SLOW, parlour_status::PARLOUR_OK)
                    }
                    DisconnectReason::Failed(error) => {
                        (parlour_disconnect_reason::PARLOUR_DISCONNECT_FAILED, status_of(error.kind()))
                    }
                    _ => (parlour_disconnect_reason::PARLOUR_DISCONNECT_NONE, parlour_status::PARLOUR_OK),
                };
                parlour_event { why, status, text, ..of(PARLOUR_EVENT_LEFT, client) }
            }
            Event::Refused(refusal) => {
                let peer = refusal.peer.as_ref().map_or(parlour_peer::UNKNOWN, parlour_peer::of);
                let text = self.say(&refusal.to_string());
                parlour_event { kind: PARLOUR_EVENT_REFUSED, peer, text, ..parlour_event::NONE }
            }
        }
    }

    /// Runs something for a client. Nothing happens to one that has gone.
    fn with(&mut self, client: u64, work: impl FnOnce(&mut Hub, Client) -> parlour::Result<()>) -> Result<(), Failure> {
        match self.clients.get(&client) {
            Some(&client) => Ok(work(&mut self.hub, client)?),
            None => Ok(()),
        }
    }
}

/// Takes a name and serves whoever comes. Both options may be NULL: the defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_bind(
    address: *const c_char,
    server_options: *const parlour_server_options,
    hub_options: *const parlour_hub_options,
    hub: *mut *mut parlour_hub,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(hub) }?;
        // SAFETY: the caller's contract.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: NULL, or by the caller's contract a live handle.
        let options =
            unsafe { hub_options.as_ref() }.map_or_else(HubOptions::default, |options| options.options.clone());
        // SAFETY: the caller's contract.
        let bound = options.server(unsafe { options_of(server_options) }).bind(address)?;
        // SAFETY: checked above.
        unsafe { guard::give(hub, parlour_hub::new(bound)) };
        Ok(())
    })
}

/// Waits up to `timeout_ms` (less than 0: for ever; 0: not at all) until something happens, and fills `event`.
/// PARLOUR_TIMED_OUT: nothing has. No failure ends a connection, and the call may be repeated. PARLOUR_SHUTDOWN:
/// the hub was told to stop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_next_event(
    hub: *mut parlour_hub,
    timeout_ms: i64,
    event: *mut parlour_event,
) -> parlour_status {
    run_unit(|| {
        if event.is_null() {
            return Err(Failure::null("the event"));
        }
        // SAFETY: the caller's contract.
        unsafe { guard::put(event, parlour_event::NONE) };
        // SAFETY: the caller's contract.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        let next = hub.next(Timeout::of(timeout_ms))?.ok_or_else(|| Failure::timed_out("nothing has happened"))?;
        // SAFETY: the caller's contract.
        unsafe { guard::put(event, hub.event(next)) };
        Ok(())
    })
}

/// Sends one message to a client. It goes out together with others, at the latest when the hub has nothing else to
/// do. Nothing happens if the client has gone. PARLOUR_BUSY: no room, with PARLOUR_SLOW_CLIENT_REFUSE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_send(
    hub: *mut parlour_hub,
    client: u64,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller's contract.
        let message = unsafe { guard::bytes(data, length) }?;
        hub.with(client, |hub, client| hub.send(client, message))
    })
}

/// Sends one message to everybody who has joined. `missed` (may be NULL) gets how many did not get it: none but with
/// PARLOUR_SLOW_CLIENT_REFUSE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_broadcast(
    hub: *mut parlour_hub,
    data: *const c_void,
    length: usize,
    missed: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::put(missed, 0) };
        // SAFETY: the caller's contract.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller's contract.
        let without = hub.hub.broadcast(unsafe { guard::bytes(data, length) }?)?;
        // SAFETY: the caller's contract.
        unsafe { guard::put(missed, without.len()) };
        Ok(())
    })
}

/// Writes what waits to be sent, as far as the system takes it: for a program that is about to do something that
/// takes long.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_flush(hub: *mut parlour_hub) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        Ok(unsafe { guard::exclusive(hub, "the hub") }?.hub.flush()?)
    })
}

/// Ends sending to a client, after what was sent before. What it sends is still received.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_finish(hub: *mut parlour_hub, client: u64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::exclusive(hub, "the hub") }?.with(client, |hub, client| hub.finish(client))
    })
}

/// Ends the connection of a client; what the system does not take at once of what was sent to it is lost.
/// PARLOUR_EVENT_LEFT follows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_disconnect(hub: *mut parlour_hub, client: u64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::exclusive(hub, "the hub") }?.with(client, |hub, client| hub.disconnect(client))
    })
}

/// Who has joined and not left, in the order in which they came. `capacity` is how many `clients` has room for;
/// where there are more, the status is PARLOUR_BUFFER_TOO_SMALL. `count` gets how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_clients(
    hub: *const parlour_hub,
    clients: *mut u64,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::put(count, 0) };
        // SAFETY: the caller's contract.
        let present = unsafe { guard::shared(hub, "the hub") }?.hub.clients();
        // SAFETY: the caller's contract.
        unsafe { guard::put(count, present.len()) };
        if clients.is_null() && capacity > 0 {
            return Err(Failure::null("the array"));
        }
        if present.len() > capacity {
            let why = format!("there are {} clients, and there is room for {capacity}", present.len());
            return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, why.into()));
        }
        for (number, client) in present.iter().enumerate() {
            // SAFETY: there is room for so many.
            unsafe { guard::put_at(clients, number, client.number()) };
        }
        Ok(())
    })
}

/// Who a client is. PARLOUR_DISCONNECTED: it has gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_peer(
    hub: *const parlour_hub,
    client: u64,
    peer: *mut parlour_peer,
) -> parlour_status {
    run_unit(|| {
        if peer.is_null() {
            return Err(Failure::null("the peer"));
        }
        // SAFETY: the caller's contract.
        let hub = unsafe { guard::shared(hub, "the hub") }?;
        let known = hub.clients.get(&client).and_then(|&client| hub.hub.peer(client)).ok_or_else(|| {
            Failure::Here(parlour_status::PARLOUR_DISCONNECTED, format!("client {client} has gone").into())
        })?;
        // SAFETY: the caller's contract.
        unsafe { guard::put(peer, parlour_peer::of(known)) };
        Ok(())
    })
}

/// The transport over which a client came; PARLOUR_TRANSPORT_NONE when it has gone, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_transport(hub: *const parlour_hub, client: u64) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller's contract.
        let hub = unsafe { hub.as_ref() }?;
        Some(parlour_transport::of(hub.hub.transport(*hub.clients.get(&client)?)?))
    })
}

/// How many bytes wait in the hub to be sent to a client; 0 when it has gone, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_unsent(hub: *const parlour_hub, client: u64) -> usize {
    guard::value(0, || {
        // SAFETY: the caller's contract.
        let hub = unsafe { hub.as_ref() }?;
        Some(hub.hub.unsent(*hub.clients.get(&client)?))
    })
}

/// A descriptor that is readable when parlour_hub_next_event has something to do. Call that with 0 until
/// PARLOUR_TIMED_OUT before each wait, also after sending something: it writes what is to be written. For waiting
/// only. -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_fd(hub: *const parlour_hub) -> c_int {
    // SAFETY: the caller's contract.
    guard::value(-1, || Some(unsafe { hub.as_ref() }?.hub.as_fd().as_raw_fd()))
}

/// The bare name, as long as the hub lives. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_name(hub: *const parlour_hub) -> *const c_char {
    // SAFETY: the caller's contract.
    guard::value(ptr::null(), || Some(unsafe { hub.as_ref() }?.name.as_ptr()))
}

/// The name's directory, as long as the hub lives. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_path(hub: *const parlour_hub) -> *const c_char {
    // SAFETY: the caller's contract.
    guard::value(ptr::null(), || Some(unsafe { hub.as_ref() }?.path.as_ptr()))
}

/// A handle with which any thread and any signal handler can make parlour_hub_next_event return. Free it with
/// parlour_shutdown_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_shutdown_handle(
    hub: *const parlour_hub,
    shutdown: *mut *mut parlour_shutdown,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        unsafe { guard::check_out(shutdown) }?;
        // SAFETY: the caller's contract.
        let handle = unsafe { guard::shared(hub, "the hub") }?.hub.shutdown_handle();
        // SAFETY: checked above.
        unsafe { guard::give(shutdown, parlour_shutdown { handle }) };
        Ok(())
    })
}

/// Gives the name up, ends every connection after what was sent has gone, for which it waits up to `timeout_ms`
/// (less than 0: for ever), and frees the hub, in any case.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_close(hub: *mut parlour_hub, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller's contract.
        let taken = unsafe { guard::taken(hub) }.ok_or_else(|| Failure::null("the hub"))?;
        Ok(taken.hub.close_timeout(duration(timeout_ms))?)
    })
}

/// parlour_hub_close without waiting. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_free(hub: *mut parlour_hub) {
    // SAFETY: the caller's contract.
    unsafe { guard::free(hub) };
}
