//! The sending half of a connection.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::backend::fault::Fault;
use crate::backend::halves::Outgoing;
use crate::backoff::{Backoff, SpinBudget};
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result, TrySendError};
use crate::limits::FDS_MAX;
use crate::message::message_len;
use crate::payload::{Attached, Payload};
use crate::peer::Peer;
use crate::shm::stats::{Direction, Tally};
use crate::sys::fork::Process;
use crate::transport::Transport;
use crate::wait::Deadline;
use crate::wire::frame::HEADER_LEN;
use crate::wire::stats::WaitKind;
use crate::wire::tap::Event;

const SEND: Operation = Operation::Send;

/// The number of bytes that `feed` buffers before it writes. Measured: larger writes gain nothing.
const FEED_MAX: usize = 64 * 1024;

/// The sending half of a [`Connection`](crate::Connection).
///
/// Dropping it ends this direction: the peer receives `None` after the last message.
pub struct Sender {
    common: Arc<Common>,
    outgoing: Outgoing,
    backoff: Backoff,
    /// A message was sent since [`take_has_sent`](Self::take_has_sent).
    has_sent: bool,
    /// The message that a task sends was recorded for the processes that tap the server.
    has_recorded: bool,
    process: Process,
}

impl Sender {
    pub(crate) fn new(common: Arc<Common>, outgoing: Outgoing) -> Self {
        let process = common.process;
        Self { common, outgoing, backoff: Backoff::new(), has_sent: false, has_recorded: false, process }
    }

