//! Memory of which a FIFO takes whole pages instead of copies: vmsplice(2).
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use rustix::pipe::{IoSliceRaw, SpliceFlags, vmsplice};

use super::no_sigpipe;

/// Private pages that nothing else uses. They do not come from the heap, because the heap would reuse memory that a
/// FIFO still references.
#[derive(Debug)]
pub(crate) struct SplicePages {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: this value exclusively owns the memory, whose address does not depend on the thread.
unsafe impl Send for SplicePages {}
// SAFETY: through a shared reference the memory is only read.
unsafe impl Sync for SplicePages {}

impl SplicePages {
    /// Maps this number of zeroed bytes. They take no memory before they are written to.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice, which overlaps nothing that exists.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this number of bytes, which are initialised, and it belongs exclusively to this
        // value, which is borrowed mutably. The kernel may read spliced bytes at the same time for another process.
        // That is not an access by this program, and the caller is responsible for the bytes that are read.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Puts these bytes into a FIFO without copying them, and returns the number of bytes that the FIFO took, like a
    /// non-blocking write. The bytes must not change before they have left the FIFO.
    pub(crate) fn splice_into(&self, bytes: Range<usize>, fifo: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: as above, but shared.
        let all = unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) };
        let part = all.get(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        no_sigpipe::masked(|| {
            // SAFETY: the bytes are readable memory. They are not gifted (`SPLICE_F_GIFT`). Data that is in the FIFO
            // when this value is dropped keeps its pages, and the kernel does not reuse the pages while the FIFO
            // references them.
            unsafe { vmsplice(fifo, &[IoSliceRaw::from_slice(part)], SpliceFlags::NONBLOCK) }
        })
    }
}

impl Drop for SplicePages {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and no reference to it is left.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn what_a_fifo_holds_outlives_the_memory_that_it_was_lent_from() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut pages = SplicePages::new(8192).unwrap();
        pages.bytes().fill(7);
        assert_eq!(pages.splice_into(100..5000, writer.as_fd()).unwrap(), 4900);
        drop(pages);
        let mut others = SplicePages::new(8192).unwrap();
        others.bytes().fill(8);
        let mut read = [0; 8192];
        assert_eq!(rustix::io::read(&reader, &mut read).unwrap(), 4900);
        assert!(read[..4900].iter().all(|&byte| byte == 7));
    }

    #[test]
    fn bytes_beyond_the_end_are_refused() {
        let (_reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let error = SplicePages::new(4096).unwrap().splice_into(0..4097, writer.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
