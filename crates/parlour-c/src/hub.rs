//! A server and all of its clients in one thread.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::Arc;

use parlour::hub::{Client, DisconnectReason, Event, HubOptions};
use parlour::{Hub, Payload, Peer};

use crate::guard::{self, Failure, Timeout, duration, run_unit};
use crate::message::parlour_message;
use crate::options::{parlour_hub_options, parlour_server_options};
use crate::payload::{Borrowed, parlour_payload};
use crate::peer::{parlour_origin, parlour_peer, parlour_transport};
use crate::roster::Roster;
use crate::server::{c_path, c_string, options_of, parlour_shutdown};
use crate::stats::{self, parlour_refusal_reason, parlour_stats};
use crate::status::{parlour_status, status_of};

/// A hub: it holds a name and serves all clients in the thread that calls it. One thread at a time may use it.
pub struct parlour_hub {
    pub(crate) hub: Hub,
    pub(crate) clients: Arc<Roster>,
    name: CString,
    path: CString,
    /// The text of the last event.
    text: CString,
    /// The origin of the client of the last event.
    origin: Option<Box<parlour_origin>>,
}

/// The kind of an event. A client joins when the hub has admitted it; a client that the hub refuses never joins.
///
/// Each client that joins causes one PARLOUR_EVENT_JOINED, then its messages, and one PARLOUR_EVENT_LEFT.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_event_kind {
    /// No event, or one that this header does not know.
    PARLOUR_EVENT_NONE = 0,
    /// A client has connected and was admitted. Fields: `client`, `peer`, `origin`.
    PARLOUR_EVENT_JOINED = 1,
    /// A client has sent a message. Fields: `client`, `message`, which the caller frees.
    PARLOUR_EVENT_MESSAGE = 2,
    /// A client has ended sending, after all its messages, and still receives. Field: `client`. Its connection stays
    /// open; call parlour_hub_finish when there is nothing more to send to it.
    PARLOUR_EVENT_FINISHED = 3,
    /// The connection of a client has ended. Fields: `client`, `reason`, `status`, `text`.
    PARLOUR_EVENT_LEFT = 4,
    /// A client was refused before it joined. Fields: `refusal`, `text`, and `peer` and `origin`, as far as they were
    /// known.
    PARLOUR_EVENT_REFUSED = 5,
    /// parlour_hub_wake was called, once or several times. No field.
    PARLOUR_EVENT_WOKEN = 6,
    /// A client has missed one message or several of a parlour_hub_handle, or a kept value of a topic, because its
    /// write buffer was full (PARLOUR_SLOW_CLIENT_REFUSE) or because it cannot receive shared blocks. Field: `client`.
    PARLOUR_EVENT_MISSED = 7,
}

/// The reason why a client has left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_disconnect_reason {
    /// The client has not left, or it has left for a reason that this header does not know.
    PARLOUR_DISCONNECT_NONE = 0,
    /// The client closed its connection, or its process ended, or both sides have finished.
    PARLOUR_DISCONNECT_CLOSED = 1,
    /// parlour_hub_disconnect was called. Messages that the client had sent, and that were not received, are lost.
    PARLOUR_DISCONNECT_DISCONNECTED = 2,
    /// The client did not read what was sent to it (enum parlour_slow_client_policy). Messages that the client had
    /// sent, and that were not received, are lost.
    PARLOUR_DISCONNECT_SLOW = 3,
    /// The connection of the client failed. The fields `status` and `text` give the error.
    PARLOUR_DISCONNECT_FAILED = 4,
}

/// One event of a hub. `kind` determines which of the other fields are set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct parlour_event {
    /// The kind of the event.
    pub kind: parlour_event_kind,
    /// The reason why a client has left.
    pub reason: parlour_disconnect_reason,
    /// The error of a connection that failed, else PARLOUR_OK.
    pub status: parlour_status,
    /// The reason why a client was refused.
    pub refusal: parlour_refusal_reason,
    /// The number of the client, from 1 up. Numbers are never reused. 0 stands for no client.
    pub client: u64,
    /// The message, or NULL. Free it with parlour_message_free.
    pub message: *mut parlour_message,
    /// The identity of the client.
    pub peer: parlour_peer,
    /// The event in words, for people, or NULL. The hub owns the string. It is valid until the next call of
    /// parlour_hub_next_event.
    pub text: *const c_char,
    /// The other host that the client comes from (parlour_connection_origin), or NULL for a client of this host. The
    /// hub owns it. It is valid until the next call of parlour_hub_next_event.
    pub origin: *const parlour_origin,
}

