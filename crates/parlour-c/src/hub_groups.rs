//! Sending to some of a hub's clients: to a list, to all but one, to the subscribers of a topic.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::c_char;

use parlour::hub::Client;
use parlour::{Hub, Payload};

use crate::guard::{self, run_unit};
use crate::hub::parlour_hub;
use crate::payload::{Borrowed, parlour_payload};
use crate::roster::Roster;
use crate::status::parlour_status;

/// Sends a payload of the caller with `work`, and stores the number of clients that missed it.
///
/// # Safety
///
/// `hub` is NULL or a live hub that no other thread uses during the call. `payload` is NULL or a payload that is as
/// parlour_payload describes it. `missed` is NULL or writable.
unsafe fn send(
    hub: *mut parlour_hub,
    payload: *const parlour_payload,
    missed: *mut usize,
    work: impl FnOnce(&mut Hub, &Roster, Payload<'_>) -> Result<Vec<Client>, guard::Failure>,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: NULL or a writable pointer, by the contract of this function.
        unsafe { guard::put(missed, 0) };
        // SAFETY: NULL or a live hub that only this call uses, by the contract of this function.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: NULL or a payload, by the contract of this function.
        let borrowed = unsafe { Borrowed::of(payload) }?;
        let without = work(&mut hub.hub, &hub.clients, borrowed.payload())?;
        // SAFETY: NULL or a writable pointer, by the contract of this function.
        unsafe { guard::put(missed, without.len()) };
        Ok(())
    })
}

/// Sends one message to `count` clients, whose numbers are at `clients`. Clients that have left are passed over. Stores
/// the number of clients that did not get it in `*missed`, as parlour_hub_broadcast_payload does; it may be NULL.
///
/// Errors: those of parlour_hub_broadcast_payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_send_to(
    hub: *mut parlour_hub,
    clients: *const u64,
    count: usize,
    payload: *const parlour_payload,
    missed: *mut usize,
) -> parlour_status {
    let work = |hub: &mut Hub, roster: &Roster, payload: Payload<'_>| {
        // SAFETY: the caller passes NULL or `count` numbers.
        let clients = roster.all(unsafe { guard::array(clients, count) }?);
        Ok(hub.send_to(clients, payload)?)
    };
    // SAFETY: the caller passes pointers as the contract of `send` demands.
    unsafe { send(hub, payload, missed, work) }
}

/// Sends one message to every client that has joined except this one. Stores the number of clients that did not get it
/// in `*missed`, as parlour_hub_broadcast_payload does; it may be NULL.
///
/// Errors: those of parlour_hub_broadcast_payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_broadcast_except(
    hub: *mut parlour_hub,
    client: u64,
    payload: *const parlour_payload,
    missed: *mut usize,
) -> parlour_status {
    let work = |hub: &mut Hub, roster: &Roster, payload: Payload<'_>| match roster.get(client) {
        Some(client) => Ok(hub.broadcast_except(client, payload)?),
        None => Ok(hub.broadcast(payload)?),
    };
    // SAFETY: the caller passes pointers as the contract of `send` demands.
    unsafe { send(hub, payload, missed, work) }
}

/// Subscribes a client to all topics that begin with `prefix`, a string; the empty string means all topics. The client
/// is sent the last value of each of them, if the hub keeps values (parlour_hub_options_kept_values). It gets each
/// message once, whatever number of its prefixes match. Does nothing for a client that has left.
///
/// Errors:
/// - PARLOUR_BUSY: the client has as many subscriptions as it may have (parlour_hub_options_subscriptions_max).
/// - PARLOUR_SHUTDOWN: the hub was told to shut down while it waited, with PARLOUR_SLOW_CLIENT_WAIT.
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_subscribe(
    hub: *mut parlour_hub,
    client: u64,
    prefix: *const c_char,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a string.
        let prefix = unsafe { guard::text(prefix) }?;
        hub.with(client, |hub, client| hub.subscribe(client, prefix))
    })
}

/// Ends the subscription of a client to exactly this prefix. Does nothing if it has none.
///
/// Errors:
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_unsubscribe(
    hub: *mut parlour_hub,
    client: u64,
    prefix: *const c_char,
) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a string.
        let prefix = unsafe { guard::text(prefix) }?;
        hub.with(client, |hub, client| hub.unsubscribe(client, prefix))
    })
}

/// Sends one message to every client that is subscribed to a prefix of `topic`, a string that the program chooses. The
/// topic is not part of the message. Stores the number of clients that did not get it in `*missed`, as
/// parlour_hub_broadcast_payload does; it may be NULL. The message becomes the last value of the topic, if the hub
/// keeps values.
///
/// Errors: those of parlour_hub_broadcast_payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_publish(
    hub: *mut parlour_hub,
    topic: *const c_char,
    payload: *const parlour_payload,
    missed: *mut usize,
) -> parlour_status {
    let work = |hub: &mut Hub, _: &Roster, payload: Payload<'_>| {
        // SAFETY: the caller passes NULL or a string.
        Ok(hub.publish(unsafe { guard::text(topic) }?, payload)?)
    };
    // SAFETY: the caller passes pointers as the contract of `send` demands.
    unsafe { send(hub, payload, missed, work) }
}

/// Forgets the last value of a topic, so that no new subscriber gets it.
///
/// Errors:
/// - PARLOUR_NAME_LOST: this is a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_hub_forget(hub: *mut parlour_hub, topic: *const c_char) -> parlour_status {
    run_unit(|| {
        // SAFETY: the caller passes NULL or a live hub that no other thread uses during the call.
        let hub = unsafe { guard::exclusive(hub, "the hub") }?;
        // SAFETY: the caller passes NULL or a string.
        hub.hub.forget(unsafe { guard::text(topic) }?)?;
        Ok(())
    })
}
