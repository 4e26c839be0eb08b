//! The ring compared with a queue, and against a peer that writes any value to any memory that it can write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};

use super::mapping::{CONTROL_LEN, Mapped, Mapping, Mappings};
use super::memfd::BadMemory;
use super::ring::{Memory, Reader, Sides, Unreadable, Word, Writer};

const RING: usize = 4096;

/// The memory of both sides, as each side maps it.
struct Both {
    ours: Arc<Mappings>,
    theirs: Arc<Mappings>,
}

impl Both {
    fn new() -> Self {
        let side = || {
            let (local, memfd) = Mapping::create(RING).unwrap();
            let remote = Mapping::adopt(memfd, RING).unwrap();
            (local.between_guards(), remote.between_guards())
        };
        let ((ours, ours_to_them), (theirs, theirs_to_us)) = (side(), side());
        let [ours, theirs] = [(ours, theirs_to_us), (theirs, ours_to_them)];
        Self { ours: Arc::new(Mappings::new(ours.0, ours.1)), theirs: Arc::new(Mappings::new(theirs.0, theirs.1)) }
    }

    /// Returns the direction from this side to the peer, starting at this position.
    fn out(&self, position: u64) -> (Writer<Mappings>, Reader<Mappings>) {
        let writer = Writer::starting_at(position, Arc::clone(&self.ours));
        (writer, Reader::starting_at(position, Arc::clone(&self.theirs)))
    }

    /// Returns the peer's memory as the peer maps it, to write any value to it.
    fn theirs(&self) -> Mapped<'_> {
        self.theirs.local()
    }
}

proptest! {
    /// This includes a ring whose positions are about to wrap.
    #[test]
    fn the_ring_returns_the_bytes_that_were_put_in(
        steps in prop::collection::vec((any::<bool>(), 0usize..3000, 0usize..3000), 1..60),
        position in prop_oneof![Just(0), Just(u64::MAX - 5000), any::<u64>()],
    ) {
        let (mut writer, mut reader) = Both::new().out(position);
        let mut queue = VecDeque::new();
        let mut next = 0u8;
        for (writes, one, other) in steps {
            if writes {
                let bytes: Vec<u8> = (0..one + other).map(|at| next.wrapping_add(at as u8)).collect();
                let (first, second) = bytes.split_at(one);
                let count = writer.write(&[IoSlice::new(first), IoSlice::new(second)]).unwrap();
                prop_assert_eq!(count, bytes.len().min(RING - queue.len()));
                queue.extend(&bytes[..count]);
                next = next.wrapping_add(count as u8);
            } else {
                let (mut first, mut second) = (vec![0; one], vec![0; other]);
                prop_assert_eq!(reader.available(), Ok(queue.len()));
                let mut peeked = vec![0; queue.len().min(4)];
                reader.peek(&mut peeked);
                prop_assert!(peeked.iter().eq(queue.iter().take(4)));
                let mut spaces = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
                let count = reader.read(&mut spaces).unwrap();
                prop_assert_eq!(count, queue.len().min(one + other));
                let expected: Vec<u8> = queue.drain(..count).collect();
                prop_assert_eq!(&[first, second].concat()[..count], expected);
            }
        }
        prop_assert_eq!(writer.is_drained(), queue.is_empty());
    }
}

#[test]
fn each_request_of_a_side_causes_one_notification() {
    let (mut writer, mut reader) = Both::new().out(0);
    assert!(!writer.should_notify(), "no request was made");
    reader.request_wakeup();
    assert!(writer.should_notify());
    assert!(!writer.should_notify(), "the request was answered");
    reader.request_wakeup();
    assert!(writer.should_notify());
    assert!(!reader.should_notify());
    assert_eq!(writer.request_wakeup(), Ok(true));
    assert!(reader.should_notify());
    assert!(!reader.should_notify());
    while writer.write(&[IoSlice::new(&[1; 1000])]).unwrap() > 0 {}
    assert_eq!(writer.request_wakeup(), Ok(false));
}

#[test]
fn a_byte_that_is_taken_back_is_missing_or_known_to_be() {
    for position in [0, u64::MAX - 1000] {
        for taken in [0, 1, RING - 1, RING] {
            let (mut writer, mut reader) = Both::new().out(position);
            while writer.write(&[IoSlice::new(&[1; 1000])]).unwrap() > 0 {}
            let mut read = |count: usize| reader.read(&mut [IoSliceMut::new(&mut vec![0; count])]);
            let before: usize = (0..taken).map(|_| read(1).unwrap()).sum();
            writer.take_back();
            let after = std::iter::from_fn(|| read(RING).ok().filter(|&count| count > 0)).sum::<usize>();
            assert_eq!(before + after, taken.max(RING - 1), "{taken} bytes were taken before");
            let end = if taken == RING { Err(Unreadable::TakenBack) } else { Ok(0) };
            assert_eq!((read(1), reader.available()), (end, end));
        }
    }
}

