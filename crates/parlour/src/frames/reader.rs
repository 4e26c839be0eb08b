//! `FrameReader`: the side that receives frames.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::borrowed::{Borrowed, Leased, Pool, error, protocol, violation};
use super::lease;
use super::options::FrameLimits;
use super::pool::create_error;
use super::received::{Body, ReceivedFrame};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::message::Message;
use crate::payload::Payload;
use crate::shm::ledger::{Counts, Told};
use crate::shm::memfd::BadMemory;
use crate::shm::pool::{CountsMemory, PoolMemory, memory_len};
use crate::sys::fork::{ParentOnly, Process};
use crate::wire::frames::{
    Announced, Attach, BY_VALUE_LEN, FrameMessage, LEASE_LEN, LENT_LEN, Lent, POOL_LEN, VERSION, parse_lease,
};

/// The side that receives frames of a [`FramePool`](super::FramePool).
///
/// [`open`](Self::open) makes a frame of each message of the connection. The program must open every message, because a
/// message that it drops is a block that nobody returns: a message does not know its reader. To skip a frame, open it
/// and drop it, which touches none of its bytes. Dropping the reader and its frames returns everything.
///
/// # Fork
///
/// In a forked child no frame can be opened or read, and dropping one returns nothing. The lease belongs to the
/// parent: its end returns everything, even if the child lives on.
pub struct FrameReader {
    state: State,
    limits: FrameLimits,
    process: Process,
}

