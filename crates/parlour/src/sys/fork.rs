//! Descriptors that a forked child must not keep.
//!
//! Close-on-exec has no effect in a child that never calls `exec`. Such a child would share the lock of the name and
//! the listening sockets, and the name would outlive its server. Therefore each such descriptor is recorded in a table,
//! and a handler of `pthread_atfork(3)` replaces it in the child by an inert descriptor. The handler replaces the
//! descriptor instead of closing it, because the child's copy of the owner closes that number later.
//!
//! fork(2) does not copy the descriptor table and the memory at the same moment. Linux copies the table first, and
//! other threads of the parent go on until the memory is copied. If one of them opens or closes a descriptor in
//! between, the child's memory has a number that the child's table does not have, or that belongs to another file
//! there. A child may therefore use, and close, only descriptors that no other thread changed while the fork was in
//! progress.
//!
//! The handler runs in a context in which only async-signal-safe calls are allowed and any lock may be held for ever.
//! Therefore the table is a list of atomics that only grows. A child of a bare `clone(2)` runs no handlers and keeps
//! all descriptors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering, fence};

use super::blocked_signals::BlockedSignals;

/// The value of an entry without a descriptor. Entries are reused and never freed.
const FREE: RawFd = -1;

struct Entry {
    descriptor: AtomicI32,
    /// Written before the entry is published, and never afterwards.
    next: *const Entry,
}

/// Head of the list. Published with `Release` in `note` and read with `Acquire` in `entries`.
static HEAD: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// The numbers of forks that have begun and that have ended in this process. They differ while a fork is in progress.
static FORKS_BEGUN: AtomicU32 = AtomicU32::new(0);
static FORKS_ENDED: AtomicU32 = AtomicU32::new(0);

/// The number of threads that are receiving descriptors. A fork waits until there is none.
static RECEIVING: AtomicU32 = AtomicU32::new(0);

/// The number of forks between the first process and this process.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Distinguishes a process from its forked children. It is a single word because every half of a connection contains
/// one.
///
/// The process id differs even in a child that ran no handlers. The generation, in the low bits, differs even in a
/// child that has the same process id in a PID namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

/// The number of bits that a process id leaves unused: the kernel's greatest process id is 2^22 (`PID_MAX_LIMIT`).
const GENERATION_BITS: u32 = 10;

/// Returns the generation of this process, reduced to the bits that a [`Process`] stores.
#[inline]
fn generation() -> u16 {
    (GENERATION.load(Ordering::Relaxed) % (1 << GENERATION_BITS)) as u16
}

/// The generation of a process, where the space of a [`Process`] is not available. It does not distinguish a child that
/// ran no handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) u16);

impl Generation {
    pub(crate) fn current() -> Self {
        // As for `Process`.
        let _ = install();
        Self(generation())
    }

    /// Returns true if this process is a forked child of a process of that generation.
    #[inline]
    pub(crate) fn is_before_fork(self) -> bool {
        self.0 != generation()
    }
}

/// The generation of a process in full. Compared with [`Generation`], it takes more space and one instruction less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forks(u32);

impl Forks {
    /// Returns the generation as a number, for memory that forked children share.
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }

    /// Returns true if this process is a forked child of a process of the generation with this number.
    #[inline]
    pub(crate) fn is_number_before_fork(number: u64) -> bool {
        number != u64::from(GENERATION.load(Ordering::Relaxed))
    }

    pub(crate) fn current() -> Self {
        // As for `Process`.
        let _ = install();
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Returns true if this process is a forked child of a process of that generation.
    #[inline]
    pub(crate) fn is_before_fork(self) -> bool {
        self.0 != GENERATION.load(Ordering::Relaxed)
    }
}

impl Process {
    pub(crate) fn current() -> Self {
        // Installing the handlers fails only if memory is exhausted. Then the process id alone identifies the process.
        let _ = install();
        Self(std::process::id() << GENERATION_BITS | u32::from(generation()))
    }

