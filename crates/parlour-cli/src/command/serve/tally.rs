//! Counts the clients, in total and by user.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The clients that are being served.
#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    /// Notified when a client has left or waiting is cut short.
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    /// The number of clients by uid; `None` counts clients whose uid is not known.
    clients: HashMap<Option<u32>, usize>,
    /// True if the server no longer waits for clients to leave by themselves.
    hurried: bool,
}

impl Tally {
    /// Counts a client until the guard is dropped.
    pub(super) fn enter(self: &Arc<Tally>, uid: Option<u32>) -> Counted {
        let mut counts = self.lock();
        let count = counts.clients.entry(uid).or_default();
        *count += 1;
        Counted { tally: Arc::clone(self), uid, number: *count }
    }

    /// Returns the number of clients.
    pub(super) fn count(&self) -> usize {
        self.lock().clients.values().sum()
    }

    /// Waits until no client is left, the timeout has expired or [`hurry`](Tally::hurry) is called.
    pub(super) fn wait_until_nobody_or_hurried(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty() && !counts.hurried);
    }

    /// Waits until no client is left or the timeout has expired.
    pub(super) fn wait_until_nobody(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty());
    }

    /// Ends [`wait_until_nobody_or_hurried`](Tally::wait_until_nobody_or_hurried) early.
    pub(super) fn hurry(&self) {
        self.lock().hurried = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, go_on: impl Fn(&Counts) -> bool) {
        let counts = self.lock();
        // A poisoned lock and an expired timeout need no handling: the process exits next in both cases.
        let _ = self.changed.wait_timeout_while(counts, timeout, |counts| go_on(counts));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code panics while it holds the lock, and the counts would stay valid if it did.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted client. Dropping it ends the count.
pub(super) struct Counted {
    tally: Arc<Tally>,
    uid: Option<u32>,
    /// The number of clients of this user when this client was counted, including this client.
    pub(super) number: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        if let Some(count) = counts.clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.clients.remove(&self.uid);
            }
        }
        drop(counts);
        self.tally.changed.notify_all();
    }
}
