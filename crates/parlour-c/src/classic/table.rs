//! The state of the classic API, behind one lock that works in signal handlers and forked children.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::servers::Servers;
use super::signals::Blocked;
use super::sleepers::Sleepers;

pub(crate) struct Table {
    pub(crate) servers: Servers,
    pub(crate) sleepers: Sleepers,
}

static TABLE: Mutex<Table> = Mutex::new(Table { servers: Servers::new(), sleepers: Sleepers::new() });

/// Locks the table. Signals are blocked, so no handler of this thread can run while it is locked.
pub(crate) fn lock(_blocked: &Blocked) -> Locked {
    install();
    Locked(TABLE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Installs the handlers, once they are needed.
///
/// Threads that get here at the same time may install them twice, which has no effect. A `Once` would be locked for
/// ever in a child that another thread forks during the installation.
fn install() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.load(Ordering::Acquire) {
        // This fails only without memory. A child that is forked while another thread holds the lock then blocks for
        // ever.
        // SAFETY: the three handlers are functions, which live as long as the program.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        INSTALLED.store(true, Ordering::Release);
    }
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

/// The lock, and the blocked signals, of a thread that forks. The child gets a consistent and unlocked table.
struct WhileForking(UnsafeCell<Option<(MutexGuard<'static, Table>, Blocked)>>);

// SAFETY: only the thread that holds the lock of the table accesses the cell.
unsafe impl Sync for WhileForking {}

static WHILE_FORKING: WhileForking = WhileForking(UnsafeCell::new(None));

/// The thread that forks and holds the lock, or 0.
static FORKING: AtomicI32 = AtomicI32::new(0);

extern "C" fn before_fork() {
    // The handlers may be installed twice.
    if FORKING.load(Ordering::Relaxed) == this_thread() {
        return;
    }
    let blocked = Blocked::new();
    let guard = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: this thread holds the lock of the table, so no other thread accesses the cell.
    unsafe { *WHILE_FORKING.0.get() = Some((guard, blocked)) };
    FORKING.store(this_thread(), Ordering::Relaxed);
}

extern "C" fn after_fork() {
    // In the child the thread has another number, and no other thread exists.
    if FORKING.swap(0, Ordering::Relaxed) == 0 {
        return;
    }
    // SAFETY: this thread, or its copy in the child, took the lock in `before_fork` and still holds it, so no other
    // thread accesses the cell.
    let held = unsafe { (*WHILE_FORKING.0.get()).take() };
    // Dropping the tuple releases the lock first, then unblocks the signals.
    drop(held);
}

fn this_thread() -> i32 {
    // SAFETY: a system call without arguments.
    unsafe { libc::gettid() }
}
