//! Memory that nobody can change any more: memfd_create(2), sealed against writing and against becoming shorter or longer.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat};
use rustix::io::{Errno, pwrite};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::mapping::{BadMemory, allocate, is_allocated};

/// With these the kernel lets nobody write, whatever descriptor or mapping they have (a writable mapping keeps the first
/// from being set), nor punch holes, nor change the size, nor take the seals off.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Sealed memory, and our read-only view of it.
#[derive(Debug)]
pub(crate) struct Sealed {
    memfd: OwnedFd,
    view: View,
}

impl Sealed {
    /// Copies the bytes, once.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let memfd = allocate(NAME, bytes.len() as u64)?;
        let mut written = 0;
        while written < bytes.len() {
            match pwrite(&memfd, &bytes[written..], written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Self::seal(memfd, bytes.len())
    }

    /// Has the bytes, zeros at first, written in place.
    pub(crate) fn build(length: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<Self> {
        let memfd = allocate(NAME, length as u64)?;
        {
            // The pages are there, and are wanted at once.
            let flags = MapFlags::SHARED | MapFlags::POPULATE;
            let mut view = View::new(&memfd, length, ProtFlags::READ | ProtFlags::WRITE, flags)?;
            // A forked child would keep the mapping, and so the seal from being set.
            view.keep_from_children()?;
            fill(view.bytes_mut());
        }
        Self::seal(memfd, length)
    }

    fn seal(memfd: OwnedFd, length: usize) -> io::Result<Self> {
        fcntl_add_seals(&memfd, SEALS)?;
        let view = View::read_only(&memfd, length)?;
        Ok(Self { memfd, view })
    }

    /// Maps what somebody else says is such memory, if it is: nothing is mapped that could change, or lose a page, under
    /// us.
    pub(crate) fn adopt(memfd: OwnedFd) -> Result<Self, BadMemory> {
        // Only memory files have seals at all; tmpfs files have one that forbids others.
        let seals = fcntl_get_seals(&memfd).map_err(|_| BadMemory::NotMemory)?;
        if !seals.contains(SEALS) {
            return Err(BadMemory::Unsealed);
        }
        let stat = fstat(&memfd).map_err(|errno| BadMemory::Io(errno.into()))?;
        if !is_allocated(&stat) {
            return Err(BadMemory::Sparse);
        }
        let length = isize::try_from(stat.st_size).map_err(|_| BadMemory::Size(stat.st_size))?;
        let view = View::read_only(&memfd, length.unsigned_abs()).map_err(BadMemory::Io)?;
        Ok(Self { memfd, view })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.view.bytes()
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

/// For people, in `/proc`.
const NAME: &str = "parlour-shared";

/// A mapping of the whole of a memory file.
#[derive(Debug)]
struct View {
    /// Dangling for a length of 0, of which there is no mapping.
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory stays where it is until the view is dropped, whichever thread holds it, and by its type it is shared
// for reading or owned for writing, as any other memory.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Of memory that is sealed. The mapping is a private one only in name, because kernels before 6.7 take a shared one for
    /// one that might be written: the pages are those of the file as long as nobody writes, and here nobody does.
    fn read_only(memfd: &OwnedFd, length: usize) -> io::Result<Self> {
        Self::new(memfd, length, ProtFlags::READ, MapFlags::PRIVATE)
    }

    fn new(memfd: &OwnedFd, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // SAFETY: a new mapping at an address of the kernel's choice, which overlaps nothing that exists.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, memfd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, length })
    }

    fn keep_from_children(&self) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        // SAFETY: the range is the whole of our own mapping, and the advice changes nothing about it in this process.
        Ok(unsafe { madvise(self.start.as_ptr().cast(), self.length, Advice::LinuxDontFork) }?)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped and backed for as long as `self` lives: all pages are there and the size is sealed. It
        // is sealed against writing, so nobody changes it, in this process or in another; `bytes_mut` is called only before
        // that, on a view of which there is no other.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// For a view that can be written, of a file that nobody else has yet.
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped writable and backed (all pages are there). The file has no name, its descriptor has
        // not been given to anybody and there is no other view, so this is the only reference to the memory.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: this is the whole of a mapping that we made, and no reference into it outlives `self`. It cannot fail
            // on such a range.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}
