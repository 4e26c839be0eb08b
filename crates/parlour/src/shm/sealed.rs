//! Immutable shared memory: memfd_create(2), sealed against writing, shrinking and growing.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{SealFlags, fcntl_add_seals};
use rustix::io::{Errno, pwrite};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::memfd::{self, BadMemory};

/// With these seals the kernel prevents writing through any descriptor or mapping (the first cannot be set while a
/// writable mapping exists), punching holes, changing the size and removing seals.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Sealed memory, and a read-only view of it.
#[derive(Debug)]
pub(crate) struct Sealed {
    memfd: OwnedFd,
    view: View,
}

impl Sealed {
    /// Copies the bytes once into new memory.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let memfd = memfd::allocate(NAME, bytes.len() as u64)?;
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

    /// Creates zeroed memory and has `fill` write the bytes in place.
    pub(crate) fn build(length: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<Self> {
        let memfd = memfd::allocate(NAME, length as u64)?;
        {
            let mut view = View::new(&memfd, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
            view.fill_with_zeros()?;
            // A forked child would keep the mapping, and thus prevent the seal.
            view.keep_from_children()?;
            fill(view.bytes_mut());
        }
        Self::seal(memfd, length)
    }

    fn seal(memfd: OwnedFd, length: usize) -> io::Result<Self> {
        retry_while_busy(|| fcntl_add_seals(&memfd, SEALS))?;
        let view = View::read_only(&memfd, length)?;
        Ok(Self { memfd, view })
    }

    /// Maps memory from a descriptor of unknown origin after checking it. Memory that could change or lose a page is
    /// not mapped.
    pub(crate) fn adopt(memfd: OwnedFd) -> Result<Self, BadMemory> {
        let size = memfd::check(&memfd, SEALS)?;
        let length = isize::try_from(size).map_err(|_| BadMemory::Size(size))?;
        let view = View::read_only(&memfd, length.unsigned_abs()).map_err(BadMemory::Io)?;
        Ok(Self { memfd, view })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.view.bytes()
    }
}

/// Repeats an attempt to seal memory against writing for as long as the kernel reports `EBUSY`, at most
/// [`SEAL_ATTEMPTS`] times.
///
/// No writable mapping exists, so `EBUSY` means that the kernel itself still refers to a page: the page waits in a
/// batch of another processor, or it is being moved. Each attempt empties these batches and then waits up to 155 ms
/// (`memfd_wait_for_pins` in mm/memfd.c), which a busy machine can exceed.
fn retry_while_busy(mut seal: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    for _ in 1..SEAL_ATTEMPTS {
        match seal() {
            Err(Errno::BUSY) => {}
            outcome => return Ok(outcome?),
        }
    }
    Ok(seal()?)
}

/// The kernel waits in each attempt, so this many take about three seconds.
const SEAL_ATTEMPTS: u32 = 20;

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

/// The name of the memory, visible in `/proc`.
const NAME: &str = "parlour-shared";

/// A mapping of a whole memory file.
#[derive(Debug)]
struct View {
    /// Dangling if the length is 0: no mapping exists then.
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory remains at its address until the view is dropped, independently of the thread. The type shares it
// for reading or owns it for writing, like any other memory.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Maps sealed memory. The mapping is private only formally: kernels before 6.7 treat a shared mapping as
    /// potentially writable. The pages are those of the file as long as no process writes, and sealed memory is never
    /// written.
    fn read_only(memfd: &OwnedFd, length: usize) -> io::Result<Self> {
        Self::new(memfd, length, ProtFlags::READ, MapFlags::PRIVATE)
    }

    fn new(memfd: &OwnedFd, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self { start: NonNull::dangling(), length });
        }
        // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, flags, memfd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { start, length })
    }

    /// Initializes all pages of a new writable view, so that they exist even where the caller writes nothing.
    fn fill_with_zeros(&mut self) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        // SAFETY: the range is the whole mapping of this view of a new file, and no reference into it exists.
        unsafe { memfd::fill_with_zeros(self.start, self.length) }
    }

    fn keep_from_children(&self) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        // SAFETY: the range is the whole mapping of this view, and the advice has no effect in this process.
        Ok(unsafe { madvise(self.start.as_ptr().cast(), self.length, Advice::LinuxDontFork) }?)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped and backed as long as `self` exists: all pages are allocated and the size is
        // sealed. It is sealed against writing, so no process changes it. `bytes_mut` is called only before that, on
        // the only view.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// Returns the bytes of a writable view of a file that no other code has yet.
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped writable and backed (all pages are allocated). The file has no name, its
        // descriptor has not been passed on, and no other view exists, so this is the only reference to the memory.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: this is the whole of a mapping that `new` created, and no reference into it outlives `self`. The
            // call cannot fail on such a range.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_sealed_once_the_kernel_lets_go_of_its_pages() {
        let memfd = memfd::allocate(NAME, 4096).unwrap();
        pwrite(&memfd, &[7; 4096], 0).unwrap();
        // The pipe holds a reference to the page until its content is read.
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::pipe::splice(&memfd, Some(&mut 0), &writer, None, 4096, rustix::pipe::SpliceFlags::empty()).unwrap();
        let mut attempts = 0;
        retry_while_busy(|| {
            attempts += 1;
            let outcome = fcntl_add_seals(&memfd, SEALS);
            if outcome == Err(Errno::BUSY) {
                assert_eq!(rustix::io::read(&reader, &mut [0; 4096]), Ok(4096));
            }
            outcome
        })
        .unwrap();
        assert_eq!(attempts, 2);
        memfd::check(&memfd, SEALS).unwrap();
    }

    #[test]
    fn sealing_gives_up_when_the_memory_stays_busy() {
        let mut attempts = 0;
        let error = retry_while_busy(|| {
            attempts += 1;
            Err(Errno::BUSY)
        })
        .unwrap_err();
        assert_eq!((attempts, error.raw_os_error()), (SEAL_ATTEMPTS, Some(libc::EBUSY)));
    }
}
