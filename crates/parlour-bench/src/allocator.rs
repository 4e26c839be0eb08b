//! The system's allocator, with a count of what is taken from it.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// For [`parlour_measure::allocator`].
pub(crate) const COUNTS: parlour_measure::Allocator = parlour_measure::Allocator { count, bytes, leave_out };

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// What the allocator keeps in front of each piece (glibc, malloc(3)).
const OVERHEAD: usize = size_of::<usize>();

/// How often memory was taken, or moved, so far.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Bytes that are allocated now, as the allocator rounds them, with its own overhead.
pub fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Does not count what this thread takes from now on. What it frees is counted all the same.
fn leave_out() {
    LEFT_OUT.set(true);
}

fn taken(memory: *mut u8) -> *mut u8 {
    if !memory.is_null() {
        BYTES.fetch_add(size(memory), Ordering::Relaxed);
        // A thread that is ending has no such value any more, and counts.
        if !LEFT_OUT.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    }
    memory
}

fn size(memory: *mut u8) -> u64 {
    // SAFETY: the callers have it from the system's allocator, and it is not freed yet.
    let usable = unsafe { libc::malloc_usable_size(memory.cast()) };
    (usable + OVERHEAD) as u64
}

// SAFETY: every call goes to the system's allocator as it comes, which is malloc(3) here; the counters are atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        taken(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        taken(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let before = size(memory);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory came from the same allocator.
        let memory = unsafe { System.realloc(memory, layout, new_size) };
        if !memory.is_null() {
            BYTES.fetch_sub(before, Ordering::Relaxed);
        }
        taken(memory)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(size(memory), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory came from the same allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}
