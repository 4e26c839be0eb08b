//! Readers that break the protocol: what they attach with, count, and send to the publisher.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use parlour::frames::{FrameLimits, FramePool, ReaderId, ReceivedFrame};
use parlour::{Connection, ErrorKind, Payload, Result, Transport};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, send, shutdown, socketpair,
};
use rustix::time::{ClockId, clock_gettime};

use super::ends::{attach, check, fill, options, pair};
use crate::support::{DEADLINE, trials, wait};

trials! {
    an_attach_with_other_descriptors_is_refused,
    an_attach_with_other_memory_is_refused,
    an_attach_with_other_bytes_is_refused,
    a_reader_that_ended_before_it_was_admitted_is_refused,
    a_reader_that_attaches_with_its_own_lease_returns_everything_at_its_end,
    a_reader_that_shuts_its_lease_down_has_ended,
    a_reader_that_shuts_its_lease_down_counts_until_it_closes_everything,
    a_reader_that_rings_all_the_time_does_not_keep_the_publisher_awake,
    a_reader_that_rings_once_for_each_request_is_ignored_as_well,
    a_reader_that_sends_descriptors_to_its_lease_leaves_none_behind,
    a_reader_that_writes_any_counts_harms_no_other,
}

/// The seals of the memory of a reader.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The bytes of an attach that allows everything.
pub fn attach_bytes() -> Vec<u8> {
    let mut bytes = vec![0xc0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 4, 0];
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes
}

/// Creates a memory file of this length, written in full.
pub fn memory(length: usize, seals: SealFlags) -> OwnedFd {
    let memfd = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&memfd, &vec![0; length]).unwrap();
    fcntl_add_seals(&memfd, seals).unwrap();
    memfd
}

pub fn sparse(length: u64, is_allocated: bool) -> OwnedFd {
    let memfd = memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memfd, length).unwrap();
    if is_allocated {
        fallocate(&memfd, FallocateFlags::empty(), 0, length).unwrap();
    }
    fcntl_add_seals(&memfd, SEALS).unwrap();
    memfd
}

fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// A reader by hand, with a connection over `unix`.
struct Hand {
    publisher: Connection,
    connection: Connection,
}

impl Hand {
    fn new() -> Self {
        let (publisher, connection) = pair(Transport::Unix);
        Self { publisher, connection }
    }

    fn attach(&mut self, pool: &mut FramePool, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<ReaderId> {
        self.connection.send(Payload::new(bytes).fds(fds)).unwrap();
        pool.admit(self.publisher.recv_timeout(DEADLINE).unwrap().unwrap(), self.publisher.peer())
    }
}

/// Admits a reader by hand, and returns its end of the lease.
fn admitted(pool: &mut FramePool) -> (Hand, ReaderId, OwnedFd) {
    let mut hand = Hand::new();
    let (bootstrap, theirs) = sockets();
    let id = hand.attach(pool, &attach_bytes(), &[memory(4096, SEALS).as_fd(), theirs.as_fd()]).unwrap();
    let lease = descriptor(&bootstrap);
    (hand, id, lease)
}

fn descriptor(socket: &OwnedFd) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 100];
    recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    first(&mut control)
}

fn first(control: &mut RecvAncillaryBuffer<'_>) -> OwnedFd {
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().expect("a descriptor")
}

#[track_caller]
fn assert_refused(outcome: Result<ReaderId>, kind: ErrorKind) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().starts_with("cannot admit "), "{error}");
}

