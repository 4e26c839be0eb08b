//! Tests of a shared memory peer that writes arbitrary values while this side reads, and of one that tries to change
//! memory that it may only read.
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
    positions_and_lengths_that_change_constantly_cause_only_errors,
    the_reader_of_the_memory_cannot_change_it,
}

const WHOLE: usize = CONTROL + RING;

/// The peer's own memory, mapped writable.
struct Scribble(*mut u8);

// SAFETY: the memory is only accessed through atomics.
unsafe impl Send for Scribble {}
// SAFETY: as above.
unsafe impl Sync for Scribble {}

impl Scribble {
    fn of(file: &std::fs::File) -> Self {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping.
        Self(unsafe { mmap(ptr::null_mut(), WHOLE, both, MapFlags::SHARED, file, 0) }.unwrap().cast())
    }

    fn put(&self, at: u64, value: u64) {
        assert!(at % 8 == 0 && (at as usize) < WHOLE);
        let place = self.0.wrapping_add(at as usize).cast::<AtomicU64>();
        // SAFETY: the word is aligned and lies in the mapping, which lives as long as `self`.
        let word = unsafe { &*place };
        word.store(value, Ordering::Relaxed);
    }
}

impl Drop for Scribble {
    fn drop(&mut self) {
        // SAFETY: the mapping has this length, and no reference into it is left.
        unsafe { munmap(self.0.cast(), WHOLE) }.unwrap();
    }
}

fn positions_and_lengths_that_change_constantly_cause_only_errors() {
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
                        // Values that are valid for a while.
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
    assert!(ended > 0, "no connection ended by an error: the storm was too weak");
    // Other clients are served.
    let mut client = parlour::Connection::connect(base.address(Transport::Shm, "hall")).unwrap();
    client.send(b"and I").unwrap();
    assert_eq!(driver.client().recv().unwrap().unwrap(), b"and I");
}

fn the_reader_of_the_memory_cannot_change_it() {
    let base = Base::new();
    let options = ServerOptions::new().ring_size(RING);
    let driver = Driver::new(options.bind(base.address(Transport::Shm, "hall")).unwrap());
    let hand = ByHand::connect(driver.server.path(), |_| ());
    let mut served = driver.client();
    served.send(b"the truth").unwrap();
    let theirs = &hand.theirs;
    let length = theirs.metadata().unwrap().len();
    assert_eq!(rustix::io::pwrite(theirs, b"lie", CONTROL as u64), Err(Errno::PERM), "pwrite");
    assert_eq!(ftruncate(theirs, 0), Err(Errno::PERM), "truncate");
    assert_eq!(ftruncate(theirs, length + 1), Err(Errno::PERM), "extend");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(theirs, hole, 0, length), Err(Errno::PERM), "punch a hole");
    // Opening the same memory again gives no further access.
    if let Ok(again) = open(format!("/proc/self/fd/{}", theirs.as_raw_fd()), OFlags::RDWR, rustix::fs::Mode::empty()) {
        assert_eq!(rustix::io::pwrite(&again, b"lie", CONTROL as u64), Err(Errno::PERM), "reopen and pwrite");
        // SAFETY: creates a mapping at an address that the kernel chooses, which overlaps no existing mapping.
        let writable =
            unsafe { mmap(ptr::null_mut(), WHOLE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &again, 0) };
        assert_eq!(writable, Err(Errno::PERM), "reopen and map writable");
    }
    // SAFETY: as above.
    let start = unsafe { mmap(ptr::null_mut(), WHOLE, ProtFlags::READ, MapFlags::SHARED, theirs, 0) }.unwrap();
    let both = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
    // SAFETY: the range is the mapping that was created above, and no reference into it exists.
    assert_eq!(unsafe { rustix::mm::mprotect(start, WHOLE, both) }, Err(Errno::ACCESS), "map and make writable");
    // SAFETY: as above.
    unsafe { munmap(start, WHOLE) }.unwrap();
    let mut bytes = [0; 13];
    std::os::unix::fs::FileExt::read_exact_at(theirs, &mut bytes, CONTROL as u64).unwrap();
    assert_eq!(&bytes, b"\0\0\0\x09the truth");
}
