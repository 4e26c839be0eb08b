//! A byte stream through a ring: the two ends, over any memory that has the words and the bytes.
//!
//! Positions count bytes for ever and wrap at 2^64; a byte lies at its position modulo the capacity, a power of two. What
//! lies between the reader's `Tail` and the writer's `Head` is the reader's, all else is the writer's.
//!
//! # Orderings
//!
//! - The bytes: the writer stores `Head` with release after copying in; the reader loads it and then fences with acquire
//!   (A) before copying out. The other way round the reader stores `Tail` with release after copying out; the writer
//!   loads it and then fences with acquire (B) before it copies in over what was there.
//! - Nobody sleeps through: who is about to sleep changes its word and then looks once more; who has published looks at
//!   the word afterwards. Between the two, on each side, is a sequentially consistent fence, so that at least one sees
//!   the other (as in Dekker's algorithm): for data (C), for room (D).
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::atomic::fence;

/// A word of the control page; see [`super`] for who writes which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Head,
    Tail,
    DataWaiter,
    SpaceWaiter,
}

/// One side's memory: its control words and its ring.
pub(crate) trait Memory {
    /// Bytes of the ring, a power of two.
    fn capacity(&self) -> usize;

    /// A relaxed load: all that may be done to memory that is mapped read-only. Fences make more of it.
    fn load(&self, word: Word) -> u64;

    /// A store with release, into our own memory.
    fn store(&self, word: Word, value: u64);

    /// An atomic increment with release, in our own memory: a forked child may do the same.
    fn bump(&self, word: Word);

    /// Copies bytes into our own ring.
    ///
    /// # Safety
    ///
    /// The range lies in the ring, and no other thread touches it until the next `Head` is stored: it is the writer's.
    unsafe fn copy_in(&self, at: usize, from: &[u8]);

    /// Copies bytes out of the peer's ring.
    ///
    /// # Safety
    ///
    /// The range lies in the ring, and no thread of an honest peer touches it until the next `Tail` is stored: it is the
    /// reader's.
    unsafe fn copy_out(&self, at: usize, into: &mut [u8]);
}

/// The memory of both sides, as one of them has it.
pub(crate) trait Sides {
    type Memory<'a>: Memory
    where
        Self: 'a;

    /// Our own, which we write.
    fn mine(&self) -> Self::Memory<'_>;

    /// The peer's, which we read.
    fn peers(&self) -> Self::Memory<'_>;
}

/// A position that no honest peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPosition;

/// How much is copied before it is published, so that the other side, on another processor, works on it meanwhile. Measured
/// as round trips of 64 KiB and 1 MiB: 45 and 91 microseconds with 64 KiB, 10 and 76 with 8 KiB, 10 and 126 with 4 KiB.
const CHUNK: usize = 8 * 1024;

/// The end that puts bytes in.
///
/// Its position is in its own memory, which nobody else can write, and only there: a forked child has the same memory and a
/// copy of this, and each goes on behind what the other has put in.
#[derive(Debug)]
pub(crate) struct Writer<S> {
    sides: Arc<S>,
    /// The reader's position when it was last looked at.
    tail: u64,
    /// The reader's `Data`, as much of it as tells one from the next, when it was last told of data.
    told: u32,
}

impl<S: Sides> Writer<S> {
    pub(crate) fn new(sides: Arc<S>) -> Self {
        Self { sides, tail: 0, told: 0 }
    }

    #[cfg(any(fuzzing, all(test, not(loom))))]
    pub(super) fn starting_at(position: u64, sides: Arc<S>) -> Self {
        sides.mine().store(Word::Head, position);
        Self { tail: position, ..Self::new(sides) }
    }

    /// How much has been put in, ever.
    fn head(&self) -> u64 {
        self.sides.mine().load(Word::Head)
    }

    /// Whether [`write`](Self::write) would put anything in.
    pub(crate) fn has_room(&mut self) -> Result<bool, BadPosition> {
        let head = self.head();
        if self.room(head) == 0 {
            self.look(head)?;
        }
        Ok(self.room(head) > 0)
    }