impl parlour_event {
    const NONE: Self = Self {
        kind: parlour_event_kind::PARLOUR_EVENT_NONE,
        reason: parlour_disconnect_reason::PARLOUR_DISCONNECT_NONE,
        status: parlour_status::PARLOUR_OK,
        refusal: parlour_refusal_reason::PARLOUR_REFUSAL_OTHER,
        client: 0,
        message: ptr::null_mut(),
        peer: parlour_peer::UNKNOWN,
        text: ptr::null(),
        origin: ptr::null(),
    };
}

impl parlour_hub {
    fn new(hub: Hub) -> Self {
        let (name, path) = (c_string(hub.name().as_bytes()), c_path(hub.path()));
        Self { hub, clients: Arc::new(Roster::new()), name, path, text: CString::default(), origin: None }
    }

    fn next(&mut self, timeout: Timeout) -> Result<Event, Failure> {
        match timeout {
            Timeout::Infinite => Ok(self.hub.next_event()?),
            Timeout::Zero => {
                self.hub.try_next_event().map_err(|error| Failure::of_try_recv(error, "nothing has happened"))
            }
            Timeout::After(duration) => Ok(self.hub.next_event_timeout(duration)?),
        }
    }

    /// Keeps a text until the next event, and returns it as a C string.
    fn keep_text(&mut self, text: &str) -> *const c_char {
        self.text = CString::new(text.replace('\0', "?")).unwrap_or_default();
        self.text.as_ptr()
    }

    /// Keeps the origin of a client until the next event, and returns it, or NULL.
    fn keep_origin(&mut self, peer: Option<&Peer>) -> *const parlour_origin {
        self.origin = peer.and_then(Peer::origin).map(|origin| Box::new(parlour_origin::of(Some(origin))));
        self.origin.as_deref().map_or(ptr::null(), ptr::from_ref)
    }

    fn event(&mut self, event: Event) -> parlour_event {
        use parlour_event_kind::*;
        let of = |kind, client: Client| parlour_event { kind, client: client.number(), ..parlour_event::NONE };
        match event {
            Event::Joined(client, peer) => {
                self.clients.insert(client);
                let origin = self.keep_origin(Some(&peer));
                parlour_event { peer: parlour_peer::of(&peer), origin, ..of(PARLOUR_EVENT_JOINED, client) }
            }
            Event::Message(client, message) => {
                let message = Box::into_raw(Box::new(parlour_message { message }));
                parlour_event { message, ..of(PARLOUR_EVENT_MESSAGE, client) }
            }
            Event::Finished(client) => of(PARLOUR_EVENT_FINISHED, client),
            Event::Left(client, reason) => {
                self.clients.remove(client);
                let text = self.keep_text(&reason.to_string());
                let (reason, status) = match &reason {
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
                parlour_event { reason, status, text, ..of(PARLOUR_EVENT_LEFT, client) }
            }
            Event::Refused(refusal) => {
                let origin = self.keep_origin(refusal.peer.as_ref());
                let peer = refusal.peer.as_ref().map_or(parlour_peer::UNKNOWN, parlour_peer::of);
                let text = self.keep_text(&refusal.to_string());
                let refusal = parlour_refusal_reason::of(refusal.reason);
                parlour_event { kind: PARLOUR_EVENT_REFUSED, refusal, peer, text, origin, ..parlour_event::NONE }
            }
            Event::Woken => parlour_event { kind: PARLOUR_EVENT_WOKEN, ..parlour_event::NONE },
            Event::Missed(client) => of(PARLOUR_EVENT_MISSED, client),
            _ => parlour_event::NONE,
        }
    }

    pub(crate) fn peer(&self, client: u64) -> Result<&Peer, Failure> {
        self.clients.get(client).and_then(|client| self.hub.peer(client)).ok_or_else(|| {
            Failure::Here(parlour_status::PARLOUR_DISCONNECTED, format!("client {client} has left").into())
        })
    }

    /// Runs `work` for a client. Does nothing for a client that has left.
    pub(crate) fn with(
        &mut self,
        client: u64,
        work: impl FnOnce(&mut Hub, Client) -> parlour::Result<()>,
    ) -> Result<(), Failure> {
        match self.clients.get(client) {
            Some(client) => Ok(work(&mut self.hub, client)?),
            None => Ok(()),
        }
    }

    fn send(&mut self, client: u64, payload: Payload<'_>) -> Result<(), Failure> {
        self.with(client, |hub, client| hub.send(client, payload))
    }
}

/// Takes the name of an address, listens, and stores the new hub in `*hub`. Free it with parlour_hub_close or
/// parlour_hub_free. `address` is as for parlour_server_bind. Both options may be NULL for the defaults.
///
/// Errors: those of parlour_server_bind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_bind(
    address: *const c_char,
    server_options: *const parlour_server_options,
    hub_options: *const parlour_hub_options,
    hub: *mut *mut parlour_hub,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(hub) }?;
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        // SAFETY: the caller passes NULL or live options.
        let options =
            unsafe { hub_options.as_ref() }.map_or_else(HubOptions::default, |options| options.options.clone());
        // SAFETY: the caller passes NULL or live options.
        let bound = options.server(unsafe { options_of(server_options) }).bind(address)?;
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(hub, parlour_hub::new(bound)) };
        Ok(())
    })
}

