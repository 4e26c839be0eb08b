//! What the classic API keeps, behind one lock that works in signal handlers and forked children.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::servers::Servers;
use super::signals::Blocked;
use super::sleepers::Sleepers;

pub(crate) struct Table {
    pub(crate) servers: Servers,
    pub(crate) sleepers: Sleepers,
}

static TABLE: Mutex<Table> = Mutex::new(Table { servers: Servers::new(), sleepers: Sleepers::new() });

/// The table, while signals are blocked: so no handler of this thread can find it locked.
pub(crate) fn lock(_blocked: &Blocked) -> Locked {
    static INSTALLED: Once = Once::new();
    // Fails only for want of memory; then a child that is forked while another thread has the lock waits for ever.
    INSTALLED.call_once(|| {
        // SAFETY: the three handlers live as long as the program.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
    });
    Locked(TABLE.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) struct Locked(MutexGuard<'static, Table>);

impl Deref for Locked {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut Table {
        &mut self.0
    }
}

/// The lock, and this thread's signals, while it forks: the child finds the table whole and unlocked.
struct WhileForking(UnsafeCell<Option<(MutexGuard<'static, Table>, Blocked)>>);

// SAFETY: only the thread that holds the lock reads or writes what is in here.
unsafe impl Sync for WhileForking {}

static WHILE_FORKING: WhileForking = WhileForking(UnsafeCell::new(None));

extern "C" fn before_fork() {
    let blocked = Blocked::new();
    let guard = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: this thread holds the lock, so nobody else is here.
    unsafe { *WHILE_FORKING.0.get() = Some((guard, blocked)) };
}

extern "C" fn after_fork() {
    // SAFETY: this thread, or in the child its copy, took the lock in `before_fork` and still holds it.
    let held = unsafe { (*WHILE_FORKING.0.get()).take() };
    // First the lock, then the signals.
    drop(held);
}
