//! The return of lent blocks in every order that the memory model allows, checked by loom:
//! `RUSTFLAGS='--cfg loom' cargo test -p parlour --lib`.
//!
//! The memory is on the heap. A block is a cell that loom watches: the model fails if the owner writes to a block while
//! a holder may read it, or if a sleeping owner is never woken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::ledger::{Counts, Ledger, OwnerWords, Told, ask};

/// The pool, the counts of one holder, and the doorbell.
struct Heap {
    asked: AtomicU32,
    generations: [AtomicU32; 2],
    blocks: [UnsafeCell<u8>; 2],
    counts: [AtomicU32; 2],
    told: Told,
    rung: Mutex<bool>,
    rings: Condvar,
}

// SAFETY: loom's cells detect every conflicting access, which is the purpose of this test.
unsafe impl Sync for Heap {}
// SAFETY: as above.
unsafe impl Send for Heap {}

impl Heap {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicU32::new(0),
            generations: std::array::from_fn(|_| AtomicU32::new(0)),
            blocks: std::array::from_fn(|_| UnsafeCell::new(0)),
            counts: std::array::from_fn(|_| AtomicU32::new(0)),
            told: Told::new(),
            rung: Mutex::new(false),
            rings: Condvar::new(),
        })
    }

    /// Reads a block in place and returns it, as the last handle of a holder does.
    fn read_and_return(&self, block: usize) {
        // SAFETY: loom fails the model if another thread writes to the cell.
        self.blocks[block].with(|place| unsafe { *place });
        if self.told.give_back(self, block, self) {
            *self.rung.lock().unwrap() = true;
            self.rings.notify_all();
        }
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.rings.wait(rung).unwrap();
        }
        *rung = false;
    }

    /// Sleeps like poll(2), which takes no ring.
    fn poll(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.rings.wait(rung).unwrap();
        }
    }

    fn drain(&self) {
        *self.rung.lock().unwrap() = false;
    }
}

impl OwnerWords for Heap {
    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Release);
    }

    fn set_generation(&self, block: usize, generation: u32) {
        self.generations[block].store(generation, Ordering::Relaxed);
    }
}

impl Counts for Heap {
    fn count(&self, block: usize) -> u32 {
        self.counts[block].load(Ordering::Relaxed)
    }

    fn increment(&self, block: usize) {
        self.counts[block].fetch_add(1, Ordering::Release);
    }
}

/// The counts as the owner has them.
struct View(Arc<Heap>);

impl Counts for View {
    fn count(&self, block: usize) -> u32 {
        self.0.count(block)
    }

    fn increment(&self, block: usize) {
        self.0.increment(block);
    }
}

/// Takes a block, and sleeps until one is free, but does not poll before.
fn take(ledger: &mut Ledger<View>, heap: &Heap) -> usize {
    loop {
        ask(heap);
        if let Some((block, _)) = ledger.take(heap) {
            return block;
        }
        heap.sleep();
    }
}

/// Takes a block, and polls while none is free: `FramePool::try_loan` in a loop of events.
fn take_or_poll(ledger: &mut Ledger<View>, heap: &Heap) -> usize {
    loop {
        // In this order: a ring that answers this request stays.
        heap.drain();
        ask(heap);
        if let Some((block, _)) = ledger.take(heap) {
            return block;
        }
        heap.poll();
    }
}

fn fill(heap: &Heap, block: usize) {
    // SAFETY: loom fails the model if another thread accesses the cell.
    heap.blocks[block].with_mut(|place| unsafe { *place = 7 });
}

fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

#[test]
fn a_block_is_written_again_after_its_return_and_a_sleeping_owner_is_woken() {
    check(None, || {
        let heap = Heap::new();
        let mut ledger = Ledger::new(1);
        let slot = ledger.add(View(Arc::clone(&heap)), 1);
        let block = take(&mut ledger, &heap);
        fill(&heap, block);
        ledger.send(slot, block);
        let reading = thread::spawn({
            let heap = Arc::clone(&heap);
            move || heap.read_and_return(block)
        });
        let block = take(&mut ledger, &heap);
        fill(&heap, block);
        reading.join().unwrap();
    });
}

#[test]
fn two_threads_of_a_holder_return_and_the_owner_sleeps_twice() {
    check(Some(3), || {
        let heap = Heap::new();
        let mut ledger = Ledger::new(2);
        let slot = ledger.add(View(Arc::clone(&heap)), 2);
        let reading: Vec<_> = (0..2)
            .map(|_| {
                let block = take(&mut ledger, &heap);
                fill(&heap, block);
                ledger.send(slot, block);
                let heap = Arc::clone(&heap);
                thread::spawn(move || heap.read_and_return(block))
            })
            .collect();
        for _ in 0..2 {
            let block = take(&mut ledger, &heap);
            fill(&heap, block);
            ledger.send(slot, block);
        }
        for reading in reading {
            reading.join().unwrap();
        }
    });
}

/// The first ring is for a block that another holder still has.
#[test]
fn an_owner_that_polls_is_woken_for_the_block_that_nobody_else_has() {
    check(Some(3), || {
        let heap = Heap::new();
        let mut ledger = Ledger::new(2);
        let slot = ledger.add(View(Arc::clone(&heap)), 2);
        let keeps = ledger.add(View(Heap::new()), 2);
        for _ in 0..2 {
            let block = take_or_poll(&mut ledger, &heap);
            ledger.send(slot, block);
        }
        ledger.send(keeps, 0);
        let reading = thread::spawn({
            let heap = Arc::clone(&heap);
            move || (0..2).for_each(|block| heap.read_and_return(block))
        });
        assert_eq!(take_or_poll(&mut ledger, &heap), 1);
        fill(&heap, 1);
        reading.join().unwrap();
    });
}

/// A publisher that takes a block back by force, which a holder that copies notices.
#[test]
fn a_copy_of_changed_bytes_sees_another_generation() {
    check(None, || {
        let heap = Heap::new();
        let bytes = Arc::new(AtomicU32::new(0));
        let mut ledger = Ledger::<View>::new(1);
        let (block, before) = ledger.take(&*heap).unwrap();
        bytes.store(1, Ordering::Relaxed);
        let writing = thread::spawn({
            let (heap, bytes) = (Arc::clone(&heap), Arc::clone(&bytes));
            move || {
                ledger.take(&*heap).unwrap();
                bytes.store(2, Ordering::Relaxed);
            }
        });
        let copy = bytes.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = heap.generations[block].load(Ordering::Relaxed) == before;
        assert!(!is_whole || copy == 1);
        writing.join().unwrap();
    });
}
