//! `FramePool`: lending blocks, waiting for one, and admitting readers.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::geteuid;

use super::frame::FrameMut;
use super::lease::{self, Drained, End};
use super::options::FramePoolOptions;
use super::watch::{Event, Watch};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::message::Message;
use crate::peer::Peer;
use crate::shm::blocks::Blocks;
use crate::shm::ledger::Slot;
use crate::shm::memfd::BadMemory;
use crate::shm::pool::{CountsMemory, memory_len};
use crate::sys::fork::ParentOnly;
use crate::wait::Deadline;
use crate::wire::frames::{Announced, Attach, Geometry, encode_lease};

/// The number of times that a call looks for a block and yields the processor before it sleeps. Measured: with it, a
/// frame of 64 KiB to four readers takes 7 microseconds, and without it 25.
const YIELDS: u32 = 40;

/// The number of rings that a reader has to spare at first.
const RINGS_SPARE: u32 = 64;

/// The maximum number of rings that a reader has to spare. One that has used up all is ignored.
const RINGS_MAX: u32 = 4096;

/// A pool of blocks in shared memory, which this process fills and its readers read without a copy.
///
/// See the [module](super) for an example. One thread uses a pool at a time; a [`Frame`](super::Frame) can be dropped
/// in any thread.
///
/// # Fork
///
/// In a forked child every call that can fail fails with `Unsupported`: the pool belongs to the parent.
/// [`remove`](Self::remove) does nothing there, and [`held_by`](Self::held_by) returns 0.
///
/// # Platform
///
/// Linux: memfd_create(2) with the seal `F_SEAL_FUTURE_WRITE`, socketpair(2), epoll(7).
pub struct FramePool {
    pub(super) blocks: Blocks,
    /// The number that the messages of this pool have. Random, so that a message of another pool is noticed.
    pub(super) number: u32,
    /// The descriptor of the memory, for further readers.
    pub(super) memfd: OwnedFd,
    /// By the slot of the reader in the account of the blocks.
    pub(super) leases: Vec<Option<Lease>>,
    /// Leases that were shut down and not closed, with the users of their readers.
    lingering: Vec<(ParentOnly, Option<u32>)>,
    watch: Watch,
    pub(super) options: FramePoolOptions,
    /// The number of readers so far.
    admitted: u64,
    /// Those that may wait for the descriptor.
    waiters: Vec<Waiter>,
    /// The doorbell of this process was rung for the waiters.
    has_passed_on: bool,
}

/// A caller that found nothing, and may wait for the descriptor of the pool.
#[derive(Debug)]
struct Waiter {
    /// The reader that is to have place, or `None` for a block to be lent.
    reader: Option<ReaderId>,
    /// It has tried again since something happened last.
    has_tried: bool,
}

/// The events that a call has taken from the descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    Nothing,
    /// The doorbell was rung for waiters because of earlier events.
    PassedOn,
    Events,
}

/// A reader whose lease lives.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) socket: ParentOnly,
    pub(super) number: u64,
    pub(super) uid: Option<u32>,
    /// The reader has the memory: the pool is within its limits.
    pub(super) has_pool: bool,
    /// The reader has one of the shares.
    pub(super) has_share: bool,
    /// The publisher has removed the reader, which still holds blocks.
    pub(super) is_removed: bool,
    /// The number of rings that the reader has to spare. Each block that is sent to it adds one, because a reader rings
    /// at most once when it returns a block.
    pub(super) rings: u32,
}

impl Lease {
    /// Notes that a block was sent to the reader.
    pub(super) fn expect_ring(&mut self) {
        self.rings = (self.rings + 1).min(RINGS_MAX);
    }

    /// Takes [`expect_ring`](Self::expect_ring) back.
    pub(super) fn expect_no_ring(&mut self) {
        self.rings = self.rings.saturating_sub(1);
    }
}

/// A reader of a [`FramePool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId {
    pub(super) slot: Slot,
    pub(super) number: u64,
}

