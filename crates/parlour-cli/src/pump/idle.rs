//! The limit on the time in which the peer neither sends nor takes anything.

use std::time::{Duration, Instant};

/// A limit on idle time, or none.
#[derive(Default)]
pub(super) struct IdleLimit {
    limit: Option<Duration>,
    deadline: Option<Instant>,
}

impl IdleLimit {
    pub(super) fn new(limit: Option<Duration>) -> IdleLimit {
        let mut idle = IdleLimit { limit, deadline: None };
        idle.restart();
        idle
    }

    /// Starts the time anew.
    pub(super) fn restart(&mut self) {
        // A time that cannot be represented is no limit.
        self.deadline = self.limit.and_then(|limit| Instant::now().checked_add(limit));
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}
