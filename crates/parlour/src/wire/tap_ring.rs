//! A ring of records that its writer overwrites: the writer, and a reader that sees how much it has lost.
//!
//! The writer never looks at anything of a reader's. Before it overwrites records, it publishes the new `Tail`. After
//! it has written a record, it publishes `Head`. A reader copies bytes between the two, and then loads `Tail` again:
//! what is at or behind it was not overwritten before the copy was complete. A reader that was too slow goes on at
//! `Tail`, where a record begins, and sees by the numbers of the records how many it has lost.

use super::tap::{BadTap, Event, Header, HeaderWord, RECORD_HEADER_LEN, RecordHeader, WORD, record_len, recorded_max};

/// The memory of a ring, which one thread at a time writes.
pub(crate) trait Memory {
    /// Returns the length of the ring in bytes, a power of two.
    fn ring_len(&self) -> usize;

    /// Loads a word of the header.
    fn load(&self, word: HeaderWord) -> u64;

    /// Stores a word of the header. Everything before it in the order of the program comes before it for every reader,
    /// and everything after it comes after it.
    fn publish(&self, word: HeaderWord, value: u64);

    /// Loads a word of the ring at a place that is a multiple of 8.
    fn load_at(&self, place: usize) -> u64;

    /// Copies bytes to a place in the ring. The range does not go past the end of the ring.
    fn copy_in(&self, place: usize, bytes: &[u8]);
}

/// A message, or the mark of one that was not sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// In nanoseconds since the boot.
    pub(crate) time: u64,
    pub(crate) client: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) event: Event,
    pub(crate) descriptors: u16,
}

/// Writes a record with the bytes of a message in several parts, after this many messages that were not recorded. Only
/// one thread at a time may call this.
pub(crate) fn write<'a>(memory: &impl Memory, entry: &Entry, lost: u64, parts: impl Iterator<Item = &'a [u8]> + Clone) {
    let ring_len = memory.ring_len();
    let length = parts.clone().fold(0usize, |sum, part| sum.saturating_add(part.len()));
    let recorded = length.min(recorded_max(ring_len));
    let Entry { time, client, pid, event, descriptors } = *entry;
    let sequence = memory.load(HeaderWord::Sequence).wrapping_add(lost);
    let header =
        RecordHeader { sequence, time, client, pid, event: Some(event), descriptors, length: length as u64, recorded };
    let head = memory.load(HeaderWord::Head);
    let end = head.wrapping_add(header.record_len() as u64);
    free(memory, head, end);
    let mut position = head;
    let mut left = recorded;
    for word in header.encode() {
        copy(memory, &mut position, &word.to_ne_bytes());
    }
    for part in parts {
        let part = &part[..part.len().min(left)];
        copy(memory, &mut position, part);
        left -= part.len();
    }
    memory.publish(HeaderWord::Sequence, sequence.wrapping_add(1));
    memory.publish(HeaderWord::Head, end);
}

/// Gives up the oldest records, so that the ring has space up to this position.
fn free(memory: &impl Memory, head: u64, end: u64) {
    let ring_len = memory.ring_len();
    let mut tail = memory.load(HeaderWord::Tail);
    let before = tail;
    while end.wrapping_sub(tail) > ring_len as u64 {
        let size = memory.load_at(place(tail, ring_len));
        // No other process can write here, except by attaching to this one as a debugger does. The loop ends even so.
        let is_sound = size >= RECORD_HEADER_LEN as u64 && size % WORD as u64 == 0;
        tail = match is_sound && size <= head.wrapping_sub(tail) {
            true => tail.wrapping_add(size),
            false => head,
        };
    }
    if tail != before {
        memory.publish(HeaderWord::Tail, tail);
    }
}

/// Copies bytes to a position, around the end of the ring.
fn copy(memory: &impl Memory, position: &mut u64, bytes: &[u8]) {
    let ring_len = memory.ring_len();
    let at = place(*position, ring_len);
    let (first, second) = bytes.split_at(bytes.len().min(ring_len - at));
    memory.copy_in(at, first);
    memory.copy_in(0, second);
    *position = position.wrapping_add(bytes.len() as u64);
}

/// Returns the place of a position in the ring.
pub(crate) fn place(position: u64, ring_len: usize) -> usize {
    (position % ring_len as u64) as usize
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) header: RecordHeader,
    /// The number of records between this one and the one that was read before.
    pub(crate) lost: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The next step of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything was read.
    Nothing,
    /// The writer went on between the loads of `Head` and `Tail`. The reader loads both again.
    Again,
    /// The bytes from this position on are to be copied, and then given to [`Cursor::take`].
    Copy { position: u64, length: usize },
}

