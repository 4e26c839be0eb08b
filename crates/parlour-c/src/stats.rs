//! Counts of the clients of a server.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int};
use std::time::Duration;

use parlour::{ClientStats, Flow, Refusal, RefusalReason, ServerStats, WaitReason, Waiting};

use crate::guard::{self, Failure};
use crate::options::parlour_connect_options;
use crate::peer::{parlour_origin, parlour_peer, parlour_transport};
use crate::status::parlour_status;

/// The reason why a server refused a client. The numbers do not change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_refusal_reason {
    /// No refusal, or a reason that this header does not know.
    PARLOUR_REFUSAL_OTHER = 0,
    /// The policy (parlour_server_options_allow), or the mode of the socket, does not admit the client.
    PARLOUR_REFUSAL_POLICY = 1,
    /// A limit on connections or on handshakes was reached.
    PARLOUR_REFUSAL_LIMIT = 2,
    /// The client's own file is missing or is not as it must be (enum parlour_client_file).
    PARLOUR_REFUSAL_CLIENT_FILE = 3,
    /// The client broke the protocol of the handshake, or disconnected during it.
    PARLOUR_REFUSAL_HANDSHAKE = 4,
    /// The client did not complete the handshake in time.
    PARLOUR_REFUSAL_TIMED_OUT = 5,
    /// The server has no descriptor left for the client.
    PARLOUR_REFUSAL_DESCRIPTORS = 6,
    /// Another system call of the server failed.
    PARLOUR_REFUSAL_SYSTEM = 7,
}

impl parlour_refusal_reason {
    pub(crate) fn of(reason: RefusalReason) -> Self {
        match reason {
            RefusalReason::Policy => Self::PARLOUR_REFUSAL_POLICY,
            RefusalReason::Limit => Self::PARLOUR_REFUSAL_LIMIT,
            RefusalReason::ClientFile => Self::PARLOUR_REFUSAL_CLIENT_FILE,
            RefusalReason::Handshake => Self::PARLOUR_REFUSAL_HANDSHAKE,
            RefusalReason::TimedOut => Self::PARLOUR_REFUSAL_TIMED_OUT,
            RefusalReason::Descriptors => Self::PARLOUR_REFUSAL_DESCRIPTORS,
            RefusalReason::System => Self::PARLOUR_REFUSAL_SYSTEM,
            _ => Self::PARLOUR_REFUSAL_OTHER,
        }
    }
}

/// Counts of the clients of a server or hub, since it took its name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct parlour_stats {
    /// The number of clients that were accepted.
    pub accepted: u64,
    /// The number of connections that are open now.
    pub open: usize,
    /// The number of attempts to connect that were refused, for any reason. A client over `shm` or `fifo` that finds
    /// the server busy tries again until its deadline, and each attempt counts.
    pub refused: u64,
    /// The limits on open connections that are in effect, of all users together and of each user.
    pub connections_max: usize,
    /// See `connections_max`.
    pub connections_per_uid_max: usize,
    /// The memory that clients take now, in bytes. See parlour_server_options_memory_max.
    pub memory: usize,
    /// The limits on that memory that are in effect, of all users together and of each user.
    pub memory_max: usize,
    /// See `memory_max`.
    pub memory_per_uid_max: usize,
    /// The messages that were received from all clients, and their bytes. 0 if the server does not count them
    /// (parlour_server_options_stats).
    pub received: parlour_flow,
    /// The messages that were sent to all clients.
    pub sent: parlour_flow,
}

/// The messages of one direction, and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct parlour_flow {
    /// The number of messages.
    pub messages: u64,
    /// The number of their bytes.
    pub bytes: u64,
}

impl parlour_flow {
    fn of(flow: Flow) -> Self {
        Self { messages: flow.messages, bytes: flow.bytes }
    }
}

/// The reason why one direction of a connection waits. The numbers do not change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum parlour_wait {
    /// It does not wait, or for a reason that this header does not know.
    PARLOUR_WAIT_NONE = 0,
    /// The server waits for a message, of which nothing has arrived. The client is idle.
    PARLOUR_WAIT_MESSAGE = 1,
    /// The server waits for the rest of a message.
    PARLOUR_WAIT_REST = 2,
    /// The server waits for the client to read.
    PARLOUR_WAIT_SPACE = 3,
}