/// Waits up to `timeout_ms` for the next event, and stores it in `*event`. The hub works only inside its calls: this
/// one also admits clients, and writes what was sent to them.
///
/// Clients take turns: a client that sends without pause is heard up to 16 messages, or 64 KiB, at a time.
///
/// Errors: none of them ends a connection, and the call may be repeated. `event->kind` is then PARLOUR_EVENT_NONE.
/// - PARLOUR_TIMED_OUT: nothing has happened.
/// - PARLOUR_SHUTDOWN: the hub was told to shut down, or it drains and the last client has left. Every later call
///   returns the same.
/// - PARLOUR_HANDED_OVER: another process has taken the name over, and every client has left, or 30 s have passed.
///   Every later call returns the same.
/// - PARLOUR_NAME_LOST: the server's files were removed or replaced, so that new clients do not find it; the present
///   clients go on. Or this is a forked child.
/// - PARLOUR_IO: a system call failed.
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
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(event, parlour_event::NONE) };
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        let next = hub.next(Timeout::of(timeout_ms))?;
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(event, hub.event(next)) };
        Ok(())
    })
}

/// Sends one message to a client: the `length` bytes at `data`, which may be NULL if `length` is 0.
///
/// The message is written together with others: when 64 KiB have come together, when the hub has nothing else to do,
/// or, while messages arrive without pause, a millisecond later. parlour_hub_flush writes it immediately. The call
/// blocks only with PARLOUR_SLOW_CLIENT_WAIT. Does nothing for a client that has left.
///
/// Errors: nothing of the message is sent then.
/// - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit.
/// - PARLOUR_BUSY: the client does not read what was sent to it, with PARLOUR_SLOW_CLIENT_REFUSE.
/// - PARLOUR_SHUTDOWN: the hub was told to shut down while it waited, with PARLOUR_SLOW_CLIENT_WAIT.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_send(
    hub: *mut parlour_hub,
    client: u64,
    data: *const c_void,
    length: usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        hub.send(client, Payload::new(unsafe { guard::bytes(data, length) }?))
    })
}

/// Sends one message to a client as parlour_hub_send does: bytes in one part or in several, and shared blocks. See
/// parlour_payload. Blocks for which the channel has no room wait, up to parlour_hub_options_blocks_max.
///
/// Errors: those of parlour_hub_send and parlour_payload, and:
/// - PARLOUR_UNSUPPORTED: the payload has descriptors, which a hub does not send; or it has blocks, and the client's
///   transport does not carry them.
/// - PARLOUR_REFUSED: the payload has blocks, and the client allows no descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_send_payload(
    hub: *mut parlour_hub,
    client: u64,
    payload: *const parlour_payload,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a payload that is as parlour_payload describes it.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        hub.send(client, borrowed.payload())
    })
}

/// Sends one message to every client that has joined: the `length` bytes at `data`, which may be NULL if `length` is
/// 0. Stores the number of clients that did not get it in `*missed`, which may be NULL. The number is 0 unless the
/// policy is PARLOUR_SLOW_CLIENT_REFUSE.
///
/// Errors: those of parlour_hub_send but PARLOUR_BUSY. After PARLOUR_SHUTDOWN some clients have the message and some
/// have not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_broadcast(
    hub: *mut parlour_hub,
    data: *const c_void,
    length: usize,
    missed: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, 0) };
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or `length` bytes.
        let without = hub.hub.broadcast(unsafe { guard::bytes(data, length) }?)?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, without.len()) };
        Ok(())
    })
}

