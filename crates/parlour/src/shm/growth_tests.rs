//! Rings that begin small: their growth compared with a queue, and peers that offer memory that does not exist.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::fs::Permissions;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;
use rustix::fs::{fchmod, fstat, seek};

use super::mapping::{CONTROL_LEN, Mapping, Mappings};
use super::memfd::BadMemory;
use super::ring::{Memory, Reader, Sides, Unreadable, Word, Writer};
use crate::wire::shm_hello::Layout;

const RING: usize = 1 << 17;

/// The memory of both sides, as each side maps it, and the memory files.
struct Both {
    ours: Arc<Mappings>,
    theirs: Arc<Mappings>,
    memfds: [OwnedFd; 2],
}

impl Both {
    fn new(ring_size: usize) -> Self {
        let side = || {
            let (local, memfd) = Mapping::create_growing(ring_size).unwrap();
            assert_eq!(local.layout(), Layout::Growing);
            let remote = Mapping::adopt(&memfd, ring_size, Layout::Growing).unwrap();
            (local, remote, memfd)
        };
        let ((ours, ours_to_them, one), (theirs, theirs_to_us, other)) = (side(), side());
        Self {
            ours: Arc::new(Mappings::new(ours, theirs_to_us)),
            theirs: Arc::new(Mappings::new(theirs, ours_to_them)),
            memfds: [one, other],
        }
    }

    /// Returns the direction from this side to the peer, starting at this position.
    fn out(&self, position: u64) -> (Writer<Mappings>, Reader<Mappings>) {
        let writer = Writer::starting_at(position, Arc::clone(&self.ours));
        (writer, Reader::starting_at(position, Arc::clone(&self.theirs)))
    }
}

fn allocated(memfd: impl AsFd) -> i64 {
    fstat(memfd).unwrap().st_blocks as i64 * 512
}

/// Puts in bytes until the ring is full. Returns their number.
fn fill(writer: &mut Writer<Mappings>) -> usize {
    std::iter::from_fn(|| Some(writer.write(&[IoSlice::new(&[1; 8192])]).unwrap()).filter(|&count| count > 0)).sum()
}

fn drain(reader: &mut Reader<Mappings>) -> usize {
    let mut bytes = [0; 8192];
    std::iter::from_fn(|| Some(reader.read(&mut [IoSliceMut::new(&mut bytes)]).unwrap()).filter(|&count| count > 0))
        .sum()
}

#[test]
fn an_unused_ring_has_a_control_page_and_16_kib() {
    for ring_size in [1 << 16, 1 << 20, 1 << 24] {
        let (_mapping, memfd) = Mapping::create_growing(ring_size).unwrap();
        assert_eq!(allocated(&memfd), 20 * 1024, "of {ring_size}");
        let _adopted = Mapping::adopt(&memfd, ring_size, Layout::Growing).unwrap();
        assert_eq!(allocated(&memfd), 20 * 1024, "after the peer mapped it");
    }
    let (mapping, memfd) = Mapping::create_growing(1 << 25).unwrap();
    assert_eq!((mapping.layout(), allocated(&memfd)), (Layout::Whole, 4096 + (1 << 25)));
}

#[test]
fn a_ring_that_is_used_grows_to_its_full_size_and_no_further() {
    for ring_size in [1 << 16, 1 << 17, 1 << 20, 1 << 24] {
        let both = Both::new(ring_size);
        let (mut writer, mut reader) = both.out(0);
        assert_eq!(fill(&mut writer), 1 << 14, "the first size");
        let mut passed = drain(&mut reader);
        while fill(&mut writer) < ring_size {
            passed += drain(&mut reader);
            assert!(passed < 4 * ring_size, "a ring of {ring_size} has not grown after {passed} bytes");
        }
        assert_eq!(allocated(&both.memfds[0]), 4096 + ring_size as i64);
        drain(&mut reader);
        assert_eq!(fill(&mut writer), ring_size);
    }
}