impl parlour_wait {
    /// Returns the reason, and the time in milliseconds.
    fn of(waiting: Option<Waiting>) -> (Self, u64) {
        let Some(waiting) = waiting else { return (Self::PARLOUR_WAIT_NONE, 0) };
        let wait = match waiting.reason {
            WaitReason::Message => Self::PARLOUR_WAIT_MESSAGE,
            WaitReason::Rest => Self::PARLOUR_WAIT_REST,
            WaitReason::Space => Self::PARLOUR_WAIT_SPACE,
            _ => Self::PARLOUR_WAIT_NONE,
        };
        (wait, milliseconds(waiting.time))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The counters of one client. Times are in milliseconds. See parlour_name_stats.
///
/// The client holds the server up if `receiving` is PARLOUR_WAIT_REST or `sending` is PARLOUR_WAIT_SPACE, for more than
/// an instant.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct parlour_client_stats {
    /// The number of the connection: 1 for the first one that the server accepted. Not the number of a hub's client.
    pub number: u64,
    /// The process, user and group of the client, or -1 if one is not known. Over `fifo`, the process is what the
    /// client has stated.
    pub pid: i64,
    /// See `pid`.
    pub uid: i64,
    /// See `pid`.
    pub gid: i64,
    /// The transport.
    pub transport: parlour_transport,
    /// The time since the client was accepted.
    pub connected_ms: u64,
    /// The messages that the server received from the client.
    pub received: parlour_flow,
    /// The messages that the server sent to the client.
    pub sent: parlour_flow,
    /// The number of bytes that a hub holds for the client, because it does not read.
    pub held: u64,
    /// The reason why the receiving direction waits, and for how long.
    pub receiving: parlour_wait,
    /// See `receiving`.
    pub receiving_ms: u64,
    /// The reason why the sending direction waits, and for how long.
    pub sending: parlour_wait,
    /// See `sending`.
    pub sending_ms: u64,
    /// The other host that the client comes from (parlour_connection_origin). `origin.host` is empty for a client of
    /// this host. A host of more than 64 bytes and a program of more than 16 are cut, and end with `~`.
    pub origin: parlour_origin,
}

impl parlour_client_stats {
    pub(crate) fn of(client: &ClientStats) -> Self {
        let id = |id: Option<u32>| id.map_or(-1, i64::from);
        let (receiving, receiving_ms) = parlour_wait::of(client.receiving);
        let (sending, sending_ms) = parlour_wait::of(client.sending);
        Self {
            number: client.number,
            pid: id(client.pid),
            uid: id(client.uid),
            gid: id(client.gid),
            transport: client.transport.map_or(parlour_transport::PARLOUR_TRANSPORT_NONE, parlour_transport::of),
            connected_ms: milliseconds(client.connected),
            received: parlour_flow::of(client.received),
            sent: parlour_flow::of(client.sent),
            held: client.held,
            receiving,
            receiving_ms,
            sending,
            sending_ms,
            origin: parlour_origin::of(client.origin.as_ref()),
        }
    }
}

/// Reads the counters of the server that holds a name, which may be in another process. Stores the counts of the server
/// in `*stats`. Stores the counters of its first `capacity` clients in `clients`, in the order in which they were
/// accepted, and the number of all that were read in `*count`. With a capacity of 0, `clients` may be NULL.
///
/// `address` is as for parlour_connect. Of the options, only that of parlour_connect_options_server_uid has an effect:
/// with it, root reads the counters of the server of another user. `options` may be NULL for the defaults.
///
/// The server does nothing for it, except one in another PID namespace or one that is not dumpable (prctl(2)). Such a
/// server hands the counters out while it waits for clients or messages, and the call blocks for up to 1 second. The
/// limits and the memory in `*stats` are 0, because only the server knows them.
///
/// Errors:
/// - PARLOUR_INVALID_NAME, PARLOUR_NO_SERVER.
/// - PARLOUR_UNSUPPORTED: the server has no counters (parlour_server_options_stats), or does not hand them out.
/// - PARLOUR_DENIED: the server is of another user than the expected one, or does not hand its counters out.
/// - PARLOUR_BUSY: the server did not hand its counters out in time.
/// - PARLOUR_IO: a system call failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn parlour_name_stats(
    address: *const c_char,
    options: *const parlour_connect_options,
    stats: *mut parlour_stats,
    clients: *mut parlour_client_stats,
    capacity: usize,
    count: *mut usize,
) -> parlour_status {
    guard::run_unit(|| {
        // SAFETY: the caller passes NULL or a string.
        let address = unsafe { guard::text(address) }?;
        if stats.is_null() || count.is_null() || (clients.is_null() && capacity > 0) {
            return Err(Failure::null("the stats, the clients or the count"));
        }
        // SAFETY: the caller passes NULL or live options.
        let options = unsafe { options.as_ref() }.map(|options| options.options.clone()).unwrap_or_default();
        let read = parlour::inspect::stats_with(address, &options)?;
        for (index, client) in read.clients.iter().take(capacity).enumerate() {
            // SAFETY: not NULL, so the caller passes an array of `capacity` elements.
            unsafe { guard::put_at(clients, index, parlour_client_stats::of(client)) };
        }
        let counts = parlour_stats {
            accepted: read.accepted,
            open: usize::try_from(read.open).unwrap_or(usize::MAX),
            refused: read.refused,
            received: parlour_flow::of(read.received),
            sent: parlour_flow::of(read.sent),
            ..parlour_stats::default()
        };
        // SAFETY: not NULL, so the caller passes a writable pointer.
        unsafe { guard::put(stats, counts) };
        // SAFETY: as above.
        unsafe { guard::put(count, read.clients.len()) };
        Ok(())
    })
}