    /// Returns the outgoing direction. A forked child discards its copy of the bytes that the parent buffered, because
    /// the parent sends them.
    #[inline]
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        if self.process.is_before_fork() {
            self.process = Process::current();
            self.outgoing.discard();
        }
        &mut self.outgoing
    }

    /// Returns true if a message was sent since the last call.
    pub(crate) fn take_has_sent(&mut self) -> bool {
        std::mem::take(&mut self.has_sent)
    }

    /// Returns true if no bytes are buffered and this direction has not ended.
    pub(crate) fn is_pristine(&self) -> bool {
        self.outgoing.pending() == 0 && !self.outgoing.is_finished()
    }

    pub(crate) fn detach(&mut self) {
        self.outgoing.detach();
    }

    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    /// Sends one message. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send).
    #[doc(alias = "send_info")]
    #[inline]
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        let payload = payload.into();
        // Inlined, this leaves nothing of the payload where the caller passes bytes.
        match payload.as_plain() {
            Some(message) => self.send_plain(message),
            None => self.send_until(&payload, Deadline::NEVER),
        }
    }

    fn send_plain(&mut self, message: &[u8]) -> Result<()> {
        self.check_length(message.len())?;
        self.send_parts(&[IoSlice::new(message)], &[], Deadline::NEVER)
    }

    /// Sends one message, and gives up after `timeout`.
    ///
    /// See [`Connection::send_timeout`](crate::Connection::send_timeout) for a message of which a part was sent.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send_timeout`](crate::Connection::send_timeout).
    pub fn send_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.send_until(&payload.into(), Deadline::after(timeout))
    }

    pub(crate) fn send_until(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        self.check(payload)?;
        payload.with(|parts, fds| self.send_parts(parts, fds, deadline))
    }

    fn send_parts(&mut self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<()> {
        match self.common.is_tapped() {
            false => self.send_untapped(parts, fds, deadline),
            true => self.send_tapped(parts, fds, deadline),
        }
    }

    /// Sends a message, and records it for the processes that tap the server. The record comes first, because the peer
    /// may answer at once. A mark follows it if the message was not sent.
    #[cold]
    #[inline(never)]
    fn send_tapped(&mut self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<()> {
        let is_recorded = self.common.record(Event::Out, fds.len(), parts);
        let result = self.send_untapped(parts, fds, deadline);
        if is_recorded && result.is_err() {
            self.common.record(Event::OutFailed, 0, &[]);
        }
        result
    }

    fn send_untapped(&mut self, parts: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], deadline: Deadline) -> Result<()> {
        let mut sent = 0;
        // Most messages are sent without waiting, so the spin budget is made when it is needed.
        let mut budget: Option<SpinBudget> = None;
        // POLLOUT is level-triggered: fill all space before blocking.
        let mut takes_any = false;
        let mut has_waited = false;
        if self.common.turns.is_up() {
            self.common.look_up();
        }
        loop {
            let before = sent;
            let result = match takes_any {
                true => self.outgoing().try_send(parts, fds, &mut sent),
                false => self.outgoing().try_send_most(parts, fds, &mut sent),
            };
            let has_moved = sent > before;
            if has_moved {
                // A long message is sent in many parts, and the peer is reading it.
                budget = None;
            }
            let error = match result {
                Ok(true) => {
                    self.has_sent = true;
                    if let Some(tally) = self.common.tally() {
                        count_parts(tally, parts);
                    }
                    if has_waited {
                        self.common.note_awake(Direction::Sent);
                    }
                    return Ok(());
                }
                Ok(false) if !takes_any || (has_moved && !deadline.is_over()) => {
                    let budget = budget.get_or_insert_with(|| self.backoff.begin(self.common.spin_limit));
                    takes_any = deadline.is_over() || !self.backoff.spin_once(budget) || !budget.has_polls_left();
                    continue;
                }
                Ok(false) => match self.prepare_to_wait() {
                    Ok(true) if !deadline.is_over() => continue,
                    Ok(_) => match self.wait(deadline) {
                        Ok(true) => {
                            has_waited = true;
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
            self.common.note_awake(Direction::Sent);
            return self.keep_rest(parts, sent, error);
        }
    }

    /// Ends a send that cannot go on now. A message of which a part was sent cannot be taken back, so its rest is kept,
    /// and it is counted. The error then shows with the next call.
    pub(crate) fn keep_rest(&mut self, parts: &[IoSlice<'_>], sent: usize, error: Error) -> Result<()> {
        let is_final =
            |kind| matches!(kind, ErrorKind::Disconnected | ErrorKind::Protocol | ErrorKind::Refused | ErrorKind::Busy);
        if sent == 0 || is_final(error.kind()) {
            return Err(error);
        }
        self.outgoing().keep_rest(parts, sent);
        self.common.count(Direction::Sent, message_len(parts));
        Ok(())
    }

    /// Sends one message without blocking.
    ///
    /// `Ok` means that the channel has the message, or a part of it, and that the rest is buffered. Dropping this half
    /// does not wait for the rest, and the peer then receives the error [`Truncated`](ErrorKind::Truncated).
    /// [`flush`](Sender::flush) or [`finish`](Sender::finish) waits.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent. [`TrySendError::Failed`] carries the
    /// errors of [`Connection::send`](crate::Connection::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        let payload = payload.into();
        self.check(&payload)?;
        match self.common.is_tapped() {
            false => self.try_send_untapped(payload),
            true => self.try_send_tapped(payload),
        }
    }

    #[cold]
    #[inline(never)]
    fn try_send_tapped<'a>(&mut self, payload: Payload<'a>) -> Result<(), TrySendError<Payload<'a>>> {
        self.begin_record(&payload);
        let result = self.try_send_untapped(payload);
        self.end_record(result.is_ok());
        result
    }

    fn try_send_untapped<'a>(&mut self, payload: Payload<'a>) -> Result<(), TrySendError<Payload<'a>>> {
        let mut sent = 0;
        let error = loop {
            break match self.send_now(&payload, &mut sent) {
                Ok(true) => return Ok(()),
                // The caller may wait next.
                Ok(false) => match self.prepare_to_wait() {
                    Ok(true) => continue,
                    Ok(false) if sent == 0 => return Err(TrySendError::Full(payload)),
                    Ok(false) => self.timed_out(),
                    Err(error) => error,
                },
                Err(error) => error,
            };
        };
        Ok(self.keep_rest(payload.parts(), sent, error)?)
    }

    /// Sends as much as is possible without blocking, and counts the message after its last part. See
    /// [`Outgoing::try_send`].
    pub(crate) fn send_now(&mut self, payload: &Payload<'_>, sent: &mut usize) -> Result<bool> {
        payload.with(|parts, fds| match self.outgoing().try_send(parts, fds, sent) {
            Ok(is_sent) => {
                if let (true, Some(tally)) = (is_sent, self.common.tally()) {
                    count_parts(tally, parts);
                }
                Ok(is_sent)
            }
            Err(fault) => Err(self.fault(fault)),
        })
    }

    /// Records a message that [`send_now`](Self::send_now) begins to send, possibly after attempts in vain, for the
    /// processes that tap the server. Records it once until [`end_record`](Self::end_record).
    #[inline]
    pub(crate) fn begin_record(&mut self, payload: &Payload<'_>) {
        if self.common.is_tapped() && !self.has_recorded {
            self.has_recorded = self.common.record(Event::Out, payload.attached().count(), payload.parts());
        }
    }

    /// Ends what [`begin_record`](Self::begin_record) has begun, and marks a message that was not sent.
    #[inline]
    pub(crate) fn end_record(&mut self, is_sent: bool) {
        if std::mem::take(&mut self.has_recorded) && !is_sent {
            self.common.record(Event::OutFailed, 0, &[]);
        }
    }

    /// Writes buffered bytes without blocking. Returns true if none are left.
    pub(crate) fn flush_now(&mut self) -> Result<bool> {
        Ok(self.outgoing().pending() == 0 || self.outgoing().try_flush().map_err(|fault| self.fault(fault))?)
    }

    /// Buffers a message, to be written together with the next ones.
    ///
    /// Sending many small messages this way is an order of magnitude faster. If the message does not fit in the 64 KiB
    /// buffer, or has descriptors or blocks of shared memory, the call writes the buffer and sends the message after
    /// it. Only in this case does it block. Otherwise the buffer is written by the next [`send`](Sender::send), by
    /// [`flush`](Sender::flush) or [`finish`](Sender::finish), or before [`Connection::recv`](crate::Connection::recv)
    /// blocks. After a split, a [`Receiver`](crate::Receiver) does not write it.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`](crate::Connection::send).
    #[inline]
    pub fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.feed_until(&payload.into(), Deadline::NEVER)
    }

    /// Buffers a message as [`feed`](Sender::feed) does, and gives up after `timeout` when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send_timeout`](crate::Connection::send_timeout).
    pub fn feed_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.feed_until(&payload.into(), Deadline::after(timeout))
    }

    #[inline]
    pub(crate) fn feed_until(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        // The usual case, which costs little more than the copy.
        if let Some(message) = payload.as_plain() {
            let may_go = message.len() <= self.common.message_max && !self.outgoing.is_finished();
            if self.common.permit.is_some() {
                return self.feed_counted(payload, deadline);
            }
            if may_go && self.outgoing().feed_within(message, FEED_MAX) {
                return Ok(());
            }
        }
        self.feed_or_send(payload, deadline)
    }

    /// Buffers a message on the side of a server. Not inlined, because `feed` is inlined into the code of its callers,
    /// and clients do not count.
    #[inline(never)]
    fn feed_counted(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        if let Some(message) = payload.as_plain() {
            let may_go = message.len() <= self.common.message_max && !self.outgoing.is_finished();
            if may_go && self.outgoing().feed_within(message, FEED_MAX) {
                self.note_fed(&[IoSlice::new(message)]);
                return Ok(());
            }
        }
        self.feed_or_send(payload, deadline)
    }

    /// Counts a message that is buffered, and so not written yet, and records it for the processes that tap the server.
    fn note_fed(&self, parts: &[IoSlice<'_>]) {
        if self.common.count(Direction::Sent, message_len(parts)) {
            self.common.record(Event::Out, 0, parts);
        }
    }

    fn feed_or_send(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        match self.has_room_to_feed(payload) {
            true => self.feed_now(payload),
            false => self.send_until(payload, deadline),
        }
    }

    /// Returns true if a message is to be buffered, and not sent together with those that are buffered.
    pub(crate) fn has_room_to_feed(&mut self, payload: &Payload<'_>) -> bool {
        matches!(payload.attached(), Attached::Nothing)
            && self.outgoing().pending() + HEADER_LEN + payload.len() <= FEED_MAX
    }

    /// Returns true if less than the limit is buffered.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn has_room(&mut self) -> bool {
        self.outgoing().pending() + HEADER_LEN <= FEED_MAX
    }

    /// Buffers a message, even if that exceeds the limit.
    pub(crate) fn feed_now(&mut self, payload: &Payload<'_>) -> Result<()> {
        self.check(payload)?;
        self.outgoing().feed(payload.parts()).map_err(|fault| self.fault(fault))?;
        self.note_fed(payload.parts());
        Ok(())
    }

    /// Writes all buffered messages. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`]: the peer has disconnected.
    /// - [`ErrorKind::Protocol`]: the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_until(Deadline::NEVER)
    }

    /// Writes all buffered messages, and gives up after `timeout`. What was not written stays buffered.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Sender::flush), and [`ErrorKind::TimedOut`].
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.flush_until(Deadline::after(timeout))
    }

    /// Writes all buffered messages of a connection that ends after this call, whatever it returns.
    pub(crate) fn flush_to_close(&mut self, deadline: Deadline) -> Result<()> {
        self.flush_until(deadline).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => {
                let detail = "the channel was full until the deadline, and the buffered messages are lost";
                self.common
                    .error(ErrorKind::TimedOut, Operation::Close, detail)
                    .next("the peer does not read; allow more time")
            }
            _ => error,
        })
    }

    pub(crate) fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        match self.try_flush() {
            Ok(()) => return Ok(()),
            Err(TrySendError::Failed(error)) => return Err(error),
            Err(TrySendError::Full(())) => {}
        }
        let flushed = self.flush_waiting(deadline);
        self.common.note_awake(Direction::Sent);
        flushed
    }

    /// Waits for space, and writes what is buffered.
    fn flush_waiting(&mut self, deadline: Deadline) -> Result<()> {
        loop {
            let has_space = self.wait(deadline)?;
            match self.try_flush() {
                Ok(()) => return Ok(()),
                Err(TrySendError::Failed(error)) => return Err(error),
                Err(TrySendError::Full(())) if has_space => {}
                Err(TrySendError::Full(())) => {
                    let detail = "the channel was full until the deadline; the rest stays buffered";
                    return Err(self
                        .common
                        .error(ErrorKind::TimedOut, SEND, detail)
                        .next("the peer does not read; flush again later"));
                }
            }
        }
    }

    /// Writes bytes without a frame, after all buffered messages. Blocks while the channel is full.
    #[cfg(feature = "testing")]
    pub(crate) fn forge(&mut self, bytes: &[u8]) -> Result<()> {
        let mut written = 0;
        while !self.forge_now(bytes, &mut written)? {
            if !self.prepare_to_wait()? {
                self.wait(Deadline::NEVER)?;
            }
        }
        self.common.note_awake(Direction::Sent);
        Ok(())
    }

    /// Writes bytes as [`forge`](Self::forge) does, without waiting, from `written` on. Returns true once all are
    /// written.
    #[cfg(feature = "testing")]
    pub(crate) fn forge_now(&mut self, bytes: &[u8], written: &mut usize) -> Result<bool> {
        if !self.flush_now()? {
            return Ok(false);
        }
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.outgoing().try_write(rest).map_err(|fault| self.fault(fault))? {
                Some(count) => *written += count,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Writes buffered messages without blocking.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`]: some bytes stay buffered. [`TrySendError::Failed`] carries the errors of
    /// [`flush`](Sender::flush).
    pub fn try_flush(&mut self) -> Result<(), TrySendError<()>> {
        while !self.flush_now()? {
            // The caller may wait next.
            if !self.prepare_to_wait()? {
                return Err(TrySendError::Full(()));
            }
        }
        Ok(())
    }

    /// Writes all buffered messages, then ends this direction: the peer receives `None` after the last message. Further
    /// calls have no effect.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`]: the peer disconnected before all buffered messages were written.
    /// - [`ErrorKind::Protocol`]: the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn finish(&mut self) -> Result<()> {
        self.finish_until(Deadline::NEVER)
    }

    /// Ends this direction as [`finish`](Sender::finish) does, and gives up after `timeout`. After a timeout this side
    /// can still send, and the unwritten bytes stay buffered.
    ///
    /// # Errors
    ///
    /// Those of [`finish`](Sender::finish), and [`ErrorKind::TimedOut`].
    pub fn finish_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.finish_until(Deadline::after(timeout))
    }

    fn finish_until(&mut self, deadline: Deadline) -> Result<()> {
        if self.outgoing.is_finished() {
            return Ok(());
        }
        self.flush_until(deadline)?;
        self.finish_now()
    }

    /// Ends this direction with an error for the peer: it receives [`Truncated`](ErrorKind::Truncated) or
    /// [`Disconnected`](ErrorKind::Disconnected), and not `None`, after messages that were sent before. See
    /// [`Connection::abort`](crate::Connection::abort). The other direction goes on.
    pub fn abort(mut self) {
        self.abort_now();
    }

    pub(crate) fn abort_now(&mut self) {
        // The buffer of a forked child shows where its parent is in a message, so it is not discarded before.
        self.outgoing.abort();
    }

    /// Ends this direction. Buffered bytes must have been written before.
    pub(crate) fn finish_now(&mut self) -> Result<()> {
        self.outgoing().finish().map_err(|fault| self.fault(fault))
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

    /// Returns a descriptor to poll before sending. See [`Connection::send_fd`](crate::Connection::send_fd).
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.outgoing.fd()
    }

    /// Checks what must hold before any part of a message is sent.
    pub(crate) fn check(&self, payload: &Payload<'_>) -> Result<()> {
        self.check_length(payload.len())?;
        match payload.attached() {
            Attached::Nothing => Ok(()),
            attached => self.check_attached(attached),
        }
    }

    #[inline]
    fn check_length(&self, length: usize) -> Result<()> {
        if self.outgoing.is_finished() {
            return Err(self
                .common
                .error(ErrorKind::Disconnected, SEND, "this side has finished sending")
                .next("send before finish()"));
        }
        if length > self.common.message_max {
            return Err(self.fault(Fault::TooLong { length }));
        }
        Ok(())
    }

    #[cold]
    fn check_attached(&self, attached: Attached<'_>) -> Result<()> {
        let capabilities = self.common.capabilities();
        let (is_possible, what, elsewhere) = match attached {
            Attached::Nothing => return Ok(()),
            Attached::Fds(_) => (capabilities.descriptors, "descriptors", "unix or packet"),
            Attached::Shared(_) | Attached::Reader(_) => {
                (capabilities.zero_copy, "shared memory", "shm, packet or unix")
            }
        };
        if !is_possible {
            let detail = format!("{} does not carry {what}", self.common.transport);
            return Err(self
                .common
                .error(ErrorKind::Unsupported, SEND, detail)
                .next(format!("connect over {elsewhere}")));
        }
        let count = attached.count();
        if count > FDS_MAX {
            let detail = format!("the message has {count} descriptors, and one message carries at most {FDS_MAX}");
            return Err(self
                .common
                .error(ErrorKind::MessageTooLong, SEND, detail)
                .next("send the descriptors with several messages"));
        }
        Ok(())
    }

    /// See [`Outgoing::prepare_to_wait`].
    pub(crate) fn prepare_to_wait(&mut self) -> Result<bool> {
        self.outgoing.prepare_to_wait().map_err(|fault| self.fault(fault))
    }

    /// Waits until sending may go on. Returns false at the deadline. The call notes that it does not wait any more when
    /// it ends: while it goes on, it waits for the same message.
    fn wait(&self, deadline: Deadline) -> Result<bool> {
        match self.outgoing.fd() {
            Some(fd) => {
                self.common.note_waiting(Direction::Sent, WaitKind::Space);
                let ready = self.common.sleep(fd, PollFlags::OUT, deadline);
                ready.map_err(|error| self.common.io(SEND, error))
            }
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
            .next("the peer does not read; send again later")
    }

    fn fault(&self, fault: Fault) -> Error {
        let fault = match fault {
            Fault::Disconnected | Fault::Reset => self.outgoing.refusal().map_or(fault, Fault::Refused),
            fault => fault,
        };
        self.common.fault(SEND, fault)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // In a forked child the buffer is a copy, and the parent sends it.
        if self.outgoing.pending() == 0 || self.outgoing.is_finished() || !self.process.is_current() {
            return;
        }
        if !matches!(self.outgoing.try_flush(), Ok(true)) {
            let bytes = self.outgoing.pending();
            tracing::warn!(server = %self.common.display_name, bytes, "messages lost: the channel was full when it was dropped");
        }
    }
}

/// Counts a message. Not inlined, because the peers of servers, which count nothing, need not pay for it.
#[inline(never)]
fn count_parts(tally: &Tally, parts: &[IoSlice<'_>]) {
    let len = match parts {
        [part] => part.len(),
        _ => message_len(parts),
    };
    tally.count(Direction::Sent, len);
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Sender")
    }
}