enum State {
    /// The publisher has not answered yet. It sends the lease and the memory of the pool through this socket.
    Attached {
        counts: CountsMemory,
        bootstrap: ParentOnly,
    },
    /// The memory is not mapped yet.
    Leased {
        leased: Arc<Leased>,
        announced: Announced,
        memfd: ParentOnly,
    },
    Mapped {
        number: u32,
        pool: Arc<Pool>,
    },
    /// The pool is beyond the limits of this reader. The lease shows the publisher that this reader lives.
    WithoutPool(#[allow(dead_code, reason = "held open")] Arc<Leased>),
    /// The publisher violated the protocol, or an error occurred while the state changed.
    Broken,
}

impl FrameReader {
    /// Asks the publisher to admit this reader. `send` sends the message over the connection with the publisher.
    ///
    /// The publisher passes it to [`FramePool::admit`](super::FramePool::admit), and must allow two descriptors
    /// ([`ServerOptions::fds_max`](crate::ServerOptions::fds_max)). This side need not allow any.
    ///
    /// # Errors
    ///
    /// The errors of `send`, among them `Refused` if the publisher does not allow descriptors, and `Unsupported` on
    /// `fifo`. And:
    ///
    /// - [`ErrorKind::Io`]: no memory or no descriptor is available.
    /// - [`ErrorKind::Unsupported`]: the kernel or a sandbox does not allow memfd_create(2).
    pub fn attach(limits: &FrameLimits, send: impl FnOnce(Payload<'_>) -> Result<()>) -> Result<Self> {
        let failed = |error: io::Error| create_error("the memory of a frame reader".to_owned(), error);
        let (counts, memfd) = CountsMemory::create().map_err(failed)?;
        let (bootstrap, theirs) = lease::bare_pair().map_err(failed)?;
        let attach = Attach {
            version: VERSION,
            pools_max: limits.pools_max,
            bytes_max: limits.bytes_max,
            frame_max: limits.frame_max,
        };
        send(Payload::attach(&attach.encode(), &[memfd.as_fd(), theirs.as_fd()]))?;
        let state = State::Attached { counts, bootstrap };
        Ok(Self { state, limits: limits.clone(), process: Process::current() })
    }

    /// Returns true if a message is a frame, to be [opened](Self::open): for connections that carry other messages too.
    /// A message of the program that begins with the bytes `c0 04 00 00` or `c0 05 00 00` may be taken for one.
    #[must_use]
    pub fn is_frame(message: &[u8]) -> bool {
        FrameMessage::parse(message).is_ok()
    }

    /// Makes a frame of a message of the publisher. The frame may change while it is read, if the publisher breaks the
    /// protocol. So it can be copied, and the copy is checked: see [`ReceivedFrame::copy_to`].
    ///
    /// Each message that the publisher sent to this reader is opened once. A message of another pool, or one whose
    /// block was filled again, is an error.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Protocol`]: the message is not a frame, or the publisher violated the protocol. End the
    ///   connection.
    /// - [`ErrorKind::Unsupported`]: this is a forked child.
    /// - [`ErrorKind::Io`]: the memory of the publisher could not be mapped, so this frame is lost. The next one
    ///   attempts it again. Or no descriptor was available for the lease: attach again.
    pub fn open(&mut self, message: Message) -> Result<ReceivedFrame> {
        let bytes = message.into_vec();
        if self.process.is_before_fork() {
            let detail = "this is a forked child, and the frames belong to the parent";
            return Err(error(ErrorKind::Unsupported, detail).next("attach a reader after the fork"));
        }
        match FrameMessage::parse(&bytes).map_err(|bad| protocol(bad.0))? {
            FrameMessage::ByValue { note_len } => {
                let note = BY_VALUE_LEN..BY_VALUE_LEN + note_len;
                Ok(ReceivedFrame::new(Body::Here { from: note.end }, bytes, note))
            }
            FrameMessage::Lent(lent) => {
                let body = Body::Lent(self.borrow(lent)?);
                let note = LENT_LEN..bytes.len();
                Ok(ReceivedFrame::new(body, bytes, note))
            }
        }
    }

    fn borrow(&mut self, lent: Lent) -> Result<Borrowed> {
        let (number, pool) = match self.pool() {
            Ok(found) => found,
            Err(error) => {
                self.return_unread(lent);
                return Err(error);
            }
        };
        if number != lent.pool {
            return Err(protocol("a frame is in the pool of another publisher"));
        }
        let geometry = pool.memory.geometry();
        let block = usize::try_from(lent.block).ok().filter(|&block| block < geometry.blocks);
        let length = usize::try_from(lent.length).ok().filter(|&length| length <= geometry.block_len);
        let (Some(block), Some(length)) = (block, length) else {
            return Err(protocol("a frame is outside of its pool"));
        };
        // Before there is a `Borrowed`, whose end would count as a return.
        if pool.memory.generation(block) != lent.generation {
            return Err(protocol("a frame is not in its block: its message is an old one, or was changed"));
        }
        Ok(Borrowed { pool, block, generation: lent.generation, length })
    }

    /// Returns the block of a frame that cannot be read because the pool is not mapped.
    fn return_unread(&self, lent: Lent) {
        let State::Leased { leased, announced, .. } = &self.state else { return };
        let block = usize::try_from(lent.block).ok().filter(|&block| block < announced.geometry.blocks);
        if let Some(block) = block.filter(|_| lent.pool == announced.pool) {
            leased.counts.increment(announced.first + block);
            // Without the pool nothing tells whether the publisher has asked.
            lease::ring(&leased.socket);
        }
    }

    /// Returns the pool and its number, after taking it from the answer of the publisher.
    fn pool(&mut self) -> Result<(u32, Arc<Pool>)> {
        loop {
            // A violation ends the lease.
            self.state = match std::mem::replace(&mut self.state, State::Broken) {
                State::Attached { counts, bootstrap } => self.take_answer(counts, &bootstrap)?,
                State::Leased { leased, announced, memfd } => match map(&leased, announced, &memfd) {
                    Ok(pool) => State::Mapped { number: announced.pool, pool: Arc::new(pool) },
                    Err(BadMemory::Io(what)) => {
                        // The next frame may find that there is memory.
                        self.state = State::Leased { leased, announced, memfd };
                        return Err(map_error(what));
                    }
                    Err(bad) => return Err(violation(bad.to_string())),
                },
                State::Mapped { number, pool } => {
                    let found = Arc::clone(&pool);
                    self.state = State::Mapped { number, pool };
                    return Ok((number, found));
                }
                State::WithoutPool(leased) => {
                    self.state = State::WithoutPool(leased);
                    return Err(protocol("a frame is in a pool that was not announced"));
                }
                State::Broken => return Err(protocol("an earlier error has ended the lease")),
            }
        }
    }

    /// Takes the lease and the memory of the pool.
    fn take_answer(&self, counts: CountsMemory, bootstrap: &ParentOnly) -> Result<State> {
        // One byte more, so that a longer datagram is noticed.
        let mut datagram = [0; LEASE_LEN + POOL_LEN + 1];
        let arrived = lease::receive(bootstrap, &mut datagram).map_err(receive_error)?;
        let arrived = arrived.ok_or_else(|| protocol("a frame arrived before the lease"))?;
        let announced = parse_lease(&datagram[..arrived.length]).map_err(|bad| protocol(bad.0))?;
        let mut fds = arrived.fds.into_iter();
        let socket = fds.next().filter(|socket| lease::is_suitable(socket));
        let socket = socket.ok_or_else(|| protocol("the lease is not a UNIX socket for packets"))?;
        let leased = Arc::new(Leased { counts, socket, process: self.process });
        match (announced, fds.next()) {
            (None, _) => Ok(State::WithoutPool(leased)),
            (Some(announced), _) if !self.admits(announced) => {
                Err(protocol("the publisher announced a pool beyond the limits of this reader"))
            }
            (Some(announced), Some(memfd)) => Ok(State::Leased { leased, announced, memfd }),
            (Some(_), None) => Err(protocol("a pool has no descriptor")),
        }
    }

    fn admits(&self, announced: Announced) -> bool {
        self.limits.pools_max > 0
            && memory_len(announced.geometry).is_some_and(|bytes| bytes as u64 <= self.limits.bytes_max)
            && announced.geometry.block_len as u64 <= self.limits.frame_max
    }
}

fn map(leased: &Arc<Leased>, announced: Announced, memfd: &ParentOnly) -> Result<Pool, BadMemory> {
    let memory = PoolMemory::adopt(memfd, announced.geometry)?;
    Ok(Pool { memory, first: announced.first, told: Told::new(), leased: Arc::clone(leased) })
}

impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_mapped = matches!(self.state, State::Mapped { .. });
        f.debug_struct("FrameReader").field("is_mapped", &is_mapped).finish_non_exhaustive()
    }
}

/// Returns the error of a lease that could not be received.
fn receive_error(what: io::Error) -> Error {
    let is_full = what.raw_os_error() == Some(libc::EMFILE);
    let error = Error::io(Operation::Receive, "the lease of a frame pool", what);
    match is_full {
        true => error.next("raise the limit on descriptors (ulimit -n), and attach again"),
        false => error.next("attach again"),
    }
}

/// Returns the error of a pool that could not be mapped.
fn map_error(what: io::Error) -> Error {
    let is_locked = what.raw_os_error() == Some(libc::EAGAIN);
    let error = Error::io(Operation::Map, "a frame pool", what);
    match is_locked {
        true => error.next("raise the limit on locked memory (ulimit -l): this process locks all of its memory"),
        false => error.next("raise the limit on memory (ulimit -v), or attach again with a smaller bytes_max"),
    }
}