/// The place of a reader in a ring.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    ring_len: usize,
    position: u64,
    /// The number of the next record, if it is known.
    sequence: Option<u64>,
    /// The length of the next record, if it is longer than what was copied.
    needed: usize,
}

impl Cursor {
    /// The number of bytes that are copied at a time, unless a record is longer.
    const COPIED_AT_ONCE: usize = 128 * 1024;

    /// Begins with the first record of the ring.
    pub(crate) fn at_beginning(header: &Header) -> Self {
        Self { ring_len: header.ring_len, position: 0, sequence: Some(0), needed: 0 }
    }

    /// Begins with the next record that is written.
    pub(crate) fn at_end(header: &Header) -> Self {
        let sequence = (header.head == 0).then_some(0);
        Self { ring_len: header.ring_len, position: header.head, sequence, needed: 0 }
    }

    /// Returns the next step, for words that were loaded in the order of the parameters.
    pub(crate) fn step(&mut self, head: u64, tail: u64) -> Result<Step, BadTap> {
        let is_aligned = |position: u64| position % WORD as u64 == 0;
        if head < self.position || !is_aligned(head) || !is_aligned(tail) {
            return Err(BadTap::Positions);
        }
        if tail > head {
            return Ok(Step::Again);
        }
        if head - tail > self.ring_len as u64 {
            return Err(BadTap::Positions);
        }
        if self.position < tail {
            self.go_on_at(tail);
        }
        let length = (head - self.position).min(Self::COPIED_AT_ONCE.max(self.needed) as u64) as usize;
        Ok(match length {
            0 => Step::Nothing,
            // A record is complete when `Head` is behind it.
            _ if length < self.needed => return Err(BadTap::Record),
            _ => Step::Copy { position: self.position, length },
        })
    }

    /// Takes the records out of bytes that were copied from the current position on. `tail` was loaded after that.
    pub(crate) fn take(&mut self, bytes: &[u8], tail: u64, records: &mut Vec<Record>) -> Result<(), BadTap> {
        let overwritten = tail.saturating_sub(self.position);
        let intact = usize::try_from(overwritten).ok().and_then(|count| bytes.get(count..));
        if overwritten > 0 {
            self.go_on_at(tail);
        }
        // Everything was overwritten.
        let Some(mut rest) = intact else { return Ok(()) };
        while let Some(header) = RecordHeader::parse(rest, self.ring_len)? {
            let length = header.record_len();
            let Some(content) = rest.get(RECORD_HEADER_LEN..length) else {
                self.needed = length;
                return Ok(());
            };
            let lost = match self.sequence {
                Some(next) => header.sequence.checked_sub(next).ok_or(BadTap::Positions)?,
                None => 0,
            };
            self.sequence = Some(header.sequence.checked_add(1).ok_or(BadTap::Positions)?);
            records.push(Record { header, lost, bytes: content[..header.recorded].to_vec() });
            self.go_on_at(self.position.checked_add(length as u64).ok_or(BadTap::Positions)?);
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            self.needed = record_len(0);
        }
        Ok(())
    }

