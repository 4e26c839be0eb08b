//! Handles with which other threads wake a hub and send through it.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::c_char;
use std::sync::Arc;

use parlour::hub::HubHandle;
use parlour::{Payload, TrySendError};

use crate::guard::{self, Failure, run_unit};
use crate::hub::parlour_hub;
use crate::payload::{Borrowed, parlour_payload};
use crate::roster::Roster;
use crate::status::parlour_status;

/// A handle with which any thread wakes a hub and sends through it. Several threads may use one handle at the same
/// time. It may outlive the hub.
///
/// The functions that send put a copy of the message into a queue and never block. The hub sends the messages while
/// parlour_hub_next_event runs, as parlour_hub_send_payload does, with the same policy for slow clients. Messages of
/// one thread to one client arrive in their order. With PARLOUR_SLOW_CLIENT_REFUSE, and if a client cannot receive
/// blocks, PARLOUR_EVENT_MISSED reports that the client missed a message.
pub struct parlour_hub_handle {
    handle: HubHandle,
    clients: Arc<Roster>,
}

fn queued<T>(result: Result<(), TrySendError<T>>) -> Result<(), Failure> {
    result.map_err(|error| Failure::of_try_send(error, "the queue of the hub is full"))
}

/// Runs `work` with a handle and a payload of the caller.
///
/// # Safety
///
/// `handle` is NULL or a live handle. `payload` is NULL or a payload that is as parlour_payload describes it.
unsafe fn post(
    handle: *const parlour_hub_handle,
    payload: *const parlour_payload,
    work: impl FnOnce(&parlour_hub_handle, Payload<'_>) -> Result<(), Failure>,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: NULL or a live handle, by the contract of this function.
        let handle = unsafe { guard::shared(handle, "the handle") }?;
        // SAFETY: NULL or a payload, by the contract of this function.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        work(handle, borrowed.payload())
    })
}

/// Stores a new handle of a hub in `*handle`. Free it with parlour_hub_handle_free.
///
/// Errors:
/// - PARLOUR_IO: no descriptor is available.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_new(
    hub: *mut parlour_hub,
    handle: *mut *mut parlour_hub_handle,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a writable pointer.
        unsafe { guard::check_out(handle) }?;
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        let made = parlour_hub_handle { handle: hub.hub.handle()?, clients: Arc::clone(&hub.clients) };
        // SAFETY: `check_out` accepted the pointer.
        unsafe { guard::give(handle, made) };
        Ok(())
    })
}

/// Makes parlour_hub_next_event return PARLOUR_EVENT_WOKEN, also if it is called later. Several wakes before the hub
/// returns the event cause one event, and none is lost. Does nothing if the hub was freed, and for NULL. In a forked
/// child it wakes the hub of the parent. This function is async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_wake(handle: *const parlour_hub_handle) {
    guard::value((), || {
        // SAFETY: the caller passes NULL or a live handle.
        unsafe { handle.as_ref() }?.handle.wake();
        Some(())
    });
}

/// Queues one message for a client. Does nothing for a client that has left.
///
/// Errors: those of parlour_payload, and:
/// - PARLOUR_TIMED_OUT: the queue is full (parlour_hub_options_handle_queue_max). Try again later.
/// - PARLOUR_MESSAGE_TOO_LONG: the message is longer than the limit.
/// - PARLOUR_UNSUPPORTED: the payload has descriptors.
/// - PARLOUR_SHUTDOWN: the hub was closed or freed.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_send(
    handle: *const parlour_hub_handle,
    client: u64,
    payload: *const parlour_payload,
) -> parlour_status {
    let work = |handle: &parlour_hub_handle, payload: Payload<'_>| {
        let Some(client) = handle.clients.get(client) else { return queued(handle.handle.send_to([], payload)) };
        queued(handle.handle.send(client, payload))
    };
    // SAFETY: the caller passes NULL or a live handle, and NULL or a payload that is as parlour_payload describes it.
    unsafe { post(handle, payload, work) }
}

/// Queues one message for `count` clients, whose numbers are at `clients`. Clients that have left are passed over.
///
/// Errors: those of parlour_hub_handle_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_send_to(
    handle: *const parlour_hub_handle,
    clients: *const u64,
    count: usize,
    payload: *const parlour_payload,
) -> parlour_status {
    let work = |handle: &parlour_hub_handle, payload: Payload<'_>| {
        // SAFETY: the caller passes NULL or `count` numbers.
        let clients = handle.clients.all(unsafe { guard::array(clients, count) }?);
        queued(handle.handle.send_to(clients, payload))
    };
    // SAFETY: the caller passes NULL or a live handle, and NULL or a payload that is as parlour_payload describes it.
    unsafe { post(handle, payload, work) }
}

/// Queues one message for every client that has joined when the hub delivers it.
///
/// Errors: those of parlour_hub_handle_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_broadcast(
    handle: *const parlour_hub_handle,
    payload: *const parlour_payload,
) -> parlour_status {
    let work = |handle: &parlour_hub_handle, payload: Payload<'_>| queued(handle.handle.broadcast(payload));
    // SAFETY: the caller passes NULL or a live handle, and NULL or a payload that is as parlour_payload describes it.
    unsafe { post(handle, payload, work) }
}

/// Queues one message for every client that has joined when the hub delivers it, except this one.
///
/// Errors: those of parlour_hub_handle_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_broadcast_except(
    handle: *const parlour_hub_handle,
    client: u64,
    payload: *const parlour_payload,
) -> parlour_status {
    let work = |handle: &parlour_hub_handle, payload: Payload<'_>| match handle.clients.get(client) {
        Some(client) => queued(handle.handle.broadcast_except(client, payload)),
        None => queued(handle.handle.broadcast(payload)),
    };
    // SAFETY: the caller passes NULL or a live handle, and NULL or a payload that is as parlour_payload describes it.
    unsafe { post(handle, payload, work) }
}

/// Queues one message for the clients that are subscribed to a prefix of `topic` when the hub delivers it, as
/// parlour_hub_publish does.
///
/// Errors: those of parlour_hub_handle_send.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_publish(
    handle: *const parlour_hub_handle,
    topic: *const c_char,
    payload: *const parlour_payload,
) -> parlour_status {
    let work = |handle: &parlour_hub_handle, payload: Payload<'_>| {
        // SAFETY: the caller passes NULL or a string.
        queued(handle.handle.publish(unsafe { guard::text(topic) }?, payload))
    };
    // SAFETY: the caller passes NULL or a live handle, and NULL or a payload that is as parlour_payload describes it.
    unsafe { post(handle, payload, work) }
}

/// Frees a handle. The hub and other handles are not affected. Does nothing for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_handle_free(handle: *mut parlour_hub_handle) {
    // SAFETY: the caller passes NULL or a live handle, and gives it up.
    unsafe { guard::free(handle) };
}
