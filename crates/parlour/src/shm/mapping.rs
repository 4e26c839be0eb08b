//! Memory that one side writes and the other reads: memfd_create(2), sealed so that only its bytes can change, and only
//! through the mapping of the side that writes it.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::fcntl_add_seals;
use rustix::mm::{Advice, MprotectFlags, madvise, mprotect};

use super::memfd::{self, BadMemory};
use super::region::{ONE_WRITER, Region, SIZE_SEALS, copy_from_peer, unmap};
use super::ring::{Memory, Sides, Word, ask_for_data};
use super::span::Sizes;
use crate::wire::shm_hello::{GROWING_RING_MAX, Layout};

/// Number of bytes in front of the ring, for the control words.
pub(crate) const CONTROL_LEN: usize = 4096;

/// One side's memory in the address space of this process: writable if this side writes it, otherwise read-only.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    ring_size: usize,
    layout: Layout,
}

/// The exponent of the size with which a ring begins that grows.
const FIRST_LOG2: u32 = 14;

/// The number of bytes that exist of memory that begins small.
const BEGIN_LEN: usize = CONTROL_LEN + (1 << FIRST_LOG2);

/// The size of a page for which rings can grow.
const PAGE: usize = 4096;

/// Returns true if the pages of this system have the size for which rings can grow.
fn has_usual_pages() -> bool {
    // SAFETY: this call takes only a number. (The function of rustix does not work under valgrind.)
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    page_size == PAGE as libc::c_long
}

/// Returns the length of the memory. A ring that grows has a page behind it that never exists.
fn memory_len(ring_size: usize, layout: Layout) -> usize {
    CONTROL_LEN
        + ring_size
        + match layout {
            Layout::Whole => 0,
            Layout::Growing => PAGE,
        }
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
        Ok((Self::of(region, ring_size, Layout::Whole), memfd))
    }

    /// Creates the memory of this side as [`create`](Self::create) does, with a ring that begins small and grows. The
    /// ring has its full size from the beginning if it is too large for that, or if the system cannot make it grow.
    pub(crate) fn create_growing(ring_size: usize) -> io::Result<(Self, OwnedFd)> {
        if ring_size <= GROWING_RING_MAX && has_usual_pages() {
            let length = memory_len(ring_size, Layout::Growing);
            if let Some((region, memfd)) = Region::create_begun(NAME, length, BEGIN_LEN)? {
                return Ok((Self::of(region, ring_size, Layout::Growing), memfd));
            }
        }
        Self::create(ring_size)
    }

    /// Maps the peer's memory read-only after checking it. Memory whose size could change or that could lose a page is
    /// not mapped, because either would raise SIGBUS.
    pub(crate) fn adopt(memfd: impl AsFd, ring_size: usize, layout: Layout) -> Result<Self, BadMemory> {
        let length = memory_len(ring_size, layout);
        let region = match layout {
            Layout::Whole => Region::adopt(memfd, length)?,
            Layout::Growing if has_usual_pages() => Region::adopt_begun(memfd, length, BEGIN_LEN)?,
            Layout::Growing => return Err(BadMemory::Begun),
        };
        Ok(Self::of(region, ring_size, layout))
    }

    /// Returns the layout of this memory.
    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Creates the memory that the peer will write, and maps it read-only. The peer [takes](Self::take) the descriptor.
    pub(crate) fn create_for_peer(ring_size: usize) -> io::Result<(Self, OwnedFd)> {
        let length = CONTROL_LEN + ring_size;
        let memfd = memfd::allocate(NAME, length as u64)?;
        Region::map(&memfd, length, true)?.fill_with_zeros()?;
        fcntl_add_seals(&memfd, SIZE_SEALS)?;
        Ok((Self::of(Region::map(&memfd, length, false)?, ring_size, Layout::Whole), memfd))
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
        Ok(Self::of(region, ring_size, Layout::Whole))
    }

    /// Wraps a region that has the control words and a ring of this size.
    fn of(region: Region, ring_size: usize, layout: Layout) -> Self {
        Self { start: region.into_start(), ring_size, layout }
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
    local_layout: Layout,
    remote_layout: Layout,
    /// The exponent of the part of the peer's ring that this process can read.
    opened_log2: AtomicU8,
}