impl parlour_stats {
    pub(crate) fn of(stats: &ServerStats) -> Self {
        Self {
            accepted: stats.accepted,
            open: stats.open,
            refused: stats.refused,
            connections_max: stats.connections_max,
            connections_per_uid_max: stats.connections_per_uid_max,
            memory: stats.memory,
            memory_max: stats.memory_max,
            memory_per_uid_max: stats.memory_per_uid_max,
            received: parlour_flow::of(stats.received),
            sent: parlour_flow::of(stats.sent),
        }
    }
}

/// The length of the text of a refusal in bytes, with the zero byte behind it.
pub const PARLOUR_REFUSAL_TEXT_SIZE: usize = 256;

/// A client that a server refused, and why. See parlour_server_next_refusal.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct parlour_refusal {
    /// The reason, for programs.
    pub reason: parlour_refusal_reason,
    /// The identity of the client, as far as it was known.
    pub peer: parlour_peer,
    /// The refusal in words, for people and logs. A longer text is cut.
    pub text: [c_char; PARLOUR_REFUSAL_TEXT_SIZE],
}

impl parlour_refusal {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        Self {
            reason: parlour_refusal_reason::of(refusal.reason),
            peer: refusal.peer.as_ref().map_or(parlour_peer::UNKNOWN, parlour_peer::of),
            text: text_of(&refusal.to_string()),
        }
    }
}

/// Returns a text for C. The last place is always 0, and no character is cut in the middle.
fn text_of(words: &str) -> [c_char; PARLOUR_REFUSAL_TEXT_SIZE] {
    let mut text = [0; PARLOUR_REFUSAL_TEXT_SIZE];
    let cut = (0..PARLOUR_REFUSAL_TEXT_SIZE).rev().find(|&at| words.is_char_boundary(at)).unwrap_or(0);
    for (place, byte) in text.iter_mut().zip(words[..cut].bytes()) {
        *place = if byte == 0 { b'?' } else { byte } as c_char;
    }
    text
}

/// Returns the number of refusals for a reason that the caller gave as a number.
pub(crate) fn refused_by(stats: &ServerStats, reason: c_int) -> u64 {
    let reasons = RefusalReason::ALL.iter().filter(|&&other| parlour_refusal_reason::of(other) as c_int == reason);
    reasons.map(|&reason| stats.refused_by(reason)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_refusal_is_cut_between_two_characters() {
        let texts = [String::new(), "ö".repeat(500), "x".repeat(255), "x".repeat(256), "a\0b".to_owned()];
        for words in texts {
            let text = text_of(&words);
            let length = text.iter().position(|&byte| byte == 0).unwrap();
            let bytes: Vec<u8> = text[..length].iter().map(|&byte| byte as u8).collect();
            let kept = std::str::from_utf8(&bytes).unwrap();
            assert!(words.replace('\0', "?").starts_with(kept) && length + 2 > words.len().min(255), "{kept}");
        }
    }

    #[test]
    fn every_refusal_reason_has_its_own_number() {
        let numbers: Vec<c_int> =
            RefusalReason::ALL.iter().map(|&reason| parlour_refusal_reason::of(reason) as c_int).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    }
}
