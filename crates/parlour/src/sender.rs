//! The sending half of a connection.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::backend::fault::Fault;
use crate::backend::halves::Outgoing;
use crate::backoff::{Backoff, SpinBudget};
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Result, TrySendError};
use crate::limits::FDS_MAX;
use crate::message::message_len;
use crate::peer::Peer;
use crate::shared_bytes::SharedBytes;
use crate::sys::fork::Process;
use crate::transport::Transport;
use crate::wait::{Deadline, wait_for};
use crate::wire::frame::HEADER_LEN;

const SEND: &str = "send to";

/// How many bytes `feed` gathers before it writes them. Measured: beyond 64 KiB per write nothing is gained.
const FEED_MAX: usize = 64 * 1024;

/// The sending half of a [`Connection`](crate::Connection). Dropping it ends this direction: the peer receives `None`
/// after the last message.
pub struct Sender {
    common: Arc<Common>,
    outgoing: Outgoing,
    finished: bool,
    backoff: Backoff,
    /// Something was sent since somebody asked.
    has_sent: bool,
    process: Process,
}

impl Sender {
    pub(crate) fn new(common: Arc<Common>, outgoing: Outgoing) -> Self {
        Self {
            common,
            outgoing,
            finished: false,
            backoff: Backoff::new(),
            has_sent: false,
            process: Process::current(),
        }
    }

