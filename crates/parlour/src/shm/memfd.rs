//! Memory files, memfd_create(2): their creation, and the checks of one that a peer has created.
//!
//! A page that a memory file lacks is allocated when it is first accessed, by whichever process accesses it. That
//! process pays for the page, and receives SIGBUS if there is no memory. A receiver therefore accepts only memory in
//! which every page has been written, and asks the kernel about the pages themselves (lseek(2), `SEEK_HOLE`). Neither
//! the number of blocks nor a read attempt shows that: blocks may lie past the end of the file (fallocate(2),
//! `KEEP_SIZE`), and populating a mapping allocates the missing pages at the receiver's expense.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{
    FallocateFlags, FsWord, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_get_seals, fstat, fstatfs, ftruncate,
    memfd_create, seek,
};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit};

/// Creates a memory file of this length with all pages allocated. The name is visible in `/proc`.
///
/// The pages are allocated but not initialized yet. [`check`] accepts the file once each page has been written, by
/// [`fill_with_zeros`] or with other content.
pub(super) fn allocate(name: &str, length: u64) -> io::Result<OwnedFd> {
    let memfd = reserve(name, length)?;
    if length == 0 {
        return Ok(memfd);
    }
    // Allocate now: a lack of memory is an error here, but a SIGBUS at the first access.
    loop {
        match fallocate(&memfd, FallocateFlags::empty(), 0, length) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map(|()| memfd).map_err(io::Error::from),
        }
    }
}

/// Creates a memory file of this length without pages. The name is visible in `/proc`.
pub(super) fn reserve(name: &str, length: u64) -> io::Result<OwnedFd> {
    // Above this limit the kernel would raise SIGXFSZ.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < length) {
        return Err(Errno::FBIG.into());
    }
    let memfd = new_memfd(name)?;
    if length > 0 {
        ftruncate(&memfd, length)?;
    }
    Ok(memfd)
}

/// Returns an error if this system has no memory files: a kernel or a sandbox does not allow memfd_create(2).
pub(crate) fn check_supported() -> io::Result<()> {
    match new_memfd("parlour") {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES)) => {
            let text = format!("memfd_create(2) does not work here ({error})");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        _ => Ok(()),
    }
}

/// Creates a memory file that cannot be executed, if the kernel supports that (6.3). Some systems require it
/// (`vm.memfd_noexec`).
fn new_memfd(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(memfd_create(name, flags)?),
        outcome => Ok(outcome?),
    }
}

/// Initializes the pages of a new memory file through a mapping of it.
///
/// # Safety
///
/// `start` is the beginning of a writable shared mapping of `length` bytes of a file from [`allocate`] that nobody has
/// written to. `length` is more than 0. No reference into the mapping exists.
pub(super) unsafe fn fill_with_zeros(start: NonNull<u8>, length: usize) -> io::Result<()> {
    // SAFETY: guaranteed by the caller. The advice does not change the content.
    match unsafe { madvise(start.as_ptr().cast(), length, Advice::LinuxPopulateWrite) } {
        Ok(()) => return Ok(()),
        // The kernel does not know the advice (before 5.14), or a filter forbids it.
        Err(Errno::INVAL | Errno::PERM | Errno::NOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    for offset in (0..length).step_by(PAGE_MIN) {
        // SAFETY: the byte lies in the mapping. Its page is allocated, so the write cannot raise SIGBUS.
        unsafe { start.as_ptr().wrapping_add(offset).write_volatile(0) };
    }
    Ok(())
}

/// The smallest size of a page on any system.
const PAGE_MIN: usize = 4096;

/// The file system of memory files, as statfs(2) reports it. Memory files of huge pages have another one.
pub(crate) const TMPFS_MAGIC: FsWord = 0x0102_1994;

/// Checks memory from a peer: it has these seals, and every page of it exists. Returns its size in bytes.
///
/// The seals must include those against shrinking, growing and punching holes, because the check is final only with
/// them. It allocates nothing and takes about 4 microseconds for each MiB. It moves the position of the open file.
pub(super) fn check(memfd: impl AsFd, seals: SealFlags) -> Result<u64, BadMemory> {
    let size = sealed_size(&memfd, seals)?;
    check_pages(memfd, size)?;
    Ok(size)
}

/// Checks memory from a peer as [`check`] does, and that it has this length: before the pages, because these take time
/// in proportion to the length.
pub(super) fn check_length(memfd: impl AsFd, seals: SealFlags, length: usize) -> Result<(), BadMemory> {
    let size = sealed_size(&memfd, seals)?;
    match usize::try_from(size) == Ok(length) {
        true => check_pages(memfd, size),
        false => Err(BadMemory::Size(size)),
    }
}

/// Returns the size in bytes of memory from a peer that has these seals.
fn sealed_size(memfd: impl AsFd, seals: SealFlags) -> Result<u64, BadMemory> {
    let io = |errno: Errno| BadMemory::Io(errno.into());
    // Only memory files have seals, except that files on tmpfs have one seal that forbids all others.
    let present = fcntl_get_seals(&memfd).map_err(|_| BadMemory::NotMemory)?;
    if !present.contains(seals) {
        return Err(BadMemory::Unsealed);
    }
    // A memory file of huge pages has seals as well, but reports no holes.
    if fstatfs(&memfd).map_err(io)?.f_type != TMPFS_MAGIC {
        return Err(BadMemory::NotMemory);
    }
    u64::try_from(fstat(&memfd).map_err(io)?.st_size).map_err(|_| BadMemory::NotMemory)
}

/// Checks that every page of memory of this size exists.
fn check_pages(memfd: impl AsFd, size: u64) -> Result<(), BadMemory> {
    // An empty file has no position to seek from.
    let is_whole = size == 0 || seek(&memfd, SeekFrom::Hole(0)).map_err(|errno| BadMemory::Io(errno.into()))? == size;
    if is_whole { Ok(()) } else { Err(BadMemory::Sparse) }
}

/// The reason for which a descriptor from a peer is not mapped.
#[derive(Debug)]
pub(crate) enum BadMemory {
    NotMemory,
    Unsealed,
    Size(u64),
    Sparse,
    Io(io::Error),
}

impl fmt::Display for BadMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMemory => f.write_str("its memory is not a memory file"),
            Self::Unsealed => f.write_str("its memory is not sealed"),
            Self::Size(size) => write!(f, "its memory has {size} bytes, which differs from the announced size"),
            Self::Sparse => f.write_str("its memory is not allocated in full"),
            Self::Io(error) => write!(f, "its memory cannot be mapped: {error}"),
        }
    }
}
