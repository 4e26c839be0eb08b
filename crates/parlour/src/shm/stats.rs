//! The memory of the counters of a server: a memory file that this process writes through its mapping, and that other
//! processes of the same user read. `wire/stats.rs` has the layout.
//!
//! The size is sealed, so no access past the end raises SIGBUS, and so are writes other than through this mapping. The
//! file is large enough for every connection that the server may have. Memory is allocated for 64 slots at a time, when
//! a connection needs one of them. (Allocation inside the sealed size is allowed.)
//!
//! Each counter has one writer: the thread that has the half of the connection. Counting is therefore a load and a
//! store, without a lock and without an atomic read-modify-write. Words of the header, and the identity of a slot, are
//! written under the lock of the table.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::{FallocateFlags, Mode, SealFlags, fallocate, fchmod, fcntl_add_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::memfd;
pub(crate) use super::place::{Place, now};
use crate::sys::fork::{Forks, ParentOnly};
use crate::sys::fork_mutex::ForkMutex;
use crate::wire::origin::Origin;
use crate::wire::stats::{
    self, DirectionWord, FlowWord, FlowWords, HEADER_LEN, HOST_WORDS, HeaderWord, PROGRAM_WORDS, PlaceWord, SLOT_LEN,
    SLOTS_AT_ONCE, SLOTS_MAX, SlotWord, Wait, WaitKind,
};

/// The seals of the memory: its size stays, and only the mapping that exists by then can write.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The name of the memory, visible in `/proc`.
const NAME: &str = "parlour-stats";

/// The connection of a slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) pid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The number of the transport in the layout.
    pub(crate) transport: u64,
    /// The origin of a client of a bridge.
    pub(crate) origin: Option<&'a Origin>,
}

/// The counters of a server.
pub(crate) struct Counters {
    start: NonNull<u8>,
    slots_max: usize,
    memfd: ParentOnly,
    place: Place,
    /// Counts in this process only: a forked child has the same memory.
    forks: Forks,
    table: ForkMutex<Table>,
    /// Takes the counts of connections for whose slot there is no memory. Nobody reads it.
    spare: Box<Spare>,
}

/// The words of a slot.
type Spare = [AtomicU64; SLOT_LEN / size_of::<u64>()];

/// The slots.
#[derive(Default)]
struct Table {
    /// The free slots among those that are allocated.
    free: Vec<u32>,
    allocated: usize,
    /// The number of the last connection.
    number: u64,
    open: u64,
    unlisted: u64,
}

// SAFETY: the memory remains at its address until this is dropped, independently of the thread. It is accessed through
// atomics only.
unsafe impl Send for Counters {}
// SAFETY: as above.
unsafe impl Sync for Counters {}

impl Counters {
    /// Creates the memory, for a server that may have this many connections, and that has the page of requests to tap
    /// it at this place.
    pub(crate) fn create(connections_max: usize, tap_requests: Option<Place>) -> io::Result<Self> {
        let slots_max = connections_max.clamp(1, SLOTS_MAX).next_multiple_of(SLOTS_AT_ONCE);
        let length = HEADER_LEN + slots_max * SLOT_LEN;
        let memfd = ParentOnly::open(|| memfd::reserve(NAME, length as u64))?;
        fallocate_all(&memfd, 0, HEADER_LEN as u64)?;
        // The owner may read. Other users could not open the file anyway.
        fchmod(&memfd, Mode::RUSR)?;
        let stat = fstat(&memfd)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&memfd.as_fd());
        let place = Place { fd: descriptor, device: stat.st_dev, inode: stat.st_ino };
        // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping.
        let start =
            unsafe { mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memfd, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        // From here on, dropping this unmaps the memory.
        let table = ForkMutex::default();
        let spare = Box::new([const { AtomicU64::new(0) }; SLOT_LEN / size_of::<u64>()]);
        let counters = Self { start, slots_max, memfd, place, forks: Forks::current(), table, spare };
        counters.spare().set(SlotWord::Forks, counters.forks.number());
        // The seal forbids any further writable mapping.
        fcntl_add_seals(&counters.memfd, SEALS)?;
        counters.set(HeaderWord::Since, now());
        counters.set_place(HeaderWord::TapRequests, tap_requests);
        for (at, value) in stats::constants() {
            counters.set(at, value);
        }
        Ok(counters)
    }

    /// Returns the place of the counters, for the owner record.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Returns the descriptor of the memory. A forked child has another file there.
    pub(crate) fn fd(&self) -> impl AsFd {
        &self.memfd
    }