/// Returns values around a position at which arithmetic errors occur.
fn edges(position: u64) -> Vec<u64> {
    let near = [0, 1, 2, RING as u64 - 1, RING as u64, RING as u64 + 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63];
    let around = near.iter().flat_map(|&by| [position.wrapping_add(by), position.wrapping_sub(by)]);
    around.chain([0, 1, u64::from(u32::MAX), u64::MAX - 1, u64::MAX]).collect()
}

#[test]
fn a_position_out_of_range_is_refused_whatever_it_is() {
    for position in [0, 7, u64::MAX - 100, 1 << 40] {
        for value in edges(position) {
            let sides = Both::new();
            let (mut writer, _) = sides.out(position);
            let written = writer.write(&[IoSlice::new(&[1; 100])]).unwrap() as u64;
            sides.theirs().store(Word::Tail, value);
            let taken = value.wrapping_sub(position);
            assert_eq!(writer.request_wakeup().is_ok(), taken <= written, "tail {value} after {position}");
            // If its last check showed no space, the writer must check again, and rejects the position as well.
            let filled = writer.write(&[IoSlice::new(&[2; RING])]);
            assert_eq!(filled.is_ok(), taken <= written, "tail {value} after {position}");

            let mut reader = Reader::starting_at(position, Arc::clone(&sides.ours));
            sides.theirs().store(Word::Head, value);
            let is_right = value.wrapping_sub(position) <= RING as u64;
            let mut bytes = [0; 200];
            assert_eq!(reader.read(&mut [IoSliceMut::new(&mut bytes)]).is_ok(), is_right, "head {value} at {position}");
            assert_eq!(bytes, [0; 200]);
        }
    }
}

