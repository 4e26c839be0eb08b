//! A byte stream through a ring: its two ends, over any memory that provides the words and the bytes.
//!
//! Positions are byte counts modulo 2^64. They are not reduced modulo the capacity, which is a power of two. The byte
//! at a position is stored at the position modulo the capacity. The bytes between the reader's `Tail` and the writer's
//! `Head` belong to the reader, all others to the writer.
//!
//! # Orderings
//!
//! - The bytes: the writer stores `Head` with release after copying in. The reader loads `Head` and then fences with
//!   acquire (A) before copying out. In the opposite direction the reader stores `Tail` with release after copying out.
//!   The writer loads `Tail` and then fences with acquire (B) before it overwrites the bytes.
//! - No lost wake-up: a side that will sleep increments its request word, then reads the other side's position again. A
//!   side that publishes a position then reads the request word. On each side a sequentially consistent fence separates
//!   the two operations, so that at least one side sees the change of the other (as in Dekker's algorithm). For data,
//!   these are fence (C1) in the reader and fence (C2) in the writer. For space, they are fence (D1) in the writer and
//!   fence (D2) in the reader.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::atomic::fence;

/// A word of the control page. The table in [`super`] shows which side writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The position of the writer.
    Head,
    /// The position of the reader.
    Tail,
    /// The reader's request word. The reader increments it to request a wake-up for more bytes.
    DataWaiter,
    /// The writer's request word. The writer increments it to request a wake-up for more space.
    SpaceWaiter,
}

/// One side's memory: its control words and its ring.
pub(crate) trait Memory {
    /// Returns the size of the ring in bytes, a power of two.
    fn capacity(&self) -> usize;

    /// Loads a word with relaxed ordering. No stronger access is allowed on memory that is mapped read-only. Fences
    /// provide the ordering.
    fn load(&self, word: Word) -> u64;

    /// Stores a word with release ordering, into the memory of this side.
    fn store(&self, word: Word, value: u64);

    /// Increments a word atomically with release ordering, in the memory of this side. A forked child may do so
    /// concurrently.
    fn increment(&self, word: Word);

    /// Copies bytes into the ring of this side.
    ///
    /// # Safety
    ///
    /// The range lies in the ring and belongs to the writer: no other thread accesses it until the next store of
    /// `Head`.
    unsafe fn copy_in(&self, at: usize, from: &[u8]);

    /// Copies bytes out of the peer's ring.
    ///
    /// # Safety
    ///
    /// The range lies in the ring and belongs to the reader: no thread of this process writes to it until the next
    /// store of `Tail`. A peer in another process may write to it concurrently if it violates the protocol. An
    /// implementation for such memory must tolerate torn bytes (see `copy_from_peer` in [`mapping`](super::mapping)).
    unsafe fn copy_out(&self, at: usize, into: &mut [u8]);
}

/// The memory of both sides, as one of them maps it.
pub(crate) trait Sides {
    type Memory<'a>: Memory
    where
        Self: 'a;

    /// Returns the memory of this side, which this side writes.
    fn local(&self) -> Self::Memory<'_>;

    /// Returns the memory of the peer, which this side reads.
    fn remote(&self) -> Self::Memory<'_>;
}

/// Error: the peer's position is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPosition;

/// The reasons for which a reader cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The writer's position is out of range.
    BadPosition,
    /// The writer has taken the last byte back, which this side had taken out. See [`Writer::take_back`].
    TakenBack,
}

/// The maximum number of bytes that are copied before they are published, so that the peer processes them concurrently
/// on another processor. 8 KiB gave the lowest round-trip times (docs/performance.md).
const CHUNK: usize = 8 * 1024;

/// The end that puts bytes into the ring.
///
/// Its position is stored only in the memory of its own side, which no other side can write. After fork(2) both
/// processes may write, but not at the same time. Each process continues behind the bytes that the other one has put
/// in.
#[derive(Debug)]
pub(crate) struct Writer<S> {
    sides: Arc<S>,
    /// The reader's position at the last check.
    tail: u64,
    /// The low bits of the reader's `DataWaiter` when the reader was last notified. They suffice to detect a change.
    notified_request: u32,
}

impl<S: Sides> Writer<S> {
    pub(crate) fn new(sides: Arc<S>) -> Self {
        Self { sides, tail: 0, notified_request: 0 }
    }

    #[cfg(any(fuzzing, all(test, not(loom))))]
    pub(super) fn starting_at(position: u64, sides: Arc<S>) -> Self {
        sides.local().store(Word::Head, position);
        Self { tail: position, ..Self::new(sides) }
    }

