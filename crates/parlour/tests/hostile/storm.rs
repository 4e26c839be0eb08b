//! A peer in shared memory that writes what it likes, while it is read; and one that wants to change what it may only read.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parlour::{ErrorKind, ServerOptions, Transport, TryRecvError, TrySendError};
use rustix::fs::{FallocateFlags, OFlags, fallocate, ftruncate, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::by_hand::Driver;
use crate::by_hand::rng::{Rng, seed};
use crate::by_hand::shm::{ByHand, CONTROL, HEAD, RING, TAIL};
use crate::support::{Base, trials};

trials! {
    positions_and_lengths_that_change_all_the_time_are_errors_and_nothing_else,
    who_reads_the_memory_cannot_change_it_in_any_way,
}

const WHOLE: usize = CONTROL + RING;

/// The peer's own memory, writable.
struct Scribble(*mut u8);

// SAFETY: the memory is only accessed through atomics.
unsafe impl Send for Scribble {}
// SAFETY: as above.
unsafe impl Sync for Scribble {}

impl Scribble {
    fn of(file: &std::fs::File) -> Self {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        Self(unsafe { mmap(ptr::null_mut(), WHOLE, both, MapFlags::SHARED, file, 0) }.unwrap().cast())
    }

    fn put(&self, at: u64, value: u64) {
        assert!(at % 8 == 0 && (at as usize) < WHOLE);
        let place = self.0.wrapping_add(at as usize).cast::<AtomicU64>();
        // SAFETY: the place is aligned and in the mapping, which lives as long as this does.
        let word = unsafe { &*place };
        word.store(value, Ordering::Relaxed);
    }
}

impl Drop for Scribble {
    fn drop(&mut self) {
        // SAFETY: the mapping is this long, and nobody has a reference into it any more.
        unsafe { munmap(self.0.cast(), WHOLE) }.unwrap();
    }
}

fn positions_and_lengths_that_change_all_the_time_are_errors_and_nothing_else() {
    let seed = seed();
    println!("storm: PARLOUR_TEST_SEED={seed}");
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let end = Instant::now() + Duration::from_secs(3);
    let (mut rounds, mut ended) = (0, 0);
    while Instant::now() < end {
        rounds += 1;
        let mut memory = None;
        let hand = ByHand::connect(driver.server.path(), |file| memory = Some(Scribble::of(file)));
        let memory = Arc::new(memory.unwrap());
        let mut served = driver.client();
        let is_over = Arc::new(AtomicBool::new(false));
        let scribbling = thread::spawn({
            let (memory, is_over) = (Arc::clone(&memory), Arc::clone(&is_over));
            let mut rng = Rng::new(seed + rounds);
            move || {
                let ring = RING as u64;
                let edges = [0, 1, 4, ring - 1, ring, ring + 1, 1 << 31, u32::MAX.into(), 1 << 32, 1 << 63, u64::MAX];
                while !is_over.load(Ordering::Relaxed) {
                    let value = match rng.below(3) {
                        0 => edges[rng.below(edges.len() as u64) as usize],
                        // Those that pass for a while.
                        1 => rng.below(ring),
                        _ => rng.next(),
                    };
                    let at = match rng.below(4) {
                        0 => HEAD,
                        1 => TAIL,
                        2 => 8 * rng.below(CONTROL as u64 / 8),
                        _ => CONTROL as u64 + 8 * rng.below(ring / 8),
                    };
                    memory.put(at, value);
                }
            }
        });
        let expected = [ErrorKind::Protocol, ErrorKind::MessageTooLong, ErrorKind::Truncated, ErrorKind::Disconnected];
        for _ in 0..2000 {
            match served.try_send(&[7; 1000]) {
                Ok(()) | Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Failed(error)) => assert!(expected.contains(&error.kind()), "seed {seed}: {error:?}"),
            }
            match served.try_recv() {
                Ok(Some(_)) | Err(TryRecvError::Empty) => {}
                Ok(None) => break,
                Err(TryRecvError::Failed(error)) => {
                    assert!(expected.contains(&error.kind()), "seed {seed}: {error:?}");
                    ended += 1;
                    break;
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
        scribbling.join().unwrap();
        drop((hand, served));
    }
    println!("storm: {ended} of {rounds} connections ended by an error");
    assert!(ended > 0, "no storm");
    // Others are served.
    let mut client = parlour::Connection::connect(base.address(Transport::Shm, "hall")).unwrap();
    client.send(b"and I").unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"and I");
}

fn who_reads_the_memory_cannot_change_it_in_any_way() {
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let hand = ByHand::connect(driver.server.path(), |_| ());
    let mut served = driver.client();
    served.send(b"the truth").unwrap();
    let theirs = &hand.theirs;
    let length = theirs.metadata().unwrap().len();
    assert_eq!(rustix::io::pwrite(theirs, b"lie", CONTROL as u64), Err(Errno::PERM), "written to");
    assert_eq!(ftruncate(theirs, 0), Err(Errno::PERM), "shortened");
    assert_eq!(ftruncate(theirs, length + 1), Err(Errno::PERM), "lengthened");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(theirs, hole, 0, length), Err(Errno::PERM), "a hole");
    // Another opening of the same memory has no more rights over it.
    if let Ok(again) = open(format!("/proc/self/fd/{}", theirs.as_raw_fd()), OFlags::RDWR, rustix::fs::Mode::empty()) {
        assert_eq!(rustix::io::pwrite(&again, b"lie", CONTROL as u64), Err(Errno::PERM), "opened again and written to");
        // SAFETY: a new mapping at an address of the kernel's choice.
        let writable =
            unsafe { mmap(ptr::null_mut(), WHOLE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &again, 0) };
        assert_eq!(writable, Err(Errno::PERM), "opened again and mapped");
    }
    // SAFETY: as above.
    let start = unsafe { mmap(ptr::null_mut(), WHOLE, ProtFlags::READ, MapFlags::SHARED, theirs, 0) }.unwrap();
    let both = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
    // SAFETY: the range is the mapping that was just made, and nobody has a reference into it.
    assert_eq!(unsafe { rustix::mm::mprotect(start, WHOLE, both) }, Err(Errno::ACCESS), "mapped, and made writable");
    // SAFETY: as above.
    unsafe { munmap(start, WHOLE) }.unwrap();
    let mut bytes = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(theirs, &mut bytes, CONTROL as u64).unwrap();
    assert_eq!(&bytes, b"\0\0\0\x09the truth");
}