/// Every page next to the memory is inaccessible, so that an access out of range kills the test.
#[test]
fn a_peer_that_writes_anything_at_any_time_gets_errors_and_nothing_else() {
    let sides = Both::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let hostile = thread::spawn({
        let (theirs, is_over) = (Arc::clone(&sides.theirs), Arc::clone(&is_over));
        move || {
            let values: Vec<u64> = [0, 50_000, 1 << 33].into_iter().flat_map(edges).collect();
            let junk = vec![0xff; RING];
            let theirs = theirs.local();
            for value in values.iter().cycle() {
                for word in [Word::Head, Word::Tail, Word::DataWaiter, Word::SpaceWaiter] {
                    theirs.store(word, *value);
                }
                // Change headers and messages while the reader reads them.
                #[allow(unsafe_code)]
                // SAFETY: the range is the ring. The test intends that the other side reads it concurrently.
                unsafe {
                    theirs.copy_in(0, &junk[..(*value as usize) % RING]);
                }
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    let mut counts = (0, 0);
    for round in 0..50_000u64 {
        let mut writer = Writer::starting_at(round, Arc::clone(&sides.ours));
        let mut reader = Reader::starting_at(round, Arc::clone(&sides.ours));
        let mut bytes = [0xaa; 300];
        let (front, rest) = bytes.split_at_mut(100);
        let (space, back) = rest.split_at_mut(100);
        match reader.read(&mut [IoSliceMut::new(space)]) {
            Ok(count) => assert!(count <= 100),
            Err(_) => counts.0 += 1,
        }
        assert!(front.iter().chain(&*back).all(|&byte| byte == 0xaa), "canaries around the space are unchanged");
        reader.request_wakeup();
        let (_, _) = (reader.should_notify(), reader.is_outgoing_drained());
        for length in [10, RING] {
            match writer.write(&[IoSlice::new(&[3; RING][..length])]) {
                Ok(count) => assert!(count <= length),
                Err(_) => counts.1 += 1,
            }
        }
        let (_, _, _) = (writer.should_notify(), writer.request_wakeup(), writer.is_drained());
    }
    is_over.store(true, Ordering::Relaxed);
    hostile.join().unwrap();
    assert!(counts.0 > 0 && counts.1 > 0, "bad positions were detected: {counts:?}");
    // Memory that the peer cannot write is unchanged: behind the words, the control page of this side still has its
    // initial content.
    let control = sides.ours.local().control_page();
    assert!(control[512..].iter().all(|&byte| byte == 0));
}

/// Creates memory whose first `written` bytes were written.
fn sealed(length: usize, written: usize, seals: SealFlags) -> OwnedFd {
    let memfd = memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&memfd, length as u64).unwrap();
    let file = std::fs::File::from(memfd);
    file.write_all_at(&vec![0; written], 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

#[test]
fn memory_that_could_change_size_or_content_is_not_mapped() {
    const WHOLE: usize = CONTROL_LEN + RING;
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    assert!(Mapping::adopt(sealed(WHOLE, WHOLE, all), RING).is_ok());
    for seal in all.iter() {
        let adopted = Mapping::adopt(sealed(WHOLE, WHOLE, all - seal), RING);
        assert!(matches!(adopted, Err(BadMemory::Unsealed)), "without {seal:?}");
    }
    for length in [0, 1, RING, WHOLE - 1, WHOLE + 1, 2 * WHOLE] {
        let adopted = Mapping::adopt(sealed(length, length, all), RING);
        assert!(matches!(adopted, Err(BadMemory::Size(_))), "{length} bytes");
    }
    for written in [0, CONTROL_LEN, WHOLE - 4096] {
        let adopted = Mapping::adopt(sealed(WHOLE, written, all), RING);
        assert!(matches!(adopted, Err(BadMemory::Sparse)), "{written} bytes were written");
    }
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert!(matches!(Mapping::adopt(pipe, RING), Err(BadMemory::NotMemory)));
    let file = tempfile::tempfile_in("/var/tmp").unwrap();
    file.set_len(WHOLE as u64).unwrap();
    assert!(Mapping::adopt(file, RING).is_err());
    if let Ok(file) = tempfile::tempfile_in("/dev/shm") {
        file.set_len(WHOLE as u64).unwrap();
        assert!(Mapping::adopt(file, RING).is_err(), "a file that other processes can shrink");
    }
}

/// The reader of the memory has only the descriptor, while it is passed to the peer.
#[test]
fn the_kernel_keeps_a_reader_from_changing_the_memory() {
    let (_mine, memfd) = Mapping::create(RING).unwrap();
    assert!(rustix::io::write(&memfd, b"x").is_err(), "writing must fail");
    assert!(ftruncate(&memfd, 0).is_err(), "shrinking must fail");
    assert!(ftruncate(&memfd, 1 << 20).is_err(), "growing must fail");
    let hole = fallocate(&memfd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096);
    assert!(hole.is_err(), "punching a hole must fail");
    assert!(fcntl_add_seals(&memfd, SealFlags::WRITE).is_err(), "adding a seal must fail");
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    let again = std::fs::File::options().read(true).write(true).open(path).unwrap();
    for descriptor in [memfd, again.into()] {
        assert!(!Mapping::can_be_mapped_writable(&descriptor), "a writable mapping must fail");
    }
}

#[test]
fn memory_that_a_parent_makes_for_its_child_is_sealed_once_the_child_has_it() {
    let (_read_only, memfd) = Mapping::create_for_peer(RING).unwrap();
    assert!(ftruncate(&memfd, 0).is_err(), "shrinking must fail");
    assert!(matches!(Mapping::adopt(&memfd, RING), Err(BadMemory::Unsealed)));
    assert!(matches!(Mapping::take(&memfd, 2 * RING), Err(BadMemory::Size(_))));
    assert!(Mapping::can_be_mapped_writable(&memfd), "the child can map it");
    let _writable = Mapping::take(&memfd, RING).unwrap();
    assert!(!Mapping::can_be_mapped_writable(&memfd), "a writable mapping must fail");
    assert!(Mapping::take(&memfd, RING).is_err(), "it has one writer");
    assert!(Mapping::adopt(&memfd, RING).is_ok());
}

#[test]
fn memory_that_could_change_size_is_not_taken() {
    const WHOLE: usize = CONTROL_LEN + RING;
    let sizes = SealFlags::SHRINK | SealFlags::GROW;
    assert!(Mapping::take(sealed(WHOLE, WHOLE, sizes), RING).is_ok());
    for seal in sizes.iter() {
        assert!(matches!(Mapping::take(sealed(WHOLE, WHOLE, sizes - seal), RING), Err(BadMemory::Unsealed)));
    }
    let closed = sizes | SealFlags::SEAL;
    assert!(matches!(Mapping::take(sealed(WHOLE, WHOLE, closed), RING), Err(BadMemory::Unsealed)));
    assert!(matches!(Mapping::take(sealed(WHOLE, WHOLE - 4096, sizes), RING), Err(BadMemory::Sparse)));
    assert!(matches!(Mapping::take(sealed(WHOLE + 1, WHOLE + 1, sizes), RING), Err(BadMemory::Size(_))));
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert!(matches!(Mapping::take(pipe, RING), Err(BadMemory::NotMemory)));
}