// SAFETY: this consists of two `Mapping`s, whose argument applies.
unsafe impl Send for Mappings {}
// SAFETY: as above.
unsafe impl Sync for Mappings {}

impl Mappings {
    /// Combines the memory that this side created with that of the peer. The sizes of rings are powers of two.
    pub(crate) fn new(local: Mapping, remote: Mapping) -> Self {
        let log2 = |mapping: &Mapping| mapping.ring_size.trailing_zeros() as u8;
        let opened_log2 = match remote.layout {
            Layout::Whole => log2(&remote),
            Layout::Growing => FIRST_LOG2 as u8,
        };
        let mappings = Self {
            local: local.start,
            remote: remote.start,
            local_log2: log2(&local),
            remote_log2: log2(&remote),
            local_layout: local.layout,
            remote_layout: remote.layout,
            opened_log2: AtomicU8::new(opened_log2),
        };
        // From here on `Mappings` is responsible for unmapping them.
        mem::forget((local, remote));
        mappings
    }
}

impl Sides for Mappings {
    type Memory<'a> = Mapped<'a>;

    fn local(&self) -> Mapped<'_> {
        let (log2, layout) = (self.local_log2, self.local_layout);
        Mapped { start: self.local, log2, layout, opened_log2: None, life: PhantomData }
    }

    fn remote(&self) -> Mapped<'_> {
        let (log2, layout) = (self.remote_log2, self.remote_layout);
        Mapped { start: self.remote, log2, layout, opened_log2: Some(&self.opened_log2), life: PhantomData }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        ask_for_data(&self.local());
        // SAFETY: `self` owns the mapping, which has this size, and no reference to it outlives `self`.
        unsafe { unmap(self.local, memory_len(1 << self.local_log2, self.local_layout)) };
        // SAFETY: as above.
        unsafe { unmap(self.remote, memory_len(1 << self.remote_log2, self.remote_layout)) };
    }
}

/// One side's memory while it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped<'a> {
    start: NonNull<u8>,
    log2: u8,
    layout: Layout,
    /// The exponent of the part of the peer's ring that this process can read. `None` for the memory of this side.
    opened_log2: Option<&'a AtomicU8>,
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

    fn is_ours(&self) -> bool {
        self.opened_log2.is_none()
    }

    /// Returns the number of bytes of the ring that this process can access.
    fn accessible_len(&self) -> usize {
        1 << self.opened_log2.map_or(self.log2, |log2| log2.load(Ordering::Relaxed))
    }

    /// Returns the place in the ring from the end of one size to the end of another one. Both are at most the full
    /// size.
    fn between(&self, from: u32, to: u32) -> (*mut u8, usize) {
        (self.start.as_ptr().wrapping_add(CONTROL_LEN + (1 << from)), (1 << to) - (1 << from))
    }

    /// Returns true if the kernel reports that all of these pages exist, and that the page behind them does not.
    ///
    /// The kernel reports every page as existing if this process may not know (mincore(2)): the peer can cause that by
    /// changing the mode or the owner of the file. The page behind them, which an honest peer allocates only later or
    /// never, shows that this answer is not such a one. Both come from one decision of the kernel: the range lies in
    /// one mapping, and the kernel decides anew only every 4096 pages.
    fn pages_exist(&self, start: *mut u8, length: usize) -> bool {
        let mut pages = [0u8; PAGES_MAX + 1];
        let count = length / PAGE;
        if count > PAGES_MAX {
            return false;
        }
        // SAFETY: the range lies in the mapping, because the memory has a page behind the ring. The kernel writes one
        // byte for each page, for which `pages` has space. It does not access the pages.
        let result = unsafe { libc::mincore(start.cast(), length + PAGE, pages.as_mut_ptr()) };
        let exists = |page: &u8| page & 1 == 1;
        result == 0 && pages[..count].iter().all(exists) && !exists(&pages[count])
    }
}