    /// Returns true if this process is a forked child of that process. This makes no system call. It does not detect a
    /// child of a bare clone(2).
    #[inline]
    pub(crate) fn is_before_fork(self) -> bool {
        self.0 % (1 << GENERATION_BITS) != u32::from(generation())
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }

    /// Returns a process that is not this one.
    #[cfg(test)]
    pub(crate) fn other() -> Self {
        Self(!Self::current().0)
    }
}

/// Returns true if a fork is in progress in this process. If none is, the child of every later fork gets the memory and
/// the descriptor table as the calling thread has left them. This does not detect a bare clone(2).
pub(crate) fn is_in_progress() -> bool {
    // Orders the caller's changes, of memory and of the descriptor table, before the loads. Pairs with the increment in
    // `before_fork`: if the loads do not see it, that fork sees the changes.
    fence(Ordering::SeqCst);
    // This order, because otherwise a fork that begins and ends between the loads would hide one that is in progress.
    let ended = FORKS_ENDED.load(Ordering::SeqCst);
    FORKS_BEGUN.load(Ordering::SeqCst) != ended
}

/// A descriptor of this process only. A forked child has an inert descriptor in its place.
#[derive(Debug)]
pub(crate) struct ParentOnly {
    descriptor: OwnedFd,
    entry: &'static AtomicI32,
}

impl ParentOnly {
    /// Opens a descriptor and records it, without a fork in between.
    pub(crate) fn open(mut open: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<Self> {
        install()?;
        /// The maximum number of attempts. A process that forks continuously loses only this guarantee after them.
        const TRIES: u32 = 64;
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = FORKS_BEGUN.load(Ordering::SeqCst);
            let quiet = FORKS_ENDED.load(Ordering::SeqCst) == begun;
            if !quiet && tries < TRIES {
                std::thread::yield_now();
                continue;
            }
            let descriptor = open()?;
            let entry = note(descriptor.as_raw_fd());
            let opened = Self { descriptor, entry };
            if FORKS_BEGUN.load(Ordering::SeqCst) == begun || tries >= TRIES {
                return Ok(opened);
            }
        }
    }
}

impl ParentOnly {
    /// Receives descriptors and records them, without a fork in between. For descriptors that cannot be received twice.
    ///
    /// `receive` must not wait: a thread that forks waits for it. Signals are blocked in this thread meanwhile, because
    /// a handler that forks would wait for the call that it interrupts.
    pub(crate) fn receive<T>(
        receive: impl FnOnce() -> io::Result<(T, Vec<OwnedFd>)>,
    ) -> io::Result<(T, Vec<ParentOnly>)> {
        install()?;
        let _receiving = Receiving::begin()?;
        let (with, descriptors) = receive()?;
        let record = |descriptor: OwnedFd| Self { entry: note(descriptor.as_raw_fd()), descriptor };
        Ok((with, descriptors.into_iter().map(record).collect()))
    }

    /// Closes the descriptor and keeps its number in use by another descriptor. Safe in a signal handler: one system
    /// call.
    pub(crate) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::io::dup3(instead, &mut self.descriptor, rustix::io::DupFlags::CLOEXEC)?)
    }
}

/// While it exists, no thread forks, and this thread handles no signal.
struct Receiving {
    /// Dropped last, after the end of this was noted.
    _signals: BlockedSignals,
}