impl FramePoolOptions {
    /// Creates the pool. All of its memory is allocated now, and charged to this process.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`]: an option is out of range, or the pool has more than 1024 blocks.
    /// - [`ErrorKind::Io`]: not enough memory or descriptors are available.
    /// - [`ErrorKind::Unsupported`]: the kernel or a sandbox does not allow memfd_create(2).
    pub fn create(&self) -> Result<FramePool> {
        FramePool::create(self)
    }
}

impl FramePool {
    /// Creates a pool with the default [options](FramePoolOptions), for frames of at most this many bytes.
    ///
    /// # Errors
    ///
    /// Those of [`FramePoolOptions::create`].
    pub fn new(frame_len_max: usize) -> Result<Self> {
        FramePoolOptions::new(frame_len_max).create()
    }

    fn create(options: &FramePoolOptions) -> Result<Self> {
        let geometry = options.geometry()?;
        let failed = |error: io::Error| {
            let object = format!("a frame pool of {} blocks of {} bytes", geometry.blocks, geometry.block_len);
            create_error(object, error)
        };
        let (blocks, memfd) = Blocks::create(geometry).map_err(failed)?;
        let watch = Watch::new(blocks.doorbell()).map_err(failed)?;
        let (number, options) = (random_number(), options.clone());
        Ok(Self {
            blocks,
            number,
            memfd,
            leases: Vec::new(),
            lingering: Vec::new(),
            watch,
            options,
            admitted: 0,
            waiters: Vec::new(),
            has_passed_on: false,
        })
    }

