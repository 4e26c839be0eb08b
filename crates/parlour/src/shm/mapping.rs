//! Memory that one side writes and the other reads: memfd_create(2), sealed so that nothing about it can change any more
//! but the bytes, and those only through the mapping that its maker has.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, Stat, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
    memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::ring::{Memory, Sides, Word, ask_for_data};

/// Bytes in front of the ring, for the control words.
pub(crate) const CONTROL_LEN: usize = 4096;

/// What the memory must be sealed against: becoming shorter (an access past the end is a SIGBUS) or longer, being written
/// by anybody but through the mapping that its maker has (which also forbids to punch holes into it), and losing or
/// gaining seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// One side's memory in our address space: writable for the side that made it, read-only for the other.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    ring_size: usize,
}

// SAFETY: the memory stays where it is until the mapping is dropped, whichever thread holds it, and is accessed through
// atomics or, the ring's bytes, as the contract of `Memory` orders it between threads.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Makes our own memory, with a ring of this size, and its descriptor for the peer.
    pub(crate) fn create(ring_size: usize) -> io::Result<(Self, OwnedFd)> {
        let length = (CONTROL_LEN + ring_size) as u64;
        let memfd = allocate("parlour-shm", length)?;
        // Before the seal that forbids any further writable mapping.
        let mapping = Self::map(&memfd, ring_size, true)?;
        fcntl_add_seals(&memfd, SEALS)?;
        Ok((mapping, memfd))
    }

    /// Maps the peer's memory read-only, if it is what it has to be. Nothing is mapped that could change its size or lose
    /// a page under us: either would be a SIGBUS.
    pub(crate) fn adopt(memfd: impl AsFd, ring_size: usize) -> Result<Self, BadMemory> {
        // Only memory files have seals at all; tmpfs files have one that forbids others.
        let seals = fcntl_get_seals(&memfd).map_err(|_| BadMemory::NotMemory)?;
        if !seals.contains(SEALS) {
            return Err(BadMemory::Unsealed);
        }
        let stat = fstat(&memfd).map_err(|errno| BadMemory::Io(errno.into()))?;
        if u64::try_from(stat.st_size) != Ok((CONTROL_LEN + ring_size) as u64) {
            return Err(BadMemory::Size(stat.st_size));
        }
        if !is_allocated(&stat) {
            return Err(BadMemory::Sparse);
        }
        Self::map(&memfd, ring_size, false).map_err(BadMemory::Io)
    }

    fn map(memfd: impl AsFd, ring_size: usize, is_ours: bool) -> io::Result<Self> {
        let protection = if is_ours { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let length = CONTROL_LEN + ring_size;
        // SAFETY: a new mapping at an address of the kernel's choice, which overlaps nothing that exists.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, memfd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, ring_size })
    }
}

/// Our memory and the peer's, which this side maps until it is dropped.
///
/// Small, because there may be a thousand of them. Dropping it asks the peer to tell when it sends: what it meets then is
/// the socket, which says that nobody is there, or that a forked child goes on.
#[derive(Debug)]
pub(crate) struct Mappings {
    mine: NonNull<u8>,
    peers: NonNull<u8>,
    /// The sizes of the rings, as powers of two.
    mine_log2: u8,
    peers_log2: u8,
}

// SAFETY: as for `Mapping`, which these are two of.
unsafe impl Send for Mappings {}
// SAFETY: as above.
unsafe impl Sync for Mappings {}

impl Mappings {
    /// Of what we have made and what the peer has. The sizes of rings are powers of two.
    pub(crate) fn new(mine: Mapping, peers: Mapping) -> Self {
        let log2 = |mapping: &Mapping| mapping.ring_size.trailing_zeros() as u8;
        let mappings = Self { mine: mine.start, peers: peers.start, mine_log2: log2(&mine), peers_log2: log2(&peers) };
        // They are ours to unmap from here on.
        mem::forget((mine, peers));
        mappings
    }
}

impl Sides for Mappings {
    type Memory<'a> = Mapped<'a>;

    fn mine(&self) -> Mapped<'_> {
        Mapped { start: self.mine, ring_size: 1 << self.mine_log2, is_ours: true, life: PhantomData }
    }

    fn peers(&self) -> Mapped<'_> {
        Mapped { start: self.peers, ring_size: 1 << self.peers_log2, is_ours: false, life: PhantomData }
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        ask_for_data(&self.mine());
        // SAFETY: it is ours, of this size, and nothing that refers to it outlives `self`.
        unsafe { unmap(self.mine, 1 << self.mine_log2) };
        // SAFETY: as above.
        unsafe { unmap(self.peers, 1 << self.peers_log2) };
    }
}

