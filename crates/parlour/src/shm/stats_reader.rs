//! Reading the counters of a server with pread(2) alone. `wire/stats.rs` has the layout and parses what is read.
//!
//! The file is not mapped, so whatever its owner does to it, reading cannot raise SIGBUS.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::fstat;
use rustix::io::{Errno, pread};

use crate::wire::stats::{BadStats, FlowWords, HEADER_LEN, Header, SLOTS_AT_ONCE, SlotState, SlotValues, parse_slot};

/// The number of attempts to read values that change.
const TRIES: u32 = 8;

/// The number of blocks of slots that are read again in all attempts together. It bounds the work for a file that
/// always changes, and suffices for some thousand connections.
const BLOCKS_AGAIN: usize = 512;

/// The counters at one time.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) header: Header,
    pub(crate) slots: Vec<SlotValues>,
    /// The number of slots that were changing in every attempt.
    pub(crate) changing: usize,
    /// True if no connection began or ended meanwhile, so that the totals and the slots belong together.
    pub(crate) is_exact: bool,
}

/// The reason why counters cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    Bad(BadStats),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Reads the counters of a server. The values of a connection belong together, and so do the totals and the
/// connections, unless connections begin and end faster than they can be read.
pub(crate) fn read(file: impl AsFd) -> Result<Reading, ReadError> {
    let mut budget = BLOCKS_AGAIN;
    let mut tries = 0;
    loop {
        tries += 1;
        let before = read_header(&file)?;
        let (slots, changing) = read_slots(&file, &before, &mut budget)?;
        let header = read_header(&file)?;
        let blocks = header.slots.div_ceil(SLOTS_AT_ONCE);
        let is_exact = header.is_as_before(&before);
        if is_exact || tries == TRIES || budget < blocks {
            return Ok(Reading { header, slots, changing, is_exact });
        }
        budget -= blocks;
    }
}

impl Reading {
    /// Returns what was received and sent over all connections.
    pub(crate) fn totals(&self) -> (FlowWords, FlowWords) {
        let sum = |ended: FlowWords, of: fn(&SlotValues) -> FlowWords| {
            self.slots.iter().map(of).fold(ended, |sum, flow| FlowWords {
                messages: sum.messages.wrapping_add(flow.messages),
                bytes: sum.bytes.wrapping_add(flow.bytes),
            })
        };
        let received = sum(self.header.ended_received, |slot| slot.received);
        (received, sum(self.header.ended_sent, |slot| slot.sent))
    }
}

/// Reads the words that concern the whole server.
pub(crate) fn read_header(file: impl AsFd) -> Result<Header, ReadError> {
    let mut bytes = vec![0; HEADER_LEN];
    let length = read_at(file, &mut bytes, 0)?;
    Header::parse(&bytes[..length]).map_err(ReadError::Bad)
}

/// Reads the slots that the file has. Returns those that are in use, and the number of those that are changing.
fn read_slots(file: impl AsFd, header: &Header, budget: &mut usize) -> Result<(Vec<SlotValues>, usize), ReadError> {
    let size = usize::try_from(fstat(&file)?.st_size).unwrap_or(0);
    let slots = header.slots.min(size.saturating_sub(header.header_len) / header.slot_len);
    let (mut used, mut changing) = (Vec::new(), 0);
    let mut copies = [const { Vec::new() }; 3];
    for begin in (0..slots).step_by(SLOTS_AT_ONCE) {
        let count = SLOTS_AT_ONCE.min(slots - begin);
        let at = (header.header_len + begin * header.slot_len) as u64;
        let mut states = vec![SlotState::Changing; count];
        for _ in 0..TRIES {
            for copy in &mut copies {
                copy.resize(count * header.slot_len, 0);
                let length = read_at(&file, copy, at)?;
                copy.truncate(length);
            }
            for (index, state) in states.iter_mut().enumerate().filter(|(_, state)| **state == SlotState::Changing) {
                let [before, values, after] = copies.each_ref().map(|copy| slot(copy, index, header.slot_len));
                *state = parse_slot(before, values, after);
            }
            if *budget == 0 || !states.contains(&SlotState::Changing) {
                break;
            }
            *budget -= 1;
        }
        for state in states {
            match state {
                SlotState::Free => {}
                SlotState::Used(values) => used.push(values),
                SlotState::Changing => changing += 1,
            }
        }
    }
    Ok((used, changing))
}

