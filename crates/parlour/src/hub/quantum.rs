//! The turn of a client: how much it may send before the next client is served.

/// How much one client may say before the next one has its turn: so many messages, or so many bytes. Enough to gain from
/// what one read brings, and little enough that thousands are heard within milliseconds.
const TURN_MESSAGES: usize = 16;
const TURN_BYTES: usize = 64 * 1024;

/// How far the turn of the first one has come, and how many turns are left until the hub looks up.
#[derive(Debug, Default)]
pub(super) struct Quantum {
    messages: usize,
    bytes: usize,
    pub(super) left: usize,
}

impl Quantum {
    /// Whether the turn is over with this message.
    pub(super) fn is_over_after(&mut self, bytes: usize) -> bool {
        self.messages += 1;
        self.bytes += bytes;
        self.messages >= TURN_MESSAGES || self.bytes >= TURN_BYTES
    }

    pub(super) fn next(&mut self) {
        *self = Self { left: self.left.saturating_sub(1), ..Self::default() };
    }
}
