//! Counts the clients, in total and by user.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The clients that are being served.
#[derive(Default)]
pub(super) struct ActiveClients {
    counts: Mutex<Counts>,
    /// Notified when a client has left or waiting is cut short.
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    /// The number of clients by uid; `None` counts clients whose uid is not known.
    clients: HashMap<Option<u32>, usize>,
    /// True if the server no longer waits for clients to leave by themselves.
    grace_cancelled: bool,
}

impl ActiveClients {
    /// Counts a client until the guard is dropped.
    pub(super) fn add(self: &Arc<ActiveClients>, uid: Option<u32>) -> ClientGuard {
        let mut counts = self.lock();
        let count = counts.clients.entry(uid).or_default();
        *count += 1;
        ClientGuard { clients: Arc::clone(self), uid, number: *count }
    }

    /// Returns the number of clients.
    pub(super) fn count(&self) -> usize {
        self.lock().clients.values().sum()
    }

    /// Waits until no client is left, the timeout has expired or [`cancel_grace`](ActiveClients::cancel_grace) is
    /// called.
    pub(super) fn wait_until_none_or_cancelled(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty() && !counts.grace_cancelled);
    }

    /// Waits until no client is left or the timeout has expired.
    pub(super) fn wait_until_none(&self, timeout: Duration) {
        self.wait(timeout, |counts| !counts.clients.is_empty());
    }

    /// Ends [`wait_until_none_or_cancelled`](ActiveClients::wait_until_none_or_cancelled) early.
    pub(super) fn cancel_grace(&self) {
        self.lock().grace_cancelled = true;
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
pub(super) struct ClientGuard {
    clients: Arc<ActiveClients>,
    uid: Option<u32>,
    /// The number of clients of this user when this client was counted, including this client.
    pub(super) number: usize,
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let mut counts = self.clients.lock();
        if let Some(count) = counts.clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                counts.clients.remove(&self.uid);
            }
        }
        drop(counts);
        self.clients.changed.notify_all();
    }
}
