//! Counts of the clients of a server.
#![allow(unsafe_code, non_camel_case_types)]

use std::ffi::c_int;

use parlour::{RefusalReason, ServerStats};

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
}

impl parlour_stats {
    pub(crate) fn of(stats: &ServerStats) -> Self {
        Self { accepted: stats.accepted, open: stats.open, refused: stats.refused }
    }
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
    fn every_refusal_reason_has_its_own_number() {
        let numbers: Vec<c_int> =
            RefusalReason::ALL.iter().map(|&reason| parlour_refusal_reason::of(reason) as c_int).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    }
}
