//! A mutex that never makes a forked child wait for a thread of its parent, or a thread for itself.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// The time for which a forked child waits for a lock that one of its own threads may hold.
const CHILD_WAITS: Duration = Duration::from_secs(1);

/// The longest time for which a thread waits for a lock before signal handlers are called.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// The time after which a thread tries to lock again.
const PAUSE: Duration = Duration::from_micros(100);

/// A mutex that is held for moments only, or by callers of [`lock_within`](Lock::lock_within).
#[derive(Debug)]
pub(crate) struct Lock<T> {
    /// The process that has created it.
    process: u32,
    value: Mutex<T>,
}

/// The reason why a thread would wait for ever.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// This is a forked child, and a thread that it does not have held the lock at the moment of the fork.
    LostInFork,
    /// This thread works on the object, and has called a function of the program meanwhile.
    ByThisThread,
}

impl Unavailable {
    pub(crate) fn exception(self) -> PyErr {
        PyRuntimeError::new_err(match self {
            Self::LostInFork => {
                "another thread of the parent used this object at the moment of the fork; use it in the parent"
            }
            Self::ByThisThread => {
                "a function that an object calls (`allow` of a server or hub, `on_connect` of a session) cannot use \
                 that object; decide by the peer, send with the connection, or use the object after the function has \
                 returned"
            }
        })
    }
}

thread_local! {
    /// The addresses of the objects on which this thread works.
    static WORK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The work of this thread on an object, which may call a function of the program.
#[derive(Debug)]
pub(crate) struct Work(usize);

impl Work {
    /// Begins to work on an object that stays where it is.
    pub(crate) fn begin<T>(object: &T) -> Result<Self, Unavailable> {
        Self::check(object)?;
        let at = std::ptr::from_ref(object).addr();
        WORK.with_borrow_mut(|work| work.push(at));
        Ok(Self(at))
    }

    /// Fails if this thread works on the object.
    pub(crate) fn check<T>(object: &T) -> Result<(), Unavailable> {
        let at = std::ptr::from_ref(object).addr();
        match WORK.with_borrow(|work| work.contains(&at)) {
            true => Err(Unavailable::ByThisThread),
            false => Ok(()),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        WORK.with_borrow_mut(|work| work.retain(|at| *at != self.0));
    }
}

impl<T: Send> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Mutex::new(value) }
    }

    /// Locks. The calling thread must not be attached to the interpreter, unless every holder is.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>, Unavailable> {
        if let Some(guard) = self.try_lock() {
            return Ok(guard);
        }
        Work::check(self)?;
        if std::process::id() == self.process {
            return Ok(self.value.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let until = Instant::now() + CHILD_WAITS;
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
        }
        Err(Unavailable::LostInFork)
    }

    /// Locks as [`lock`](Self::lock) does, and gives up after `time`.
    pub(crate) fn lock_within(&self, time: Duration) -> Result<Option<MutexGuard<'_, T>>, Unavailable> {
        if std::process::id() != self.process {
            return self.lock().map(Some);
        }
        let until = Instant::now() + time;
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(Some(guard));
            }
            Work::check(self)?;
            if until <= Instant::now() {
                return Ok(None);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Locks as [`lock_attached`](Self::lock_attached) does, and calls signal handlers meanwhile.
    pub(crate) fn lock_checking(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, T>> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            py.detach(|| self.lock_within(SLICE).map(drop)).map_err(Unavailable::exception)?;
            py.check_signals()?;
        }
    }

    /// Locks, and detaches from the interpreter while another thread holds the lock.
    pub(crate) fn lock_attached(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, T>> {
        loop {
            if let Some(guard) = self.try_lock() {
                return Ok(guard);
            }
            // A guard cannot be moved into the interpreter, so it is taken again.
            py.detach(|| self.lock().map(drop)).map_err(Unavailable::exception)?;
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.value.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
