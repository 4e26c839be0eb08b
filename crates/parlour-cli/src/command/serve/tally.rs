//! How many clients there are, in all and of each user.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The clients that are being served.
#[derive(Default)]
pub(super) struct Tally {
    /// By uid; `None` counts those whose uid is not known.
    clients: Mutex<HashMap<Option<u32>, usize>>,
    one_left: Condvar,
}

impl Tally {
    /// Counts a client until the guard is dropped.
    pub(super) fn enter(self: &Arc<Tally>, uid: Option<u32>) -> Counted {
        let mut clients = self.lock();
        let count = clients.entry(uid).or_default();
        *count += 1;
        Counted { tally: Arc::clone(self), uid, number: *count }
    }

    /// Waits until no client is left, at most as long as told.
    pub(super) fn wait_until_nobody(&self, timeout: Duration) {
        let clients = self.lock();
        // A poisoned lock or the end of the time: either way the process is about to end.
        let _ = self.one_left.wait_timeout_while(clients, timeout, |clients| !clients.is_empty());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<u32>, usize>> {
        // Nothing panics while it holds the lock; and a count survives a panic unharmed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut clients = self.tally.lock();
        if let Some(count) = clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.uid);
            }
        }
        drop(clients);
        self.tally.one_left.notify_all();
    }
}