/// The maximum number of pages of one step of a ring. The page behind them is one of the 4096 that the kernel reports
/// at once.
const PAGES_MAX: usize = 4095;

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
    /// Tries to remove the pages of the ring, as a writer that breaks the protocol. Returns the result and the error.
    pub(super) fn remove_pages(&self) -> (i32, i32) {
        let (start, length) = self.between(FIRST_LOG2, FIRST_LOG2 + 1);
        // SAFETY: the range lies in the mapping, and no reference into it exists.
        let result = unsafe { libc::madvise(start.cast(), length, libc::MADV_REMOVE) };
        (result, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

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
        // These are loaded and stored together with the position of their side.
        Word::Span => size_of::<u64>(),
        Word::Adopted => APART + size_of::<u64>(),
    }
}

impl Memory for Mapped<'_> {
    fn sizes(&self) -> Sizes {
        let full = self.log2.into();
        match self.layout {
            Layout::Whole => Sizes { first: full, full },
            Layout::Growing => Sizes { first: FIRST_LOG2, full },
        }
    }

    fn allocate(&self, to: u32) -> bool {
        let sizes = self.sizes();
        if !self.is_ours() || to > sizes.full {
            return false;
        }
        let (start, length) = self.between(sizes.previous(to), to);
        // SAFETY: the range lies in the mapping of this side. The advice does not change the content. It allocates the
        // pages, or fails without a signal.
        unsafe { madvise(start.cast(), length, Advice::LinuxPopulateWrite) }.is_ok()
    }

    fn open(&self, to: u32, is_checked: bool) -> bool {
        let Some(opened_log2) = self.opened_log2 else { return false };
        let opened = u32::from(opened_log2.load(Ordering::Relaxed));
        if to <= opened || to > u32::from(self.log2) {
            return to <= opened;
        }
        let (start, length) = self.between(opened, to);
        if !is_checked && !self.pages_exist(start, length) {
            return false;
        }
        // SAFETY: the range lies in the mapping of the peer's memory, into which no references to bytes exist.
        let is_open = unsafe { mprotect(start.cast(), length, MprotectFlags::READ) }.is_ok();
        if is_open {
            opened_log2.store(to as u8, Ordering::Relaxed);
        }
        is_open
    }

    fn load(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn store(&self, word: Word, value: u64) {
        // Storing into the peer's memory would be a bug and would raise SIGSEGV.
        if self.is_ours() {
            self.word(word).store(value, Ordering::Release);
        }
    }

    fn increment(&self, word: Word) {
        if self.is_ours() {
            self.word(word).fetch_add(1, Ordering::Release);
        }
    }

    unsafe fn copy_in(&self, at: usize, from: &[u8]) {
        let fits = at.checked_add(from.len()).is_some_and(|end| end <= self.accessible_len());
        if !(fits && self.is_ours()) {
            return;
        }
        let place = self.start.as_ptr().wrapping_add(CONTROL_LEN + at);
        // SAFETY: the range lies in the ring, which this side may write (both checked above). `from` is private memory.
        // By the contract of this function no other thread of this process accesses the range now. The peer can only
        // read it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), place, from.len()) };
    }

    unsafe fn copy_out(&self, at: usize, into: &mut [u8]) {
        if at.checked_add(into.len()).is_none_or(|end| end > self.accessible_len()) {
            return;
        }
        let place = self.start.as_ptr().wrapping_add(CONTROL_LEN + at);
        // SAFETY: the range lies in the readable part of the ring (checked above), and `into` is private memory.
        unsafe { copy_from_peer(place, into.as_mut_ptr(), into.len()) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `self` owns the mapping, which has this size, and no reference to it outlives `self`.
        unsafe { unmap(self.start, memory_len(self.ring_size, self.layout)) };
    }
}
