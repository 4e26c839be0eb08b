//! A mutex that never makes a forked child wait for a thread of its parent.
//!
//! fork(2) copies only the calling thread. If another thread held a mutex at that moment, the child's copy of the mutex
//! stays locked for ever, and the data behind it may be half changed. So in a child the lock is only tried, and data
//! that was in use at the fork is neither read nor freed. No handler of `pthread_atfork(3)` takes the lock, because a
//! thread may fork while it holds the lock itself: the policy of a server is called under it.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::fork::Process;

/// A mutex of the process that created it. Poisoning is ignored: a closure of the caller may panic while the lock is
/// held, and the data is consistent at every such point.
pub(crate) struct ForkMutex<T> {
    /// `None` only while this is dropped.
    mutex: Option<Mutex<T>>,
    process: Process,
}

impl<T> ForkMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { mutex: Some(Mutex::new(value)), process: Process::current() }
    }

    /// Locks the mutex. Returns `None` in a forked child if the lock is held, usually by a thread of the parent.
    ///
    /// The process is compared only if the lock is held, so the comparison costs nothing in general. It uses the
    /// process id, and thus holds in a child of a bare clone(2), too.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, T>> {
        let mutex = self.mutex.as_ref()?;
        match mutex.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if self.process.is_current() => {
                Some(mutex.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T: Default> ForkMutex<T> {
    /// Locks the mutex. In a forked child in which the lock is held, returns a default value, which is discarded.
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
        if self.mutex.as_ref().is_some_and(is_held) {
            // This is a forked child, and the data may be half changed. It is leaked.
            mem::forget(self.mutex.take());
        }
    }
}

/// Locked data, or a substitute for it in a forked child.
pub(crate) enum Locked<'a, T> {
    Guard(MutexGuard<'a, T>),
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
}
