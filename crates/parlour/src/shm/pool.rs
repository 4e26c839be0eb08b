//! The memory of a pool of blocks, and that in which a reader counts the blocks that it has returned. docs/shm.md
//! specifies both.
//!
//! ```text
//!           0        128              128 + 4 N        header_len            header_len + stride
//!           +--------+----------------+-------- … -----+---------------------+--------- …
//!  the pool | asked  | generation [N] |                | block 0             | block 1
//!           +--------+----------------+-------- … -----+---------------------+--------- …
//!           +-----------------+
//!  a reader | count [1024]    |
//!           +-----------------+
//! ```
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use super::ledger::{Counts, OwnerWords};
use super::memfd::BadMemory;
use super::region::{Region, copy_from_peer};
use crate::wire::frames::{BLOCKS_MAX, Geometry};

/// The place of the generations: on other cache lines than `asked`, which is written while readers look at them.
const GENERATIONS: usize = 128;

/// The size of a word.
const WORD: usize = 4;

/// The alignment of the blocks: the size of a page on most systems.
const PAGE: usize = 4096;

/// The length of the memory of a reader.
const COUNTS_LEN: usize = BLOCKS_MAX * WORD;

/// The names of the memory, visible in `/proc`.
const POOL_NAME: &str = "parlour-frames";
const COUNTS_NAME: &str = "parlour-returns";

/// The places in a pool. All products and sums fit, because [`Geometry`] is bounded.
#[derive(Clone, Copy, Debug)]
struct Layout {
    header_len: usize,
    stride: usize,
    length: usize,
}

impl Layout {
    fn of(geometry: Geometry) -> Option<Self> {
        let header_len = (GENERATIONS + geometry.blocks * WORD).next_multiple_of(PAGE);
        let stride = geometry.block_len.checked_next_multiple_of(PAGE)?;
        let length = stride.checked_mul(geometry.blocks)?.checked_add(header_len)?;
        isize::try_from(length).ok()?;
        Some(Self { header_len, stride, length })
    }
}

/// Returns the length of the memory of such a pool in bytes, or `None` if no address space has that much.
pub(crate) fn memory_len(geometry: Geometry) -> Option<usize> {
    Some(Layout::of(geometry)?.length)
}

/// A pool in the address space of this process: writable in the process that made it, otherwise read-only.
#[derive(Debug)]
pub(crate) struct PoolMemory {
    region: Region,
    geometry: Geometry,
    layout: Layout,
}

impl PoolMemory {
    /// Creates a pool that only this process can write to. Returns it with its descriptor for the readers.
    pub(crate) fn create(geometry: Geometry) -> io::Result<(Self, OwnedFd)> {
        let layout = Layout::of(geometry).ok_or(io::ErrorKind::OutOfMemory)?;
        let (region, memfd) = Region::create(POOL_NAME, layout.length)?;
        Ok((Self { region, geometry, layout }, memfd))
    }

    /// Maps the pool of another process after checking it.
    pub(crate) fn adopt(memfd: impl AsFd, geometry: Geometry) -> Result<Self, BadMemory> {
        let layout = Layout::of(geometry).ok_or(BadMemory::Size(u64::MAX))?;
        Ok(Self { region: Region::adopt(memfd, layout.length)?, geometry, layout })
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Loads the generation of a block, after everything that was read of the block.
    pub(crate) fn generation(&self, block: usize) -> u32 {
        // Pairs with the fence in `Ledger::take`: a reader of changed bytes sees the new generation.
        fence(Ordering::Acquire);
        self.region.load(GENERATIONS + block * WORD)
    }

    /// Returns the place of the first bytes of a block, or `None` if there are none.
    fn place(&self, block: usize, length: usize) -> Option<*mut u8> {
        let fits = block < self.geometry.blocks && length <= self.geometry.block_len;
        let offset = self.layout.header_len + block * self.layout.stride;
        Some(self.region.place(offset, length).filter(|_| fits)?.as_ptr())
    }

    /// Copies the first bytes of a block, which the owner may be changing if it breaks the protocol. Copies nothing if
    /// the block does not have so many.
    pub(crate) fn copy_out(&self, block: usize, into: &mut [u8]) {
        if let Some(place) = self.place(block, into.len()) {
            // SAFETY: the range lies in the mapping, and `into` is private memory.
            unsafe { copy_from_peer(place, into.as_mut_ptr(), into.len()) };
        }
    }

    /// Returns the first bytes of a block. Empty if the block does not have so many.
    ///
    /// # Safety
    ///
    /// No process changes the block for the lifetime of the reference.
    pub(crate) unsafe fn bytes(&self, block: usize, length: usize) -> &[u8] {
        match self.place(block, length) {
            // SAFETY: the range is mapped and backed as long as `self` exists. By the contract of this function nobody
            // changes it.
            Some(place) => unsafe { std::slice::from_raw_parts(place, length) },
            None => &[],
        }
    }

    /// Returns the first bytes of a block for writing. Empty if the block does not have so many.
    ///
    /// # Safety
    ///
    /// This process made the pool, and no other reference to the block exists for the lifetime of this one.
    #[allow(clippy::mut_from_ref, reason = "the caller has the block to itself")]
    pub(crate) unsafe fn bytes_mut(&self, block: usize, length: usize) -> &mut [u8] {
        match self.place(block, length) {
            // SAFETY: the range is mapped and backed as long as `self` exists, and writable in the process that made
            // the pool. By the contract of this function this is the only reference.
            Some(place) => unsafe { std::slice::from_raw_parts_mut(place, length) },
            None => &mut [],
        }
    }
}

impl OwnerWords for PoolMemory {
    fn asked(&self) -> u32 {
        self.region.load(0)
    }

    fn ask(&self) {
        self.region.increment(0);
    }

    fn set_generation(&self, block: usize, generation: u32) {
        self.region.store(GENERATIONS + block * WORD, generation);
    }
}

/// The counts of a reader: writable in the reader, read-only in the owner of the pool.
#[derive(Debug)]
pub(crate) struct CountsMemory(Region);

impl CountsMemory {
    /// Creates the counts of this process. Returns them with their descriptor for the owner of the pool.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let (region, memfd) = Region::create(COUNTS_NAME, COUNTS_LEN)?;
        Ok((Self(region), memfd))
    }

    /// Maps the counts of a reader after checking them.
    pub(crate) fn adopt(memfd: impl AsFd) -> Result<Self, BadMemory> {
        Ok(Self(Region::adopt(memfd, COUNTS_LEN)?))
    }
}

impl Counts for CountsMemory {
    fn count(&self, block: usize) -> u32 {
        self.0.load(block * WORD)
    }

    fn increment(&self, block: usize) {
        self.0.increment(block * WORD);
    }
}
