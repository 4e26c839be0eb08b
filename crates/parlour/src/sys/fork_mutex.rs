//! A mutex that never makes a forked child wait for a thread of its parent.
//!
//! fork(2) copies only the calling thread. If another thread held a mutex at that moment, the child's copy of the mutex
//! stays locked for ever, and the data behind it may be half changed. So in a child the lock is only tried, and data
//! that was in use at the fork is neither read nor freed. No handler of `pthread_atfork(3)` takes the lock, because a
//! thread may fork while it holds the lock itself: the policy of a server is called under it.
//!
//! The data may own descriptors, and the child's copy of the descriptor table is older than its copy of the memory (see
//! [`super::fork`]). So data that was in use at any moment of the fork counts as in use at the fork, even if the lock
//! was released before the memory was copied. Otherwise the child would close a number that it does not have, or that
//! belongs to another file.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::fork::{self, Process};

/// A mutex of the process that created it. Poisoning is ignored: a closure of the caller may panic while the lock is
/// held, and the data is consistent at every such point.
pub(crate) struct ForkMutex<T> {
    /// `None` only while this is dropped.
    mutex: Option<Mutex<T>>,
    process: Process,
    /// True if a fork was in progress when the lock was last released. Written under the lock.
    released_during_fork: AtomicBool,
}

impl<T> ForkMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self::of(Process::current(), value)
    }

    /// Creates a mutex of this process, which the caller has asked for before.
    pub(crate) fn of(process: Process, value: T) -> Self {
        Self { mutex: Some(Mutex::new(value)), process, released_during_fork: AtomicBool::new(false) }
    }

    /// Locks the mutex. Returns `None` in a forked child if the data was in use at the fork, usually by a thread of the
    /// parent.
    ///
    /// The process is compared only if the lock is held or was last released during a fork, so the comparison costs
    /// nothing in general. It uses the process id, and thus holds in a child of a bare clone(2), too.
    pub(crate) fn lock(&self) -> Option<Guard<'_, T>> {
        let mutex = self.mutex.as_ref()?;
        let guard = match mutex.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.process.is_current() => {
                mutex.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(TryLockError::WouldBlock) => return None,
        };
        self.guarded(guard)
    }

    /// Locks the mutex if no thread holds it. Returns `None` otherwise, and in the cases of [`lock`](Self::lock).
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        match self.mutex.as_ref()?.try_lock() {
            Ok(guard) => self.guarded(guard),
            Err(TryLockError::Poisoned(poisoned)) => self.guarded(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn guarded<'a>(&'a self, guard: MutexGuard<'a, T>) -> Option<Guard<'a, T>> {
        match self.was_released_during_fork() {
            true => None,
            false => Some(Guard { guard, released_during_fork: &self.released_during_fork }),
        }
    }

    /// Returns true if this process is a forked child, and the lock was released while the fork was in progress.
    fn was_released_during_fork(&self) -> bool {
        // Relaxed: the lock orders the threads of a process, and the fork orders the processes.
        self.released_during_fork.load(Ordering::Relaxed) && !self.process.is_current()
    }
}

impl<T: Default> ForkMutex<T> {
    /// Locks the mutex. In a forked child, if the data was in use at the fork, returns a default value, which is
    /// discarded.
    pub(crate) fn lock_or_default(&self) -> Locked<'_, T> {
        self.lock().map_or_else(|| Locked::Substitute(T::default()), Locked::Guard)
    }
}

impl<T: Default> Default for ForkMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for ForkMutex<T> {
    fn drop(&mut self) {
        let is_held = |mutex: &Mutex<T>| matches!(mutex.try_lock(), Err(TryLockError::WouldBlock));
        if self.mutex.as_ref().is_some_and(is_held) || self.was_released_during_fork() {
            // This is a forked child, and the data was in use at the fork. It is leaked.
            mem::forget(self.mutex.take());
        }
    }
}

/// The lock, held by this thread.
pub(crate) struct Guard<'a, T> {
    guard: MutexGuard<'a, T>,
    released_during_fork: &'a AtomicBool,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // The lock is still held here. If a fork begins from now on, the child gets the data and the descriptors as
        // they are now, unless another thread takes the lock.
        self.released_during_fork.store(fork::is_in_progress(), Ordering::Relaxed);
    }
}

/// Locked data, or a substitute for it in a forked child.
pub(crate) enum Locked<'a, T> {
    Guard(Guard<'a, T>),
    Substitute(T),
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Guard(guard) => guard,
            Self::Substitute(value) => value,
        }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Self::Guard(guard) => guard,
            Self::Substitute(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_under_the_lock_leaves_the_data_usable() {
        let mutex = ForkMutex::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            *mutex.lock().unwrap() += 1;
            let _held = mutex.lock();
            panic!("a test panics on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*mutex.lock().unwrap(), 2);
        assert_eq!(*mutex.lock_or_default(), 2);
    }

    #[test]
    fn data_that_another_process_holds_is_replaced_and_leaked() {
        let shared = std::sync::Arc::new(());
        let mut mutex = ForkMutex::new(Some(std::sync::Arc::clone(&shared)));
        // A process that is not this one, as a forked child sees its parent.
        mutex.process = Process::other();
        mem::forget(mutex.lock().unwrap());
        assert!(mutex.lock().is_none());
        assert!(mutex.lock_or_default().is_none());
        drop(mutex);
        assert_eq!(std::sync::Arc::strong_count(&shared), 2, "the data was not dropped");
    }

    #[test]
    fn data_that_was_released_during_the_fork_is_replaced_and_leaked() {
        let shared = std::sync::Arc::new(());
        let mut mutex = ForkMutex::new(Some(std::sync::Arc::clone(&shared)));
        mutex.released_during_fork = AtomicBool::new(true);
        // In the process itself the data is complete.
        assert!(mutex.lock().is_some());
        mutex.released_during_fork = AtomicBool::new(true);
        mutex.process = Process::other();
        assert!(mutex.lock().is_none());
        assert!(mutex.lock_or_default().is_none());
        drop(mutex);
        assert_eq!(std::sync::Arc::strong_count(&shared), 2, "the data was not dropped");
    }
}
