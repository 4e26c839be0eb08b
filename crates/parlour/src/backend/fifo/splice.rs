//! Long messages into a FIFO by reference, with vmsplice(2). The bytes are copied once, into pages of this process,
//! which the FIFO then references. So the kernel need not allocate, fill and free pages of its own.
//!
//! The pages of the caller are not used, although that would save the copy. They may not change before the peer has
//! read them, so a send would have to wait for the peer. Also, a process that takes a whole page out of a FIFO with
//! splice(2) can read it for ever. The pages of this module never contain anything but messages to this one peer.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::ioctl_fionread;

use crate::sys::splice_pages::SplicePages;

/// The maximum number of bytes of one vmsplice(2): a message of 64 KiB with its header. Measured: 32 KiB are as good
/// for such a message and worse for longer ones.
const PIECE: usize = 68 * 1024;

/// The minimum number of bytes of one vmsplice(2). For fewer bytes, a copy by the kernel costs less.
const PIECE_MIN: usize = 16 * 1024;

/// The capacity of an enlarged FIFO, in bytes. Measured: a larger one gains nothing, and does not fit into the
/// processor's cache.
pub(super) const LARGE: usize = 256 * 1024;

/// The length of the pages of one FIFO: as much as the FIFO may hold of them, and space to return to the beginning
/// without splitting a piece.
const LENGTH: usize = LARGE + PIECE;

/// The maximum number of FIFOs in this process that have a splice buffer at the same time. This bounds the memory.
/// Further FIFOs use plain writes, which are slower.
const SPLICE_BUFFERS_MAX: usize = 64;

/// The number of splice buffers in this process.
static SPLICE_BUFFERS: AtomicUsize = AtomicUsize::new(0);

/// The outcome of [`SpliceBuffer::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spliced {
    /// This number of bytes was spliced into the FIFO.
    Some(usize),
    /// The FIFO has too little space to splice into.
    NoRoom,
    /// The pieces are so short that a plain write costs less.
    TooShort,
}

/// The pages that are spliced into one FIFO: a circular buffer.
#[derive(Debug)]
pub(super) struct SpliceBuffer {
    pages: SplicePages,
    /// The offset of the next piece.
    next: usize,
    /// The number of unread bytes in the FIFO up to which more bytes may be spliced.
    capacity: usize,
    /// An upper bound of the number of spliced bytes that are unread.
    unread: usize,
}

