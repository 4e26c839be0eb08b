//! Descriptors that a forked child must not keep.
//!
//! Close-on-exec does not help a child that never calls `exec`: it would share the lock of the name and the listening
//! sockets, and the name would outlive its server. So each such descriptor is noted in a table, and a handler of
//! `pthread_atfork(3)` puts a dead descriptor in its place in the child (it is replaced and not closed, because the
//! child's copy of its owner will close that number some day).
//!
//! The handler runs where only async-signal-safe calls are allowed and any lock may be held for ever, so the table is a
//! list of atomics that only grows. A child made by a bare `clone(2)` runs no handlers and keeps everything.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// An entry without a descriptor. Entries are used again and never freed.
const FREE: RawFd = -1;

struct Entry {
    descriptor: AtomicI32,
    /// Written before the entry is published, never after.
    next: *const Entry,
}

/// Head of the list. Published with `Release` in `note`, read with `Acquire` in `entries`.
static HEAD: AtomicPtr<Entry> = AtomicPtr::new(ptr::null_mut());

/// Forks that have begun and that have ended in this process; unequal while one is under way.
static FORKS_BEGUN: AtomicU32 = AtomicU32::new(0);
static FORKS_ENDED: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between the first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Tells a process from its forked children. In one word, because every half of a connection has one.
///
/// The process id differs even in a child that ran no handlers; the generation, in its low bits, differs even in a child
/// whose number in a PID namespace of its own is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

/// What a process id leaves of a word: the kernel's largest is 2^22 (`PID_MAX_LIMIT`).
const GENERATION_BITS: u32 = 10;

/// The generation of this process, as far as a [`Process`] has it.
#[inline]
fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed) % (1 << GENERATION_BITS)
}

impl Process {
    pub(crate) fn current() -> Self {
        // Without the handlers, which fail to install only for want of memory, the pid has to do.
        let _ = install();
        Self(std::process::id() << GENERATION_BITS | generation())
    }

    /// Whether this is a forked child of that process, for calls that must not cost a system call. A child made by a bare
    /// clone(2) is not noticed.
    #[inline]
    pub(crate) fn is_before_fork(self) -> bool {
        self.0 % (1 << GENERATION_BITS) != generation()
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// A descriptor that only this process has: a forked child finds a dead one in its place.
#[derive(Debug)]
pub(crate) struct ParentOnly {
    descriptor: OwnedFd,
    entry: &'static AtomicI32,
}

impl ParentOnly {
    /// Opens a descriptor and notes it, with no fork in between.
    pub(crate) fn open(mut open: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<Self> {
        install()?;
        /// A process that forks without pause loses nothing but this guarantee in the end.
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
    /// Closes the descriptor, and keeps its number taken by another one. For a signal handler: one system call.
    pub(crate) fn close_in_place(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::io::dup3(instead, &mut self.descriptor, rustix::io::DupFlags::CLOEXEC)?)
    }
}

impl AsFd for ParentOnly {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for ParentOnly {
    fn drop(&mut self) {
        // Before the number can be given to another file, which happens when `descriptor` is dropped after this.
        self.entry.store(FREE, Ordering::SeqCst);
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let mut next: *const Entry = HEAD.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: entries are leaked boxes, published after they were written and never freed or changed but through
        // their atomic.
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

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<i32> = OnceLock::new();
    let result = *INSTALLED.get_or_init(|| {
        // SAFETY: the three handlers are async-signal-safe functions that live as long as the program.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) }
    });
    match result {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

extern "C" fn before_fork() {
    FORKS_BEGUN.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_parent() {
    FORKS_ENDED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    FORKS_ENDED.store(FORKS_BEGUN.load(Ordering::SeqCst), Ordering::SeqCst);
    // SAFETY: eventfd(2) is one system call and takes no memory of ours.
    let dead = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    for entry in entries() {
        let descriptor = entry.descriptor.swap(FREE, Ordering::SeqCst);
        if descriptor == FREE {
            continue;
        }
        // SAFETY: the number is of a descriptor that a `ParentOnly` owned at the fork. Replacing what is behind it in
        // the child keeps the number taken, so that the child's copy of that owner closes nobody else's descriptor.
        let replaced = dead >= 0 && unsafe { libc::dup3(dead, descriptor, libc::O_CLOEXEC) } >= 0;
        if !replaced {
            // SAFETY: as above. No descriptor could be had to put in its place; keeping the name would be worse.
            unsafe { libc::close(descriptor) };
        }
    }
    if dead >= 0 {
        // SAFETY: made above, known to nobody else.
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
        assert!(entries().count() < 50, "a hundred descriptors in turn need few entries");
    }

    #[test]
    fn a_failing_open_leaves_nothing_behind() {
        let result = ParentOnly::open(|| Err(io::Error::other("no")));
        assert_eq!(result.unwrap_err().to_string(), "no");
    }
}