/// Sends one message to every client that has joined, as parlour_hub_broadcast does: bytes in one part or in several,
/// and shared blocks. See parlour_payload. `*missed` includes the clients that cannot receive the blocks.
///
/// Errors: those of parlour_hub_broadcast and parlour_payload, and:
/// - PARLOUR_UNSUPPORTED: the payload has descriptors, which a hub does not send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_broadcast_payload(
    hub: *mut parlour_hub,
    payload: *const parlour_payload,
    missed: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, 0) };
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a payload that is as parlour_payload describes it.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        let without = hub.hub.broadcast(borrowed.payload())?;
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(missed, without.len()) };
        Ok(())
    })
}

/// Writes the buffered messages of all clients, as far as the kernel takes them without blocking.
/// parlour_hub_next_event does this itself; call this function before work that takes long.
///
/// Errors:
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_flush(hub: *mut parlour_hub) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        Ok(unsafe { guard::exclusive(hub, "the hub") }?.hub.flush()?)
    })
}

/// Ends sending to a client (half-close), after what was sent before: the client receives the end of the stream after
/// the last message. Its messages are still received. It leaves when it has finished, too. Does nothing for a client
/// that has left.
///
/// Errors:
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_finish(hub: *mut parlour_hub, client: u64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        unsafe { guard::exclusive(hub, "the hub") }?.with(client, |hub, client| hub.finish(client))
    })
}

/// Ends the connection of a client. Buffered messages that the kernel does not take immediately are lost.
/// PARLOUR_EVENT_LEFT follows, and no message of the client any more. Does nothing for a client that has left.
///
/// Errors:
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_disconnect(hub: *mut parlour_hub, client: u64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        unsafe { guard::exclusive(hub, "the hub") }?.with(client, |hub, client| hub.disconnect(client))
    })
}

/// Lets no further client connect, and releases the name. The clients that are connected go on to be served, and those
/// that wait to be let in still join. After the last one has left, parlour_hub_next_event returns PARLOUR_SHUTDOWN.
/// Usually the name is free when this call returns. Over `fifo` a client that is about to connect may delay that while
/// the hub waits for events. Further calls have no effect.
///
/// Errors:
/// - PARLOUR_SHUTDOWN: the hub was told to shut down before.
/// - PARLOUR_NAME_LOST: this is a forked child.
/// - PARLOUR_IO: a system call failed. If it was the removal of a file, the name is free all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_drain(hub: *mut parlour_hub) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        Ok(unsafe { guard::exclusive(hub, "the hub") }?.hub.drain()?)
    })
}

/// Stores the numbers of the clients that have joined and not left in `clients`, an array of `capacity` elements, in
/// the order in which they joined. `clients` may be NULL if `capacity` is 0. Stores the number of clients in `*count`,
/// which may be NULL.
///
/// Errors:
/// - PARLOUR_BUFFER_TOO_SMALL: there are more clients than `capacity`. Only `*count` was stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_clients(
    hub: *const parlour_hub,
    clients: *mut u64,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(count, 0) };
        // SAFETY: the caller passes NULL or a live hub.
        let present = unsafe { guard::shared(hub, "the hub") }?.hub.clients();
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::put(count, present.len()) };
        if clients.is_null() && capacity > 0 {
            return Err(Failure::null("the array"));
        }
        if present.len() > capacity {
            let reason = format!("the hub has {} clients, and the array holds {capacity}", present.len());
            return Err(Failure::Here(parlour_status::PARLOUR_BUFFER_TOO_SMALL, reason.into()));
        }
        for (index, client) in present.enumerate() {
            // SAFETY: `index` is less than `capacity`, the number of elements of the array.
            unsafe { guard::put_at(clients, index, client.number()) };
        }
        Ok(())
    })
}

/// Stores the identity of a client in `*peer`.
///
/// Errors:
/// - PARLOUR_DISCONNECTED: the client has left.
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
        // SAFETY: the caller passes NULL or a live hub.
        let hub = unsafe { guard::shared(hub, "the hub") }?;
        let known = parlour_peer::of(hub.peer(client)?);
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(peer, known) };
        Ok(())
    })
}

/// Stores the other host that a client comes from in `*origin`, as parlour_connection_origin does for a connection.
///
/// Errors:
/// - PARLOUR_DISCONNECTED: the client has left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_origin(
    hub: *const parlour_hub,
    client: u64,
    origin: *mut parlour_origin,
) -> parlour_status {
    run_unit(|| {
        if origin.is_null() {
            return Err(Failure::null("the origin"));
        }
        // SAFETY: the caller passes NULL or a live hub.
        let hub = unsafe { guard::shared(hub, "the hub") }?;
        let known = parlour_origin::of(hub.peer(client)?.origin());
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(origin, known) };
        Ok(())
    })
}

