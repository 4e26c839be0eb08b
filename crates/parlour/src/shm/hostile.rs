//! The ring with a peer that writes any value to any memory that it can write, at any time. The input is a program of
//! operations of both sides. The memory is on the heap, and every access to it is checked.
//!
//! Each operation of the local side is checked in two ways. It must do exactly what the content of the memory requires.
//! The peer may also change its memory between any two accesses of one operation, as a real peer can.
#![allow(unsafe_code)]
#![allow(clippy::panic, reason = "a failed check panics")]

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ring::{Memory, Reader, Sides, Word, Writer};
use super::span::{Sizes, Span};

const WORDS: [Word; 6] = [Word::Head, Word::Tail, Word::DataWaiter, Word::SpaceWaiter, Word::Span, Word::Adopted];

/// One side's memory.
struct Heap {
    words: [AtomicU64; 6],
    sizes: Sizes,
    ring: Vec<AtomicU8>,
    /// The exponents of the part of the ring that its writer has allocated, and of the part that its reader has opened.
    allocated: AtomicU32,
    opened: AtomicU32,
    /// False if the system has no memory for a larger ring.
    has_memory: bool,
    /// Stores into the words by the owner of the memory: one is executed before each access by the other side.
    surprises: Mutex<VecDeque<(Word, u64)>>,
}

impl Heap {
    fn new(sizes: Sizes, has_memory: bool) -> Arc<Self> {
        Arc::new(Self {
            words: Default::default(),
            sizes,
            ring: (0..1 << sizes.full).map(|_| AtomicU8::new(0)).collect(),
            allocated: sizes.first.into(),
            opened: sizes.first.into(),
            has_memory,
            surprises: Mutex::default(),
        })
    }