    /// Sets the place of the ring in which messages are recorded.
    pub(crate) fn set_tap(&self, ring: Option<Place>) {
        self.set_place(HeaderWord::Tap, ring);
    }

    fn set_place(&self, of: fn(PlaceWord) -> HeaderWord, place: Option<Place>) {
        self.set(of(PlaceWord::Inode), 0);
        let Some(Place { fd, device, inode }) = place else { return };
        self.set(of(PlaceWord::Fd), fd as u64);
        self.set(of(PlaceWord::Device), device);
        self.set(of(PlaceWord::Inode), inode);
    }

    /// Sets the number of clients that were accepted.
    pub(crate) fn set_accepted(&self, count: u64) {
        self.set(HeaderWord::Accepted, count);
    }

    /// Sets the number of refusals for a reason.
    pub(crate) fn set_refused(&self, reason: usize, count: u64) {
        self.set(HeaderWord::Refused(reason), count);
    }

    /// Gives a connection a slot, until [`end`](Self::end). Returns `None` in a forked child. The caller keeps these
    /// counters as long as it has the tally.
    pub(crate) fn begin(&self, identity: &Identity<'_>) -> Option<Tally> {
        if self.forks.is_before_fork() {
            return None;
        }
        let mut table = self.table.lock()?;
        let table = &mut *table;
        table.open += 1;
        table.number += 1;
        self.set(HeaderWord::Open, table.open);
        if table.free.is_empty() && !self.allocate(table) {
            table.unlisted += 1;
            self.set(HeaderWord::Unlisted, table.unlisted);
            return Some(Tally(self.spare()));
        }
        let index = table.free.pop()?;
        let slot = self.slot(index as usize)?;
        self.change(|| {
            slot.rewrite(|| {
                for direction in [SlotWord::Received as fn(DirectionWord) -> SlotWord, SlotWord::Sent] {
                    use DirectionWord::{Bytes, Held, Messages, Wait};
                    [Messages, Bytes, Wait, Held].into_iter().for_each(|word| slot.set(direction(word), 0));
                }
                slot.set(SlotWord::Since, now());
                slot.set(SlotWord::Pid, stats::optional(identity.pid));
                slot.set(SlotWord::Uid, stats::optional(identity.uid));
                slot.set(SlotWord::Gid, stats::optional(identity.gid));
                slot.set(SlotWord::Transport, identity.transport);
                slot.set_origin(identity.origin);
                slot.set(SlotWord::Forks, self.forks.number());
                slot.set(SlotWord::Number, table.number);
            });
        });
        Some(Tally(slot))
    }

    /// Allocates memory for more slots. Returns false if there is none.
    #[cold]
    fn allocate(&self, table: &mut Table) -> bool {
        let begin = table.allocated;
        if begin >= self.slots_max {
            return false;
        }
        let at = (HEADER_LEN + begin * SLOT_LEN) as u64;
        if let Err(error) = fallocate_all(&self.memfd, at, (SLOTS_AT_ONCE * SLOT_LEN) as u64) {
            tracing::debug!(%error, "no memory for the counters of more connections");
            return false;
        }
        table.allocated = begin + SLOTS_AT_ONCE;
        // The first slot is used first.
        table.free.extend((begin..table.allocated).rev().map(|index| index as u32));
        self.set(HeaderWord::Slots, table.allocated as u64);
        true
    }

    /// Frees the slot of a connection that has ended, and adds its counts to those of ended connections.
    pub(crate) fn end(&self, tally: Tally) {
        let Tally(slot) = tally;
        if self.forks.is_before_fork() {
            return;
        }
        let Some(mut table) = self.table.lock() else { return };
        table.open = table.open.saturating_sub(1);
        self.set(HeaderWord::Open, table.open);
        if slot == self.spare() {
            table.unlisted = table.unlisted.saturating_sub(1);
            self.set(HeaderWord::Unlisted, table.unlisted);
            return;
        }
        self.change(|| {
            for (total, direction) in [
                (HeaderWord::EndedReceived as fn(FlowWord) -> HeaderWord, SlotWord::Received as fn(_) -> _),
                (HeaderWord::EndedSent, SlotWord::Sent),
            ] {
                self.add(total(FlowWord::Messages), slot.get(direction(DirectionWord::Messages)));
                self.add(total(FlowWord::Bytes), slot.get(direction(DirectionWord::Bytes)));
            }
            slot.rewrite(|| slot.set(SlotWord::Number, 0));
        });
        table.free.push(self.index(slot));
    }

