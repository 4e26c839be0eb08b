//! Long messages into a FIFO by reference: the bytes are copied once, into pages of ours which the FIFO then takes as they
//! are, so that it need not have pages of its own made, filled and thrown away.
//!
//! Not the caller's pages, although that would spare the copy: these may not change before the other side has read them, so
//! that a send would have to wait for that; and who takes a page out of a FIFO whole (splice(2)) may look at it ever after.
//! In ours there is nothing, ever, but messages to this one peer.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::ioctl_fionread;

use crate::sys::splice_pages::SplicePages;

/// How much is lent at once: a message of 64 KiB with its header. Measured: 32 KiB are as good for that and worse for
/// longer ones.
const PIECE: usize = 68 * 1024;

/// Below this a copy that the kernel makes costs less.
const PIECE_MIN: usize = 16 * 1024;

/// What a FIFO may hold of ours, and room to go back to the beginning without cutting a piece.
/// The capacity of an enlarged FIFO, in bytes. Measured: nothing is gained by more, and the processor's cache holds less.
pub(super) const LARGE: usize = 256 * 1024;

const LENGTH: usize = LARGE + PIECE;

/// How many FIFOs in this process may have pages of ours at once. Those beyond are written to, as short messages are: no
/// more than memory for speed is at stake.
const LENDERS_MAX: usize = 64;

static LENDERS: AtomicUsize = AtomicUsize::new(0);

/// What became of some pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spliced {
    /// So many bytes of them were lent.
    Some(usize),
    /// There is too little room in the FIFO to lend it any.
    NoRoom,
    /// They are better written.
    TooShort,
}

/// What one FIFO is lent: memory that is filled round and round.
#[derive(Debug)]
pub(super) struct SpliceBuffer {
    pages: SplicePages,
    /// Where the next piece goes.
    next: usize,
    /// How much the FIFO may hold for us to lend it more.
    capacity: usize,
    /// How much of what was lent may still be unread.
    unread: usize,
}

impl SpliceBuffer {
    /// For a FIFO that holds so many bytes; `None` when that is not to be had, now or here.
    pub(super) fn new(capacity: usize) -> Option<Self> {
        if cfg!(parlour_fifo_writes) {
            return None;
        }
        if !has_place(&LENDERS) {
            return None;
        }
        match SplicePages::new(LENGTH) {
            Ok(pages) => Some(Self { pages, next: 0, capacity: capacity.min(LARGE), unread: 0 }),
            Err(_) => {
                LENDERS.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Lends of these pieces what there is room for, as a write that does not wait would.
    ///
    /// What is unread of what was lent is the last that was. It is no more than was unread of everything when that was last
    /// asked, whoever else has put something in (we ourselves, or a forked child), with what was lent since. With the new piece
    /// that is no more than `capacity`, and so the piece, which lies in front of it in a circle of `capacity + PIECE`, of which
    /// going back to the beginning wastes less than a piece, cannot touch it.
    pub(super) fn write(&mut self, fifo: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<Spliced> {
        let wanted = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add);
        if wanted < PIECE_MIN {
            return Ok(Spliced::TooShort);
        }
        let wanted = wanted.min(PIECE);
        if self.room() < wanted {
            // Asked seldom: the kernel answers when nobody reads or writes, and we could copy meanwhile.
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
        let lent = self.pages.lend(place, fifo)?;
        self.next += lent;
        self.unread += lent;
        Ok(Spliced::Some(lent))
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.unread)
    }
}

impl Drop for SpliceBuffer {
    fn drop(&mut self) {
        LENDERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one of the places, if there is one.
fn has_place(taken: &AtomicUsize) -> bool {
    let one_more = |count| (count < LENDERS_MAX).then_some(count + 1);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
}

/// Copies as much as there is space for.
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

    /// Bytes that do not repeat at any distance at which memory is used again.
    fn stream(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 1009 + at % 251) as u8).collect()
    }

    /// Puts a stream through a FIFO in messages of these lengths, over and over, and reads so much whenever it is full. Says
    /// how often something was lent, and how often written.
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
        assert!(got == stream, "what was read is what was sent");
        counts
    }

    #[test]
    fn memory_is_used_again_only_when_it_was_read() {
        for capacity in [65_536, 262_144] {
            let fifo = fifo(capacity);
            let [lent, written] = put_through(&mut splice(&fifo.1), &fifo, &stream(3_000_000), &[1 << 20], 65_536);
            assert!(lent > 40, "{lent} lent and {written} written with {capacity}");
        }
    }

    #[test]
    fn a_fifo_that_becomes_larger_meanwhile_holds_nothing_twice() {
        let fifo = fifo(65_536);
        let mut splice = splice(&fifo.1);
        fcntl_setpipe_size(&fifo.1, 1 << 20).unwrap();
        put_through(&mut splice, &fifo, &stream(3_000_000), &[1 << 20], 1 << 20);
        // Nor one that is larger than any should be.
        let mut splice = SpliceBuffer::new(1 << 20).unwrap();
        put_through(&mut splice, &fifo, &stream(3_000_000), &[1 << 20], 1 << 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_messages_come_out_the_same_whatever_is_read_at_once(
            capacity in prop_oneof![Just(65_536usize), Just(262_144), Just(1 << 20)],
            lengths in prop::collection::vec(prop_oneof![1usize..10_000, 16_000usize..100_000, Just(400_000)], 1..10),
            at_once in 1_000usize..400_000,
        ) {
            let fifo = fifo(capacity);
            put_through(&mut splice(&fifo.1), &fifo, &stream(1_500_000), &lengths, at_once);
        }
    }

    #[test]
    fn a_full_fifo_takes_nothing_and_one_with_little_room_is_written_to() {
        let fifo = fifo(65_536);
        let mut splice = splice(&fifo.1);
        let message = stream(100_000);
        let mut lend = || splice.write(fifo.1.as_fd(), &[IoSlice::new(&message)]);
        while rustix::io::write(&fifo.1, &[1; 4096]) != Err(Errno::AGAIN) {}
        assert_eq!(lend().unwrap(), Spliced::NoRoom);
        rustix::io::read(&fifo.0, &mut [0; PIECE_MIN - 4096]).unwrap();
        assert_eq!(lend().unwrap(), Spliced::NoRoom);
        rustix::io::read(&fifo.0, &mut [0; 4096]).unwrap();
        assert_eq!(lend().unwrap(), Spliced::Some(PIECE_MIN));
    }

    #[test]
    fn where_there_are_fewer_free_places_than_bytes_the_fifo_takes_less() {
        let fifo = fifo(65_536);
        // Each of these has a page of its own.
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
    fn so_many_fifos_are_lent_pages_and_no_more() {
        // (Not the places of this process, which the other tests here need.)
        let taken = AtomicUsize::new(0);
        assert!((0..LENDERS_MAX).all(|_| has_place(&taken)));
        assert!(!has_place(&taken));
        taken.fetch_sub(1, Ordering::Relaxed);
        assert!(has_place(&taken));
    }
}