    fn go_on_at(&mut self, position: u64) {
        self.position = position;
        self.needed = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use proptest::prelude::*;

    const RING_LEN: usize = 1024;
    const HEADER: Header = Header { header_len: 4096, ring_len: RING_LEN, since: 0, tail: 0, head: 0 };

    /// A store of the writer.
    #[derive(Clone, Debug)]
    enum Store {
        Word(HeaderWord, u64),
        Byte(usize, u8),
    }

    /// The memory as the writer sees it, or as a reader does.
    #[derive(Clone)]
    struct View {
        bytes: Vec<u8>,
        head: u64,
        tail: u64,
        sequence: u64,
    }

    impl View {
        fn new() -> Self {
            Self { bytes: vec![0; RING_LEN], head: 0, tail: 0, sequence: 0 }
        }

        fn word(&mut self, word: HeaderWord) -> &mut u64 {
            match word {
                HeaderWord::Head => &mut self.head,
                HeaderWord::Tail => &mut self.tail,
                _ => &mut self.sequence,
            }
        }

        fn apply(&mut self, store: &Store) {
            match *store {
                Store::Word(word, value) => *self.word(word) = value,
                Store::Byte(place, byte) => self.bytes[place] = byte,
            }
        }

        fn copy(&self, position: u64, length: usize) -> Vec<u8> {
            (0..length as u64).map(|more| self.bytes[place(position + more, RING_LEN)]).collect()
        }
    }

    /// The memory of a writer, which keeps its stores in their order.
    struct Logged(RefCell<(View, Vec<Store>)>);

    impl Logged {
        fn new() -> Self {
            Self(RefCell::new((View::new(), Vec::new())))
        }

        fn store(&self, store: Store) {
            let (view, log) = &mut *self.0.borrow_mut();
            view.apply(&store);
            log.push(store);
        }
    }

    impl Memory for Logged {
        fn ring_len(&self) -> usize {
            RING_LEN
        }

        fn load(&self, word: HeaderWord) -> u64 {
            *self.0.borrow_mut().0.word(word)
        }

        fn publish(&self, word: HeaderWord, value: u64) {
            self.store(Store::Word(word, value));
        }

        fn load_at(&self, place: usize) -> u64 {
            super::super::tap::word(&self.0.borrow().0.bytes, place)
        }

        fn copy_in(&self, place: usize, bytes: &[u8]) {
            assert!(place + bytes.len() <= RING_LEN, "a copy stays in the ring");
            bytes.iter().enumerate().for_each(|(at, byte)| self.store(Store::Byte(place + at, *byte)));
        }
    }

    const ENTRY: Entry = Entry { time: 5, client: 7, pid: Some(9), event: Event::In, descriptors: 0 };

    /// Returns the content of the message with this number.
    fn content(sequence: u64, length: usize) -> Vec<u8> {
        (0..length).map(|at| (sequence as usize * 31 + at * 7) as u8).collect()
    }

    /// Writes a message for each length. `None` is one that is lost because another thread is writing.
    fn write_all(memory: &Logged, lengths: &[Option<usize>]) {
        let mut lost = 0;
        for length in lengths {
            let Some(length) = *length else {
                lost += 1;
                continue;
            };
            let content = content(memory.load(HeaderWord::Sequence) + lost, length);
            let parts = content.split_at(length / 3);
            write(memory, &ENTRY, std::mem::take(&mut lost), [parts.0, parts.1].into_iter());
        }
    }

    /// Reads everything that a view has, which does not change meanwhile.
    fn read_all(view: &View, cursor: &mut Cursor) -> Result<Vec<Record>, BadTap> {
        let mut records = Vec::new();
        for _ in 0..100 {
            match cursor.step(view.head, view.tail)? {
                Step::Copy { position, length } => {
                    cursor.take(&view.copy(position, length), view.tail, &mut records)?;
                }
                Step::Nothing => return Ok(records),
                Step::Again => panic!("the view does not change"),
            }
        }
        panic!("the reader makes no progress");
    }

    #[test]
    fn what_fits_is_read_in_order_and_without_loss() {
        let memory = Logged::new();
        write_all(&memory, &[Some(0), Some(1), Some(200), Some(64)]);
        let records = read_all(&memory.0.borrow().0, &mut Cursor::at_beginning(&HEADER)).unwrap();
        let read: Vec<_> = records.iter().map(|record| (record.header.sequence, record.lost)).collect();
        assert_eq!(read, [(0, 0), (1, 0), (2, 0), (3, 0)]);
        assert_eq!(records[2].bytes, content(2, 200));
        assert_eq!(records[2].header.client, 7);
    }

    #[test]
    fn of_a_long_message_the_beginning_is_recorded_with_its_length() {
        let memory = Logged::new();
        write_all(&memory, &[Some(100 * RING_LEN), Some(3)]);
        let records = read_all(&memory.0.borrow().0, &mut Cursor::at_beginning(&HEADER)).unwrap();
        assert_eq!(records[0].header.length, 100 * RING_LEN as u64);
        assert_eq!(records[0].bytes, content(0, recorded_max(RING_LEN)));
        assert_eq!(records[1].bytes, content(1, 3));
    }

    #[test]
    fn a_reader_that_was_too_slow_goes_on_with_the_oldest_record_and_counts_the_others() {
        let memory = Logged::new();
        write_all(&memory, &[Some(100); 50]);
        let records = read_all(&memory.0.borrow().0, &mut Cursor::at_beginning(&HEADER)).unwrap();
        assert_eq!(records[0].lost + records.len() as u64, 50);
        assert!(records.len() >= RING_LEN / record_len(100) - 1, "{} records", records.len());
    }

    #[test]
    fn a_later_reader_begins_with_the_next_record_and_has_lost_nothing() {
        let memory = Logged::new();
        write_all(&memory, &[Some(10); 30]);
        let View { head, tail, .. } = memory.0.borrow().0;
        let mut cursor = Cursor::at_end(&Header { head, tail, ..HEADER });
        write_all(&memory, &[Some(20)]);
        let records = read_all(&memory.0.borrow().0, &mut cursor).unwrap();
        assert_eq!((records.len(), records[0].lost, records[0].header.sequence), (1, 0, 30));
    }

    #[test]
    fn a_message_that_another_thread_kept_from_the_ring_is_a_gap() {
        let memory = Logged::new();
        write_all(&memory, &[None, Some(1), None, None, Some(1)]);
        let records = read_all(&memory.0.borrow().0, &mut Cursor::at_beginning(&HEADER)).unwrap();
        assert_eq!(records.iter().map(|record| record.lost).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn positions_and_numbers_that_go_back_are_refused() {
        let mut cursor = Cursor::at_end(&Header { head: 64, ..HEADER });
        assert_eq!(cursor.step(0, 0), Err(BadTap::Positions));
        assert_eq!(cursor.step(65, 0), Err(BadTap::Positions));
        assert_eq!(cursor.step(64 + RING_LEN as u64, 0), Err(BadTap::Positions));
        assert_eq!(cursor.step(128, 192), Ok(Step::Again));
        let memory = Logged::new();
        write_all(&memory, &[Some(1)]);
        memory.publish(HeaderWord::Sequence, 0);
        write_all(&memory, &[Some(1)]);
        assert_eq!(read_all(&memory.0.borrow().0, &mut Cursor::at_beginning(&HEADER)), Err(BadTap::Positions));
    }

    proptest! {
        /// Runs a reader against the stores of a writer, in their order, with any number of them between two steps of
        /// the reader, and also inside of its copy.
        #[test]
        fn a_reader_gets_every_record_as_it_was_written_or_counts_it(
            lengths in proptest::collection::vec(proptest::option::weighted(0.9, 0..600usize), 1..60),
            pauses in proptest::collection::vec(prop_oneof![Just(0), 0..20usize, 0..2000usize], 1..40),
        ) {
            let memory = Logged::new();
            write_all(&memory, &lengths);
            let (end, log) = memory.0.into_inner();
            let mut stores = log.iter();
            let mut view = View::new();
            // Pauses without a store alone would never end.
            let mut pauses = pauses.into_iter().chain([1]).cycle();
            let mut go_on = |view: &mut View| {
                stores.by_ref().take(pauses.next().unwrap()).for_each(|store| view.apply(store));
                stores.len()
            };
            let mut cursor = Cursor::at_beginning(&HEADER);
            let mut records = Vec::new();
            loop {
                let left = go_on(&mut view);
                let head = view.head;
                go_on(&mut view);
                match cursor.step(head, view.tail).unwrap() {
                    Step::Copy { position, length } => {
                        let mut bytes = Vec::new();
                        for at in (0..length).step_by(64) {
                            go_on(&mut view);
                            bytes.extend(view.copy(position + at as u64, 64.min(length - at)));
                        }
                        go_on(&mut view);
                        cursor.take(&bytes, view.tail, &mut records).unwrap();
                    }
                    Step::Nothing if left == 0 => break,
                    Step::Nothing | Step::Again => {}
                }
            }
            let mut written = lengths.iter().enumerate().filter_map(|(sequence, length)| Some((sequence, (*length)?)));
            let last = written.next_back().map(|(sequence, _)| sequence as u64);
            let mut next = 0;
            for record in &records {
                let RecordHeader { sequence, length, recorded, .. } = record.header;
                prop_assert_eq!(sequence, next + record.lost);
                let whole = content(sequence, lengths[sequence as usize].unwrap());
                prop_assert_eq!((length, recorded), (whole.len() as u64, whole.len().min(recorded_max(RING_LEN))));
                prop_assert!(record.bytes == whole[..recorded], "record {} was torn", sequence);
                next = sequence + 1;
            }
            prop_assert_eq!(records.last().map(|record| record.header.sequence), last);
            prop_assert_eq!(end.sequence, last.map_or(0, |last| last + 1));
        }

        #[test]
        fn any_bytes_and_positions_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), head in 0..2000u64, tail in 0..2000u64,
            later in any::<u64>(),
        ) {
            let mut cursor = Cursor::at_beginning(&HEADER);
            if let Ok(Step::Copy { length, .. }) = cursor.step(head, tail) {
                let mut records = Vec::new();
                let _ = cursor.take(&bytes[..bytes.len().min(length)], later, &mut records);
                prop_assert!(records.len() * record_len(0) <= bytes.len());
            }
        }
    }
}
