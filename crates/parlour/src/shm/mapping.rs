//! Memory that one side writes and the other reads: memfd_create(2), sealed so that only its bytes can change, and only
//! through the mapping of the side that writes it.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::fcntl_add_seals;

use super::memfd::{self, BadMemory};
use super::region::{ONE_WRITER, Region, SIZE_SEALS, copy_from_peer, unmap};
use super::ring::{Memory, Sides, Word, ask_for_data};

/// Number of bytes in front of the ring, for the control words.
pub(crate) const CONTROL_LEN: usize = 4096;

/// One side's memory in the address space of this process: writable if this side writes it, otherwise read-only.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    ring_size: usize,
}

// SAFETY: the memory remains at its address until the mapping is dropped, independently of the thread. The words are
// accessed through atomics. The bytes of the ring are accessed in the order that the contract of `Memory` defines for
// threads.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates the memory of this side, with a ring of this size. Returns it with its descriptor for the peer.
    pub(crate) fn create(ring_size: usize) -> io::Result<(Self, OwnedFd)> {
        let (region, memfd) = Region::create(NAME, CONTROL_LEN + ring_size)?;
        Ok((Self::of(region, ring_size), memfd))
    }

    /// Maps the peer's memory read-only after checking it. Memory whose size could change or that could lose a page is
    /// not mapped, because either would raise SIGBUS.
    pub(crate) fn adopt(memfd: impl AsFd, ring_size: usize) -> Result<Self, BadMemory> {
        Ok(Self::of(Region::adopt(memfd, CONTROL_LEN + ring_size)?, ring_size))
    }

    /// Creates the memory that the peer will write, and maps it read-only. The peer [takes](Self::take) the descriptor.
    pub(crate) fn create_for_peer(ring_size: usize) -> io::Result<(Self, OwnedFd)> {
        let length = CONTROL_LEN + ring_size;
        let memfd = memfd::allocate(NAME, length as u64)?;
        Region::map(&memfd, length, true)?.fill_with_zeros()?;
        fcntl_add_seals(&memfd, SIZE_SEALS)?;
        Ok((Self::of(Region::map(&memfd, length, false)?, ring_size), memfd))
    }

    /// Maps the memory that the peer created for this side, and seals it, so that from then on no process can map it
    /// for writing.
    pub(crate) fn take(memfd: impl AsFd, ring_size: usize) -> Result<Self, BadMemory> {
        let length = CONTROL_LEN + ring_size;
        let has_its_size = |seals| match memfd::check(&memfd, seals)? {
            size if usize::try_from(size) == Ok(length) => Ok(()),
            size => Err(BadMemory::Size(size)),
        };
        has_its_size(SIZE_SEALS)?;
        let region = Region::map(&memfd, length, true).map_err(BadMemory::Io)?;
        fcntl_add_seals(&memfd, ONE_WRITER).map_err(|_| BadMemory::Unsealed)?;
        // Until the seals were added, another process could have punched holes.
        has_its_size(ONE_WRITER)?;
        Ok(Self::of(region, ring_size))
    }

    /// Wraps a region that has the control words and a ring of this size.
    fn of(region: Region, ring_size: usize) -> Self {
        Self { start: region.into_start(), ring_size }
    }
}

/// The name of the memory, visible in `/proc`.
const NAME: &str = "parlour-shm";

/// The memory of this side and of the peer. Both remain mapped until this is dropped.
///
/// This type is small because a process may have a thousand of them. Dropping it requests a wake-up for the next bytes,
/// so that the peer then uses the socket. The socket reports that this side has closed, or that a forked child
/// continues.
#[derive(Debug)]
pub(crate) struct Mappings {
    local: NonNull<u8>,
    remote: NonNull<u8>,
    /// The sizes of the rings, as exponents of two.
    local_log2: u8,
    remote_log2: u8,
}

// SAFETY: this consists of two `Mapping`s, whose argument applies.
unsafe impl Send for Mappings {}
// SAFETY: as above.
unsafe impl Sync for Mappings {}

impl Mappings {
    /// Combines the memory that this side created with that of the peer. The sizes of rings are powers of two.
    pub(crate) fn new(local: Mapping, remote: Mapping) -> Self {
        let log2 = |mapping: &Mapping| mapping.ring_size.trailing_zeros() as u8;
        let mappings =
            Self { local: local.start, remote: remote.start, local_log2: log2(&local), remote_log2: log2(&remote) };
        // From here on `Mappings` is responsible for unmapping them.
        mem::forget((local, remote));
        mappings
    }
}

impl Sides for Mappings {
    type Memory<'a> = Mapped<'a>;

    fn local(&self) -> Mapped<'_> {
        Mapped { start: self.local, ring_size: 1 << self.local_log2, is_ours: true, life: PhantomData }
    }

    fn remote(&self) -> Mapped<'_> {
        Mapped { start: self.remote, ring_size: 1 << self.remote_log2, is_ours: false, life: PhantomData }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        ask_for_data(&self.local());
        // SAFETY: `self` owns the mapping, which has this size, and no reference to it outlives `self`.
        unsafe { unmap(self.local, CONTROL_LEN + (1 << self.local_log2)) };
        // SAFETY: as above.
        unsafe { unmap(self.remote, CONTROL_LEN + (1 << self.remote_log2)) };
    }
}

