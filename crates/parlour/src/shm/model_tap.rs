//! The ring of a tap in every order that the memory model allows, checked by loom:
//! `RUSTFLAGS='--cfg loom' cargo test -p parlour --lib`.
//!
//! The records have no bytes of a message. Two of their eight words are in the memory, the number and the time, which
//! both tell the number of the record: a record of which a part was overwritten has two numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use crate::wire::tap::{Event, Header, HeaderWord, RECORD_HEADER_LEN, RecordHeader, WORD};
use crate::wire::tap_ring::{Cursor, Entry, Memory, Step, write};

/// The ring has space for two records.
const RING_LEN: usize = 2 * RECORD_HEADER_LEN;

/// The number of records that are written.
const COUNT: u64 = 3;

/// The places of the words of a record that are in the memory.
const SEQUENCE: usize = WORD;
const TIME: usize = 2 * WORD;

struct Ring {
    head: AtomicU64,
    tail: AtomicU64,
    /// Only the writer loads it.
    sequence: std::sync::atomic::AtomicU64,
    /// The number and the time, for each record.
    records: [[AtomicU64; 2]; 2],
}

impl Ring {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { head: zero(), tail: zero(), sequence: 0.into(), records: [[zero(), zero()], [zero(), zero()]] }
    }

    /// Returns the word at this place, if the memory has it.
    fn at(&self, place: usize) -> Option<&AtomicU64> {
        let record = &self.records[place / RECORD_HEADER_LEN];
        match place % RECORD_HEADER_LEN {
            SEQUENCE => Some(&record[0]),
            TIME => Some(&record[1]),
            _ => None,
        }
    }

    /// Returns the bytes of the records from a position on, as a reader copies them.
    fn copy(&self, position: u64, length: usize) -> Vec<u8> {
        let words = (0..length).step_by(WORD).map(|at| {
            let place = (position as usize + at) % RING_LEN;
            let other = record(0).encode()[place % RECORD_HEADER_LEN / WORD];
            self.at(place).map_or(other, |word| word.load(Ordering::Relaxed))
        });
        words.flat_map(u64::to_ne_bytes).collect()
    }

    fn load_from_outside(&self, word: &AtomicU64) -> u64 {
        fence(Ordering::SeqCst);
        let value = word.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        value
    }
}

fn record(number: u64) -> RecordHeader {
    RecordHeader {
        sequence: number,
        time: number,
        client: 1,
        pid: None,
        event: Some(Event::In),
        descriptors: 0,
        length: 0,
        recorded: 0,
    }
}

impl Memory for Ring {
    fn ring_len(&self) -> usize {
        RING_LEN
    }

    fn load(&self, word: HeaderWord) -> u64 {
        match word {
            HeaderWord::Head => self.head.load(Ordering::Relaxed),
            HeaderWord::Tail => self.tail.load(Ordering::Relaxed),
            _ => self.sequence.load(Ordering::Relaxed),
        }
    }

    fn publish(&self, word: HeaderWord, value: u64) {
        fence(Ordering::SeqCst);
        match word {
            HeaderWord::Head => self.head.store(value, Ordering::Relaxed),
            HeaderWord::Tail => self.tail.store(value, Ordering::Relaxed),
            _ => self.sequence.store(value, Ordering::Relaxed),
        }
        fence(Ordering::SeqCst);
    }

    fn load_at(&self, _: usize) -> u64 {
        RECORD_HEADER_LEN as u64
    }

    fn copy_in(&self, place: usize, bytes: &[u8]) {
        if let Some(word) = bytes.first_chunk().and_then(|word| Some((self.at(place)?, u64::from_ne_bytes(*word)))) {
            word.0.store(word.1, Ordering::Relaxed);
        }
    }
}

#[test]
fn every_record_that_a_reader_takes_is_whole_and_the_others_are_counted() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let ring = Arc::new(Ring::new());
        let writing = thread::spawn({
            let ring = ring.clone();
            move || {
                for number in 0..COUNT {
                    let entry = Entry { time: number, client: 1, pid: None, event: Event::In, descriptors: 0 };
                    write(&*ring, &entry, 0, std::iter::empty());
                }
            }
        });
        let header = Header { header_len: 4096, ring_len: RING_LEN, since: 0, tail: 0, head: 0 };
        let mut cursor = Cursor::at_beginning(&header);
        let (mut records, mut next) = (Vec::new(), 0);
        let mut read = |cursor: &mut Cursor| {
            let head = ring.load_from_outside(&ring.head);
            let tail = ring.load_from_outside(&ring.tail);
            if let Step::Copy { position, length } = cursor.step(head, tail).unwrap() {
                let bytes = ring.copy(position, length);
                let tail = ring.load_from_outside(&ring.tail);
                cursor.take(&bytes, tail, &mut records).unwrap();
            }
            for read in records.drain(..) {
                assert_eq!(read.header, record(read.header.sequence), "a record is torn");
                assert_eq!(read.header.sequence, next + read.lost);
                next = read.header.sequence + 1;
            }
            next
        };
        read(&mut cursor);
        writing.join().unwrap();
        assert_eq!(read(&mut cursor), COUNT, "the newest record is intact when nobody writes");
    });
}
