//! A mapping of a whole memory file that one process writes and the others read.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use rustix::fs::{SealFlags, fcntl_add_seals};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::memfd::{self, BadMemory};

/// The seals that prevent shrinking and growing: an access past the end raises SIGBUS.
pub(super) const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The seals of memory with one writer. They also prevent writing other than through the creator's mapping, which
/// includes punching holes, and any change of the seals.
pub(super) const ONE_WRITER: SealFlags = SIZE_SEALS.union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// A mapping of a whole memory file, writable or read-only. It is unmapped when this is dropped.
#[derive(Debug)]
pub(super) struct Region {
    start: NonNull<u8>,
    length: usize,
    is_writable: bool,
}

// SAFETY: the memory remains at its address until the region is dropped, independently of the thread. This type gives
// out atomics and pointers, and no references to bytes.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// An atomic type of the same size as its value, of which all bits are valid.
trait Word {}

impl Word for AtomicU32 {}
impl Word for AtomicU64 {}

impl Region {
    /// Creates zeroed memory that only this mapping can write to. Returns it with its descriptor for the readers.
    ///
    /// `length` is more than 0. The name is visible in `/proc`.
    pub(super) fn create(name: &str, length: usize) -> io::Result<(Self, OwnedFd)> {
        let memfd = memfd::allocate(name, length as u64)?;
        // Map the memory first: the seal forbids any further writable mapping.
        let region = Self::map(&memfd, length, true)?;
        // SAFETY: the mapping has this length, it is writable, and nothing else refers to the memory yet.
        unsafe { memfd::fill_with_zeros(region.start, length) }?;
        fcntl_add_seals(&memfd, ONE_WRITER)?;
        Ok((region, memfd))
    }

    /// Maps memory of another process read-only, after checking that it has this length. Memory whose size could change
    /// or that could lose a page is not mapped, because either would raise SIGBUS.
    pub(super) fn adopt(memfd: impl AsFd, length: usize) -> Result<Self, BadMemory> {
        memfd::check_length(&memfd, ONE_WRITER, length)?;
        Self::map(&memfd, length, false).map_err(BadMemory::Io)
    }

    /// Maps a memory file that has at least this length.
    pub(super) fn map(memfd: impl AsFd, length: usize, is_writable: bool) -> io::Result<Self> {
        let protection = if is_writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, memfd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, length, is_writable })
    }

    /// Initializes all pages of a writable mapping of a new file.
    pub(super) fn fill_with_zeros(&mut self) -> io::Result<()> {
        if !self.is_writable {
            return Err(Errno::ACCESS.into());
        }
        // SAFETY: the mapping has this length, it is writable, and this is the only reference to it.
        unsafe { memfd::fill_with_zeros(self.start, self.length) }
    }

    /// Returns the beginning of the mapping, which the caller unmaps with [`unmap`].
    pub(super) fn into_start(self) -> NonNull<u8> {
        let start = self.start;
        std::mem::forget(self);
        start
    }

    /// Returns the beginning of the mapping.
    #[inline]
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Copies the mapping, each word of 64 bits as a whole, while other processes may be writing. The length of the
    /// mapping is a multiple of 8.
    pub(super) fn copy_words(&self) -> Vec<u8> {
        let words = (0..self.length).step_by(size_of::<AtomicU64>()).map_while(|at| self.word::<AtomicU64>(at));
        words.flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }

    /// Returns the place of `length` bytes from `offset` on, or `None` outside of the mapping.
    pub(super) fn place(&self, offset: usize, length: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(length)?;
        // The offset is in the mapping, so it does not wrap.
        (end <= self.length).then(|| NonNull::new(self.start.as_ptr().wrapping_add(offset)))?
    }

    /// Returns the word at this offset, or `None` outside of the mapping or where no word is aligned.
    fn word<W: Word>(&self, offset: usize) -> Option<&W> {
        let place = self.place(offset, size_of::<W>())?.cast::<W>();
        if !place.is_aligned() {
            return None;
        }
        // SAFETY: the place is aligned, and mapped and backed as long as `self` exists. Other threads and processes may
        // change an atomic at any time. If the mapping is read-only, only `load` and `copy_words` use it, with a
        // relaxed load, which the standard library allows on such memory.
        Some(unsafe { place.as_ref() })
    }

    /// Loads the word at this offset (relaxed). Returns 0 outside of the mapping.
    pub(super) fn load(&self, offset: usize) -> u32 {
        self.word::<AtomicU32>(offset).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Stores a word (relaxed), if the mapping is writable.
    pub(super) fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word::<AtomicU32>(offset).filter(|_| self.is_writable) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Adds 1 to a word (release), if the mapping is writable.
    pub(super) fn increment(&self, offset: usize) {
        if let Some(word) = self.word::<AtomicU32>(offset).filter(|_| self.is_writable) {
            word.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, which has this length, and no reference to it outlives `self`.
        unsafe { unmap(self.start, self.length) };
    }
}

/// Unmaps a mapping.
///
/// # Safety
///
/// It is the mapping of a [`Region`] of this length that was [taken apart](Region::into_start), and no reference to it
/// is left.
pub(super) unsafe fn unmap(start: NonNull<u8>, length: usize) {
    // SAFETY: guaranteed by the caller. The call cannot fail on such a range.
    let _ = unsafe { munmap(start.as_ptr().cast(), length) };
}

/// Copies bytes that another process may be changing, if it breaks the protocol.
///
/// An honest process does not change the bytes until this side publishes that it has taken them. A hostile one may
/// change them during the copy. By the letter of the memory model of Rust (and C++) such a copy is a data race, and
/// therefore undefined behaviour: no atomic type exists for a copy of many bytes, and a copy byte by byte through
/// `AtomicU8` would be many times slower. The following measures keep the race from mattering in practice:
///
/// - The copy is a call that is not inlined, of a pointer that the compiler knows nothing about, so it cannot be split,
///   repeated or moved. The compiler fence behind it keeps later code from being moved before it.
/// - The destination is private memory. All parsing works on this copy, so no byte is read twice and no check can be
///   outdated.
/// - Bytes may be torn in any way. Every value that they form is checked as input from an untrusted peer.
///
/// # Safety
///
/// `from` is readable and `into` is writable for `count` bytes, and they do not overlap.
#[inline(never)]
pub(super) unsafe fn copy_from_peer(from: *const u8, into: *mut u8, count: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe { ptr::copy_nonoverlapping(std::hint::black_box(from), into, count) };
    compiler_fence(Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn a_copy_beside_a_writer_has_each_word_of_64_bits_as_it_was_written() {
        const VALUES: [u64; 2] = [0x1111_1111_1111_1111, 0x2222_2222_2222_2222];
        let (region, _memfd) = Region::create("parlour-region-test", 4096).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for value in VALUES.into_iter().cycle() {
                    if is_done.load(Ordering::Relaxed) {
                        break;
                    }
                    for offset in (0..4096).step_by(8) {
                        region.word::<AtomicU64>(offset).unwrap().store(value, Ordering::Relaxed);
                    }
                }
            });
            let mut torn = 0;
            for _ in 0..2_000 {
                let copy = region.copy_words();
                let words = copy.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap()));
                torn += words.filter(|word| *word != 0 && !VALUES.contains(word)).count();
            }
            is_done.store(true, Ordering::Relaxed);
            assert_eq!(torn, 0);
        });
    }
}