    /// Returns the messages and bytes that were received and sent, in total. Connections count while they last.
    pub(crate) fn flows(&self) -> (FlowWords, FlowWords) {
        let Some(table) = self.table.lock() else { return Default::default() };
        let ended = |of: fn(FlowWord) -> HeaderWord| FlowWords {
            messages: self.get(of(FlowWord::Messages)),
            bytes: self.get(of(FlowWord::Bytes)),
        };
        let (mut received, mut sent) = (ended(HeaderWord::EndedReceived), ended(HeaderWord::EndedSent));
        let slots = (0..table.allocated).filter_map(|index| self.slot(index));
        for slot in slots.filter(|slot| slot.get(SlotWord::Number) != 0) {
            for (flow, direction) in
                [(&mut received, SlotWord::Received as fn(DirectionWord) -> SlotWord), (&mut sent, SlotWord::Sent)]
            {
                flow.messages = flow.messages.wrapping_add(slot.get(direction(DirectionWord::Messages)));
                flow.bytes = flow.bytes.wrapping_add(slot.get(direction(DirectionWord::Bytes)));
            }
        }
        (received, sent)
    }

    /// Changes a slot or the totals. The caller has the lock of the table.
    fn change(&self, change: impl FnOnce()) {
        let sequence = self.word(HeaderWord::Sequence);
        change_between(sequence, change);
    }

    fn spare(&self) -> Slot {
        Slot(NonNull::from(&*self.spare).cast())
    }

    fn slot(&self, index: usize) -> Option<Slot> {
        let at = (index < self.slots_max).then(|| HEADER_LEN + index * SLOT_LEN)?;
        NonNull::new(self.start.as_ptr().wrapping_add(at)).map(Slot)
    }

    fn index(&self, slot: Slot) -> u32 {
        let offset = (slot.0.as_ptr() as usize).wrapping_sub(self.start.as_ptr() as usize);
        (offset.wrapping_sub(HEADER_LEN) / SLOT_LEN) as u32
    }

    fn word(&self, word: HeaderWord) -> &AtomicU64 {
        let place = self.start.as_ptr().wrapping_add(word.offset()).cast::<AtomicU64>();
        // SAFETY: the offset is a multiple of 8 inside the header, which is mapped and allocated as long as `self`
        // exists. Other threads and processes may read an atomic at any time.
        unsafe { &*place }
    }

    fn get(&self, word: HeaderWord) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn set(&self, word: HeaderWord, value: u64) {
        if !self.forks.is_before_fork() {
            self.word(word).store(value, Ordering::Relaxed);
        }
    }

    fn add(&self, word: HeaderWord, more: u64) {
        self.set(word, self.get(word).wrapping_add(more));
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        let length = HEADER_LEN + self.slots_max * SLOT_LEN;
        // SAFETY: `self` owns the mapping, which has this length, and every reference to it is in a `Tally`, which
        // keeps `self`. The call cannot fail on such a range.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), length) };
    }
}

/// Makes a sequence number odd during a change. One thread at a time calls this for a number.
fn change_between(sequence: &AtomicU64, change: impl FnOnce()) {
    let before = sequence.load(Ordering::Relaxed);
    sequence.store(before.wrapping_add(1), Ordering::Relaxed);
    fence(Ordering::SeqCst);
    change();
    fence(Ordering::SeqCst);
    sequence.store(before.wrapping_add(2), Ordering::Relaxed);
}