proptest! {
    /// This includes a ring whose positions are about to wrap.
    #[test]
    fn a_growing_ring_returns_the_bytes_that_were_put_in(
        steps in prop::collection::vec((any::<bool>(), 0usize..9000, 0usize..9000), 1..200),
        position in prop_oneof![Just(0), Just(u64::MAX - 50_000), any::<u64>()],
    ) {
        let (mut writer, mut reader) = Both::new(RING).out(position);
        let mut queue = VecDeque::new();
        let mut next = 0u32;
        for (writes, one, other) in steps {
            if writes {
                let numbers = next..next + (one + other) as u32;
                let bytes: Vec<u8> = numbers.map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect();
                let (first, second) = bytes.split_at(one);
                let count = writer.write(&[IoSlice::new(first), IoSlice::new(second)]).unwrap();
                queue.extend(&bytes[..count]);
                next += count as u32;
            } else {
                let (mut first, mut second) = (vec![0; one], vec![0; other]);
                prop_assert_eq!(reader.available(), Ok(queue.len()));
                let mut peeked = vec![0; queue.len().min(4)];
                reader.peek(&mut peeked);
                prop_assert!(peeked.iter().eq(queue.iter().take(4)));
                let count = reader.read(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)]).unwrap();
                prop_assert_eq!(count, queue.len().min(one + other).min(8192));
                let expected: Vec<u8> = queue.drain(..count).collect();
                prop_assert_eq!(&[first, second].concat()[..count], expected);
            }
        }
        prop_assert_eq!(writer.is_drained(), queue.is_empty());
    }
}

#[test]
fn memory_that_is_to_grow_and_has_another_beginning_is_not_mapped() {
    let (_mapping, memfd) = Mapping::create_growing(RING).unwrap();
    let adopted = Mapping::adopt(&memfd, 2 * RING, Layout::Growing);
    assert!(matches!(adopted, Err(BadMemory::Size(_))));
    assert!(matches!(Mapping::adopt(&memfd, RING + 4096, Layout::Whole), Err(BadMemory::Sparse)));
    let (whole, memfd) = Mapping::create(RING).unwrap();
    assert_eq!(whole.layout(), Layout::Whole);
    assert!(matches!(Mapping::adopt(&memfd, RING - 4096, Layout::Growing), Err(BadMemory::Begun)));
    let both = Both::new(RING);
    assert!(both.ours.local().allocate(16));
    assert!(matches!(Mapping::adopt(&both.memfds[0], RING, Layout::Growing), Err(BadMemory::Begun)));
}

/// The peer states that more memory exists. The reader neither reads nor allocates it.
#[test]
fn memory_that_is_offered_and_does_not_exist_is_not_adopted() {
    let both = Both::new(RING);
    let (_writer, mut reader) = both.out(0);
    both.ours.local().store(Word::Span, 16 << 6 | 14);
    for _ in 0..3 {
        assert_eq!(drain(&mut reader), 0);
        assert_eq!(both.theirs.local().load(Word::Adopted), 14);
    }
    // Its use is a violation of the protocol.
    both.ours.local().store(Word::Head, 20_000);
    both.ours.local().store(Word::Span, 16 << 6 | 16);
    let mut bytes = [7; 100];
    assert_eq!(reader.read(&mut [IoSliceMut::new(&mut bytes)]), Err(Unreadable::BadPosition));
    assert_eq!(reader.available(), Err(Unreadable::BadPosition));
    reader.peek(&mut bytes[..4]);
    assert_eq!(bytes, [7; 100]);
    assert_eq!(allocated(&both.memfds[0]), 20 * 1024);
}

/// Without the page behind the offered memory, the answer of the kernel could be one that it gives to every process
/// that may not know.
#[test]
fn memory_is_not_adopted_if_the_page_behind_it_exists() {
    let both = Both::new(RING);
    let (_writer, mut reader) = both.out(0);
    assert!(both.ours.local().allocate(16) && both.ours.local().allocate(17));
    both.ours.local().store(Word::Span, 16 << 6 | 14);
    assert_eq!((drain(&mut reader), both.theirs.local().load(Word::Adopted)), (0, 14));
}