/// Returns the transport of a client, or PARLOUR_TRANSPORT_NONE for a client that has left and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_transport(hub: *const parlour_hub, client: u64) -> parlour_transport {
    guard::value(parlour_transport::PARLOUR_TRANSPORT_NONE, || {
        // SAFETY: the caller passes NULL or a live hub.
        let hub = unsafe { hub.as_ref() }?;
        Some(parlour_transport::of(hub.hub.transport(hub.clients.get(client)?)?))
    })
}

/// Returns the number of bytes that the hub buffers for a client, four for each message included. Returns 0 for a
/// client that has left and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_write_buffer_len(hub: *const parlour_hub, client: u64) -> usize {
    guard::value(0, || {
        // SAFETY: the caller passes NULL or a live hub.
        let hub = unsafe { hub.as_ref() }?;
        Some(hub.hub.write_buffer_len(hub.clients.get(client)?))
    })
}

/// Stores the counts of clients in `*stats`. In a flood of refusals they include some for which there was no
/// PARLOUR_EVENT_REFUSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_stats(hub: *const parlour_hub, stats: *mut parlour_stats) -> parlour_status {
    run_unit(|| {
        if stats.is_null() {
            return Err(Failure::null("the stats"));
        }
        // SAFETY: the caller passes NULL or a live hub.
        let counted = unsafe { guard::shared(hub, "the hub") }?.hub.stats();
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(stats, parlour_stats::of(&counted)) };
        Ok(())
    })
}

/// Returns the number of attempts to connect that the hub refused for a reason, a number of enum
/// parlour_refusal_reason. Returns 0 for any other number and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_refused_by(hub: *const parlour_hub, reason: c_int) -> u64 {
    // SAFETY: the caller passes NULL or a live hub.
    guard::value(0, || Some(stats::refused_by(&unsafe { hub.as_ref() }?.hub.stats(), reason)))
}

/// Returns a descriptor that is readable when parlour_hub_next_event has something to do. Before each wait, also after
/// sending, call parlour_hub_next_event with a timeout of 0 until it returns PARLOUR_TIMED_OUT: it writes the buffered
/// messages. For waiting only. The hub owns it. Returns -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_fd(hub: *const parlour_hub) -> c_int {
    // SAFETY: the caller passes NULL or a live hub.
    guard::value(-1, || Some(unsafe { hub.as_ref() }?.hub.as_fd().as_raw_fd()))
}

/// Returns the name of a hub, without transport and directory. The hub owns the string. Returns NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_name(hub: *const parlour_hub) -> *const c_char {
    // SAFETY: the caller passes NULL or a live hub.
    guard::value(ptr::null(), || Some(unsafe { hub.as_ref() }?.name.as_ptr()))
}

/// Returns the path of the name's directory, in which clients find the hub. The hub owns the string. Returns NULL for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_path(hub: *const parlour_hub) -> *const c_char {
    // SAFETY: the caller passes NULL or a live hub.
    guard::value(ptr::null(), || Some(unsafe { hub.as_ref() }?.path.as_ptr()))
}

/// Stores a handle in `*shutdown` with which any thread and any signal handler can make parlour_hub_next_event return
/// PARLOUR_SHUTDOWN, also while the hub waits for a slow client. The handle may outlive the hub. Free it with
/// parlour_shutdown_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_shutdown_handle(
    hub: *const parlour_hub,
    shutdown: *mut *mut parlour_shutdown,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(shutdown) }?;
        // SAFETY: the caller passes NULL or a live hub.
        let handle = unsafe { guard::shared(hub, "the hub") }?.hub.shutdown_handle();
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(shutdown, parlour_shutdown { handle }) };
        Ok(())
    })
}

/// Gives the name up, writes the buffered messages, ends every connection, and frees the hub in any case. Blocks up to
/// `timeout_ms` while clients do not read what was sent to them.
///
/// Errors:
/// - PARLOUR_TIMED_OUT: some clients did not read all that was sent to them, and the rest is lost.
/// - PARLOUR_NAME_LOST: this is a forked child. The hub of the parent is not affected.
/// - PARLOUR_IO: a file of the server cannot be removed. The name is free all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_close(hub: *mut parlour_hub, timeout_ms: i64) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub, and gives it up.
        let taken = unsafe { guard::taken(hub) }.ok_or_else(|| Failure::null("the hub"))?;
        Ok(taken.hub.close_timeout(duration(timeout_ms))?)
    })
}

/// Does the same as parlour_hub_close with a timeout of 0, and reports no error. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_free(hub: *mut parlour_hub) {
    // SAFETY: the caller passes NULL or a live hub, and gives it up.
    unsafe { guard::free(hub) };
}