    /// Puts in what there is room for, up to [`CHUNK`], and says how much. 0: it is full.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, BadPosition> {
        let head = self.head();
        let wanted = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add).min(CHUNK);
        if self.room(head) < wanted {
            self.look(head)?;
        }
        let mut left = wanted.min(self.room(head));
        let count = left;
        let mut position = head;
        for piece in pieces {
            let piece = &piece[..piece.len().min(left)];
            self.copy_in(position, piece);
            position = position.wrapping_add(piece.len() as u64);
            left -= piece.len();
            if left == 0 {
                break;
            }
        }
        if count > 0 {
            // Pairs with fence (A): who sees this position sees the bytes before it.
            self.sides.mine().store(Word::Head, position);
        }
        Ok(count)
    }

    /// Copies a piece that fits into the ring, without publishing it.
    fn copy_in(&self, position: u64, piece: &[u8]) {
        let mine = self.sides.mine();
        let capacity = mine.capacity();
        let at = index(position, capacity);
        let (first, second) = piece.split_at(piece.len().min(capacity - at));
        // SAFETY: `at` is below the capacity, the first part ends at it at the latest, and the second begins at 0. `write`
        // takes no more than there is room for, so that all of it lies beyond what the reader has not taken: it is ours.
        unsafe { mine.copy_in(at, first) };
        if !second.is_empty() {
            // SAFETY: as above.
            unsafe { mine.copy_in(0, second) };
        }
    }

    /// How much of what was put in is unread, as far as is known. That is never more than the capacity, but where a forked
    /// process has put in more since we looked.
    fn unread(&self, head: u64) -> u64 {
        head.wrapping_sub(self.tail).min(self.sides.mine().capacity() as u64)
    }

    /// Room as far as is known.
    fn room(&self, head: u64) -> usize {
        self.sides.mine().capacity() - self.unread(head) as usize
    }

    /// SpinBudget how far the reader is.
    fn look(&mut self, head: u64) -> Result<(), BadPosition> {
        let tail = self.sides.peers().load(Word::Tail);
        // It can neither have come back nor be ahead of us.
        if head.wrapping_sub(tail) > self.unread(head) {
            return Err(BadPosition);
        }
        // Fence (B). Pairs with the store of `Tail` in `read`: its bytes have been copied out before we write over them.
        fence(Ordering::Acquire);
        self.tail = tail;
        Ok(())
    }

    /// Whether the reader must be told that something has come: once for each time that it asked. To be called after
    /// each `write`.
    pub(crate) fn should_notify(&mut self) -> bool {
        // Fence (C). Pairs with that in `Reader::ask`.
        fence(Ordering::SeqCst);
        let asked = self.sides.peers().load(Word::DataWaiter) as u32;
        let must = asked != self.told;
        self.told = asked;
        must
    }

    /// Whether the reader has taken everything that was put in.
    pub(crate) fn is_taken(&self) -> bool {
        self.sides.peers().load(Word::Tail) == self.head()
    }

    /// Asks the reader to tell when it has made room, and says whether there is some already. What tells of room must be
    /// in place by now: the reader may tell at once.
    pub(crate) fn request_wakeup(&mut self) -> Result<bool, BadPosition> {
        self.sides.mine().bump(Word::SpaceWaiter);
        // Fence (D). Pairs with that in `Reader::should_notify`.
        fence(Ordering::SeqCst);
        let head = self.head();
        self.look(head)?;
        Ok(self.room(head) > 0)
    }
}

/// The end that takes bytes out.
///
/// Its position is in its own memory alone, as a [`Writer`]'s is.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    sides: Arc<S>,
    /// The writer's `Room`, as much of it as tells one from the next, when it was last told of room.
    told: u32,
}

impl<S: Sides> Reader<S> {
    pub(crate) fn new(sides: Arc<S>) -> Self {
        Self { sides, told: 0 }
    }