fn fallocate_all(memfd: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    loop {
        match fallocate(&memfd, FallocateFlags::empty(), offset, length) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// A slot of counters that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(NonNull<u8>);

impl Slot {
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        let place = self.0.as_ptr().wrapping_add(offset).cast::<AtomicU64>();
        // SAFETY: a slot comes from `Counters::slot` or is the spare one, and its owner keeps the counters. The offset
        // is a multiple of 8 inside the slot. Its memory is mapped, and allocated before a connection uses it. (Words
        // of a slot that is not allocated are not accessed.) Other threads and processes may read an atomic at any
        // time.
        unsafe { &*place }
    }

    #[inline]
    fn get(&self, word: SlotWord) -> u64 {
        self.word(word.offset()).load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, word: SlotWord, value: u64) {
        self.word(word.offset()).store(value, Ordering::Relaxed);
    }

    /// Writes the origin of the connection. Most have none, and follow one without.
    fn set_origin(&self, origin: Option<&Origin>) {
        if origin.is_none() && self.get(SlotWord::OriginHost(0)) == 0 {
            return;
        }
        let host: [u64; HOST_WORDS] = stats::text_words(origin.map_or("", Origin::host));
        let program: [u64; PROGRAM_WORDS] = stats::text_words(origin.and_then(Origin::program).unwrap_or_default());
        self.set(SlotWord::OriginUid, stats::optional(origin.and_then(Origin::uid)));
        self.set(SlotWord::OriginPid, stats::optional(origin.and_then(Origin::pid)));
        for (index, word) in program.into_iter().enumerate() {
            self.set(SlotWord::OriginProgram(index), word);
        }
        for (index, word) in host.into_iter().enumerate() {
            self.set(SlotWord::OriginHost(index), word);
        }
    }

    fn rewrite(&self, change: impl FnOnce()) {
        change_between(self.word(SlotWord::Sequence.offset()), change);
    }
}

/// The counters of one connection. Whoever has it keeps the [`Counters`] that it came from. It is one word, because
/// each client of a hub has one.
pub(crate) struct Tally(Slot);

// SAFETY: the slot is memory of the counters, to which the argument for `Counters` applies.
unsafe impl Send for Tally {}
// SAFETY: as above.
unsafe impl Sync for Tally {}

/// A direction of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    /// From the client to the server.
    Received,
    Sent,
}

impl Direction {
    #[inline]
    const fn word(self, word: DirectionWord) -> usize {
        match self {
            Self::Received => SlotWord::RECEIVED + word.offset(),
            Self::Sent => SlotWord::SENT + word.offset(),
        }
    }
}

impl Tally {
    /// Counts a message. The caller has the half of this direction.
    #[inline]
    pub(crate) fn count(&self, direction: Direction, bytes: usize) {
        self.add(direction, 1, bytes as u64);
    }

    /// Counts messages and bytes. The caller has the half of this direction.
    #[inline]
    pub(crate) fn add(&self, direction: Direction, messages: u64, bytes: u64) {
        if self.is_before_fork() {
            return;
        }
        let add = |word, more| {
            let word = self.0.word(direction.word(word));
            word.store(word.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(DirectionWord::Messages, messages);
        add(DirectionWord::Bytes, bytes);
    }

    /// Returns the number and the process id of the connection, as the slot states them, or `None` in a forked child.
    pub(crate) fn client(&self) -> Option<(u64, Option<u32>)> {
        if self.is_before_fork() {
            return None;
        }
        let number = self.0.get(SlotWord::Number);
        let pid = u32::try_from(self.0.get(SlotWord::Pid)).ok();
        Some((number, pid.filter(|_| number != 0)))
    }

    /// Notes that the half of this direction is about to sleep. Keeps the time if it slept for the same reason before.
    #[inline(never)]
    pub(crate) fn note_waiting(&self, direction: Direction, kind: WaitKind) {
        if self.is_before_fork() {
            return;
        }
        let word = self.0.word(direction.word(DirectionWord::Wait));
        if !kind.is_of(word.load(Ordering::Relaxed)) {
            word.store(Wait { kind, since: now() }.encode(), Ordering::Relaxed);
        }
    }

    /// Notes that the half of this direction does not wait any more.
    #[inline]
    pub(crate) fn note_awake(&self, direction: Direction) {
        let word = self.0.word(direction.word(DirectionWord::Wait));
        if word.load(Ordering::Relaxed) != 0 && !self.is_before_fork() {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a hub holds bytes for the client, because its channel is full.
    #[cold]
    pub(crate) fn note_held(&self, bytes: usize) {
        if self.is_before_fork() {
            return;
        }
        self.0.word(Direction::Sent.word(DirectionWord::Held)).store(bytes as u64, Ordering::Relaxed);
        match bytes {
            0 => self.note_awake(Direction::Sent),
            _ => self.note_waiting(Direction::Sent, WaitKind::Space),
        }
    }

    /// Returns true if the last [`note_held`](Self::note_held) was of some bytes.
    #[inline]
    pub(crate) fn has_held(&self) -> bool {
        self.0.word(Direction::Sent.word(DirectionWord::Held)).load(Ordering::Relaxed) != 0
    }

    /// Returns true in a forked child, which shares the memory and counts nothing.
    #[inline]
    fn is_before_fork(&self) -> bool {
        Forks::is_number_before_fork(self.0.get(SlotWord::Forks))
    }
}
