//! The system's allocator with counters.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of this allocator, for [`parlour_measure::allocator`].
pub(crate) const COUNTS: parlour_measure::Allocator = parlour_measure::Allocator { count, bytes, leave_out };

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// The overhead of the allocator in front of each block, in bytes (glibc, malloc(3)).
const OVERHEAD: usize = size_of::<usize>();

/// Returns the number of allocations and reallocations so far.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Returns the number of bytes that are allocated now, as rounded by the allocator and with its overhead.
pub fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

/// Excludes further allocations of the calling thread from `count`. `bytes` still covers all threads.
fn leave_out() {
    LEFT_OUT.set(true);
}

fn taken(memory: *mut u8) -> *mut u8 {
    if !memory.is_null() {
        BYTES.fetch_add(size(memory), Ordering::Relaxed);
        // In a thread that is ending the thread-local value is gone, and the allocation counts.
        if !LEFT_OUT.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    }
    memory
}

fn size(memory: *mut u8) -> u64 {
    // SAFETY: the callers pass memory that the system's allocator returned and that is not freed yet.
    let usable = unsafe { libc::malloc_usable_size(memory.cast()) };
    (usable + OVERHEAD) as u64
}

// SAFETY: every call is passed unchanged to the system's allocator, which is malloc(3) here. The counters are atomics.
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
