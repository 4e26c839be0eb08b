//! The receiving half of a connection.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::backend::fault::{Fault, Received};
use crate::backend::halves::Incoming;
use crate::backoff::Backoff;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Result, TryRecvError};
use crate::message::Message;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wait::{Deadline, wait_for};

const RECV: &str = "receive from";

/// The receiving half of a [`Connection`](crate::Connection). Dropping it ends this direction: the peer's sends fail.
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

    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// Blocks until a whole message has arrived; `None` is the end. See [`Connection::recv`](crate::Connection::recv).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv).
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_alone(&mut message, Deadline::NEVER)?.then_some(message))
    }

    /// [`recv`](Receiver::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end.
    ///
    /// With the same `Vec` every time nothing is allocated once it, and one like it in here with which it may change
    /// places for messages of 16 KiB or more, are large enough; so whatever comes of the call, what was in it is gone.
    /// Descriptors that come along are closed.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv).
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        if self.incoming.pop_buffered(bytes) {
            return Ok(true);
        }
        Message::receive_into(bytes, |message| self.recv_alone(message, Deadline::NEVER))
    }

    /// [`recv`](Receiver::recv) that gives up after `timeout`. See
    /// [`Connection::recv_timeout`](crate::Connection::recv_timeout).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`](crate::Connection::recv), and [`ErrorKind::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_alone(&mut message, Deadline::after(timeout))?.then_some(message))
    }

    /// [`recv`](Receiver::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of
    /// [`Connection::recv`](crate::Connection::recv).
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        let mut message = Message::default();
        Ok(self.try_recv_into(&mut message)?.then_some(message))
    }

    /// [`try_recv`](Receiver::try_recv) into a message of the caller's; `false` is the end.
    pub(crate) fn try_recv_into(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        loop {
            return match self.incoming.try_recv(message) {
                Ok(Received::Message) => Ok(true),
                Ok(Received::Closed) => Ok(false),
                // The caller may wait now.
                Ok(Received::Empty) if self.incoming.prepare_to_wait() => continue,
                Ok(Received::Empty) => Err(TryRecvError::Empty),
                Err(fault) => Err(TryRecvError::Failed(self.fault(fault))),
            };
        }
    }

    /// Receives what is there: `None` when no whole message is.
    pub(crate) fn recv_now(&mut self, out: &mut Message) -> Result<Option<bool>> {
        match self.incoming.try_recv(out) {
            Ok(Received::Message) => Ok(Some(true)),
            Ok(Received::Closed) => Ok(Some(false)),
            Ok(Received::Empty) => Ok(None),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    /// Lets the other side run before we look, when we have just sent it something and wait for its answer: that cannot be
    /// here yet, and on a shared processor the other side has only now a chance to make it.
    pub(crate) fn expect_answer(&mut self) {
        if self.incoming.needs_syscall() {
            self.backoff.yield_now(self.common.spin_limit);
        }
    }

    pub(crate) fn recv_alone(&mut self, out: &mut Message, deadline: Deadline) -> Result<bool> {
        self.recv_until(out, deadline, |fd| wait_for(fd, PollFlags::IN, deadline))
    }

    /// Receives, with `wait` to sleep until the descriptor is readable or, `Ok(false)`, the deadline has passed.
    pub(crate) fn recv_until(
        &mut self,
        out: &mut Message,
        deadline: Deadline,
        mut wait: impl FnMut(BorrowedFd<'_>) -> io::Result<bool>,
    ) -> Result<bool> {
        // A peer that sends a byte at a time keeps the descriptor ready and must not keep the call: what has come by the
        // deadline is looked at once more, and no more than once.
        let mut in_time = true;
        let mut looked_once_more = false;
        let mut budget = None;
        loop {
            if let Some(received) = self.recv_now(out)? {
                return Ok(received);
            }
            let looking = budget.get_or_insert_with(|| self.backoff.begin(self.common.spin_limit));
            if in_time && self.backoff.spin_once(looking) {
                in_time = !deadline.is_over();
                continue;
            }
            let ready = match (self.incoming.prepare_to_wait(), in_time) {
                (true, true) => true,
                (true, false) => !std::mem::replace(&mut looked_once_more, true),
                (false, true) => wait(self.incoming.fd()).map_err(|error| self.common.io(RECV, error))?,
                (false, false) => false,
            };
            in_time = ready && !deadline.is_over();
            budget = None;
            if !ready {
                return Err(self.common.error(
                    ErrorKind::TimedOut,
                    RECV,
                    "no whole message came before the deadline; what has come of one is kept",
                ));
            }
        }
    }

    /// See [`Connection::has_message`](crate::Connection::has_message).
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.incoming.has_message()
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

    /// See [`Connection::recv_fd`](crate::Connection::recv_fd).
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.incoming.fd()
    }

    fn fault(&self, fault: Fault) -> Error {
        self.common.fault(RECV, fault)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Receiver")
    }
}