    /// The way out. What was fed before a fork is the parent's to send, and a forked child forgets its copy here.
    #[inline]
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        if self.process.is_before_fork() {
            self.process = Process::current();
            self.outgoing.discard();
        }
        &mut self.outgoing
    }

    /// Whether anything was sent since the last time that this was asked.
    pub(crate) fn take_has_sent(&mut self) -> bool {
        std::mem::take(&mut self.has_sent)
    }

    /// Whether nothing waits to be sent and this direction goes on.
    pub(crate) fn is_pristine(&self) -> bool {
        self.outgoing.pending() == 0 && !self.finished
    }

    pub(crate) fn detach(&mut self) {
        self.outgoing.detach();
    }

    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// Sends one message of any length from 0 to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send).
    #[doc(alias = "send_info")]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_vectored(&[IoSlice::new(message)])
    }

    /// [`send`](Sender::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send).
    pub fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.send_until(parts, &[], Deadline::NEVER)
    }

    /// [`send`](Sender::send) that gives up after `timeout`.
    ///
    /// A message that the peer has taken a part of cannot be taken back. If the deadline passes then, the rest is kept,
    /// the call succeeds, and the rest goes out before anything else: with the next `send`, `flush`, or, on a
    /// [`Connection`](crate::Connection), while it waits in `recv`. So `Ok` means that the message is on its way, and
    /// an error that nothing of it is, and that sending it again does not double it.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send), and [`ErrorKind::TimedOut`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.send_until(&[IoSlice::new(message)], &[], Deadline::after(timeout))
    }

    /// Sends one message with open descriptors: the receiver finds copies of them, close-on-exec, in [`Message::fds`], in
    /// this order. Ours stay open, and ours to close. Blocks while the channel is full.
    ///
    /// The other side has to allow them ([`fds_max`](crate::ServerOptions::fds_max)). Where its kernel cannot refuse those
    /// that it does not allow (before Linux 6.16), or where there are more than it allows, they end the connection.
    /// Descriptors that nobody has received yet count against a limit of the sending user (`RLIMIT_NOFILE`).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send_with_fds`](crate::Connection::send_with_fds).
    ///
    /// [`Message::fds`]: crate::Message::fds
    pub fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.check_descriptors(fds.len())?;
        self.send_until(&[IoSlice::new(message)], fds, Deadline::NEVER)
    }

    /// [`send_with_fds`](Sender::send_with_fds) that gives up after `timeout`, as [`send_timeout`](Sender::send_timeout)
    /// does.
    ///
    /// # Errors
    ///
    /// Those of `send_with_fds`, and [`ErrorKind::TimedOut`].
    pub fn send_with_fds_timeout(&mut self, message: &[u8], fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<()> {
        self.check_descriptors(fds.len())?;
        self.send_until(&[IoSlice::new(message)], fds, Deadline::after(timeout))
    }

    /// Sends one message with blocks of memory, of which only the descriptors travel: whoever receives them
    /// ([`Message::take_shared`]) reads the same memory. So one block can be sent to many clients and is never copied.
    /// Blocks while the channel is full.
    ///
    /// Each block is one of the descriptors that the other side has to allow; see [`send_with_fds`](Sender::send_with_fds).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send_shared`](crate::Connection::send_shared).
    ///
    /// [`Message::take_shared`]: crate::Message::take_shared
    pub fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.send_shared_until(message, blocks, Deadline::NEVER)
    }

    /// [`send_shared`](Sender::send_shared) that gives up after `timeout`, as [`send_timeout`](Sender::send_timeout) does.
    ///
    /// # Errors
    ///
    /// Those of `send_shared`, and [`ErrorKind::TimedOut`].
    pub fn send_shared_timeout(&mut self, message: &[u8], blocks: &[&SharedBytes], timeout: Duration) -> Result<()> {
        self.send_shared_until(message, blocks, Deadline::after(timeout))
    }

    fn send_shared_until(&mut self, message: &[u8], blocks: &[&SharedBytes], deadline: Deadline) -> Result<()> {
        self.check_blocks(blocks.len())?;
        let fds: Vec<_> = blocks.iter().map(|block| block.as_fd()).collect();
        self.send_until(&[IoSlice::new(message)], &fds, deadline)
    }

    fn send_until(&mut self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<()> {
        self.check(parts)?;
        let mut sent = 0;
        // Most messages go at once, and then there is no wait to begin.
        let mut budget: Option<SpinBudget> = None;
        // Room that is left unused is announced for ever: who is about to wait must have taken all there is.
        let mut takes_any = false;
        loop {
            let before = sent;
            let result = match takes_any {
                true => self.outgoing().try_send(parts, fds, &mut sent),
                false => self.outgoing().try_send_most(parts, fds, &mut sent),
            };
            let has_moved = sent > before;
            if has_moved {
                // A long message goes in many parts, and the peer is at work on it.
                budget = None;
            }
            let given_up = match result {
                Ok(true) => {
                    self.has_sent = true;
                    return Ok(());
                }
                Ok(false) if !takes_any || (has_moved && !deadline.is_over()) => {
                    let budget = budget.get_or_insert_with(|| self.backoff.begin(self.common.spin_limit));
                    takes_any = deadline.is_over() || !self.backoff.spin_once(budget) || !budget.are_left();
                    continue;
                }
                Ok(false) => match self.prepare_to_wait() {
                    Ok(true) if !deadline.is_over() => continue,
                    Ok(_) => match self.wait(deadline) {
                        Ok(true) => {
                            budget = None;
                            takes_any = false;
                            continue;
                        }
                        Ok(false) => self.timed_out(),
                        Err(error) => error,
                    },
                    Err(error) => error,
                },
                Err(fault) => self.fault(fault),
            };
            return self.give_up(parts, sent, given_up);
        }
    }

    /// Ends the sending of a message that does not go on now. One that was begun cannot be taken back, and what comes next
    /// must not become part of it: so its rest is kept, and whatever keeps it from going on shows with the next call.
    pub(crate) fn give_up(&mut self, parts: &[IoSlice<'_>], sent: usize, error: Error) -> Result<()> {
        if sent == 0 || matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Protocol) {
            return Err(error);
        }
        self.outgoing().keep_rest(parts, sent);
        Ok(())
    }

    /// [`send`](Sender::send) that does not wait.
    ///
    /// When the channel takes only a part of the message, the rest is kept as [`send_timeout`](Sender::send_timeout)
    /// keeps it, and the call succeeds. While a rest is kept, the channel is full.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back, of which nothing was sent; [`TrySendError::Failed`] has the
    /// errors of [`Connection::send`](crate::Connection::send).
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        let parts = [IoSlice::new(message.as_ref())];
        self.check(&parts).map_err(TrySendError::Failed)?;
        let mut sent = 0;
        let given_up = loop {
            break match self.send_now(&parts, &[], &mut sent) {
                Ok(true) => return Ok(()),
                // The caller may wait now.
                Ok(false) => match self.prepare_to_wait() {
                    Ok(true) => continue,
                    Ok(false) if sent == 0 => return Err(TrySendError::Full(message)),
                    Ok(false) => self.timed_out(),
                    Err(error) => error,
                },
                Err(error) => error,
            };
        };
        self.give_up(&parts, sent, given_up).map_err(TrySendError::Failed)
    }

    /// Sends what goes at once; see [`Outgoing::try_send`].
    pub(crate) fn send_now(&mut self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], sent: &mut usize) -> Result<bool> {
        self.outgoing().try_send(parts, fds, sent).map_err(|fault| self.fault(fault))
    }

    /// Sends of what was fed what goes at once; `true` when nothing is left.
    pub(crate) fn flush_now(&mut self) -> Result<bool> {
        Ok(self.outgoing().pending() == 0 || self.outgoing().try_flush().map_err(|fault| self.fault(fault))?)
    }

    /// Takes a message to go with the next ones in one write: many small messages a second are an order of magnitude
    /// faster so.
    ///
    /// They go when 64 KiB have come together, with the next [`send`](Sender::send), or with [`flush`](Sender::flush).
    /// It blocks only when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send).
    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        // Most of the time, and then little else.
        let may_go = !self.finished && message.len() <= self.common.message_max;
        if may_go && self.outgoing().feed_within(message, FEED_MAX) {
            return Ok(());
        }
        if self.has_room_to_feed(message.len()) {
            return self.feed_now(message);
        }
        self.send_until(&[IoSlice::new(message)], &[], Deadline::NEVER)
    }

    /// Whether a message of this length is to wait for others, and not be sent with those that were fed before.
    pub(crate) fn has_room_to_feed(&mut self, length: usize) -> bool {
        self.outgoing().pending() + HEADER_LEN + length <= FEED_MAX
    }

    /// Keeps a message to go with the next ones, also when there is no room.
    pub(crate) fn feed_now(&mut self, message: &[u8]) -> Result<()> {
        self.check(&[IoSlice::new(message)])?;
        self.outgoing().feed(message).map_err(|fault| self.fault(fault))
    }

    /// Sends what was fed. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn flush(&mut self) -> Result<()> {
        while !self.try_flush()? {
            self.wait(Deadline::NEVER)?;
        }
        Ok(())
    }

    /// [`flush`](Sender::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn try_flush(&mut self) -> Result<bool> {
        while !self.flush_now()? {
            // The caller may wait now.
            if !self.prepare_to_wait()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends this direction, after what was fed is sent; the peer receives `None` after the last message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] when the peer has gone before.
    pub fn finish(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.flush()?;
        self.finish_now()
    }

    /// Ends this direction. What was fed must have been sent.
    pub(crate) fn finish_now(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        self.outgoing().finish().map_err(|fault| self.fault(fault))
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.common.peer
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.transport
    }

    /// See [`Connection::send_fd`](crate::Connection::send_fd).
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.outgoing.fd()
    }

    /// What must hold before anything of a message is sent.
    pub(crate) fn check(&self, parts: &[IoSlice<'_>]) -> Result<()> {
        if self.finished {
            return Err(self
                .common
                .error(ErrorKind::Disconnected, SEND, "this side has finished sending")
                .next("send before finish()"));
        }
        let length = message_len(parts);
        if length > self.common.message_max {
            return Err(self.fault(Fault::TooLong { length }));
        }
        Ok(())
    }

    /// What must hold before so many descriptors are sent.
    pub(crate) fn check_descriptors(&self, count: usize) -> Result<()> {
        self.check_fds(count, self.common.capabilities().descriptors, "descriptors", "unix or packet")
    }

    /// What must hold before so many blocks of memory are sent.
    pub(crate) fn check_blocks(&self, count: usize) -> Result<()> {
        self.check_fds(count, self.common.capabilities().zero_copy, "shared memory", "shm, packet or unix")
    }

    /// What must hold before descriptors are sent, where the transport `can` do it.
    fn check_fds(&self, count: usize, can: bool, what: &str, elsewhere: &'static str) -> Result<()> {
        if !can {
            let transport = self.common.transport;
            return Err(self
                .common
                .error(ErrorKind::Unsupported, SEND, format!("no {what} can be sent over {transport}"))
                .next(format!("connect over {elsewhere}")));
        }
        if count > FDS_MAX {
            let detail = format!("there are {count} descriptors, and {FDS_MAX} go with one message");
            return Err(self.common.error(ErrorKind::MessageTooLong, SEND, detail).next("send them with several"));
        }
        Ok(())
    }

    /// See [`Outgoing::prepare_to_wait`].
    pub(crate) fn prepare_to_wait(&mut self) -> Result<bool> {
        self.outgoing.prepare_to_wait().map_err(|fault| self.fault(fault))
    }

    /// Waits until sending may go on; `false` when the deadline has passed.
    fn wait(&self, deadline: Deadline) -> Result<bool> {
        match self.outgoing.fd() {
            Some(fd) => wait_for(fd, PollFlags::OUT, deadline).map_err(|error| self.common.io(SEND, error)),
            None => Err(self.fault(Fault::Disconnected)),
        }
    }

    pub(crate) fn timed_out(&self) -> Error {
        self.common
            .error(
                ErrorKind::TimedOut,
                SEND,
                "the channel was full until the deadline; nothing of the message was sent",
            )
            .next("the other side does not read; send again later")
    }

    fn fault(&self, fault: Fault) -> Error {
        self.common.fault(SEND, fault)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // In a forked child what was fed is a copy, and the parent will send it.
        if self.outgoing.pending() == 0 || self.finished || !self.process.is_current() {
            return;
        }
        if !matches!(self.outgoing.try_flush(), Ok(true)) {
            let bytes = self.outgoing.pending();
            tracing::warn!(server = %self.common.display_name, bytes, "messages lost: dropped while they could not be sent");
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Sender")
    }
}
