//! Publishers that break the protocol: the memory that they announce, the frames that they send, and what they change.

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use parlour::frames::{FrameLimits, FrameReader, ReceivedFrame};
use parlour::{Connection, ErrorKind, Payload, Result, Transport};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};

use super::ends::pair;
use super::hostile_reader::sparse;
use crate::support::{DEADLINE, trials, wait};

trials! {
    a_pool_of_other_memory_is_not_mapped,
    a_pool_beyond_the_limits_of_the_reader_is_not_mapped,
    an_announcement_that_is_malformed_is_refused,
    an_answer_that_brings_no_lease_is_refused,
    a_frame_outside_of_its_pool_is_refused,
    a_frame_before_the_lease_or_without_a_pool_is_refused,
    a_message_that_is_no_frame_is_refused,
    a_copy_of_a_block_that_was_changed_is_an_error,
    a_reader_that_has_failed_once_opens_nothing_from_a_pool_that_comes_later,
    a_refused_frame_leaves_the_lease_and_the_other_frames;
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The front of an answer to an attach.
const LEASE: [u8; 8] = [0xc0, 2, 0, 0, 0, 0, 0, 1];

/// Two blocks of two pages, and a page in front of them.
const BLOCKS: u32 = 2;
const BLOCK_LEN: u64 = 8000;
const POOL_LEN: usize = 4096 + 2 * 8192;

/// A publisher by hand, and its reader.
struct Hand {
    publisher: Connection,
    connection: Connection,
    reader: FrameReader,
    bootstrap: OwnedFd,
    lease: OwnedFd,
    theirs: Option<OwnedFd>,
}

impl Hand {
    fn new() -> Self {
        let (mut publisher, mut connection) = pair(Transport::Unix);
        let limits = FrameLimits::new().frame_max(1 << 20).bytes_max(1 << 20);
        let reader = FrameReader::attach(&limits, |payload| connection.send(payload)).unwrap();
        let mut attach = publisher.recv().unwrap().unwrap();
        let bootstrap = attach.take_fds().pop().unwrap();
        let (lease, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        Self { publisher, connection, reader, bootstrap, lease, theirs: Some(theirs) }
    }

    /// Answers the attach with a lease and this announcement.
    fn answer(&mut self, announcement: &[u8], fds: &[BorrowedFd<'_>]) {
        let theirs = self.theirs.take().unwrap();
        let fds = [&[theirs.as_fd()], fds].concat();
        send_with(&self.bootstrap, &[&LEASE[..], announcement].concat(), &fds);
    }

    /// Sends a message, which the reader opens.
    fn open(&mut self, message: &[u8]) -> Result<ReceivedFrame> {
        self.publisher.send(Payload::new(message)).unwrap();
        self.reader.open(self.connection.recv_timeout(DEADLINE).unwrap().unwrap())
    }

    #[track_caller]
    fn expect_violation(&mut self, message: &[u8]) {
        let error = self.open(message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
}

fn send_with(socket: &OwnedFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) {
    try_send_with(socket, datagram, fds).unwrap();
}

fn try_send_with(socket: &OwnedFd, datagram: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(socket, &[IoSlice::new(datagram)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn announcement(pool: u32, blocks: u32, first: u32, block_len: u64) -> Vec<u8> {
    let numbers = [pool, blocks, first].map(u32::to_be_bytes).concat();
    [&[0xc0, 3, 0, 0][..], &numbers, &block_len.to_be_bytes()].concat()
}

fn frame(pool: u32, block: u32, generation: u32, length: u64) -> Vec<u8> {
    let numbers = [pool, block, generation].map(u32::to_be_bytes).concat();
    [&[0xc0, 4, 0, 0][..], &numbers, &length.to_be_bytes()].concat()
}

/// Memory of a pool that this process can write to.
struct Memory {
    memfd: OwnedFd,
    start: *mut u8,
    length: usize,
}

#[allow(unsafe_code)]
impl Memory {
    fn new(length: usize, seals: SealFlags) -> Self {
        let memfd = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, length as u64).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: creates a mapping at an address that the kernel chooses.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, &memfd, 0) }.unwrap();
        let memory = Self { memfd, start: start.cast(), length };
        memory.fill(0, length, 0);
        fcntl_add_seals(&memory.memfd, seals).unwrap();
        memory
    }

    fn fill(&self, from: usize, count: usize, value: u8) {
        assert!(from + count <= self.length);
        // SAFETY: the range lies in the mapping, and this process has no reference to it.
        unsafe { ptr::write_bytes(self.start.wrapping_add(from), value, count) };
    }
}

impl Drop for Memory {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` created.
        unsafe { munmap(self.start.cast(), self.length) }.unwrap();
    }
}

fn a_pool_of_other_memory_is_not_mapped() {
    let memory = |length, seals| Memory::new(length, seals).memfd.try_clone().unwrap();
    let sealed = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);
    let (reading, _writing) = rustix::pipe::pipe().unwrap();
    let cases: Vec<OwnedFd> = vec![
        memory(POOL_LEN, SealFlags::empty()),
        memory(POOL_LEN, SEALS.difference(SealFlags::SHRINK)),
        memory(POOL_LEN, SEALS.difference(SealFlags::GROW)),
        memory(POOL_LEN, SEALS.difference(SealFlags::SEAL)),
        memory(POOL_LEN, sealed),
        memory(POOL_LEN - 1, SEALS),
        memory(POOL_LEN + 1, SEALS),
        sparse(POOL_LEN as u64, false),
        sparse(POOL_LEN as u64, true),
        sparse(1 << 40, false),
        File::open("/dev/zero").unwrap().into(),
        File::open("/proc/self/exe").unwrap().into(),
        reading,
    ];
    for memfd in cases {
        let mut hand = Hand::new();
        hand.answer(&announcement(0, BLOCKS, 0, BLOCK_LEN), &[memfd.as_fd()]);
        hand.expect_violation(&frame(0, 0, 0, 1));
    }
}

fn a_pool_beyond_the_limits_of_the_reader_is_not_mapped() {
    // The longest frame, and all the memory.
    for (blocks, block_len) in [(1, (1 << 20) + 1), (3, 1 << 19)] {
        let length = 4096 + blocks as usize * (block_len as usize).next_multiple_of(4096);
        let memory = Memory::new(length, SEALS);
        let mut hand = Hand::new();
        hand.answer(&announcement(0, blocks, 0, block_len), &[memory.memfd.as_fd()]);
        hand.expect_violation(&frame(0, 0, 0, 1));
    }
}

fn an_announcement_that_is_malformed_is_refused() {
    let memory = Memory::new(POOL_LEN, SEALS);
    let memfd = memory.memfd.as_fd();
    let whole = announcement(0, BLOCKS, 0, BLOCK_LEN);
    let cases: Vec<(Vec<u8>, Vec<BorrowedFd<'_>>)> = vec![
        (whole.clone(), vec![]),
        (whole[..23].to_vec(), vec![memfd]),
        ([&whole[..], &[0]].concat(), vec![memfd]),
        (b"hello".to_vec(), vec![memfd]),
        ([&whole[..], &whole[..]].concat(), vec![memfd]),
        (announcement(0, 0, 0, BLOCK_LEN), vec![memfd]),
        (announcement(0, BLOCKS, 0, 0), vec![memfd]),
        (announcement(0, u32::MAX, 0, BLOCK_LEN), vec![memfd]),
        (announcement(0, BLOCKS, 1023, BLOCK_LEN), vec![memfd]),
        (announcement(0, BLOCKS, u32::MAX, BLOCK_LEN), vec![memfd]),
        (announcement(0, BLOCKS, 0, u64::MAX), vec![memfd]),
    ];
    for (datagram, fds) in cases {
        let mut hand = Hand::new();
        hand.answer(&datagram, &fds);
        hand.expect_violation(&frame(0, 0, 0, 1));
    }
    // Descriptors beyond the first are closed by the kernel; the trial fails if one is left.
    let mut hand = Hand::new();
    hand.answer(&whole, &[memfd, memfd, memfd]);
    assert_eq!(hand.open(&frame(0, 0, 0, 1)).unwrap().to_vec().unwrap(), [0]);
}

fn an_answer_that_brings_no_lease_is_refused() {
    let null = File::open("/dev/null").unwrap();
    let (good, _other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (stream, _end) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    // The lock of such a socket can be held for any time.
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cases: [(&[u8], &[BorrowedFd<'_>]); 6] = [
        (&LEASE, &[]),
        (&[0xc0, 2, 0, 0, 0, 0, 0, 2], &[good.as_fd()]),
        (b"hello", &[good.as_fd()]),
        (&LEASE, &[null.as_fd()]),
        (&LEASE, &[stream.as_fd()]),
        (&LEASE, &[tcp.as_fd()]),
    ];
    for (datagram, fds) in cases {
        let mut hand = Hand::new();
        send_with(&hand.bootstrap, datagram, fds);
        hand.expect_violation(&frame(0, 0, 0, 1));
        hand.expect_violation(&frame(0, 0, 0, 1));
    }
}

fn a_frame_outside_of_its_pool_is_refused() {
    let memory = Memory::new(POOL_LEN, SEALS);
    memory.fill(POOL_LEN - 8192, 8000, 7);
    let mut hand = Hand::new();
    hand.answer(&announcement(0, BLOCKS, 0, BLOCK_LEN), &[memory.memfd.as_fd()]);
    let numbers = [0, 1, BLOCKS, BLOCKS + 1, 1023, 1024, i32::MAX as u32, u32::MAX];
    let lengths = [0, 1, BLOCK_LEN, BLOCK_LEN + 1, 8192, 1 << 31, 1 << 32, 1 << 63, u64::MAX];
    for pool in [0, 1, u32::MAX] {
        for block in numbers {
            for length in lengths {
                let opened = hand.open(&frame(pool, block, 0, length));
                if pool == 0 && block < BLOCKS && length <= BLOCK_LEN {
                    let expected = if block == 1 { 7 } else { 0 };
                    assert_eq!(opened.unwrap().to_vec().unwrap(), vec![expected; length as usize]);
                } else {
                    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Protocol);
                }
            }
        }
    }
}

fn a_frame_before_the_lease_or_without_a_pool_is_refused() {
    Hand::new().expect_violation(&frame(0, 0, 0, 1));
    let mut hand = Hand::new();
    hand.answer(&[], &[]);
    hand.expect_violation(&frame(0, 0, 0, 1));
    // The reader lives all the same, and takes frames by value.
    assert!(hand.open(&[0xc0, 5, 0, 0, 0, 0, 0, 0]).unwrap().is_empty());
    assert!(!wait::readable_within(hand.lease.as_fd(), Duration::ZERO));
    let mut hand = Hand::new();
    drop(std::mem::replace(&mut hand.bootstrap, File::open("/dev/null").unwrap().into()));
    hand.expect_violation(&frame(0, 0, 0, 1));
}

fn a_refused_frame_leaves_the_lease_and_the_other_frames() {
    let memory = Memory::new(POOL_LEN, SEALS);
    let mut hand = Hand::new();
    hand.answer(&announcement(7, BLOCKS, 0, BLOCK_LEN), &[memory.memfd.as_fd()]);
    let kept = hand.open(&frame(7, 0, 0, 9)).unwrap();
    for bad in [frame(7, BLOCKS, 0, 9), frame(8, 1, 0, 9), frame(7, 1, 1, 9), frame(7, 1, 0, BLOCK_LEN + 1)] {
        hand.expect_violation(&bad);
    }
    assert_eq!(hand.open(&frame(7, 1, 0, 9)).unwrap().to_vec().unwrap(), [0; 9]);
    drop(hand.reader);
    assert!(!wait::readable_within(hand.lease.as_fd(), Duration::ZERO));
    assert_eq!(kept.to_vec().unwrap(), [0; 9]);
    drop(kept);
    assert!(wait::readable(hand.lease.as_fd()), "the lease has ended");
}

fn a_message_that_is_no_frame_is_refused() {
    let mut hand = Hand::new();
    let lent = frame(0, 0, 0, 1);
    for message in [&b""[..], b"hello", &lent[..23], &[0xc0, 5, 0, 0, 0, 0, 0, 1], &[0xc0, 5, 0, 0, 255, 255, 255, 255]]
    {
        hand.expect_violation(message);
    }
    let frame = hand.open(&[0xc0, 5, 0, 0, 0, 0, 0, 1, 9, 8]).unwrap();
    assert_eq!((frame.note(), frame.to_vec().unwrap()), (&[9][..], vec![8]));
}

fn a_copy_of_a_block_that_was_changed_is_an_error() {
    let memory = Memory::new(POOL_LEN, SEALS);
    let mut hand = Hand::new();
    hand.answer(&announcement(0, BLOCKS, 0, BLOCK_LEN), &[memory.memfd.as_fd()]);
    let (first, second) = (hand.open(&frame(0, 0, 0, 100)).unwrap(), hand.open(&frame(0, 1, 0, 100)).unwrap());
    assert_eq!(first.to_vec().unwrap(), [0; 100]);
    // The generation of block 0.
    memory.fill(128, 4, 1);
    memory.fill(4096, 50, 9);
    let error = first.to_vec().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(second.to_vec().unwrap(), [0; 100]);
}

fn a_reader_that_has_failed_once_opens_nothing_from_a_pool_that_comes_later() {
    let memory = Memory::new(POOL_LEN, SEALS);
    let mut hand = Hand::new();
    hand.answer(b"hello", &[]);
    hand.expect_violation(&frame(0, 0, 0, 1));
    // The publisher sees that the lease has ended.
    assert!(wait::readable(hand.lease.as_fd()));
    let answer = [&LEASE[..], &announcement(0, BLOCKS, 0, BLOCK_LEN)].concat();
    let outcome = try_send_with(&hand.bootstrap, &answer, &[memory.memfd.as_fd()]);
    assert_eq!(outcome, Err(Errno::PIPE));
    hand.expect_violation(&frame(0, 0, 0, 1));
    // Frames that are sent by value need no memory.
    assert!(hand.open(&[0xc0, 5, 0, 0, 0, 0, 0, 0]).unwrap().is_empty());
}