/// Returns the bytes of a slot, as far as they were read.
fn slot(bytes: &[u8], index: usize, slot_len: usize) -> &[u8] {
    let rest = bytes.get(index * slot_len..).unwrap_or_default();
    &rest[..slot_len.min(rest.len())]
}

/// Fills the buffer from this offset on, up to the end of the file. Returns the number of bytes.
fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match pread(&file, &mut buffer[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}

#[cfg(all(test, not(loom)))]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::ops::Deref;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::shm::stats::{Counters, Direction, Identity, Tally};
    use crate::wire::stats::{SlotWord, WaitKind};

    const CLIENT: Identity<'static> = Identity { pid: Some(7), uid: Some(1000), gid: None, transport: 3, origin: None };

    /// A connection that ends when it is dropped.
    struct Begun<'a>(&'a Counters, Option<Tally>);

    impl Deref for Begun<'_> {
        type Target = Tally;

        fn deref(&self) -> &Tally {
            self.1.as_ref().unwrap()
        }
    }

    impl Drop for Begun<'_> {
        fn drop(&mut self) {
            self.0.end(self.1.take().unwrap());
        }
    }

    fn begin<'a>(counters: &'a Counters, identity: &Identity<'_>) -> Begun<'a> {
        Begun(counters, Some(counters.begin(identity).unwrap()))
    }

    fn counters(connections_max: usize) -> Counters {
        Counters::create(connections_max, None).unwrap()
    }

    #[test]
    fn what_is_counted_is_read_and_the_end_of_a_connection_keeps_the_totals() {
        let counters = counters(10);
        let tally = begin(&counters, &CLIENT);
        tally.count(Direction::Received, 10);
        tally.count(Direction::Received, 5);
        tally.count(Direction::Sent, 3);
        tally.note_waiting(Direction::Received, WaitKind::Rest);
        let reading = read(counters.fd()).unwrap();
        let [slot] = &reading.slots[..] else { panic!("{reading:?}") };
        assert_eq!((slot.number, slot.pid, slot.uid, slot.gid), (1, Some(7), Some(1000), None));
        assert_eq!((slot.received.messages, slot.received.bytes, slot.sent.bytes), (2, 15, 3));
        assert_eq!(slot.receiving.map(|wait| wait.kind), Some(WaitKind::Rest));
        assert!(slot.since >= reading.header.since && slot.sending.is_none());
        let totals = reading.totals();
        assert_eq!((reading.header.open, totals), (1, counters.flows()));
        drop(tally);
        let reading = read(counters.fd()).unwrap();
        assert!(reading.slots.is_empty() && reading.header.open == 0);
        assert_eq!(reading.totals(), totals);
        let next = begin(&counters, &CLIENT);
        let reading = read(counters.fd()).unwrap();
        assert_eq!((reading.slots[0].number, reading.slots[0].received.messages), (2, 0), "a slot begins anew");
        drop(next);
    }

    #[test]
    fn a_client_of_a_bridge_is_read_with_its_origin_and_the_next_one_without() {
        use crate::wire::origin::Origin;
        let counters = counters(10);
        let origin_of = |origin: &Origin| {
            let tally = begin(&counters, &Identity { origin: Some(origin), ..CLIENT });
            let slot = read(counters.fd()).unwrap().slots.remove(0);
            drop(tally);
            slot.origin.unwrap()
        };
        let whole = Origin::new("wc-0.bridges.default.svc.cluster.local").with_uid(0).with_pid(4711).with_program("wc");
        assert_eq!(origin_of(&whole), whole);
        let bare = Origin::new("h".repeat(64));
        assert_eq!(origin_of(&bare), bare);
        let long = origin_of(&Origin::new("h".repeat(65)).with_program("\u{fffd}".repeat(9)));
        assert_eq!((long.host().len(), long.program()), (64, Some(&*format!("{}~", "\u{fffd}".repeat(5)))));
        assert!(long.host().ends_with("h~"), "{long}");
        let near = begin(&counters, &CLIENT);
        assert_eq!(read(counters.fd()).unwrap().slots[0].origin, None);
        drop(near);
    }

    #[test]
    fn every_connection_has_a_slot_and_slots_are_used_again() {
        let counters = counters(1000);
        for _ in 0..3 {
            let tallies: Vec<_> = (0..1000).map(|_| begin(&counters, &CLIENT)).collect();
            let reading = read(counters.fd()).unwrap();
            assert_eq!((reading.slots.len(), reading.header.open, reading.header.unlisted), (1000, 1000, 0));
            drop(tallies);
        }
        assert_eq!(read(counters.fd()).unwrap().header.slots, 1024);
    }

    #[test]
    fn connections_without_a_slot_are_counted() {
        let counters = counters(64);
        let tallies: Vec<_> = (0..70).map(|_| begin(&counters, &CLIENT)).collect();
        tallies.iter().for_each(|tally| tally.count(Direction::Sent, 1));
        let header = read(counters.fd()).unwrap().header;
        assert_eq!((header.open, header.unlisted), (70, 6));
        drop(tallies);
        let header = read(counters.fd()).unwrap().header;
        assert_eq!((header.open, header.unlisted), (0, 0));
    }

    #[test]
    fn a_reader_sees_no_torn_values_and_no_connection_twice() {
        let counters = counters(64);
        let is_over = AtomicBool::new(false);
        /// Ends the thread also if this one panics.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        std::thread::scope(|scope| {
            let _ends = Ends(&is_over);
            // Each message has 3 bytes, so the number of bytes is 3 times that of the messages, or that of the message
            // before. The process and the user of a connection have the same number.
            scope.spawn(|| {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    number += 1;
                    let tally = begin(&counters, &Identity { pid: Some(number), uid: Some(number), ..CLIENT });
                    (0..number % 8).for_each(|_| tally.count(Direction::Sent, 3));
                }
            });
            let mut seen = 0;
            for _ in 0..2_000 {
                let reading = read(counters.fd()).unwrap();
                for slot in &reading.slots {
                    assert_eq!((slot.pid, u64::from(slot.pid.unwrap())), (slot.uid, slot.number));
                    assert!(slot.sent.messages < 8 && slot.sent.bytes <= 21, "{slot:?}");
                }
                if reading.is_exact {
                    let messages = reading.totals().1.messages;
                    assert!(messages >= seen, "{messages} after {seen}");
                    seen = messages;
                }
            }
        });
    }

    #[test]
    fn neither_the_owner_nor_another_holder_of_the_file_can_write_to_it_or_change_its_size() {
        use std::os::unix::fs::FileExt;
        let counters = counters(64);
        let copy = std::fs::File::from(counters.fd().as_fd().try_clone_to_owned().unwrap());
        let denied = |outcome: io::Result<()>| assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
        denied(copy.write_all_at(&[1], 0));
        denied(copy.set_len(0));
        denied(copy.set_len(1 << 30));
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(&copy, hole, 0, 4096), Err(Errno::PERM));
        assert_eq!(rustix::fs::fstat(&copy).unwrap().st_mode & 0o7777, 0o400);
    }

    #[test]
    fn a_file_that_is_something_else_is_refused_and_one_that_lies_is_read_within_bounds() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(read(&file), Err(ReadError::Bad(BadStats::NotStats))));
        let counters = counters(64);
        let _tally = begin(&counters, &CLIENT);
        let mut bytes = vec![0; 4096 + 256];
        let original = std::fs::File::from(counters.fd().as_fd().try_clone_to_owned().unwrap());
        original.read_exact_at(&mut bytes, 0).unwrap();
        // The header announces 64 slots, and the file ends after half of the second one.
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(4096 + 256 + 128).unwrap();
        let reading = read(&file).unwrap();
        assert_eq!((reading.slots.len(), reading.changing), (1, 0));
        // A slot that is always changing does not keep the reader.
        bytes[4096 + SlotWord::Sequence.offset()] ^= 1;
        file.write_all_at(&bytes, 0).unwrap();
        assert_eq!(read(&file).unwrap().slots.len(), 0);
    }
}