    /// Returns the number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.geometry().blocks
    }

    /// Returns the length in bytes of the longest frame.
    #[must_use]
    pub fn frame_len_max(&self) -> usize {
        self.geometry().block_len
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.blocks.geometry()
    }

    /// Lends a block to be filled: the next one in turn among those that nobody holds. Blocks while every block is
    /// held, which needs as many frames of this process as [`own_blocks`](FramePoolOptions::own_blocks) says.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: this is a forked child.
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn loan(&mut self) -> Result<FrameMut> {
        self.loan_until(Deadline::NEVER)
    }

    /// Lends a block as [`loan`](Self::loan) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`loan`](Self::loan), and [`ErrorKind::TimedOut`].
    pub fn loan_timeout(&mut self, timeout: Duration) -> Result<FrameMut> {
        self.loan_until(Deadline::after(timeout))
    }

    /// Lends a block as [`loan`](Self::loan) does, or returns `None` if every block is held. Then the
    /// [descriptor](Self::as_fd) is readable when one may have been returned.
    ///
    /// # Errors
    ///
    /// Those of [`loan`](Self::loan).
    pub fn try_loan(&mut self) -> Result<Option<FrameMut>> {
        self.check_process(Operation::Loan)?;
        self.attempt(Operation::Loan, None, Self::take)
    }

    fn loan_until(&mut self, deadline: Deadline) -> Result<FrameMut> {
        self.check_process(Operation::Loan)?;
        match self.wait_until(Operation::Loan, deadline, Self::take)? {
            Some(frame) => Ok(frame),
            None => {
                let detail = "every block was held until the deadline";
                Err(Error::new(ErrorKind::TimedOut, Operation::Loan, self.object(), detail)
                    .next("drop the frames that this process keeps, or raise own_blocks"))
            }
        }
    }

    fn take(&mut self) -> Option<FrameMut> {
        self.blocks.take().map(FrameMut::new)
    }

    /// Returns what `look` finds. If it finds nothing, asks for a doorbell and looks once more. After `None`, the
    /// descriptor of the pool is readable as soon as something may have been returned.
    pub(super) fn attempt<T>(
        &mut self,
        operation: Operation,
        reader: Option<ReaderId>,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>> {
        if let Some(found) = look(self) {
            self.waiters.retain(|waiter| waiter.reader != reader);
            return Ok(Some(found));
        }
        // In this order: a ring for this request must stay in its lease, where the caller's poll sees it.
        let events = self.process_events(operation, Deadline::now())?;
        self.blocks.ask();
        let found = look(self);
        let at = self.waiters.iter().position(|waiter| waiter.reader == reader);
        let has_tried = at.is_some_and(|at| self.waiters.swap_remove(at).has_tried);
        // Others may poll for what this call has taken. One that tries again does not wake them again, or two that
        // find nothing would wake each other for ever.
        if events != Taken::Nothing && !has_tried && self.waiters.iter().any(|waiter| !waiter.has_tried) {
            self.ring_for_waiters();
        }
        if found.is_none() {
            self.waiters.push(Waiter { reader, has_tried: true });
        }
        Ok(found)
    }

    /// Waits until `look` finds something, and returns it, or `None` after the deadline.
    pub(super) fn wait_until<T>(
        &mut self,
        operation: Operation,
        deadline: Deadline,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>> {
        for _ in 0..YIELDS {
            if let Some(found) = look(self) {
                return Ok(Some(found));
            }
            std::thread::yield_now();
        }
        let mut has_taken = false;
        let outcome = loop {
            // Anew before every sleep: a ring answers one request.
            self.blocks.ask();
            if let Some(found) = look(self) {
                break Ok(Some(found));
            }
            let is_over = deadline.is_over();
            match self.process_events(operation, deadline) {
                Ok(taken) => has_taken |= taken != Taken::Nothing,
                Err(error) => break Err(error),
            }
            if is_over {
                break Ok(look(self));
            }
        };
        self.pass_on(has_taken);
        outcome
    }

    /// Makes the descriptor readable if this call has taken events that another one waits for with poll(2).
    fn pass_on(&mut self, has_taken: bool) {
        if has_taken && !self.waiters.is_empty() {
            self.waiters.iter_mut().for_each(|waiter| waiter.has_tried = false);
            self.ring_for_waiters();
        }
    }

    fn ring_for_waiters(&mut self) {
        self.has_passed_on = true;
        self.blocks.ring();
    }

    /// Sleeps until something happens, at most until the deadline. Takes back what readers held that have ended.
    fn process_events(&mut self, operation: Operation, deadline: Deadline) -> Result<Taken> {
        let events = self.watch.wait(deadline).map_err(|error| Error::io(operation, self.object(), error))?;
        let mut taken = Taken::Nothing;
        for event in events {
            let is_passed_on = event == Event::Own && std::mem::take(&mut self.has_passed_on);
            taken = taken.max(if is_passed_on { Taken::PassedOn } else { Taken::Events });
            match event {
                Event::Own => self.blocks.silence(),
                Event::Lease { slot, has_ended: true } => self.end(slot, None),
                Event::Lease { slot, has_ended: false } => self.take_rings(slot),
            }
        }
        if taken == Taken::Events {
            self.waiters.iter_mut().for_each(|waiter| waiter.has_tried = false);
        }
        Ok(taken)
    }

    fn take_rings(&mut self, slot: Slot) {
        let Some(lease) = self.leases.get_mut(slot).and_then(Option::as_mut) else { return };
        match lease::drain(&lease.socket) {
            Drained::Ended(how) => self.end(slot, Some(how)),
            Drained::Rings(count) => {
                lease.rings = lease.rings.saturating_sub(count);
                if lease.rings == 0 {
                    self.watch.mute(lease.socket.as_fd(), slot);
                }
            }
        }
    }

    /// Takes everything back from a reader whose lease has ended, in this way or in one that the kernel tells.
    fn end(&mut self, slot: Slot, how: Option<End>) {
        if let Some(lease) = self.leases.get_mut(slot).and_then(Option::take) {
            self.watch.remove(lease.socket.as_fd());
            self.blocks.remove(slot);
            if how.unwrap_or_else(|| lease::end_of(&lease.socket)) == End::ShutDown {
                self.lingering.push((lease.socket, lease.uid));
            }
        }
    }

    /// Returns true if a message is one that [`admit`](Self::admit) takes: a reader asks to be admitted.
    #[must_use]
    pub fn is_attach(message: &[u8]) -> bool {
        Attach::is_one(message)
    }

    /// Admits a reader: takes its message ([`FrameReader::attach`](super::FrameReader::attach)), which arrived over a
    /// connection with this peer. Frames can then be [sent](Self::send) to it over this connection.
    ///
    /// The connection must allow two descriptors ([`ServerOptions::fds_max`](crate::ServerOptions::fds_max)).
    ///
    /// # Errors
    ///
    /// The reader is not admitted, and the descriptors of the message are closed. The connection can still be used.
    ///
    /// - [`ErrorKind::Denied`]: the reader belongs to another user, or to an unknown one, and
    ///   [`any_user`](FramePoolOptions::any_user) is not set.
    /// - [`ErrorKind::Busy`]: there are as many readers as the options allow.
    /// - [`ErrorKind::Protocol`]: the message is another one, or its descriptors are not those of a reader.
    /// - [`ErrorKind::Disconnected`]: the reader has ended already.
    /// - [`ErrorKind::Unsupported`]: this is a forked child.
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn admit(&mut self, message: Message, peer: &Peer) -> Result<ReaderId> {
        self.check_process(Operation::Attach)?;
        // Readers that have ended make room.
        let taken = self.process_events(Operation::Attach, Deadline::now())?;
        self.pass_on(taken != Taken::Nothing);
        if self.waiters.len() > self.options.leases_max {
            let leases = &self.leases;
            let lives =
                |id: ReaderId| leases.get(id.slot).and_then(Option::as_ref).is_some_and(|l| l.number == id.number);
            self.waiters.retain(|waiter| waiter.reader.is_none_or(lives));
        }
        let error =
            |kind, detail: String| Error::new(kind, Operation::Attach, format!("{peer} to a frame pool"), detail);
        let protocol = |detail: String| {
            error(ErrorKind::Protocol, detail).next("end the connection, and check that the peer is a reader of frames")
        };
        let attach = Attach::parse(&message).map_err(|bad| protocol(bad.0.to_owned()))?;
        let uid = peer.uid();
        if !self.options.any_user && uid != Some(geteuid().as_raw()) {
            let detail = "it belongs to another user".to_owned();
            return Err(error(ErrorKind::Denied, detail).next("end the connection, or set any_user"));
        }
        self.lingering.retain(|(socket, _)| lease::end_of(socket) == End::ShutDown);
        let lingering = self.lingering.iter().map(|&(_, uid)| uid);
        let uids: Vec<_> = self.leases.iter().flatten().map(|lease| lease.uid).chain(lingering).collect();
        let (count, of_user) = (uids.len(), uids.iter().filter(|&&other| other == uid).count());
        if count >= self.options.leases_max || of_user >= self.options.leases_of_user_max() {
            let detail = format!("{count} readers have a lease, {of_user} of them of this user");
            return Err(error(ErrorKind::Busy, detail).next("raise leases_max or leases_per_uid_max"));
        }
        let Ok([counts, bootstrap]) = <[OwnedFd; 2]>::try_from(message.into_fds()) else {
            return Err(protocol("its message does not have two descriptors".to_owned()));
        };
        if !lease::is_suitable(&bootstrap) {
            return Err(protocol("its second descriptor is not a UNIX socket for packets".to_owned()));
        }
        let io = |what: io::Error| admit_error(peer, what);
        let counts = CountsMemory::adopt(&counts).map_err(|bad| match bad {
            BadMemory::Io(what) => io(what),
            bad => protocol(bad.to_string()),
        })?;
        let (ours, theirs) = lease::pair().map_err(io)?;
        let has_pool = attach.pools_max > 0
            && attach.frame_max >= self.frame_len_max() as u64
            && memory_len(self.geometry()).is_some_and(|length| attach.bytes_max >= length as u64);
        let announced = has_pool.then_some(Announced { pool: self.number, geometry: self.geometry(), first: 0 });
        let fds = [theirs.as_fd(), self.memfd.as_fd()];
        let fds = if has_pool { &fds[..] } else { &fds[..1] };
        lease::send_with(&bootstrap, &encode_lease(announced), fds).map_err(io)?;
        drop((bootstrap, theirs));
        self.admitted += 1;
        let number = self.admitted;
        let slot = self.blocks.add(counts, self.options.share);
        if let Err(what) = self.watch.add(ours.as_fd(), slot) {
            self.blocks.remove(slot);
            return Err(io(what));
        }
        let rings = RINGS_SPARE;
        let lease = Lease { socket: ours, number, uid, has_pool, has_share: false, is_removed: false, rings };
        if self.leases.len() <= slot {
            self.leases.resize_with(slot + 1, || None);
        }
        self.leases[slot] = Some(lease);
        self.forget_waiters_of(slot);
        Ok(ReaderId { slot, number })
    }

    /// Forgets those that wait for an earlier reader in this place, which has ended. Wakes them first.
    fn forget_waiters_of(&mut self, slot: Slot) {
        let count = self.waiters.len();
        self.waiters.retain(|waiter| waiter.reader.is_none_or(|reader| reader.slot != slot));
        if self.waiters.len() < count {
            self.ring_for_waiters();
        }
    }

    /// Sends no further frames to a reader whose connection has ended. The frames that it keeps remain valid, and count
    /// until it drops them or dies. Has no effect for a reader that has ended.
    pub fn remove(&mut self, reader: ReaderId) {
        if self.blocks.is_in_child() {
            return;
        }
        if let Some(lease) = self.lease_of(reader) {
            lease.is_removed = true;
        }
    }

    /// Returns the number of blocks that a reader holds: 0 after its end.
    #[must_use]
    pub fn held_by(&mut self, reader: ReaderId) -> usize {
        if self.blocks.is_in_child() {
            return 0;
        }
        match self.lease_of(reader) {
            Some(_) => self.blocks.held(reader.slot),
            None => 0,
        }
    }

    pub(super) fn lease_of(&mut self, reader: ReaderId) -> Option<&mut Lease> {
        self.leases.get_mut(reader.slot)?.as_mut().filter(|lease| lease.number == reader.number)
    }

    pub(super) fn object(&self) -> String {
        format!("a frame pool of {} blocks", self.blocks())
    }

    pub(super) fn check_process(&self, operation: Operation) -> Result<()> {
        match self.blocks.is_in_child() {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Unsupported,
                operation,
                self.object(),
                "this is a forked child, and the pool belongs to the parent",
            )
            .next("make a pool after the fork")),
        }
    }
}

