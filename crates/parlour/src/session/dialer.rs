//! The search of a session of calls for its server, together with the hook after connecting.

use std::time::Instant;

use super::reconnecting::Reconnecting;

/// Connects again and again. One thread or task at a time has it.
pub(crate) struct Dialer<H> {
    pub(crate) reconnecting: Reconnecting,
    pub(crate) hook: Option<H>,
    /// The time at which the last connection was established.
    connected: Instant,
}

impl<H> Dialer<H> {
    pub(crate) fn new(reconnecting: Reconnecting) -> Self {
        Self { reconnecting, hook: None, connected: Instant::now() }
    }

    /// Notes that the connection is used.
    pub(crate) fn connected(&mut self) {
        self.reconnecting.done();
        self.connected = Instant::now();
    }

    /// Notes that the connection is not used any more. `was_asked_to_leave`: another server has the name, or will.
    pub(crate) fn ended(&mut self, has_received: bool, was_asked_to_leave: bool) {
        match was_asked_to_leave {
            true => self.reconnecting.moved(self.connected, has_received),
            false => self.reconnecting.ended(self.connected, has_received),
        }
    }
}
