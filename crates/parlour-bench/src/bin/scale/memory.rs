//! What this process has allocated, by its own count and by the system's.
#![allow(unsafe_code, reason = "an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

/// The system's allocator, with a count of what is taken from it.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// What the allocator keeps in front of each piece (glibc, malloc(3)).
const OVERHEAD: usize = size_of::<usize>();

/// Bytes that are allocated now, as the allocator rounds them, with its own overhead.
pub(crate) fn allocated() -> usize {
    ALLOCATED.load(Ordering::Relaxed)
}

/// Bytes of this process that are in memory now and are its own alone.
pub(crate) fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon in /proc/self/status")?;
    let kib: usize = line.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")?;
    Ok(kib * 1024)
}

fn count(memory: *mut u8) -> *mut u8 {
    if !memory.is_null() {
        ALLOCATED.fetch_add(size(memory), Ordering::Relaxed);
    }
    memory
}

fn size(memory: *mut u8) -> usize {
    // SAFETY: the callers have it from the system's allocator, and it is not freed yet.
    unsafe { libc::malloc_usable_size(memory.cast()) + OVERHEAD }
}

// SAFETY: every call goes to the system's allocator as it comes, which is malloc(3) here; the counter is an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        count(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        count(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let before = size(memory);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory came from the same allocator.
        let memory = unsafe { System.realloc(memory, layout, new_size) };
        if !memory.is_null() {
            ALLOCATED.fetch_sub(before, Ordering::Relaxed);
        }
        count(memory)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(size(memory), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory came from the same allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}
