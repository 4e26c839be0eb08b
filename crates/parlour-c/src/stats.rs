//! Counts of the clients of a server.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::{c_char, c_int};

use parlour::{Refusal, RefusalReason, ServerStats};

use crate::peer::parlour_peer;

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