impl Receiving {
    fn begin() -> io::Result<Self> {
        let signals = BlockedSignals::begin()?;
        loop {
            RECEIVING.fetch_add(1, Ordering::SeqCst);
            // A fork that begins from here on waits.
            if FORKS_ENDED.load(Ordering::SeqCst) == FORKS_BEGUN.load(Ordering::SeqCst) {
                return Ok(Self { _signals: signals });
            }
            RECEIVING.fetch_sub(1, Ordering::SeqCst);
            std::thread::yield_now();
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        RECEIVING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsFd for ParentOnly {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for ParentOnly {
    fn drop(&mut self) {
        // Free the entry before `descriptor` is dropped: afterwards its number can be assigned to another file.
        self.entry.store(FREE, Ordering::SeqCst);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut next: *const Entry = HEAD.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: entries are leaked boxes. They are published after they were written, never freed, and changed only
        // through their atomic.
        let entry: &'static Entry = unsafe { next.as_ref()? };
        next = entry.next;
        Some(entry)
    })
}

fn note(descriptor: RawFd) -> &'static AtomicI32 {
    for entry in entries() {
        let taken = entry.descriptor.compare_exchange(FREE, descriptor, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if taken {
            return &entry.descriptor;
        }
    }
    let entry = Box::leak(Box::new(Entry { descriptor: AtomicI32::new(descriptor), next: ptr::null() }));
    let mut head = HEAD.load(Ordering::Relaxed);
    loop {
        entry.next = head;
        match HEAD.compare_exchange_weak(head, entry, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return &entry.descriptor,
            Err(now) => head = now,
        }
    }
}

/// Installs the handlers, once they are needed.
///
/// Threads that get here at the same time may install them twice, which has no effect: every handler counts in steps
/// that belong to its own registration, and the second replacement of the descriptors finds none left. A `OnceLock`
/// would be locked for ever in a child that another thread forks during the installation.
fn install() -> io::Result<()> {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if INSTALLED.load(Ordering::Acquire) {
        return Ok(());
    }
    // SAFETY: the three handlers are async-signal-safe functions that live as long as the program.
    match unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) } {
        0 => {
            INSTALLED.store(true, Ordering::Release);
            Ok(())
        }
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

extern "C" fn before_fork() {
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
    while RECEIVING.load(Ordering::SeqCst) != 0 {
        // SAFETY: a system call without arguments.
        unsafe { libc::sched_yield() };
    }
}

extern "C" fn after_fork_in_parent() {
    FORKS_ENDED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    FORKS_ENDED.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    // SAFETY: eventfd(2) is one system call and accesses no memory of this process.
    let dead = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    let mut is_used = false;
    for entry in entries() {
        let descriptor = entry.descriptor.swap(FREE, Ordering::SeqCst);
        if descriptor == FREE {
            continue;
        }
        if descriptor == dead {
            // Another thread opened the descriptor after the table was copied, so that its number was free here. It is
            // inert already.
            is_used = true;
            continue;
        }
        // SAFETY: the number belongs to a descriptor that a `ParentOnly` owned at the fork. Replacing the file behind
        // it in the child keeps the number in use, so that the child's copy of that owner does not close a foreign
        // descriptor.
        let replaced = dead >= 0 && unsafe { libc::dup3(dead, descriptor, libc::O_CLOEXEC) } >= 0;
        if !replaced {
            // SAFETY: as above. No replacement could be created, and keeping the name in the child would be worse.
            unsafe { libc::close(descriptor) };
        }
    }
    if dead >= 0 && !is_used {
        // SAFETY: created above, and no other code knows it.
        unsafe { libc::close(dead) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> io::Result<OwnedFd> {
        Ok(std::fs::File::open("/dev/null")?.into())
    }

    #[test]
    fn entries_are_used_again() {
        let first = ParentOnly::open(null).unwrap();
        let number = first.as_fd().as_raw_fd();
        assert!(entries().any(|entry| entry.descriptor.load(Ordering::SeqCst) == number));
        for _ in 0..100 {
            drop(ParentOnly::open(null).unwrap());
        }
        assert!(entries().count() < 50, "a hundred successive descriptors need few entries");
    }

    #[test]
    fn received_descriptors_are_recorded_and_signals_arrive_again() {
        let blocked = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
        };
        let before = blocked();
        let (during, received) = ParentOnly::receive(|| Ok((blocked(), vec![null()?, null()?]))).unwrap();
        assert_ne!(during, before);
        assert_eq!(blocked(), before);
        for descriptor in &received {
            let number = descriptor.as_fd().as_raw_fd();
            assert!(entries().any(|entry| entry.descriptor.load(Ordering::SeqCst) == number));
        }
    }

    #[test]
    fn a_failing_open_leaves_nothing_behind() {
        let result = ParentOnly::open(|| Err(io::Error::other("no")));
        assert_eq!(result.unwrap_err().to_string(), "no");
    }
}