/// The reader is another user than the owner of the memory. With the mode 0400 the kernel tells it that every page
/// exists.
#[test]
fn a_reader_of_another_user_is_not_deceived_by_the_mode_of_the_memory() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (mode, expected) in [(None, 16), (Some(0o400), 14)] {
        let both = Both::new(RING);
        let (_writer, mut reader) = both.out(0);
        if let Some(mode) = mode {
            fchmod(&both.memfds[0], rustix::fs::Mode::from_raw_mode(mode)).unwrap();
        } else {
            assert!(both.ours.local().allocate(16));
        }
        both.ours.local().store(Word::Span, 16 << 6 | 14);
        let adopted = thread::scope(|scope| {
            let other_user = || {
                // SAFETY: these calls take only numbers, and change only the user of this thread for file accesses.
                unsafe { libc::syscall(libc::SYS_setfsgid, 1_000_000_001) };
                // SAFETY: as above.
                unsafe { libc::syscall(libc::SYS_setfsuid, 1_000_000_001) };
                assert_eq!(drain(&mut reader), 0);
                both.theirs.local().load(Word::Adopted)
            };
            scope.spawn(other_user).join().unwrap()
        });
        assert_eq!(adopted, expected, "with the mode {mode:?}");
        if mode.is_some() {
            assert_eq!(allocated(&both.memfds[0]), 20 * 1024, "nothing was allocated");
        }
    }
}

#[test]
fn a_word_of_the_reader_that_it_cannot_have_written_ends_the_writer() {
    for adopted in [1, 13, 15, 17, 18, 64, u64::MAX] {
        let both = Both::new(1 << 20);
        let (mut writer, _reader) = both.out(0);
        both.theirs.local().store(Word::Adopted, adopted);
        let written: Vec<_> = (0..3).map(|_| writer.write(&[IoSlice::new(&[1; 8192])])).collect();
        assert!(written[2].is_err(), "{adopted} was adopted: {written:?}");
        assert_eq!(allocated(&both.memfds[0]), 20 * 1024);
    }
    // A reader that never allows it keeps the ring small.
    let both = Both::new(1 << 20);
    let mut writer = Writer::new(Arc::clone(&both.ours));
    for round in 1..6 {
        assert_eq!(fill(&mut writer), 1 << 14);
        both.theirs.local().store(Word::Tail, round << 14);
    }
    assert_eq!(allocated(&both.memfds[0]), 20 * 1024);
}

/// A forked child has the word of its parent and a mapping of its own.
#[test]
fn a_process_opens_what_another_one_has_adopted() {
    let both = Both::new(RING);
    let (mut writer, mut reader) = both.out(0);
    // The child's mapping of the same memory, made before the growth.
    let remote = Mapping::adopt(&both.memfds[0], RING, Layout::Growing).unwrap();
    let (local, _memfd) = Mapping::create(RING).unwrap();
    let child = Arc::new(Mappings::new(local, remote));
    for _ in 0..20 {
        fill(&mut writer);
        drain(&mut reader);
    }
    assert_eq!(fill(&mut writer), RING);
    let mut bytes = vec![0; 8192];
    let mut reader_of_child = Reader::starting_at(both.theirs.local().load(Word::Tail), Arc::clone(&child));
    child.local().store(Word::Adopted, 17);
    assert_eq!(reader_of_child.available(), Ok(RING));
    assert_eq!(reader_of_child.read(&mut [IoSliceMut::new(&mut bytes)]), Ok(8192));
    assert!(bytes.iter().all(|&byte| byte == 1));
}

#[test]
fn nobody_can_remove_the_pages_of_a_ring_that_grows() {
    let both = Both::new(RING);
    let local = both.ours.local();
    assert!(local.allocate(16));
    let path = format!("/proc/self/fd/{}", both.memfds[0].as_raw_fd());
    let again = std::fs::File::options().read(true).write(true).open(path).unwrap();
    again.set_permissions(Permissions::from_mode(0o600)).unwrap();
    assert!(rustix::fs::ftruncate(&again, CONTROL_LEN as u64).is_err());
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert!(rustix::fs::fallocate(&again, flags, 0, 1 << 16).is_err());
    let (removed, errno) = local.remove_pages();
    assert_eq!((removed, errno), (-1, libc::EPERM), "the writer cannot remove them through its mapping");
    assert_eq!(seek(&again, rustix::fs::SeekFrom::Hole(0)), Ok(CONTROL_LEN as u64 + (1 << 16)));
}
