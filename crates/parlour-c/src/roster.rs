//! The clients of a hub by their numbers, for the hub and for its handles in other threads.

use std::collections::HashMap;
use std::mem;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use parlour::hub::Client;

/// The clients for which a `PARLOUR_EVENT_JOINED` was returned, and no `PARLOUR_EVENT_LEFT`.
///
/// In a forked child the lock is only tried: another thread of the parent may have held it at the fork, and then it
/// stays locked, and the map may be half changed.
pub(crate) struct Roster {
    /// `None` only while this is dropped.
    clients: Option<Mutex<HashMap<u64, Client>>>,
    process: u32,
}

impl Roster {
    pub(crate) fn new() -> Self {
        Self { clients: Some(Mutex::default()), process: process::id() }
    }

    /// Returns `None` in a forked child in which the lock is held.
    fn lock(&self) -> Option<MutexGuard<'_, HashMap<u64, Client>>> {
        let clients = self.clients.as_ref()?;
        match clients.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if process::id() == self.process => {
                Some(clients.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn insert(&self, client: Client) {
        if let Some(mut clients) = self.lock() {
            clients.insert(client.number(), client);
        }
    }

    pub(crate) fn remove(&self, client: Client) {
        if let Some(mut clients) = self.lock() {
            clients.remove(&client.number());
        }
    }

    /// Returns the client with a number, or `None` if it has left.
    pub(crate) fn get(&self, number: u64) -> Option<Client> {
        self.lock()?.get(&number).copied()
    }

    /// Returns those of these clients that have not left.
    pub(crate) fn all(&self, numbers: &[u64]) -> Vec<Client> {
        let clients = self.lock();
        numbers.iter().filter_map(|number| clients.as_ref()?.get(number).copied()).collect()
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        let is_held = |clients: &Mutex<_>| matches!(clients.try_lock(), Err(TryLockError::WouldBlock));
        if self.clients.as_ref().is_some_and(is_held) {
            // This is a forked child, and the map may be half changed. It is leaked.
            mem::forget(self.clients.take());
        }
    }
}