    /// Returns the word without executing a planned store.
    fn word(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Relaxed)
    }

    fn set(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Relaxed);
    }

    /// Returns the sizes that the word describes, or `None` if it describes none.
    fn span(&self) -> Option<Span> {
        match self.sizes.can_grow() {
            true => Span::parse(self.word(Word::Span), self.sizes),
            false => Some(Span::of_whole(self.sizes)),
        }
    }

    /// Returns the byte at this distance from the position at which one copy starts.
    fn byte(&self, start: u64, distance: u64) -> u8 {
        let size = self.span().map_or(1, |span| span.size_at(start));
        self.ring[start.wrapping_add(distance) as usize % size].load(Ordering::Relaxed)
    }

    fn first_len(&self) -> usize {
        self.sizes.first_len()
    }

    fn surprise(&self) {
        let next = self.surprises.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some((word, value)) = next {
            self.set(word, value);
        }
    }

    fn plan(&self, word: Word, value: u64) {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).push_back((word, value));
    }

    /// Returns true if no store is planned. The result of an operation is then predictable.
    fn is_calm(&self) -> bool {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// The memory of both sides, as one of them maps it.
struct Heaps {
    local: Arc<Heap>,
    remote: Arc<Heap>,
}

impl Heaps {
    fn new(local: &Arc<Heap>, remote: &Arc<Heap>) -> Arc<Self> {
        Arc::new(Self { local: Arc::clone(local), remote: Arc::clone(remote) })
    }
}

impl Sides for Heaps {
    type Memory<'a> = &'a Heap;

    fn local(&self) -> &Heap {
        &self.local
    }

    fn remote(&self) -> &Heap {
        &self.remote
    }
}

impl Memory for &Heap {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn allocate(&self, to: u32) -> bool {
        if self.has_memory {
            self.allocated.fetch_max(to, Ordering::Relaxed);
        }
        self.has_memory
    }

    /// Opens what is allocated. A hostile writer allocates less than it offers.
    fn open(&self, to: u32, is_checked: bool) -> bool {
        let exists = to <= self.allocated.load(Ordering::Relaxed);
        assert!(exists || !is_checked, "memory was adopted that does not exist");
        if exists {
            self.opened.fetch_max(to, Ordering::Relaxed);
        }
        exists
    }

    fn load(&self, word: Word) -> u64 {
        self.surprise();
        self.word(word)
    }

    fn store(&self, word: Word, value: u64) {
        self.set(word, value);
    }

    fn increment(&self, word: Word) {
        self.words[word as usize].fetch_add(1, Ordering::Relaxed);
    }

    // The copies index slices, so that any access out of range panics.

    unsafe fn copy_in(&self, at: usize, from: &[u8]) {
        let allocated = 1 << self.allocated.load(Ordering::Relaxed);
        for (place, &byte) in self.ring[..allocated][at..at + from.len()].iter().zip(from) {
            place.store(byte, Ordering::Relaxed);
        }
    }

    unsafe fn copy_out(&self, at: usize, into: &mut [u8]) {
        self.surprise();
        let opened = 1 << self.opened.load(Ordering::Relaxed);
        for (place, byte) in self.ring[..opened][at..at + into.len()].iter().zip(into) {
            *byte = place.load(Ordering::Relaxed);
        }
    }
}

/// The input, read from its beginning to its end. Zeros follow it.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn number(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    fn wide(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// Executes a program.
pub(crate) fn play(program: &[u8]) {
    let mut input = Input(program);
    let choice = input.byte();
    let full = 6 + u32::from(choice % 7);
    // Half of the rings grow.
    let first = if choice < 128 { full } else { 3 + u32::from(choice) % 3 };
    let sizes = Sizes { first, full };
    let start = match input.byte() % 4 {
        0 => 0,
        1 => u64::MAX - 100,
        2 => u64::from(u32::MAX) - 10,
        _ => input.wide(),
    };
    let (ours, theirs) = (Heap::new(sizes, choice < 240), Heap::new(sizes, choice < 248));
    for side in [&ours, &theirs] {
        side.set(Word::Head, start);
        side.set(Word::Tail, start);
    }
    let mut game = Game {
        writer: Writer::starting_at(start, Heaps::new(&ours, &theirs)),
        reader: Reader::starting_at(start, Heaps::new(&ours, &theirs)),
        honest_writer: Writer::starting_at(start, Heaps::new(&theirs, &ours)),
        honest_reader: Reader::starting_at(start, Heaps::new(&theirs, &ours)),
        ours,
        theirs,
        unread: VecDeque::new(),
        is_honest: true,
        next: 0,
    };
    while !input.is_empty() {
        game.step(&mut input);
    }
}

struct Game {
    ours: Arc<Heap>,
    theirs: Arc<Heap>,
    writer: Writer<Heaps>,
    reader: Reader<Heaps>,
    /// The peer's ends. They are used while the peer observes the protocol.
    honest_writer: Writer<Heaps>,
    honest_reader: Reader<Heaps>,
    /// The bytes that the local side has put in and the peer has not taken out.
    unread: VecDeque<u8>,
    is_honest: bool,
    /// The value of the next byte that either side puts in.
    next: u8,
}

impl Game {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 10 {
            0 => self.write(input.number(), input.number()),
            1 => self.read(input.number(), input.number()),
            2 => self.peek(input.number()),
            3 => {
                let requested = self.writer.request_wakeup();
                assert!(requested.is_ok() || !self.is_honest, "an honest peer never has a bad position");
            }
            4 => {
                let before = self.ours.word(Word::DataWaiter);
                self.reader.request_wakeup();
                assert_ne!(self.ours.word(Word::DataWaiter), before);
            }
            5 => {
                let (_, _) = (self.writer.should_notify(), self.reader.should_notify());
                let (_, _) = (self.writer.is_drained(), self.reader.is_outgoing_drained());
            }
            6 if self.is_honest => self.peer_writes(input.number()),
            7 if self.is_honest => self.peer_reads(input.number()),
            8 => {
                self.is_honest = false;
                let (word, value) = (self.any_word(input), self.any_value(input));
                self.theirs.set(word, value);
                let (at, byte) = (input.number(), input.byte());
                self.theirs.ring[at % self.theirs.ring.len()].store(byte, Ordering::Relaxed);
            }
            9 => {
                self.is_honest = false;
                let (word, value) = (self.any_word(input), self.any_value(input));
                self.theirs.plan(word, value);
            }
            _ => {}
        }
    }

    fn any_word(&self, input: &mut Input<'_>) -> Word {
        WORDS[usize::from(input.byte()) % WORDS.len()]
    }

    /// Returns any value, or a value near a position, where arithmetic errors occur.
    fn any_value(&self, input: &mut Input<'_>) -> u64 {
        let near = match input.byte() % 8 {
            0 => return input.wide(),
            // Sizes and a turn, and a size alone.
            6 => return u64::from(input.byte() % 16) << 6 | u64::from(input.byte() % 16) | input.wide() << 12,
            7 => return u64::from(input.byte() % 16),
            1 => self.ours.word(Word::Head),
            2 => self.ours.word(Word::Tail),
            3 => self.theirs.word(Word::Head),
            4 => self.theirs.word(Word::Tail).wrapping_add(self.ours.ring.len() as u64),
            _ => self.ours.word(Word::Tail).wrapping_add(self.ours.ring.len() as u64),
        };
        near.wrapping_add(u64::from(input.byte())).wrapping_sub(128)
    }

    fn new_bytes(&mut self, count: usize) -> Vec<u8> {
        let bytes = (0..count).map(|at| self.next.wrapping_add(at as u8)).collect();
        self.next = self.next.wrapping_add(count as u8);
        bytes
    }

    /// Puts in bytes of the local side, in two pieces.
    fn write(&mut self, one: usize, other: usize) {
        let bytes = self.new_bytes((one + other) % 40_000);
        let (first, second) = bytes.split_at(one.min(bytes.len()));
        let before = self.ours.word(Word::Head);
        let written = self.writer.write(&[IoSlice::new(first), IoSlice::new(second)]);
        let after = self.ours.word(Word::Head);
        let Ok(count) = written else {
            assert_eq!((after, self.is_honest), (before, false), "an honest peer never has a bad position");
            return;
        };
        assert!(count <= bytes.len().min(self.ours.ring.len()));
        assert_eq!(after, before.wrapping_add(count as u64));
        for (at, &byte) in (0..).zip(&bytes[..count]) {
            assert_eq!(self.ours.byte(before, at), byte, "the ring contains the bytes that were put in");
        }
        if self.is_honest {
            let capacity = self.ours.span().map_or(0, |span| span.capacity(after));
            assert!(
                count > 0 || bytes.is_empty() || self.unread.len() as u64 == capacity,
                "bytes are taken if there is space"
            );
            self.unread.extend(&bytes[..count]);
        }
    }

    /// Takes out bytes on the local side, into two spaces.
    fn read(&mut self, one: usize, other: usize) {
        const CANARY: u8 = 0xa5;
        let mut memory = vec![CANARY; (one + other) % 40_000 + 2];
        let end = memory.len() - 1;
        let length = end - 1;
        let tail = self.ours.word(Word::Tail);
        let head = self.theirs.word(Word::Head);
        let available = head.wrapping_sub(tail);
        let is_calm = self.theirs.is_calm();
        let is_adopted =
            |span: &Span| !self.theirs.sizes.can_grow() || u64::from(span.used) <= self.ours.word(Word::Adopted);
        let span = self.theirs.span().filter(is_adopted);
        let longest = length.min(self.theirs.first_len()) as u64;
        let expected: Vec<u8> = (0..longest).map(|at| self.theirs.byte(tail, at)).collect();

        let (first, second) = memory[1..end].split_at_mut(one.min(length));
        let read = self.reader.read(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]);
        let is_bad = span.is_none_or(|span| available > span.capacity(head));
        if is_calm {
            assert_eq!(read.is_err(), is_bad, "{available} bytes are available");
        }
        let count = read.unwrap_or(0);
        assert_eq!(self.ours.word(Word::Tail), tail.wrapping_add(count as u64));
        assert!(count <= length.min(self.theirs.ring.len()));
        if is_calm && !is_bad {
            assert!(count as u64 <= available && (count > 0 || available == 0 || length == 0));
        }
        // A planned store changes words and never the ring. It can change the places of the bytes if the ring grows.
        assert!(
            memory[1..=count] == expected[..count] || !is_calm && self.theirs.sizes.can_grow(),
            "the bytes of the ring are returned"
        );
        assert!(
            memory[0] == CANARY && memory[1 + count..].iter().all(|&byte| byte == CANARY),
            "no other bytes are written"
        );
    }

    fn peek(&mut self, length: usize) {
        let tail = self.ours.word(Word::Tail);
        match self.reader.available() {
            Ok(available) => {
                assert!(available <= self.theirs.ring.len());
                let is_calm = self.theirs.is_calm();
                let mut bytes = vec![0; length.min(available).min(self.theirs.first_len())];
                self.reader.peek(&mut bytes);
                let is_right = (0..).zip(&bytes).all(|(at, &byte)| byte == self.theirs.byte(tail, at));
                assert!(is_right || !is_calm && self.theirs.sizes.can_grow());
            }
            Err(_) => assert!(!self.is_honest, "an honest peer never has a bad position"),
        }
        assert_eq!(self.ours.word(Word::Tail), tail, "peeking takes nothing");
    }

    fn peer_writes(&mut self, count: usize) {
        let bytes = self.new_bytes(count);
        assert!(self.honest_writer.write(&[IoSlice::new(&bytes)]).is_ok(), "the local side never has a bad position");
    }

    fn peer_reads(&mut self, length: usize) {
        let mut bytes = vec![0; length];
        let Ok(count) = self.honest_reader.read(&mut [IoSliceMut::new(&mut bytes)]) else {
            panic!("the local side has a bad position");
        };
        let expected: Vec<u8> = self.unread.drain(..count).collect();
        assert_eq!(bytes[..count], expected, "the peer receives the bytes that were put in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The first byte selects rings that grow, with memory and without.
        #[test]
        fn programs_of_rings_that_grow_have_these_properties(
            choice in 128u8..=255,
            program in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            play(&[&[choice], &*program].concat());
        }

        /// Both sides observe the protocol and exchange few bytes at a time, so that the ring grows to its full size.
        #[test]
        fn honest_sides_exchange_bytes_while_the_ring_grows(
            choice in 128u8..=255,
            steps in prop::collection::vec((prop::sample::select(vec![0u8, 1, 2, 6, 7]), 0u8..80), 0..300),
        ) {
            let mut program = vec![choice, 1];
            for (step, count) in steps {
                program.extend([step, 0, count]);
                if step < 2 {
                    program.extend([0, 3]);
                }
            }
            play(&program);
        }
    }

    #[test]
    fn a_ring_that_cannot_get_memory_stays_small_and_works() {
        let sizes = Sizes { first: 4, full: 8 };
        let (ours, theirs) = (Heap::new(sizes, false), Heap::new(sizes, false));
        let mut writer = Writer::new(Heaps::new(&ours, &theirs));
        let mut reader = Reader::new(Heaps::new(&theirs, &ours));
        for _ in 0..50 {
            assert_eq!(writer.write(&[IoSlice::new(&[1; 20])]), Ok(16));
            assert_eq!(writer.write(&[IoSlice::new(&[1; 20])]), Ok(0));
            let mut bytes = [0; 20];
            assert_eq!(reader.read(&mut [IoSliceMut::new(&mut bytes)]), Ok(16));
            assert_eq!(bytes[..16], [1; 16]);
        }
    }
}
