//! The ring with a peer that writes any value to any memory that it can write, at any time. The input is a program of
//! operations of both sides. The memory is on the heap, and every access to it is checked.
//!
//! Each operation of the local side is checked in two ways. It must do exactly what the content of the memory requires.
//! The peer may also change its memory between any two accesses of one operation, as a real peer can.
#![allow(unsafe_code)]
#![allow(clippy::panic, reason = "a failed check panics")]

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ring::{Memory, Reader, Sides, Word, Writer};

const WORDS: [Word; 4] = [Word::Head, Word::Tail, Word::DataWaiter, Word::SpaceWaiter];

/// One side's memory.
struct Heap {
    words: [AtomicU64; 4],
    ring: Vec<AtomicU8>,
    /// Stores into the words by the owner of the memory: one is executed before each access by the other side.
    surprises: Mutex<VecDeque<(Word, u64)>>,
}

impl Heap {
    fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            words: Default::default(),
            ring: (0..capacity).map(|_| AtomicU8::new(0)).collect(),
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

    fn byte(&self, position: u64) -> u8 {
        self.ring[position as usize % self.ring.len()].load(Ordering::Relaxed)
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
    fn capacity(&self) -> usize {
        self.ring.len()
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
        for (place, &byte) in self.ring[at..at + from.len()].iter().zip(from) {
            place.store(byte, Ordering::Relaxed);
        }
    }

    unsafe fn copy_out(&self, at: usize, into: &mut [u8]) {
        self.surprise();
        for (place, byte) in self.ring[at..at + into.len()].iter().zip(into) {
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
    let capacity = 1 << (6 + input.byte() % 7);
    let start = match input.byte() % 4 {
        0 => 0,
        1 => u64::MAX - 100,
        2 => u64::from(u32::MAX) - 10,
        _ => input.wide(),
    };
    let (ours, theirs) = (Heap::new(capacity), Heap::new(capacity));
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
        let near = match input.byte() % 6 {
            0 => return input.wide(),
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
            assert_eq!(self.ours.byte(before.wrapping_add(at)), byte, "the ring contains the bytes that were put in");
        }
        if self.is_honest {
            assert!(
                count > 0 || bytes.is_empty() || self.unread.len() == self.ours.ring.len(),
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
        let available = self.theirs.word(Word::Head).wrapping_sub(tail);
        let is_calm = self.theirs.is_calm();
        let expected: Vec<u8> = (0..length as u64).map(|at| self.theirs.byte(tail.wrapping_add(at))).collect();

        let (first, second) = memory[1..end].split_at_mut(one.min(length));
        let read = self.reader.read(&mut [IoSliceMut::new(first), IoSliceMut::new(second)]);
        let is_bad = available > self.theirs.ring.len() as u64;
        if is_calm {
            assert_eq!(read.is_err(), is_bad, "{available} bytes are available");
        }
        let count = read.unwrap_or(0);
        assert_eq!(self.ours.word(Word::Tail), tail.wrapping_add(count as u64));
        assert!(count <= length.min(self.theirs.ring.len()));
        if is_calm && !is_bad {
            assert!(count as u64 <= available && (count > 0 || available == 0 || length == 0));
        }
        // A planned store changes words and never the ring.
        assert_eq!(memory[1..=count], expected[..count], "the bytes of the ring are returned");
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
                let mut bytes = vec![0; length.min(available)];
                self.reader.peek(&mut bytes);
                assert!((0..).zip(&bytes).all(|(at, &byte)| byte == self.theirs.byte(tail.wrapping_add(at))));
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