/// One side's memory while it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped<'a> {
    start: NonNull<u8>,
    ring_size: usize,
    is_ours: bool,
    life: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// Returns a reference to a control word: to the atomic only, not to its surroundings.
    fn word(&self, word: Word) -> &'a AtomicU64 {
        let place = self.start.as_ptr().wrapping_add(offset(word)).cast::<AtomicU64>();
        // SAFETY: the offset is a multiple of 8 inside the control page. The page is mapped and backed for 'a, the
        // lifetime of the value that unmaps it. Other threads and other processes may change an atomic at any time. If
        // the mapping is read-only, the callers only make relaxed loads, which the standard library allows on such
        // memory.
        unsafe { &*place }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
impl Mapping {
    /// Moves the memory to another address, with inaccessible pages on both sides. These pages are never unmapped.
    pub(super) fn between_guards(mut self) -> Self {
        use rustix::mm::{MapFlags, ProtFlags};
        const GUARD: usize = 64 * 1024;
        let length = CONTROL_LEN + self.ring_size;
        // SAFETY: creates a mapping at an address that the kernel chooses. Nothing in it is accessed.
        let area = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), length + 2 * GUARD, ProtFlags::empty(), MapFlags::PRIVATE)
        };
        let place = area.unwrap().cast::<u8>().wrapping_add(GUARD);
        let flags = rustix::mm::MremapFlags::MAYMOVE;
        // SAFETY: the target lies in the area that was just mapped for it, and no reference into the memory exists yet.
        let moved =
            unsafe { rustix::mm::mremap_fixed(self.start.as_ptr().cast(), length, length, flags, place.cast()) };
        self.start = NonNull::new(moved.unwrap().cast()).unwrap();
        self
    }

    pub(super) fn can_be_mapped_writable(memfd: impl AsFd) -> bool {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: creates a mapping at an address that the kernel chooses.
        let direct = unsafe { mmap(ptr::null_mut(), CONTROL_LEN, writable, MapFlags::SHARED, &memfd, 0) };
        // SAFETY: as above.
        let start = unsafe { mmap(ptr::null_mut(), CONTROL_LEN, ProtFlags::READ, MapFlags::SHARED, memfd, 0) }.unwrap();
        // SAFETY: the range is the mapping that was just created, and no reference into it exists.
        let later = unsafe {
            rustix::mm::mprotect(start, CONTROL_LEN, rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE)
        };
        direct.is_ok() || later.is_ok()
    }
}

#[cfg(all(test, not(loom)))]
impl Mapped<'_> {
    /// Returns a copy of the control page.
    pub(super) fn control_page(&self) -> Vec<u8> {
        let mut bytes = vec![0; CONTROL_LEN];
        // SAFETY: the page is mapped, and the test has no other thread at this point.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), bytes.as_mut_ptr(), CONTROL_LEN) };
        bytes
    }
}

/// Returns the offset of a word. Each word has its own pair of cache lines, because processors fetch lines in pairs: a
/// store to one word does not invalidate another.
fn offset(word: Word) -> usize {
    const APART: usize = 128;
    match word {
        Word::Head => 0,
        Word::Tail => APART,
        Word::DataWaiter => 2 * APART,
        Word::SpaceWaiter => 3 * APART,
    }
}

impl Memory for Mapped<'_> {
    fn capacity(&self) -> usize {
        self.ring_size
    }

    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn store(&self, word: Word, value: u64) {
        // Storing into the peer's memory would be a bug and would raise SIGSEGV.
        if self.is_ours {
            self.word(word).store(value, Ordering::Release);
        }
    }

    fn increment(&self, word: Word) {
        if self.is_ours {
            self.word(word).fetch_add(1, Ordering::Release);
        }
    }

    unsafe fn copy_in(&self, at: usize, from: &[u8]) {
        let fits = at.checked_add(from.len()).is_some_and(|end| end <= self.ring_size);
        if !(fits && self.is_ours) {
            return;
        }
        let place = self.start.as_ptr().wrapping_add(CONTROL_LEN + at);
        // SAFETY: the range lies in the ring, which this side may write (both checked above). `from` is private memory.
        // By the contract of this function no other thread of this process accesses the range now. The peer can only
        // read it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), place, from.len()) };
    }

    unsafe fn copy_out(&self, at: usize, into: &mut [u8]) {
        if at.checked_add(into.len()).is_none_or(|end| end > self.ring_size) {
            return;
        }
        let place = self.start.as_ptr().wrapping_add(CONTROL_LEN + at);
        // SAFETY: the range lies in the ring (checked above), and `into` is private memory.
        unsafe { copy_from_peer(place, into.as_mut_ptr(), into.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, which has this size, and no reference to it outlives `self`.
        unsafe { unmap(self.start, CONTROL_LEN + self.ring_size) };
    }
}
