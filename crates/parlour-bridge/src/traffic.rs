//! The messages and bytes of a host or of a name since the start of the bridge. A conversation adds to them at most
//! once for each of its writes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::boundary::Passed;

/// The messages of one direction, and their bytes.
#[derive(Debug, Default)]
struct Flow {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Flow {
    fn add(&self, passed: Passed) {
        self.messages.fetch_add(passed.messages, Ordering::Relaxed);
        self.bytes.fetch_add(passed.bytes, Ordering::Relaxed);
    }

    fn get(&self) -> Passed {
        Passed { messages: self.messages.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// The messages of both directions.
#[derive(Debug, Default)]
pub struct Traffic {
    received: Flow,
    sent: Flow,
}

impl Traffic {
    /// Adds what has arrived from another host, and what was sent to it.
    pub fn add(&self, received: Passed, sent: Passed) {
        for (flow, passed) in [(&self.received, received), (&self.sent, sent)] {
            if passed != Passed::default() {
                flow.add(passed);
            }
        }
    }

    /// Returns what has arrived from other hosts.
    #[must_use]
    pub fn received(&self) -> Passed {
        self.received.get()
    }

    /// Returns what was sent to other hosts.
    #[must_use]
    pub fn sent(&self) -> Passed {
        self.sent.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_adds_up() {
        let (traffic, one) = (Traffic::default(), Passed { messages: 1, bytes: 5 });
        traffic.add(one, Passed::default());
        traffic.add(one, one);
        assert_eq!((traffic.received(), traffic.sent()), (Passed { messages: 2, bytes: 10 }, one));
    }
}
