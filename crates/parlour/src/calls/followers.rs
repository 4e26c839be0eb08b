//! The threads that wait for messages of one connection: one of them receives for all.
//!
//! The *leader* sleeps on the descriptors. It gives each message to the thread that waits for it. The *followers* spin
//! for a while, and then they are parked. A spinning follower finds out by itself that its message has arrived, or that
//! nobody leads. A leader that leaves while no follower spins wakes a parked one, which becomes the next leader. So
//! does every follower that leaves while nobody leads, because it may be the one that was woken for that. Otherwise all
//! would sleep.

use std::collections::BTreeMap;
use std::task::Waker;

/// The leader, if there is one, and the followers in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Followers {
    has_leader: bool,
    /// The number of followers that look again before they are parked.
    spinning: usize,
    parked: BTreeMap<u64, Waker>,
    last: u64,
}

/// A follower's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Followers {
    /// Makes the caller the leader and returns true, if there is none.
    pub(super) fn lead(&mut self) -> bool {
        !std::mem::replace(&mut self.has_leader, true)
    }

    pub(super) fn has_leader(&self) -> bool {
        self.has_leader
    }

    /// Ends the leadership. The caller then wakes the [`successor`](Self::successor).
    pub(super) fn resign(&mut self) {
        self.has_leader = false;
    }

    /// Notes that a follower begins to spin.
    pub(super) fn begin_spinning(&mut self) {
        self.spinning += 1;
    }

    /// Notes that a follower spins no longer.
    pub(super) fn end_spinning(&mut self) {
        self.spinning = self.spinning.saturating_sub(1);
    }

    pub(super) fn follow(&mut self, waker: Waker) -> Place {
        self.last += 1;
        self.parked.insert(self.last, waker);
        Place(self.last)
    }

    /// Removes a follower that has woken up.
    pub(super) fn unfollow(&mut self, place: Place) {
        self.parked.remove(&place.0);
    }

    /// Returns the follower to wake when a thread leaves: the first one, if nobody leads. A spinning
    /// follower needs none, because it looks before it is parked.
    pub(super) fn successor(&mut self) -> Option<Waker> {
        if self.has_leader || self.spinning > 0 {
            return None;
        }
        Some(self.parked.pop_first()?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_leader_and_the_first_follower_is_next() {
        let mut followers = Followers::default();
        assert!(followers.lead());
        assert!(!followers.lead());
        let first = followers.follow(Waker::noop().clone());
        followers.follow(Waker::noop().clone());
        assert!(followers.successor().is_none(), "the leader is still there");
        followers.resign();
        assert!(followers.successor().is_some());
        followers.unfollow(first);
        assert!(followers.successor().is_some(), "the second is next, whatever the first did");
        assert!(followers.successor().is_none() && followers.lead());
    }

    #[test]
    fn no_parked_follower_is_woken_while_another_spins() {
        let mut followers = Followers::default();
        followers.follow(Waker::noop().clone());
        followers.begin_spinning();
        assert!(followers.successor().is_none());
        followers.end_spinning();
        assert!(followers.successor().is_some());
    }
}
