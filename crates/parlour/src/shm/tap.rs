//! The memory of the ring of a tap: a memory file that this process writes through its mapping, and that other
//! processes of the same user read. `wire/tap_ring.rs` has the writer, and `wire/tap.rs` the layout.
//!
//! Its size is sealed, its pages exist, and no other process can write to it, so nothing that a reader does to the file
//! raises SIGBUS here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::{Mode, fchmod, fstat};

use super::place::{Place, now};
use super::region::Region;
use crate::sys::fork::ParentOnly;
use crate::wire::tap::{HEADER_LEN, HeaderWord, WORD, constants};
use crate::wire::tap_ring::Memory;

/// The name of the memory, visible in `/proc`.
const NAME: &str = "parlour-tap";

/// The ring of a tap. The process that created it writes it, one thread at a time.
pub(crate) struct Ring {
    region: Region,
    ring_len: usize,
    /// Other processes open the memory through it.
    memfd: ParentOnly,
    place: Place,
}

impl Ring {
    /// Creates a ring of this length, a power of two from 4096 on.
    pub(crate) fn create(ring_len: usize) -> io::Result<Self> {
        let mut created = None;
        let memfd = ParentOnly::open(|| {
            let (region, memfd) = Region::create(NAME, HEADER_LEN + ring_len)?;
            created = Some(region);
            Ok(memfd)
        })?;
        let region = created.ok_or(rustix::io::Errno::FAULT)?;
        // The owner may read. Other users could not open the file anyway.
        fchmod(&memfd, Mode::RUSR)?;
        let stat = fstat(&memfd)?;
        let place = Place { fd: memfd.as_fd().as_raw_fd(), device: stat.st_dev, inode: stat.st_ino };
        let ring = Self { region, ring_len, memfd, place };
        ring.word(HeaderWord::Since).store(now(), Ordering::Relaxed);
        for (word, value) in constants(ring_len) {
            ring.word(word).store(value, Ordering::Relaxed);
        }
        Ok(ring)
    }

    /// Returns the place of the ring, for other processes.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Returns the descriptor of the memory.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    fn word(&self, word: HeaderWord) -> &AtomicU64 {
        let place = self.region.start().wrapping_add(word.offset()).cast::<AtomicU64>();
        // SAFETY: the offset is a multiple of 8 inside the header, which is mapped and backed as long as `self` exists.
        // Nothing else in this process refers to a word of the header except through this atomic.
        unsafe { &*place }
    }
}

impl Memory for Ring {
    fn ring_len(&self) -> usize {
        self.ring_len
    }

    fn load(&self, word: HeaderWord) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn publish(&self, word: HeaderWord, value: u64) {
        // Readers are system calls of other processes, which no type of this one orders. The fences order this store
        // among the others for the processor and for the compiler.
        fence(Ordering::SeqCst);
        self.word(word).store(value, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn load_at(&self, place: usize) -> u64 {
        let Some(from) = self.region.place(HEADER_LEN + place, WORD) else { return 0 };
        // SAFETY: the word is mapped and backed as long as `self` exists. One thread at a time accesses the bytes of
        // the ring, and no other process writes them.
        unsafe { from.cast::<u64>().read_unaligned() }
    }

    fn copy_in(&self, place: usize, bytes: &[u8]) {
        let Some(into) = self.region.place(HEADER_LEN + place, bytes.len()) else { return };
        // SAFETY: the range is mapped, backed and writable as long as `self` exists. It does not overlap `bytes`, to
        // which a reference exists, because no reference to memory of the ring ever does. One thread at a time
        // accesses the bytes of the ring. Other processes read them, and take nothing that they read from before or
        // during this copy for a record.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), into.as_ptr(), bytes.len()) };
    }
}