    /// Returns the total number of bytes that were put in.
    fn head(&self) -> u64 {
        self.sides.local().load(Word::Head)
    }

    /// Returns true if [`write`](Self::write) would put in at least one byte.
    pub(crate) fn has_room(&mut self) -> Result<bool, BadPosition> {
        let head = self.head();
        if self.room(head) == 0 {
            self.update_tail(head)?;
        }
        Ok(self.room(head) > 0)
    }

    /// Puts in as many bytes as fit, up to [`CHUNK`], and returns their number. 0 means that the ring is full.
    pub(crate) fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<usize, BadPosition> {
        let head = self.head();
        let wanted = pieces.iter().map(|piece| piece.len()).fold(0, usize::saturating_add).min(CHUNK);
        if self.room(head) < wanted {
            self.update_tail(head)?;
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
            // Pairs with fence (A): a reader that sees this position sees the bytes before it.
            self.sides.local().store(Word::Head, position);
        }
        Ok(count)
    }

    /// Takes the last byte of a full ring back, so that the message that ends with it remains incomplete. Nothing may
    /// be put in afterwards.
    ///
    /// A reader that takes all bytes at this moment finds `Head` one byte behind its `Tail`
    /// ([`Unreadable::TakenBack`]).
    pub(crate) fn take_back(&mut self) {
        self.sides.local().store(Word::Head, self.head().wrapping_sub(1));
    }

    /// Copies a piece that fits into the ring, without publishing it.
    fn copy_in(&self, position: u64, piece: &[u8]) {
        let local = self.sides.local();
        let capacity = local.capacity();
        let at = index(position, capacity);
        let (first, second) = piece.split_at(piece.len().min(capacity - at));
        // SAFETY: `at` is less than the capacity, the first part ends at the capacity at the latest, and the second
        // part begins at 0. `write` takes no more than fits, so that the whole range lies outside of the bytes that the
        // reader has not taken: it belongs to the writer.
        unsafe { local.copy_in(at, first) };
        if !second.is_empty() {
            // SAFETY: as above.
            unsafe { local.copy_in(0, second) };
        }
    }

    /// Returns the number of unread bytes according to the last check. It exceeds the capacity only if a forked process
    /// has put in more bytes since then, and is limited to the capacity.
    fn unread(&self, head: u64) -> u64 {
        head.wrapping_sub(self.tail).min(self.sides.local().capacity() as u64)
    }

    /// Returns the free space according to the last check.
    fn room(&self, head: u64) -> usize {
        self.sides.local().capacity() - self.unread(head) as usize
    }

    /// Loads the reader's position and checks it.
    fn update_tail(&mut self, head: u64) -> Result<(), BadPosition> {
        let tail = self.sides.remote().load(Word::Tail);
        // An honest reader neither moves backwards nor passes the writer.
        if head.wrapping_sub(tail) > self.unread(head) {
            return Err(BadPosition);
        }
        // Fence (B). Pairs with the store of `Tail` in `read`: the bytes were copied out before this side overwrites
        // them.
        fence(Ordering::Acquire);
        self.tail = tail;
        Ok(())
    }

    /// Returns true if the reader must be notified of new bytes: once for each request of the reader. Call this after
    /// each `write`.
    pub(crate) fn should_notify(&mut self) -> bool {
        // Fence (C2). Pairs with fence (C1) in `ask_for_data`.
        fence(Ordering::SeqCst);
        let request = self.sides.remote().load(Word::DataWaiter) as u32;
        let changed = request != self.notified_request;
        self.notified_request = request;
        changed
    }

    /// Returns true if the reader has taken all bytes that were put in.
    pub(crate) fn is_drained(&self) -> bool {
        self.sides.remote().load(Word::Tail) == self.head()
    }

    /// Requests a wake-up when the reader has made space. Returns true if there is space already. The means of the
    /// wake-up must be in place before this call, because the reader may notify immediately.
    pub(crate) fn request_wakeup(&mut self) -> Result<bool, BadPosition> {
        self.sides.local().increment(Word::SpaceWaiter);
        // Fence (D1). Pairs with fence (D2) in `Reader::should_notify`.
        fence(Ordering::SeqCst);
        let head = self.head();
        self.update_tail(head)?;
        Ok(self.room(head) > 0)
    }
}

