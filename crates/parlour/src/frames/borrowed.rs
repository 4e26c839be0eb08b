//! A block that was lent to this process, and what it keeps alive: the pool and the lease.

use std::borrow::Cow;
use std::sync::Arc;

use super::lease;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::shm::ledger::Told;
use crate::shm::pool::{CountsMemory, PoolMemory};
use crate::sys::fork::{ParentOnly, Process};

/// The state that every frame of a reader keeps alive. The end of the socket returns all blocks.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) counts: CountsMemory,
    pub(super) socket: ParentOnly,
    pub(super) process: Process,
}

/// A mapped pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) memory: PoolMemory,
    /// The count of its first block.
    pub(super) first: usize,
    pub(super) told: Told,
    pub(super) leased: Arc<Leased>,
}

impl Pool {
    /// Returns true if this process is a forked child of the one that has the lease.
    pub(super) fn is_in_child(&self) -> bool {
        self.leased.process.is_before_fork()
    }

    /// Returns a block to the publisher.
    pub(super) fn give_back(&self, block: usize) {
        // A forked child has a copy of the frame, and its parent has the block.
        if self.is_in_child() {
            return;
        }
        if self.told.give_back(&self.leased.counts, self.first + block, &self.memory) {
            lease::ring(&self.leased.socket);
        }
    }
}

/// A block that the publisher has lent to this process. Dropping it returns the block.
#[derive(Debug)]
pub(super) struct Borrowed {
    pub(super) pool: Arc<Pool>,
    pub(super) block: usize,
    pub(super) generation: u32,
    pub(super) length: usize,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.pool.give_back(self.block);
    }
}

impl Borrowed {
    /// Copies the first bytes of the block, and checks that they are those of the frame.
    pub(super) fn copy_to(&self, into: &mut [u8]) -> Result<()> {
        if self.pool.is_in_child() {
            let detail = "this is a forked child, and the frame belongs to the parent";
            return Err(error(ErrorKind::Unsupported, detail).next("copy the frame before the fork"));
        }
        self.pool.memory.copy_out(self.block, into);
        match self.pool.memory.generation(self.block) == self.generation {
            true => Ok(()),
            false => Err(protocol("the publisher changed a frame before it was returned")),
        }
    }
}

pub(super) fn error(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(kind, Operation::Receive, "a publisher of frames", detail)
}

pub(super) fn protocol(detail: &'static str) -> Error {
    violation(detail)
}

pub(super) fn violation(detail: impl Into<Cow<'static, str>>) -> Error {
    error(ErrorKind::Protocol, detail).next("end the connection, and check that the peer publishes frames")
}
