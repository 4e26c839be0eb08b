//! The blocks of an owner: its memory, its account, and the handles of its own process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{EventfdFlags, eventfd};

use super::ledger::{self, Counts, Ledger, Sent, Slot, Told};
use super::pool::{CountsMemory, PoolMemory};
use crate::sys::fork::Process;
use crate::sys::retry::retry;
use crate::wire::frames::Geometry;

/// The blocks of this process. One thread uses them at a time; a [`Hold`] can be dropped in any thread.
#[derive(Debug)]
pub(crate) struct Blocks {
    home: Arc<Home>,
    ledger: Ledger<Returns>,
    /// The slot of the handles of this process.
    own: Slot,
}

/// The memory, and the returns of the handles of this process. The memory is unmapped with the last of them.
#[derive(Debug)]
struct Home {
    memory: PoolMemory,
    returned: Box<[AtomicU32]>,
    told: Told,
    /// The eventfd(2) that wakes a thread that waits for a block.
    doorbell: OwnedFd,
    process: Process,
}

impl Home {
    fn ring(&self) {
        // It fails only if the counter is full, and then the thread is woken anyway.
        let _ = retry(|| rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes()));
    }
}

impl Counts for Home {
    fn count(&self, block: usize) -> u32 {
        self.returned.get(block).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn increment(&self, block: usize) {
        if let Some(count) = self.returned.get(block) {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

/// The returns of a holder.
#[derive(Debug)]
enum Returns {
    Own(Arc<Home>),
    Reader(CountsMemory),
}

impl Counts for Returns {
    fn count(&self, block: usize) -> u32 {
        match self {
            Self::Own(home) => home.count(block),
            Self::Reader(counts) => counts.count(block),
        }
    }

    /// Does nothing: a holder increments its own counts.
    fn increment(&self, _: usize) {}
}

impl Blocks {
    /// Creates the blocks. Returns them with the descriptor of their memory for readers.
    pub(crate) fn create(geometry: Geometry) -> io::Result<(Self, OwnedFd)> {
        let (memory, memfd) = PoolMemory::create(geometry)?;
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let returned = (0..geometry.blocks).map(|_| AtomicU32::new(0)).collect();
        let process = Process::current();
        let home = Arc::new(Home { memory, returned, told: Told::new(), doorbell, process });
        let mut ledger = Ledger::new(geometry.blocks);
        let own = ledger.add(Returns::Own(Arc::clone(&home)), usize::MAX);
        Ok((Self { home, ledger, own }, memfd))
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.home.memory.geometry()
    }

    /// Returns true if this process is a forked child of the one that created the blocks.
    pub(crate) fn is_in_child(&self) -> bool {
        self.home.process.is_before_fork()
    }

    /// Returns the descriptor that is readable when a handle of this process has returned a block.
    pub(crate) fn doorbell(&self) -> BorrowedFd<'_> {
        self.home.doorbell.as_fd()
    }

    /// Makes the doorbell silent until the next return.
    pub(crate) fn silence(&self) {
        // The count does not matter. There is none if another call took it.
        let _ = retry(|| rustix::io::read(&self.home.doorbell, &mut [0; 8]));
    }

    /// Makes the doorbell readable.
    pub(crate) fn ring(&self) {
        self.home.ring();
    }

    /// Requests a doorbell. See [`ledger::ask`].
    pub(crate) fn ask(&self) {
        ledger::ask(&self.home.memory);
    }

    /// Takes a block that nobody holds. `None` in a forked child.
    pub(crate) fn take(&mut self) -> Option<Hold> {
        if self.is_in_child() {
            return None;
        }
        let (block, generation) = self.ledger.take(&self.home.memory)?;
        self.ledger.send(self.own, block);
        let length = self.geometry().block_len;
        Some(Hold { home: Arc::clone(&self.home), block, generation, length })
    }

    /// Adds a reader. See [`Ledger::add`].
    pub(crate) fn add(&mut self, counts: CountsMemory, share: usize) -> Slot {
        self.ledger.add(Returns::Reader(counts), share)
    }

    /// Takes everything back from a reader that has ended.
    pub(crate) fn remove(&mut self, reader: Slot) {
        if reader != self.own {
            self.ledger.remove(reader);
        }
    }

    /// Returns true if the block was taken from here.
    pub(crate) fn has(&self, hold: &Hold) -> bool {
        Arc::ptr_eq(&self.home, &hold.home)
    }

    /// Returns true if the reader may get this block. See [`Ledger::may_send`].
    pub(crate) fn may_send(&mut self, reader: Slot, hold: &Hold) -> bool {
        self.ledger.may_send(reader, hold.block)
    }

    /// Notes that a block is about to be sent. See [`Ledger::send`].
    pub(crate) fn send(&mut self, reader: Slot, hold: &Hold) -> Sent {
        self.ledger.send(reader, hold.block)
    }

    /// Undoes a send. See [`Ledger::undo`].
    pub(crate) fn undo(&mut self, sent: Sent) {
        self.ledger.undo(sent);
    }

    /// Returns the number of blocks that a reader has.
    pub(crate) fn held(&mut self, reader: Slot) -> usize {
        self.ledger.held(reader)
    }
}

/// A block that this process holds. Dropping it returns the block.
///
/// In a forked child it has no bytes, and dropping it returns nothing: the block belongs to the parent.
#[derive(Debug)]
pub(crate) struct Hold {
    home: Arc<Home>,
    block: usize,
    generation: u32,
    length: usize,
}

impl Hold {
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Uses only this many bytes of the block from here on.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Returns the number of bytes that are used of the block, in a forked child 0.
    pub(crate) fn length(&self) -> usize {
        if self.home.process.is_before_fork() { 0 } else { self.length }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: only `Blocks::take` makes a hold, of a block that no other hold has, and `bytes_mut` borrows the hold
        // exclusively. No other process can write to the memory.
        unsafe { self.home.memory.bytes(self.block, self.length()) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: this process made the memory. Only `Blocks::take` makes a hold, of a block that no other hold has,
        // and this one is borrowed exclusively. What other processes read is outside of the program; a reader of this
        // process has returned the block, or copies it like one of another process.
        unsafe { self.home.memory.bytes_mut(self.block, self.length()) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.home.process.is_before_fork() {
            return;
        }
        if self.home.told.give_back(&*self.home, self.block, &self.home.memory) {
            self.home.ring();
        }
    }
}
