//! The receiving half of a connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::iter::FusedIterator;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::backend::fault::Fault;
use crate::backend::halves::Incoming;
use crate::backoff::Backoff;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::message::Message;
use crate::message::Received;
use crate::peer::{Peer, Provenance};
use crate::shm::stats::Direction;
use crate::transport::Transport;
use crate::wait::Deadline;
use crate::wire::stats::WaitKind;
use crate::wire::tap::Event;

const RECV: Operation = Operation::Receive;

/// The number of bytes of an incomplete message after whose arrival a call polls again before it sleeps.
const MUCH: usize = 4096;

/// The receiving half of a [`Connection`](crate::Connection).
///
/// Dropping it ends this direction: the peer's sends fail.
pub struct Receiver {
    common: Arc<Common>,
    pub(crate) incoming: Incoming,
    backoff: Backoff,
}

impl Receiver {
    pub(crate) fn new(common: Arc<Common>, incoming: Incoming) -> Self {
        Self { common, incoming, backoff: Backoff::new() }
    }

    pub(crate) fn shared(&self) -> &Arc<Common> {
        &self.common
    }

    /// Returns a pidfd of the process that the kernel recorded, unless the peer is another one.
    pub(crate) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        if self.transport() != Transport::Fifo && self.peer().pid_provenance() == Provenance::Verified {
            let text = "the kernel recorded this process, which made the pair; use the id of the child";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        self.incoming.peer_pidfd()
    }

    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// Receives one message. Blocks until a whole message has arrived. Returns `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv).
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        self.recv_message(Deadline::NEVER)
    }

    /// Receives one message, and gives up after `timeout`. See
    /// [`Connection::recv_timeout`](crate::Connection::recv_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv), and [`ErrorKind::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        self.recv_message(Deadline::after(timeout))
    }

    fn recv_message(&mut self, deadline: Deadline) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_alone(&mut message, deadline)?.then(message))
    }

    /// Receives one message without blocking.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`Connection::recv`](crate::Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        let mut message = Message::default();
        Ok(self.try_recv_message(&mut message)?.then(message))
    }

    /// Receives one message, and polls for a moment before it gives up. See
    /// [`Connection::spin_recv`](crate::Connection::spin_recv).
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Receiver::try_recv).
    pub fn spin_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        let mut message = Message::default();
        Ok(self.spin_recv_over(&mut message)?.then_some(message))
    }

    /// Receives one message over an old one, as [`spin_recv`](Receiver::spin_recv) does. See
    /// [`Connection::spin_recv_over`](crate::Connection::spin_recv_over).
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Receiver::try_recv).
    pub fn spin_recv_over(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        message.fds.clear();
        let mut budget = None;
        let mut arrived = 0;
        if self.common.turns.is_up_after_noted() {
            self.common.look_up();
        }
        loop {
            match self.recv_now(message)? {
                Received::Empty => {}
                received => return Ok(received == Received::Message),
            }
            // A peer that sends a little at a time does not make this call last.
            if self.incoming.partial_len() >= arrived + MUCH {
                arrived = self.incoming.partial_len();
                budget = None;
            }
            let spins = budget.get_or_insert_with(|| self.backoff.begin(self.common.spin_limit));
            if !self.backoff.spin_once(spins) {
                break;
            }
        }
        // The descriptor of the other transports shows what has arrived since.
        match self.incoming.wakes_on_request() {
            true => Ok(self.try_recv_message(message)? == Received::Message),
            false => Err(TryRecvError::Empty),
        }
    }

    /// Receives one message over an old one, as [`try_recv`](Receiver::try_recv) does. See
    /// [`Connection::try_recv_over`](crate::Connection::try_recv_over).
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Receiver::try_recv).
    pub fn try_recv_over(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        message.fds.clear();
        Ok(self.try_recv_message(message)? == Received::Message)
    }

    /// Receives one message into a `Vec` of the caller. Replaces the contents of the `Vec` with the message and returns
    /// its length in bytes. Returns `None` at the end of the stream. After an error or `None` the contents are
    /// unspecified. Descriptors of the message are closed.
    ///
    /// The receiver has a second buffer. For messages of 16 KiB or more, it exchanges that buffer with the `Vec`
    /// instead of copying. Once both are large enough, nothing is allocated.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv).
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
        if self.pop_buffered(bytes) {
            return Ok(Some(bytes.len()));
        }
        Message::receive_into(bytes, |message| self.recv_alone(message, Deadline::NEVER))
    }

    /// Receives one message as [`recv_into`](Receiver::recv_into) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv), and [`ErrorKind::TimedOut`].
    pub fn recv_into_timeout(&mut self, bytes: &mut Vec<u8>, timeout: Duration) -> Result<Option<usize>> {
        let deadline = Deadline::after(timeout);
        Message::receive_into(bytes, |message| self.recv_alone(message, deadline))
    }

    /// Receives one message as [`recv_into`](Receiver::recv_into) does, without blocking.
    ///
    /// # Errors
    ///
    /// Those of [`try_recv`](Receiver::try_recv).
    pub fn try_recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, TryRecvError> {
        Message::receive_into(bytes, |message| self.try_recv_message(message))
    }

    /// Receives one message without blocking. Never returns [`Received::Empty`].
    pub(crate) fn try_recv_message(&mut self, message: &mut Message) -> Result<Received, TryRecvError> {
        loop {
            return match self.incoming.try_recv(message, self.common.permit.as_ref()) {
                // The caller may wait next.
                Ok(Received::Empty) if self.incoming.prepare_to_wait() => continue,
                Ok(Received::Empty) => Err(TryRecvError::Empty),
                Ok(Received::Message) => Ok(self.counted(message)),
                Ok(Received::Closed) => Ok(Received::Closed),
                Err(fault) => Err(TryRecvError::Failed(self.fault(fault))),
            };
        }
    }

    /// See [`Incoming::pop_buffered`].
    #[inline(always)]
    pub(crate) fn pop_buffered(&mut self, bytes: &mut Vec<u8>) -> bool {
        let popped = self.pop_read(bytes);
        if popped {
            self.common.turns.note_buffered();
        }
        popped
    }

    /// Receives as [`pop_buffered`](Self::pop_buffered) does, where a hand-over is not looked for.
    #[inline(always)]
    pub(crate) fn pop_read(&mut self, bytes: &mut Vec<u8>) -> bool {
        let popped = self.incoming.pop_buffered(bytes);
        if popped && self.common.count(Direction::Received, bytes.len()) {
            record(&self.common, bytes, 0);
        }
        popped
    }

    /// Receives the next message where it is. See [`Incoming::next_in_place`].
    #[inline]
    pub(crate) fn next_in_place(&mut self) -> Option<&[u8]> {
        let Self { common, incoming, .. } = self;
        let message = incoming.next_in_place()?;
        if common.count(Direction::Received, message.len()) {
            record(common, message, 0);
        }
        common.turns.note_buffered();
        Some(message)
    }

    /// Receives one message without blocking, and without preparing to wait.
    pub(crate) fn recv_now(&mut self, out: &mut Message) -> Result<Received> {
        match self.incoming.try_recv(out, self.common.permit.as_ref()) {
            Ok(Received::Message) => Ok(self.counted(out)),
            Ok(received) => Ok(received),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    #[inline]
    fn counted(&self, message: &Message) -> Received {
        if self.common.count(Direction::Received, message.bytes.len()) {
            record(&self.common, &message.bytes, message.fds.len());
        }
        Received::Message
    }

    /// Notes that this half is about to sleep.
    pub(crate) fn note_waiting(&self) {
        let kind = if self.incoming.is_inside_message() { WaitKind::Rest } else { WaitKind::Message };
        self.common.note_waiting(Direction::Received, kind);
    }

    /// Yields the processor to the peer, after a message was sent to it and before its answer is received. The answer
    /// cannot have arrived yet, and on a shared processor the peer can make it only now.
    pub(crate) fn expect_answer(&mut self) {
        if self.incoming.needs_syscall() {
            self.backoff.yield_now(self.common.spin_limit);
        }
    }

    pub(crate) fn recv_alone(&mut self, out: &mut Message, deadline: Deadline) -> Result<Received> {
        self.recv_asleep(out, deadline, |common, fd| common.sleep(fd, PollFlags::IN, deadline))
    }

    /// Receives one message. `wait` sleeps until the descriptor is readable, or returns false at the deadline. Never
    /// returns [`Received::Empty`].
    pub(crate) fn recv_until(
        &mut self,
        out: &mut Message,
        deadline: Deadline,
        mut wait: impl FnMut(BorrowedFd<'_>) -> io::Result<bool>,
    ) -> Result<Received> {
        self.recv_asleep(out, deadline, |_, fd| wait(fd))
    }

    /// Receives like [`recv_until`](Self::recv_until). `sleep` gets the state that both halves share, too.
    pub(crate) fn recv_asleep(
        &mut self,
        out: &mut Message,
        deadline: Deadline,
        mut sleep: impl FnMut(&Common, BorrowedFd<'_>) -> io::Result<bool>,
    ) -> Result<Received> {
        // A peer that sends one byte at a time keeps the descriptor readable. To return in time, the call receives once
        // more after the deadline, and no more often.
        let mut in_time = true;
        let mut tried_once_more = false;
        let mut budget = None;
        let mut arrived = 0;
        let mut has_waited = false;
        if self.common.turns.is_up_after_noted() {
            self.common.look_up();
        }
        loop {
            match self.recv_now(out) {
                Ok(Received::Empty) => {}
                received => {
                    if has_waited {
                        self.common.note_awake(Direction::Received);
                    }
                    return received;
                }
            }
            if self.incoming.partial_len() >= arrived + MUCH {
                // A long message is received in many parts, and the peer is sending it.
                arrived = self.incoming.partial_len();
                budget = None;
            }
            let spins = budget.get_or_insert_with(|| self.backoff.begin(self.common.spin_limit));
            if in_time && self.backoff.spin_once(spins) {
                in_time = !deadline.is_over();
                continue;
            }
            let ready = match (self.incoming.prepare_to_wait(), in_time) {
                (true, true) => true,
                (true, false) => !std::mem::replace(&mut tried_once_more, true),
                (false, true) => {
                    // Until this call ends, it waits for the same message.
                    has_waited = true;
                    self.note_waiting();
                    sleep(&self.common, self.incoming.fd()).map_err(|error| {
                        self.common.note_awake(Direction::Received);
                        self.common.io(RECV, error)
                    })?
                }
                (false, false) => false,
            };
            in_time = ready && !deadline.is_over();
            budget = None;
            if !ready {
                self.common.note_awake(Direction::Received);
                let detail = "no whole message arrived before the deadline; a partial message is kept";
                return Err(self
                    .common
                    .error(ErrorKind::TimedOut, RECV, detail)
                    .next("receive again, or allow more time"));
            }
        }
    }

    /// Returns true if [`recv`](Receiver::recv) would return without waiting, in cases that polling
    /// [`recv_fd`](Receiver::recv_fd) need not report: a message, the end of the stream or an error is already
    /// available to this side.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.incoming.has_message()
    }

    /// Returns an iterator over the messages that blocks for each. It ends at the end of the stream, or after an error.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { receiver: self, ended: false }
    }

    /// Returns an iterator over the messages that have arrived. It ends when [`recv`](Receiver::recv) would block, at
    /// the end of the stream, or after an error.
    pub fn try_iter(&mut self) -> TryIter<'_> {
        TryIter { receiver: self, ended: false }
    }

    /// Returns the identity of the peer.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.common.peer
    }

    /// Returns the transport of this connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.transport
    }

    /// Returns a descriptor to poll before receiving. See [`Connection::recv_fd`](crate::Connection::recv_fd).
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.incoming.fd()
    }

    fn fault(&self, fault: Fault) -> Error {
        self.common.fault(RECV, fault)
    }
}

/// Records a message for the processes that tap the server.
#[cold]
#[inline(never)]
fn record(common: &Common, bytes: &[u8], descriptors: usize) {
    common.record(Event::In, descriptors, &[IoSlice::new(bytes)]);
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Receiver")
    }
}

/// A blocking iterator over received messages. See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    receiver: &'a mut Receiver,
    ended: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.receiver.recv().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a mut Receiver {
    type Item = Result<Message>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// An iterator over the messages that have arrived. See [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a> {
    receiver: &'a mut Receiver,
    ended: bool,
}

impl Iterator for TryIter<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.receiver.try_recv() {
            Ok(message) => message.map(Ok),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Failed(error)) => Some(Err(error)),
        };
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

impl FusedIterator for TryIter<'_> {}