impl SpliceBuffer {
    /// Creates a buffer for a FIFO of this capacity in bytes. Returns `None` if no buffer is available at present, or
    /// not on this system.
    pub(super) fn new(capacity: usize) -> Option<Self> {
        if cfg!(parlour_fifo_writes) {
            return None;
        }
        if !has_place(&SPLICE_BUFFERS) {
            return None;
        }
        match SplicePages::new(LENGTH) {
            Ok(pages) => Some(Self { pages, next: 0, capacity: capacity.min(LARGE), unread: 0 }),
            Err(_) => {
                SPLICE_BUFFERS.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Splices as many bytes of these pieces as the FIFO has space for, like a non-blocking write.
    ///
    /// A page must not change while the FIFO may still hold it. The spliced bytes that are unread are the most recently
    /// spliced ones. Their number is at most `unread`: the number of all unread bytes in the FIFO at the last query
    /// (including bytes that this process or a forked child wrote otherwise), plus the bytes spliced since then.
    /// Together with the new piece they are at most `capacity` bytes. The circle of `LENGTH` bytes is longer than
    /// `capacity` by at least [`PIECE`], and a return to its beginning skips less than one piece. So the new piece,
    /// which follows the unread bytes in the circle, cannot overlap them.
    pub(super) fn write(&mut self, fifo: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<Spliced> {
        let wanted = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add);
        if wanted < PIECE_MIN {
            return Ok(Spliced::TooShort);
        }
        let wanted = wanted.min(PIECE);
        if self.room() < wanted {
            // `FIONREAD` is called rarely, because it waits for reads and writes of the FIFO to finish, and this side
            // could copy in the meantime.
            self.unread = usize::try_from(ioctl_fionread(fifo)?).unwrap_or(usize::MAX);
        }
        let length = wanted.min(self.room());
        if length < PIECE_MIN {
            return Ok(Spliced::NoRoom);
        }
        if LENGTH - self.next < length {
            self.next = 0;
        }
        let place = self.next..self.next + length;
        fill(&mut self.pages.bytes()[place.clone()], pieces);
        let spliced = self.pages.splice_into(place, fifo)?;
        self.next += spliced;
        self.unread += spliced;
        Ok(Spliced::Some(spliced))
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unread)
    }
}

impl Drop for SpliceBuffer {
    fn drop(&mut self) {
        SPLICE_BUFFERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one of the [`SPLICE_BUFFERS_MAX`] places, and returns true if there was one.
fn has_place(taken: &AtomicUsize) -> bool {
    let one_more = |count| (count < SPLICE_BUFFERS_MAX).then_some(count + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

/// Copies the pieces into `space`, up to its length.
fn fill(mut space: &mut [u8], pieces: &[IoSlice<'_>]) {
    for piece in pieces {
        let count = piece.len().min(space.len());
        let (place, behind) = space.split_at_mut(count);
        place.copy_from_slice(&piece[..count]);
        space = behind;
    }
}

#[cfg(test)]
#[cfg(not(parlour_fifo_writes))]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use proptest::prelude::*;
    use rustix::io::Errno;
    use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

    use super::*;

    fn fifo(capacity: usize) -> (OwnedFd, OwnedFd) {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        fcntl_setpipe_size(&writer, capacity).unwrap();
        (reader, writer)
    }

    fn splice(writer: &OwnedFd) -> SpliceBuffer {
        SpliceBuffer::new(fcntl_getpipe_size(writer).unwrap()).unwrap()
    }

    /// Returns bytes that do not repeat at any distance at which memory is reused.
    fn stream(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 1009 + at % 251) as u8).collect()
    }

    /// Sends a stream through a FIFO in messages of these lengths, in turn, and reads `at_once` bytes whenever the FIFO
    /// is full. Returns the number of splices and of plain writes.
    fn put_through(
        splice: &mut SpliceBuffer,
        (reader, writer): &(OwnedFd, OwnedFd),
        stream: &[u8],
        lengths: &[usize],
        at_once: usize,
    ) -> [usize; 2] {
        let mut counts = [0; 2];
        let mut got = Vec::new();
        let mut space = vec![0; at_once];
        let mut read = || {
            let count = rustix::io::read(reader, &mut space).unwrap();
            got.extend_from_slice(&space[..count]);
        };
        let mut left = stream;
        for &length in lengths.iter().cycle() {
            let (mut message, behind) = left.split_at(length.min(left.len()));
            while !message.is_empty() {
                let put = match splice.write(writer.as_fd(), &[IoSlice::new(message)]) {
                    Ok(Spliced::Some(count)) => {
                        counts[0] += 1;
                        count
                    }
                    Ok(Spliced::NoRoom | Spliced::TooShort) => {
                        counts[1] += 1;
                        rustix::io::write(writer, &message[..message.len().min(5000)]).unwrap_or(0)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => panic!("{error}"),
                };
                message = &message[put..];
                if put == 0 {
                    read();
                }
            }
            left = behind;
            if left.is_empty() {
                break;
            }
        }
        while ioctl_fionread(reader).unwrap() > 0 {
            read();
        }
        assert!(got == stream, "the bytes that were read differ from those that were sent");
        counts
    }

    #[test]
    fn memory_is_reused_only_after_it_was_read() {
        for capacity in [65_536, 262_144] {
            let fifo = fifo(capacity);
            let [lent, written] = put_through(&mut splice(&fifo.1), &fifo, &stream(3_000_000), &[1 << 20], 65_536);
            assert!(lent > 40, "{lent} splices and {written} writes with capacity {capacity}");
        }
    }

    #[test]
    fn a_fifo_that_is_enlarged_later_never_holds_a_page_twice() {
        let fifo = fifo(65_536);
        let mut splice = splice(&fifo.1);
        fcntl_setpipe_size(&fifo.1, 1 << 20).unwrap();
        put_through(&mut splice, &fifo, &stream(3_000_000), &[1 << 20], 1 << 20);
        // The same holds for a FIFO that is larger than `LARGE`.
        let mut splice = SpliceBuffer::new(1 << 20).unwrap();
        put_through(&mut splice, &fifo, &stream(3_000_000), &[1 << 20], 1 << 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_messages_arrive_unchanged_for_any_size_of_reads(
            capacity in prop_oneof![Just(65_536usize), Just(262_144), Just(1 << 20)],
            lengths in prop::collection::vec(prop_oneof![1usize..10_000, 16_000usize..100_000, Just(400_000)], 1..10),
            at_once in 1_000usize..400_000,
        ) {
            let fifo = fifo(capacity);
            put_through(&mut splice(&fifo.1), &fifo, &stream(1_500_000), &lengths, at_once);
        }
    }

    #[test]
    fn a_fifo_with_too_little_space_is_not_spliced_into() {
        let fifo = fifo(65_536);
        let mut splice = splice(&fifo.1);
        let message = stream(100_000);
        let mut write = || splice.write(fifo.1.as_fd(), &[IoSlice::new(&message)]);
        while rustix::io::write(&fifo.1, &[1; 4096]) != Err(Errno::AGAIN) {}
        assert_eq!(write().unwrap(), Spliced::NoRoom);
        rustix::io::read(&fifo.0, &mut [0; PIECE_MIN - 4096]).unwrap();
        assert_eq!(write().unwrap(), Spliced::NoRoom);
        rustix::io::read(&fifo.0, &mut [0; 4096]).unwrap();
        assert_eq!(write().unwrap(), Spliced::Some(PIECE_MIN));
    }

    #[test]
    fn a_fifo_with_few_free_slots_takes_fewer_bytes_than_its_space() {
        let fifo = fifo(65_536);
        // Each of these writes occupies a page of its own.
        for _ in 0..14 {
            rustix::io::write(&fifo.1, &[1; 2049]).unwrap();
        }
        let mut splice = splice(&fifo.1);
        let message = stream(30_000);
        assert_eq!(splice.write(fifo.1.as_fd(), &[IoSlice::new(&message)]).unwrap(), Spliced::Some(8192));
        let error = splice.write(fifo.1.as_fd(), &[IoSlice::new(&message)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_number_of_splice_buffers_is_limited() {
        // A separate counter, because the other tests need the places of this process.
        let taken = AtomicUsize::new(0);
        assert!((0..SPLICE_BUFFERS_MAX).all(|_| has_place(&taken)));
        assert!(!has_place(&taken));
        taken.fetch_sub(1, Ordering::Relaxed);
        assert!(has_place(&taken));
    }
}
