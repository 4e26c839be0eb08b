//! Reading the ring of a tap with pread(2) alone. `wire/tap_ring.rs` has the reader, and this its I/O.
//!
//! The file is not mapped, so whatever its owner does to it, reading cannot raise SIGBUS.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

use rustix::io::{Errno, pread};

use crate::wire::tap::{BadTap, Header, HeaderWord, word};
use crate::wire::tap_ring::{Cursor, Record, Step, place};

/// The number of attempts to load positions that belong together.
const TRIES: u32 = 8;

/// The reason why a ring cannot be read.
#[derive(Debug)]
pub(crate) enum TapReadError {
    Io(io::Error),
    Bad(BadTap),
}

impl From<Errno> for TapReadError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<BadTap> for TapReadError {
    fn from(bad: BadTap) -> Self {
        Self::Bad(bad)
    }
}

/// A ring that is read.
#[derive(Debug)]
pub(crate) struct TapReader<F> {
    file: F,
    header: Header,
    cursor: Cursor,
    buffer: Vec<u8>,
}

impl<F: AsFd> TapReader<F> {
    /// Begins at a place of the ring.
    pub(crate) fn new(file: F, begin: fn(&Header) -> Cursor) -> Result<Self, TapReadError> {
        let mut bytes = [0; Header::PARSED];
        let length = read_at(&file, &mut bytes, 0)?;
        let header = Header::parse(&bytes[..length])?;
        Ok(Self { file, header, cursor: begin(&header), buffer: Vec::new() })
    }

    /// Appends some of the records that were written meanwhile. Appends nothing if there are none.
    pub(crate) fn read(&mut self, records: &mut Vec<Record>) -> Result<(), TapReadError> {
        let before = records.len();
        for _ in 0..TRIES {
            let head = self.load(HeaderWord::Head)?;
            let tail = self.load(HeaderWord::Tail)?;
            match self.cursor.step(head, tail)? {
                Step::Nothing => return Ok(()),
                Step::Again => {}
                Step::Copy { position, length } => {
                    self.copy(position, length)?;
                    let tail = self.load(HeaderWord::Tail)?;
                    self.cursor.take(&self.buffer, tail, records)?;
                }
            }
            if records.len() > before {
                return Ok(());
            }
        }
        // The writer is faster than this reader. The next call tries again.
        Ok(())
    }

    fn load(&self, at: HeaderWord) -> Result<u64, TapReadError> {
        let mut bytes = [0; 8];
        fence(Ordering::SeqCst);
        if read_at(&self.file, &mut bytes, at.offset() as u64)? < bytes.len() {
            return Err(BadTap::Lengths.into());
        }
        fence(Ordering::SeqCst);
        Ok(word(&bytes, 0))
    }

    /// Copies bytes from a position on, around the end of the ring.
    fn copy(&mut self, position: u64, length: usize) -> Result<(), TapReadError> {
        let Header { header_len, ring_len, .. } = self.header;
        self.buffer.resize(length, 0);
        let at = place(position, ring_len);
        let (first, second) = self.buffer.split_at_mut(length.min(ring_len - at));
        let copied =
            read_at(&self.file, first, (header_len + at) as u64)? + read_at(&self.file, second, header_len as u64)?;
        // The file is shorter than its header states.
        if copied < length { Err(BadTap::Lengths.into()) } else { Ok(()) }
    }
}

/// Fills the buffer from this offset on, up to the end of the file. Returns the number of bytes.
pub(crate) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
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
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};

    use super::*;
    use crate::shm::tap::Ring;
    use crate::wire::tap::{Event, HEADER_LEN, constants};
    use crate::wire::tap_ring::{Entry, write};

    const RING_LEN: usize = 64 * 1024;
    const ENTRY: Entry = Entry { time: 1, client: 2, pid: None, event: Event::Out, descriptors: 0 };

    fn duplicate(ring: &Ring) -> OwnedFd {
        ring.fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn what_is_written_is_read_from_the_file() {
        let ring = Ring::create(RING_LEN).unwrap();
        let mut reader = TapReader::new(duplicate(&ring), Cursor::at_end).unwrap();
        let mut records = Vec::new();
        reader.read(&mut records).unwrap();
        assert!(records.is_empty());
        for number in 0..100u8 {
            write(&ring, &ENTRY, 0, [&[number; 1000][..], b"end"].into_iter());
            reader.read(&mut records).unwrap();
        }
        assert_eq!(records.len(), 100);
        assert!(records.iter().enumerate().all(|(number, record)| {
            record.lost == 0 && record.bytes[..1000] == [number as u8; 1000] && record.bytes[1000..] == *b"end"
        }));
        assert!(ring.place().inode != 0);
    }

    #[test]
    fn no_reader_can_change_the_file_or_its_size() {
        let ring = Ring::create(RING_LEN).unwrap();
        let file = duplicate(&ring);
        assert_eq!(ftruncate(&file, 0), Err(Errno::PERM));
        assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::PERM));
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&file, hole, 0, 4096), Err(Errno::PERM));
    }

    #[test]
    fn a_file_that_is_shorter_than_it_states_is_refused() {
        let file = memfd_create("parlour-tap-test", MemfdFlags::CLOEXEC).unwrap();
        let set = |at: HeaderWord, value: u64| {
            rustix::io::pwrite(&file, &value.to_ne_bytes(), at.offset() as u64).unwrap();
        };
        constants(RING_LEN).into_iter().for_each(|(at, value)| set(at, value));
        assert!(matches!(TapReader::new(&file, Cursor::at_beginning), Err(TapReadError::Bad(BadTap::NotTap))));
        set(HeaderWord::Sequence, 0);
        let mut reader = TapReader::new(&file, Cursor::at_beginning).unwrap();
        set(HeaderWord::Head, 4096);
        let mut records = Vec::new();
        assert!(matches!(reader.read(&mut records), Err(TapReadError::Bad(BadTap::Lengths))));
        ftruncate(&file, (HEADER_LEN + RING_LEN) as u64).unwrap();
        assert!(matches!(reader.read(&mut records), Err(TapReadError::Bad(BadTap::Record))), "a record of zeros");
    }

    #[test]
    fn a_reader_beside_a_fast_writer_gets_whole_records_and_counts_the_others() {
        const COUNT: u64 = 100_000;
        let ring = Ring::create(RING_LEN).unwrap();
        let is_done = AtomicBool::new(false);
        let mut reader = TapReader::new(duplicate(&ring), Cursor::at_end).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..COUNT {
                    let length = (number * 7919 % 3000) as usize;
                    write(&ring, &ENTRY, 0, [&[number as u8; 3000][..length]].into_iter());
                }
                is_done.store(true, Ordering::Release);
            });
            let (mut next, mut records) = (0, Vec::new());
            loop {
                let is_last = is_done.load(Ordering::Acquire);
                reader.read(&mut records).unwrap();
                if records.is_empty() && is_last {
                    break;
                }
                for record in records.drain(..) {
                    let number = record.header.sequence;
                    assert_eq!(number, next + record.lost);
                    assert_eq!(record.bytes.len() as u64, number * 7919 % 3000);
                    assert!(record.bytes.iter().all(|byte| *byte == number as u8), "record {number} is torn");
                    next = number + 1;
                }
            }
            assert_eq!(next, COUNT, "the last record was read");
        });
    }
}