/// Returns the descriptor that is readable when a block may have been returned, after [`FramePool::try_loan`] returned
/// `None`. For waiting only, with poll(2) and similar calls.
impl AsFd for FramePool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramePool")
            .field("blocks", &self.blocks())
            .field("frame_len_max", &self.frame_len_max())
            .field("readers", &self.leases.iter().flatten().count())
            .finish_non_exhaustive()
    }
}

/// Returns the error of a system call by which a reader is admitted.
fn admit_error(peer: &Peer, error: io::Error) -> Error {
    let errno = error.raw_os_error();
    let error = Error::io(Operation::Attach, format!("{peer} to a frame pool"), error);
    match errno {
        Some(libc::EMFILE) => error.next("raise the limit on descriptors (ulimit -n), or lower leases_max"),
        Some(libc::ETOOMANYREFS) => error.next("end connections of clients that receive no descriptors"),
        Some(libc::EAGAIN) => {
            error.next("raise the limit on locked memory (ulimit -l), or have the reader attach again")
        }
        _ => error.next("end the connection, so that the reader attaches again"),
    }
}

/// Returns a number that differs between pools. It need not be secret: it detects mistakes.
fn random_number() -> u32 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(4) => u32::from_ne_bytes(bytes),
        _ => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            std::process::id().rotate_left(16) ^ now.tv_nsec as u32
        }
    }
}