fn an_attach_with_other_descriptors_is_refused() {
    let mut pool = options(1).create().unwrap();
    let (_bootstrap, theirs) = sockets();
    let (counts, null) = (memory(4096, SEALS), File::open("/dev/null").unwrap());
    let (reading, _writing) = rustix::pipe::pipe().unwrap();
    let (counts, theirs, null, reading) = (counts.as_fd(), theirs.as_fd(), null.as_fd(), reading.as_fd());
    let cases: [&[BorrowedFd<'_>]; 6] = [
        &[],
        &[counts],
        // The memory comes first.
        &[theirs, counts],
        &[null, theirs],
        &[reading, theirs],
        &[theirs, theirs],
    ];
    for fds in cases {
        assert_refused(Hand::new().attach(&mut pool, &attach_bytes(), fds), ErrorKind::Protocol);
    }
    // No socket, or one whose lock can be held for any time.
    let (stream, _end) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for fd in [null, reading, counts, stream.as_fd(), tcp.as_fd()] {
        assert_refused(Hand::new().attach(&mut pool, &attach_bytes(), &[counts, fd]), ErrorKind::Protocol);
    }
    let (mut connection, id, mut end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    let frame = fill(&mut pool, 1);
    pool.send(id, &frame, b"note", |payload| connection.send(payload)).unwrap();
    check(&end.open(), 1);
}

fn an_attach_with_other_memory_is_refused() {
    let mut pool = options(1).create().unwrap();
    let cases = [
        memory(4096, SealFlags::empty()),
        memory(4096, SEALS.difference(SealFlags::SHRINK)),
        memory(4096, SEALS.difference(SealFlags::GROW)),
        memory(4096, SEALS.difference(SealFlags::FUTURE_WRITE)),
        memory(4096, SEALS.difference(SealFlags::SEAL)),
        memory(0, SEALS),
        memory(4095, SEALS),
        memory(8192, SEALS),
        sparse(4096, false),
        sparse(4096, true),
        sparse(1 << 40, false),
    ];
    for memory in cases {
        let (_bootstrap, theirs) = sockets();
        let outcome = Hand::new().attach(&mut pool, &attach_bytes(), &[memory.as_fd(), theirs.as_fd()]);
        assert_refused(outcome, ErrorKind::Protocol);
    }
}

fn an_attach_with_other_bytes_is_refused() {
    let mut pool = options(1).create().unwrap();
    let (_bootstrap, theirs) = sockets();
    let counts = memory(4096, SEALS);
    let whole = attach_bytes();
    let mut cases = vec![b"hello".to_vec(), Vec::new(), whole[..31].to_vec()];
    for place in [0, 1, 2, 3, 14] {
        let mut bytes = whole.clone();
        bytes[place] ^= 8;
        cases.push(bytes);
    }
    let mut version_0 = whole;
    version_0[7] = 0;
    cases.push(version_0);
    for bytes in cases {
        let outcome = Hand::new().attach(&mut pool, &bytes, &[counts.as_fd(), theirs.as_fd()]);
        assert_refused(outcome, ErrorKind::Protocol);
    }
}

fn a_reader_that_ended_before_it_was_admitted_is_refused() {
    let mut pool = options(1).create().unwrap();
    let (bootstrap, theirs) = sockets();
    drop(bootstrap);
    let outcome = Hand::new().attach(&mut pool, &attach_bytes(), &[memory(4096, SEALS).as_fd(), theirs.as_fd()]);
    assert_refused(outcome, ErrorKind::Disconnected);
}

/// Otherwise the publisher would have both ends of a lease, which would never end.
fn a_reader_that_attaches_with_its_own_lease_returns_everything_at_its_end() {
    let mut pool = options(1).create().unwrap();
    let _kept = fill(&mut pool, 0);
    for _ in 0..3 {
        let (mut hand, id, lease) = admitted(&mut pool);
        let frame = fill(&mut pool, 1);
        pool.send(id, &frame, b"", |payload| hand.publisher.send(payload)).unwrap();
        drop(frame);
        assert_eq!(pool.held_by(id), 1);
        // Refused or not, the publisher keeps nothing of it.
        let _ = hand.attach(&mut pool, &attach_bytes(), &[memory(4096, SEALS).as_fd(), lease.as_fd()]);
        drop((hand, lease));
        pool.loan_timeout(DEADLINE).unwrap();
        assert_eq!(pool.held_by(id), 0);
    }
}

fn a_reader_that_shuts_its_lease_down_has_ended() {
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        let mut pool = options(1).create().unwrap();
        let _kept = fill(&mut pool, 0);
        let (mut hand, id, lease) = admitted(&mut pool);
        let frame = fill(&mut pool, 1);
        pool.send(id, &frame, b"", |payload| hand.publisher.send(payload)).unwrap();
        drop(frame);
        shutdown(&lease, how).unwrap();
        if how == Shutdown::Read {
            // It can still ring, so it lives.
            assert!(pool.try_loan().unwrap().is_none());
            continue;
        }
        pool.loan_timeout(DEADLINE).unwrap();
        assert_eq!(pool.held_by(id), 0);
        let frame = fill(&mut pool, 1);
        let error = pool.send(id, &frame, b"", |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
}

/// The descriptors that were sent to it may be on their way for ever, at the expense of the publisher's user.
fn a_reader_that_shuts_its_lease_down_counts_until_it_closes_everything() {
    let mut pool = options(1).leases_max(1).create().unwrap();
    let mut hand = Hand::new();
    let (bootstrap, theirs) = sockets();
    hand.attach(&mut pool, &attach_bytes(), &[memory(4096, SEALS).as_fd(), theirs.as_fd()]).unwrap();
    let lease = {
        // Takes a copy of the lease and leaves the datagram where it is.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&bootstrap, &mut [IoSliceMut::new(&mut [0; 100])], &mut control, RecvFlags::PEEK).unwrap();
        first(&mut control)
    };
    // The datagram of the publisher that nobody should take.
    recvmsg(&lease, &mut [IoSliceMut::new(&mut [0; 1])], &mut RecvAncillaryBuffer::default(), RecvFlags::PEEK).unwrap();
    shutdown(&lease, Shutdown::Both).unwrap();
    drop(lease);
    for _ in 0..3 {
        let (_other, theirs) = sockets();
        let memory = memory(4096, SEALS);
        let outcome = Hand::new().attach(&mut pool, &attach_bytes(), &[memory.as_fd(), theirs.as_fd()]);
        assert_refused(outcome, ErrorKind::Busy);
    }
    drop(bootstrap);
    let (_other, theirs) = sockets();
    Hand::new().attach(&mut pool, &attach_bytes(), &[memory(4096, SEALS).as_fd(), theirs.as_fd()]).unwrap();
}

fn a_reader_that_rings_all_the_time_does_not_keep_the_publisher_awake() {
    let mut pool = options(1).create().unwrap();
    let _kept = fill(&mut pool, 0);
    let (mut hand, id, lease) = admitted(&mut pool);
    let frame = fill(&mut pool, 1);
    pool.send(id, &frame, b"", |payload| hand.publisher.send(payload)).unwrap();
    drop(frame);
    let ring = || send(&lease, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok();
    // The publisher takes some of these rings whenever it looks, until it ignores this reader.
    for _ in 0..1000 {
        while ring() {}
        assert!(pool.try_loan().unwrap().is_none());
    }
    assert!(!ring(), "nobody takes the rings any more");
    let used = || clock_gettime(ClockId::ThreadCPUTime);
    let before = used();
    assert_eq!(pool.loan_timeout(Duration::from_millis(500)).unwrap_err().kind(), ErrorKind::TimedOut);
    let after = used();
    let nanoseconds = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
    assert!(nanoseconds < 50_000_000, "{nanoseconds} ns");
    // The end is still noticed.
    drop(lease);
    pool.loan_timeout(DEADLINE).unwrap();
    assert_eq!(pool.held_by(id), 0);
}

fn a_reader_that_rings_once_for_each_request_is_ignored_as_well() {
    let mut pool = options(1).create().unwrap();
    let _kept = fill(&mut pool, 0);
    let (mut hand, id, lease) = admitted(&mut pool);
    let frame = fill(&mut pool, 1);
    pool.send(id, &frame, b"", |payload| hand.publisher.send(payload)).unwrap();
    drop(frame);
    let mut requests = 0;
    while wait::readable_within(pool.as_fd(), Duration::ZERO) || requests == 0 {
        send(&lease, &[0], SendFlags::NOSIGNAL).unwrap();
        assert!(pool.try_loan().unwrap().is_none());
        send(&lease, &[0], SendFlags::NOSIGNAL).unwrap();
        requests += 1;
        assert!(requests < 10_000, "it returns nothing, and wakes the publisher each time");
    }
    drop(lease);
    pool.loan_timeout(DEADLINE).unwrap();
}

fn a_reader_that_sends_descriptors_to_its_lease_leaves_none_behind() {
    let mut pool = options(1).create().unwrap();
    let kept = fill(&mut pool, 0);
    let (mut hand, id, lease) = admitted(&mut pool);
    let frame = fill(&mut pool, 1);
    pool.send(id, &frame, b"", |payload| hand.publisher.send(payload)).unwrap();
    drop(frame);
    for _ in 0..5 {
        // Its own end: kept in the queue of the other end, it would keep the lease alive.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [lease.as_fd()];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let _ = rustix::net::sendmsg(&lease, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL);
    }
    drop((lease, hand));
    pool.loan_timeout(DEADLINE).unwrap();
    drop(kept);
    assert_eq!(pool.held_by(id), 0);
}

/// It returns blocks that it was not sent, that it was sent, and that others hold, while they are sent.
#[allow(unsafe_code)]
fn a_reader_that_writes_any_counts_harms_no_other() {
    let mut pool = options(2).readers(2).create().unwrap();
    let (mut honest, honest_id, mut end) = attach(&mut pool, Transport::Unix, &FrameLimits::new());
    let mut hand = Hand::new();
    let memfd = memory(4096, SealFlags::empty());
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: creates a mapping at an address that the kernel chooses.
    let start = unsafe { mmap(ptr::null_mut(), 4096, protection, MapFlags::SHARED, &memfd, 0) }.unwrap();
    // SAFETY: the page is mapped until no thread accesses it any more, and only accessed through atomics.
    let counts: &'static [AtomicU32; 1024] = unsafe { &*start.cast() };
    fcntl_add_seals(&memfd, SEALS).unwrap();
    let (_bootstrap, theirs) = sockets();
    let id = hand.attach(&mut pool, &attach_bytes(), &[memfd.as_fd(), theirs.as_fd()]).unwrap();
    let ends = Arc::new(AtomicBool::new(false));
    let writing = thread::spawn({
        let ends = Arc::clone(&ends);
        move || {
            let mut number = 0_u32;
            while !ends.load(Ordering::Relaxed) {
                number = number.wrapping_add(1);
                for count in &counts[..8] {
                    // Small numbers, which fit, and all others.
                    let value = if number % 2 == 0 { number % 64 } else { number.wrapping_mul(0x9e37_79b9) };
                    count.store(value, Ordering::Relaxed);
                }
            }
        }
    });
    let mut kept: Vec<(usize, ReceivedFrame)> = Vec::new();
    for seed in 0..300 {
        let frame = fill(&mut pool, seed);
        // By value in between, if it seems to hold its share.
        pool.send(id, &frame, b"", |payload| hand.publisher.try_send(payload).or(Ok(()))).unwrap();
        while hand.connection.try_recv().is_ok() {}
        pool.send(honest_id, &frame, b"note", |payload| honest.send(payload)).unwrap();
        kept.push((seed, end.open()));
        for (seed, frame) in &kept {
            assert!(frame.is_lent());
            check(frame, *seed);
        }
        if kept.len() == 2 {
            kept.remove(0);
        }
        assert!(pool.held_by(id) <= 2);
    }
    ends.store(true, Ordering::Relaxed);
    writing.join().unwrap(); // SAFETY: this is the mapping from above, and its thread has ended.
    unsafe { munmap(start, 4096) }.unwrap();
}