/// One side's memory, while it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped<'a> {
    start: NonNull<u8>,
    ring_size: usize,
    is_ours: bool,
    life: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// The one place of a control word: a reference to an atomic, and to nothing around it.
    fn word(&self, word: Word) -> &'a AtomicU64 {
        let place = self.start.as_ptr().wrapping_add(offset(word)).cast::<AtomicU64>();
        // SAFETY: the offset is a multiple of 8 inside the control page, which is mapped and backed for as long as 'a, the
        // life of what unmaps it. An atomic may be changed by others at any time, by other processes too. Where the
        // mapping is read-only the callers do nothing but relaxed loads, which the standard library allows on such memory.
        unsafe { &*place }
    }
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]
impl Mapping {
    /// The same memory at another address, with pages on both sides that nobody may touch. They stay for good.
    pub(super) fn between_guards(mut self) -> Self {
        const GUARD: usize = 64 * 1024;
        let length = CONTROL_LEN + self.ring_size;
        // SAFETY: a new mapping at an address of the kernel's choice, of which nothing is accessed.
        let area = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), length + 2 * GUARD, ProtFlags::empty(), MapFlags::PRIVATE)
        };
        let place = area.unwrap().cast::<u8>().wrapping_add(GUARD);
        let flags = rustix::mm::MremapFlags::MAYMOVE;
        // SAFETY: the place lies in the area that was just made for it, and nobody has a reference into the memory yet.
        let moved =
            unsafe { rustix::mm::mremap_fixed(self.start.as_ptr().cast(), length, length, flags, place.cast()) };
        self.start = NonNull::new(moved.unwrap().cast()).unwrap();
        self
    }

    pub(super) fn can_be_mapped_writable(memfd: impl AsFd) -> bool {
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let direct = unsafe { mmap(ptr::null_mut(), CONTROL_LEN, writable, MapFlags::SHARED, &memfd, 0) };
        // SAFETY: as above.
        let start = unsafe { mmap(ptr::null_mut(), CONTROL_LEN, ProtFlags::READ, MapFlags::SHARED, memfd, 0) }.unwrap();
        // SAFETY: the range is the mapping that was just made, and nobody has a reference into it.
        let later = unsafe {
            rustix::mm::mprotect(start, CONTROL_LEN, rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE)
        };
        direct.is_ok() || later.is_ok()
    }
}

#[cfg(all(test, not(loom)))]
impl Mapped<'_> {
    /// A copy of the control page.
    pub(super) fn control_page(&self) -> Vec<u8> {
        let mut bytes = vec![0; CONTROL_LEN];
        // SAFETY: the page is mapped, and the test has no other thread any more.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr(), bytes.as_mut_ptr(), CONTROL_LEN) };
        bytes
    }
}

/// Each word has its own pair of cache lines (processors fetch them in pairs), so that no two sides write into one.
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
        // Storing into the peer's memory would be a bug, and a SIGSEGV.
        if self.is_ours {
            self.word(word).store(value, Ordering::Release);
        }
    }

    fn bump(&self, word: Word) {
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
        // SAFETY: the range lies in the ring, which is ours to write (both checked above), `from` is private memory, and
        // by the contract of this function no other thread of ours touches the range now. The peer can only read it.
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

/// Copies bytes that the peer may be changing, if it breaks the protocol.
///
/// An honest peer leaves them alone until we publish that we have taken them. Of a hostile one we need only that each byte
/// of the copy has some value, which does not change any more, and that is what a copy by the processor gives: nothing
/// depends on the source but the copy, no reference to it is ever made, and nothing is decided by it before it is private.
/// What must not happen is that the compiler reads the source again later instead of the copy; so this is never inlined,
/// and the source escapes to code that the compiler cannot see into.
///
/// # Safety
///
/// `from` is readable and `into` is writable for `count` bytes, and they do not overlap.
#[inline(never)]
unsafe fn copy_from_peer(from: *const u8, into: *mut u8, count: usize) {
    // SAFETY: the caller's contract.
    unsafe { ptr::copy_nonoverlapping(std::hint::black_box(from), into, count) };
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is ours, of this size, and nothing that refers to it outlives `self`.
        unsafe { unmap(self.start, self.ring_size) };
    }
}

/// Ends a mapping.
///
/// # Safety
///
/// [`Mapping::map`] has made it with a ring of this size, and nothing refers to it any more.
unsafe fn unmap(start: NonNull<u8>, ring_size: usize) {
    // SAFETY: the caller's contract. It cannot fail on such a range.
    let _ = unsafe { munmap(start.as_ptr().cast(), CONTROL_LEN + ring_size) };
}

/// Why a descriptor that a peer sent is not mapped.
#[derive(Debug)]
pub(crate) enum BadMemory {
    NotMemory,
    Unsealed,
    Size(i64),
    Sparse,
    Io(io::Error),
}

impl fmt::Display for BadMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMemory => f.write_str("its memory is not a memory file"),
            Self::Unsealed => f.write_str("its memory is not sealed"),
            Self::Size(size) => write!(f, "its memory has {size} bytes, which is not the size that it announced"),
            Self::Sparse => f.write_str("its memory is not allocated"),
            Self::Io(error) => write!(f, "its memory cannot be mapped: {error}"),
        }
    }
}

/// A memory file of this length, all of it there. The name is for people, in `/proc`.
pub(super) fn allocate(name: &str, length: u64) -> io::Result<OwnedFd> {
    // Beyond this limit the kernel would raise a signal (SIGXFSZ).
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < length) {
        return Err(Errno::FBIG.into());
    }
    let memfd = new_memfd(name)?;
    if length == 0 {
        return Ok(memfd);
    }
    ftruncate(&memfd, length)?;
    // Now, where a lack of memory is an error, and not at the first touch, where it would be a SIGBUS.
    loop {
        match fallocate(&memfd, FallocateFlags::empty(), 0, length) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map(|()| memfd).map_err(io::Error::from),
        }
    }
}

/// Memory that cannot be executed, where the kernel knows of that (6.3); some demand it (`vm.memfd_noexec`).
fn new_memfd(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(memfd_create(name, flags)?),
        outcome => Ok(outcome?),
    }
}

/// Whether a memory file has every page that its length says. One that is missing would be made when we touch it, and where
/// there is no memory for it that is a signal.
pub(super) fn is_allocated(stat: &Stat) -> bool {
    // In units of 512 bytes whatever the file system.
    i128::from(stat.st_blocks) * 512 >= i128::from(stat.st_size)
}