/// Returns the error of a system call that creates or maps memory.
pub(super) fn create_error(object: String, error: io::Error) -> Error {
    let is_missing = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES));
    let is_locked = error.raw_os_error() == Some(libc::EAGAIN);
    let error = Error::io(Operation::Create, object, error);
    match (is_missing, is_locked) {
        (true, _) => error.into_kind(ErrorKind::Unsupported).next("send messages, or allow memfd_create(2)"),
        (_, true) => error.next("raise the limit on locked memory (ulimit -l): this process locks all of its memory"),
        _ => error,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::frames::{FrameLimits, FrameReader};
    use crate::peer::Provenance;

    fn peer(uid: u32) -> Peer {
        Peer::from_file(uid, None, Provenance::Unknown)
    }

    /// Attaches a reader of this user without a connection.
    #[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn admit(pool: &mut FramePool, uid: u32) -> (Result<ReaderId, ErrorKind>, FrameReader) {
        let mut message = Message::default();
        let reader = FrameReader::attach(&FrameLimits::new(), |payload| {
            payload.with(|_, fds| {
                message.bytes = payload.to_vec();
                message.fds = fds.iter().map(|fd| fd.try_clone_to_owned().unwrap()).collect();
            });
            Ok(())
        })
        .unwrap();
        (pool.admit(message, &peer(uid)).map_err(|error| error.kind()), reader)
    }

    #[test]
    fn a_reader_of_another_user_is_refused_unless_every_user_may_attach() {
        let own = geteuid().as_raw();
        for (any_user, uid, is_admitted) in
            [(false, own, true), (false, own + 1, false), (true, own, true), (true, own + 1, true)]
        {
            let mut pool = FramePoolOptions::new(1).any_user(any_user).leases_per_uid_max(1).create().unwrap();
            let (outcome, _reader) = admit(&mut pool, uid);
            assert_eq!(outcome.map(drop), if is_admitted { Ok(()) } else { Err(ErrorKind::Denied) });
            let (outcome, _other) = admit(&mut pool, uid);
            let expected = if is_admitted { ErrorKind::Busy } else { ErrorKind::Denied };
            assert_eq!(outcome.map(drop), Err(expected), "the place of this user is taken");
        }
    }

    #[test]
    fn one_user_gets_neither_all_shares_nor_all_leases() {
        let own = geteuid().as_raw();
        let mut pool = FramePoolOptions::new(1).any_user(true).readers(8).leases_max(20).create().unwrap();
        let mut readers = Vec::new();
        let mut lent = |pool: &mut FramePool, uid: u32| {
            let (outcome, reader) = admit(pool, uid);
            readers.push(reader);
            let frame = pool.try_loan().unwrap().unwrap().freeze();
            outcome.map(|id| {
                pool.send(id, &frame, b"", |_| Ok(())).unwrap();
                pool.held_by(id) == 1
            })
        };
        let of_one: Vec<_> = (0..6).map(|_| lent(&mut pool, own + 1)).collect();
        let busy = Err(ErrorKind::Busy);
        assert_eq!(of_one, [Ok(true), Ok(true), Ok(false), Ok(false), Ok(false), busy]);
        assert_eq!(lent(&mut pool, own + 2), Ok(true));
        let of_own: Vec<_> = (0..5).map(|_| lent(&mut pool, own)).collect();
        assert_eq!(of_own, [Ok(true); 5], "this user has no limit of its own, and 8 readers have a share");
        assert_eq!(lent(&mut pool, own + 3), Ok(false));
    }

    #[test]
    fn a_user_gets_as_many_shares_as_the_option_says() {
        let own = geteuid().as_raw();
        for (max, uid) in [(2, own), (2, own + 1), (4, own + 1)] {
            let options = FramePoolOptions::new(1).any_user(true).readers(8);
            assert_eq!(options.readers_per_uid_max(max).shares_of_user_max(Some(uid)), max);
        }
    }
}
