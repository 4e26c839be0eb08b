//! How many clients there are, in all and of each user.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The clients that are being served.
#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    /// Somebody left, or waiting is over.
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    /// By uid; `None` counts those whose uid is not known.
    clients: HashMap<Option<u32>, usize>,
    /// Nobody waits any more for clients to leave by themselves.
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

    /// How many clients there are.
    pub(super) fn count(&self) -> usize {
        self.lock().clients.values().sum()
    }

    /// Waits until no client is left, at most as long as told, or until [`hurry`](Tally::hurry).
    pub(super) fn wait_until_nobody_or_hurried(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty() && !counts.hurried);
    }

    /// Waits until no client is left, at most as long as told.
    pub(super) fn wait_until_nobody(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty());
    }

    /// Ends the waiting for clients to leave by themselves.
    pub(super) fn hurry(&self) {
        self.lock().hurried = true;
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration, go_on: impl Fn(&Counts) -> bool) {
        let counts = self.lock();
        // A poisoned lock or the end of the time: either way the process is about to end.
        let _ = self.changed.wait_timeout_while(counts, timeout, |counts| go_on(counts));
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while it holds the lock; and a count survives a panic unharmed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is counted.
pub(super) struct Counted {
    tally: Arc<Tally>,
    uid: Option<u32>,
    /// How many clients this user had when this one came, this one included.
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