    #[cfg(any(fuzzing, all(test, not(loom))))]
    pub(super) fn starting_at(position: u64, sides: Arc<S>) -> Self {
        sides.mine().store(Word::Tail, position);
        Self::new(sides)
    }

    /// How much has been taken out, ever.
    fn tail(&self) -> u64 {
        self.sides.mine().load(Word::Tail)
    }

    /// Takes out what is there, up to [`CHUNK`], and says how much. 0: it is empty.
    pub(crate) fn read(&mut self, spaces: &mut [IoSliceMut<'_>]) -> Result<usize, BadPosition> {
        let tail = self.tail();
        let mut left = self.available_from(tail)?.min(CHUNK);
        let mut count = 0;
        for space in spaces {
            let length = space.len().min(left);
            self.copy_out(tail.wrapping_add(count as u64), &mut space[..length]);
            count += length;
            left -= length;
            if left == 0 {
                break;
            }
        }
        if count > 0 {
            // Pairs with fence (B): who sees this position may write over the bytes before it, which we have.
            self.sides.mine().store(Word::Tail, tail.wrapping_add(count as u64));
        }
        Ok(count)
    }

    /// How many bytes are there.
    pub(crate) fn available(&self) -> Result<usize, BadPosition> {
        self.available_from(self.tail())
    }

    fn available_from(&self, tail: u64) -> Result<usize, BadPosition> {
        let peers = self.sides.peers();
        let available = peers.load(Word::Head).wrapping_sub(tail);
        // A writer that is behind us is, at full width, far ahead.
        if available > peers.capacity() as u64 {
            return Err(BadPosition);
        }
        // Fence (A). Pairs with the store of `Head` in `write`.
        fence(Ordering::Acquire);
        Ok(available as usize)
    }

    /// Copies the next bytes without taking them. There must be so many.
    pub(crate) fn peek(&self, into: &mut [u8]) {
        self.copy_out(self.tail(), into);
    }

    fn copy_out(&self, position: u64, into: &mut [u8]) {
        let peers = self.sides.peers();
        let capacity = peers.capacity();
        let at = index(position, capacity);
        let split = into.len().min(capacity - at);
        let (first, second) = into.split_at_mut(split);
        // SAFETY: `at` is below the capacity, the first part ends at it at the latest, and the second begins at 0. The
        // callers take no more than `available` has said, so that an honest writer leaves all of it alone.
        unsafe { peers.copy_out(at, first) };
        if !second.is_empty() {
            // SAFETY: as above.
            unsafe { peers.copy_out(0, second) };
        }
    }

    /// Whether the peer has taken everything that our side has put into its own ring, by its own word.
    pub(crate) fn peer_has_all(&self) -> bool {
        self.sides.peers().load(Word::Tail) == self.sides.mine().load(Word::Head)
    }

    /// Whether the writer must be told that there is room: once for each time that it asked. To be called after each
    /// `read`.
    pub(crate) fn should_notify(&mut self) -> bool {
        // Fence (D). Pairs with that in `Writer::ask`. What the writer put in place before it asked is there now.
        fence(Ordering::SeqCst);
        let asked = self.sides.peers().load(Word::SpaceWaiter) as u32;
        fence(Ordering::Acquire);
        let must = asked != self.told;
        self.told = asked;
        must
    }

    /// Asks the writer to tell when something comes. What has come by then is to be looked for afterwards, with
    /// [`available`](Self::available).
    pub(crate) fn request_wakeup(&self) {
        ask_for_data(&self.sides.mine());
    }
}

/// See [`Reader::ask`].
pub(super) fn ask_for_data(mine: &impl Memory) {
    mine.bump(Word::DataWaiter);
    // Fence (C). Pairs with that in `Writer::should_notify`.
    fence(Ordering::SeqCst);
}

fn index(position: u64, capacity: usize) -> usize {
    // The capacity is a power of two, and so this is right even where the position wraps.
    (position & (capacity as u64 - 1)) as usize
}
