//! The quantum of a client: the amount that it may send before the next client is served.

/// The limits of one turn, in messages and in bytes. They are large enough to benefit from all that one read returns,
/// and small enough that one client cannot delay the others for long.
const TURN_MESSAGES: usize = 16;
const TURN_BYTES: usize = 64 * 1024;

/// The progress of the turn of the first ready client, and the number of turns until the hub polls again.
#[derive(Debug, Default)]
pub(super) struct Quantum {
    messages: usize,
    bytes: usize,
    /// The number of turns that are left until the hub polls again.
    pub(super) turns_left: usize,
}

impl Quantum {
    /// Counts a message of this many bytes. Returns true if it ends the turn.
    pub(super) fn is_over_after(&mut self, bytes: usize) -> bool {
        self.messages += 1;
        self.bytes += bytes;
        self.messages >= TURN_MESSAGES || self.bytes >= TURN_BYTES
    }

    /// Begins the next turn.
    pub(super) fn next(&mut self) {
        *self = Self { turns_left: self.turns_left.saturating_sub(1), ..Self::default() };
    }
}