/// The end that takes bytes out of the ring.
///
/// Its position is stored only in the memory of its own side, like that of a [`Writer`].
#[derive(Debug)]
pub(crate) struct Reader<S> {
    sides: Arc<S>,
    /// The low bits of the writer's `SpaceWaiter` when the writer was last notified. They suffice to detect a change.
    notified_request: u32,
}

impl<S: Sides> Reader<S> {
    pub(crate) fn new(sides: Arc<S>) -> Self {
        Self { sides, notified_request: 0 }
    }

    #[cfg(any(fuzzing, all(test, not(loom))))]
    pub(super) fn starting_at(position: u64, sides: Arc<S>) -> Self {
        sides.local().store(Word::Tail, position);
        Self::new(sides)
    }

    /// Returns the total number of bytes that were taken out.
    fn tail(&self) -> u64 {
        self.sides.local().load(Word::Tail)
    }

    /// Takes out the available bytes, up to [`CHUNK`], and returns their number. 0 means that the ring is empty.
    pub(crate) fn read(&mut self, spaces: &mut [IoSliceMut<'_>]) -> Result<usize, Unreadable> {
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
            // Pairs with fence (B): a writer that sees this position may overwrite the bytes before it, which were
            // copied.
            self.sides.local().store(Word::Tail, tail.wrapping_add(count as u64));
        }
        Ok(count)
    }

    /// Returns the number of bytes that can be taken out.
    pub(crate) fn available(&self) -> Result<usize, Unreadable> {
        self.available_from(self.tail())
    }

    fn available_from(&self, tail: u64) -> Result<usize, Unreadable> {
        let remote = self.sides.remote();
        let available = remote.load(Word::Head).wrapping_sub(tail);
        // If `Head` is behind `Tail`, the wrapping subtraction yields a value above the capacity.
        if available > remote.capacity() as u64 {
            return Err(match available {
                u64::MAX => Unreadable::TakenBack,
                _ => Unreadable::BadPosition,
            });
        }
        // Fence (A). Pairs with the store of `Head` in `write`.
        fence(Ordering::Acquire);
        Ok(available as usize)
    }

    /// Copies the next bytes without taking them. At least `into.len()` bytes must be available.
    pub(crate) fn peek(&self, into: &mut [u8]) {
        self.copy_out(self.tail(), into);
    }

    fn copy_out(&self, position: u64, into: &mut [u8]) {
        let remote = self.sides.remote();
        let capacity = remote.capacity();
        let at = index(position, capacity);
        let split = into.len().min(capacity - at);
        let (first, second) = into.split_at_mut(split);
        // SAFETY: `at` is less than the capacity, the first part ends at the capacity at the latest, and the second
        // part begins at 0, so both lie in the ring. The callers take no more than `available` has returned. A peer
        // that violates the protocol may write to the range, which `Memory::copy_out` tolerates.
        unsafe { remote.copy_out(at, first) };
        if !second.is_empty() {
            // SAFETY: as above.
            unsafe { remote.copy_out(0, second) };
        }
    }

    /// Returns true if, according to the peer's `Tail`, the peer has taken all bytes that this side has put into its
    /// own ring.
    pub(crate) fn is_outgoing_drained(&self) -> bool {
        self.sides.remote().load(Word::Tail) == self.sides.local().load(Word::Head)
    }

    /// Returns true if the writer must be notified of free space: once for each request of the writer. Call this after
    /// each `read`.
    pub(crate) fn should_notify(&mut self) -> bool {
        // Fence (D2). Pairs with fence (D1) in `Writer::request_wakeup`.
        fence(Ordering::SeqCst);
        let request = self.sides.remote().load(Word::SpaceWaiter) as u32;
        // If the request is seen, everything that the writer did before it (the filler datagram) is visible from here
        // on.
        fence(Ordering::Acquire);
        let changed = request != self.notified_request;
        self.notified_request = request;
        changed
    }

    /// Requests a wake-up when bytes arrive. Call [`available`](Self::available) afterwards to detect bytes that have
    /// already arrived.
    pub(crate) fn request_wakeup(&self) {
        ask_for_data(&self.sides.local());
    }
}

/// Implements [`Reader::request_wakeup`].
pub(super) fn ask_for_data(local: &impl Memory) {
    local.increment(Word::DataWaiter);
    // Fence (C1). Pairs with fence (C2) in `Writer::should_notify`.
    fence(Ordering::SeqCst);
}

fn index(position: u64, capacity: usize) -> usize {
    // The capacity is a power of two, so this is correct even if the position wraps.
    (position & (capacity as u64 - 1)) as usize
}
