//! A client of a hub: its connection, and the state of each direction.

use std::io::IoSlice;

use rustix::io::Errno;

use super::backlog::Backlog;
use super::parcel::Parcel;
use crate::admission::Permit;
use crate::backend::Link;
use crate::backend::fault::Fault;
use crate::backend::halves::{BufferPool, Incoming, Outgoing};
use crate::message::Message;
use crate::message::Received;
use crate::payload::{Attached, Payload};
use crate::peer::Peer;
use crate::shm::stats::{Direction, Tally};
use crate::transport::Transport;
use crate::wait::is_hung_up;
use crate::wire::frame::HEADER_LEN;
use crate::wire::stats::WaitKind;
use crate::wire::tap::Event;

/// The number of bytes that are buffered for one client before they are written. Measured: writes of more than 64 KiB
/// gain nothing.
const WRITE_BATCH_MAX: usize = 64 * 1024;

/// A client is not read from while more than this is buffered for it. A client that does not read its replies thereby
/// cannot send further requests, and whatever an honest client causes to be sent to it, however fast it sends requests,
/// waits on the client's side and not in the hub.
const READ_PAUSE_THRESHOLD: usize = WRITE_BATCH_MAX;

/// A client. Its size matters: a hub may have ten thousand clients.
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) peer: Peer,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// The messages that wait behind a block, after those in the write buffer of `outgoing`.
    backlog: Option<Box<Backlog>>,
    /// Returns the client's share of the server's connection limit when it is dropped.
    permit: Option<Permit>,
    /// The caller has received the event `Joined`.
    pub(super) has_joined: bool,
    /// A receive may make progress.
    pub(super) is_readable: bool,
    /// The kernel has reported the end of the client's sending direction.
    pub(super) is_ending: bool,
    /// The client is in the queue of ready clients.
    pub(super) is_ready: bool,
    /// The client is in the list of clients with unwritten data.
    pub(super) is_dirty: bool,
    /// The channel is full. Its descriptor reports when it is writable again.
    pub(super) is_full: bool,
    /// The event `Missed` is queued.
    pub(super) has_missed: bool,
    pub(super) closed: Closed,
}

/// The half-close state of a client's connection, in one byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed(u8);

impl Closed {
    const READ: u8 = 1;
    const WRITE: u8 = 2;
    const PEER: u8 = 4;

    /// Returns true if the client has finished sending.
    pub(super) fn read(self) -> bool {
        self.0 & Self::READ != 0
    }

    /// Returns true if the hub has finished sending, once the write buffer is empty.
    fn write(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// Returns true if the client does not receive any more, and did not receive all that was sent to it.
    fn peer(self) -> bool {
        self.0 & Self::PEER != 0
    }

    fn set(&mut self, what: u8) {
        self.0 |= what;
    }
}

/// The outcome of sending a message to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// The message was sent or buffered.
    Accepted,
    /// The write buffer has no room for the message.
    Full,
    /// The client does not receive any more.
    Gone,
    /// The message has blocks of shared memory, and was not sent.
    NoBlocks(NoBlocks),
}

/// The reason why blocks of shared memory cannot be sent to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoBlocks {
    /// The transport does not carry them.
    Transport,
    /// The client allows no descriptors.
    NotAllowed,
    /// Too many descriptors of this user were sent and not received yet (`ETOOMANYREFS`).
    TooManyInFlight,
}

impl NoBlocks {
    /// Returns the reason, or the fault if it is another one.
    fn from_fault(fault: Fault) -> Result<Self, Fault> {
        match fault {
            Fault::FdsRefused => Ok(Self::NotAllowed),
            Fault::Io(error) if error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => {
                Ok(Self::TooManyInFlight)
            }
            fault => Err(fault),
        }
    }
}

/// The limits of what is buffered for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct BufferLimits {
    pub(super) write_buffer_max: usize,
    pub(super) blocks_max: usize,
}

impl Member {
    pub(super) fn new(number: u64, link: Link) -> Self {
        let Link { incoming, outgoing, peer, permit, .. } = link;
        Self {
            number,
            peer,
            incoming,
            outgoing,
            backlog: None,
            permit,
            has_joined: false,
            // The client may have sent before it was registered.
            is_readable: true,
            is_ending: false,
            is_ready: false,
            is_dirty: false,
            is_full: false,
            has_missed: false,
            closed: Closed::default(),
        }
    }

    /// Returns the counters of the connection, of a server that counts.
    #[inline]
    fn tally(&self) -> Option<&Tally> {
        self.permit.as_ref()?.tally()
    }

    pub(super) fn transport(&self) -> Transport {
        self.incoming.transport()
    }

    /// Returns the number of buffered bytes.
    pub(super) fn write_buffer_len(&self) -> usize {
        match &self.backlog {
            None => self.outgoing.pending(),
            Some(backlog) => self.outgoing.pending() + backlog.len(),
        }
    }

    /// Returns true if the client receives messages and the hub has not finished sending to it.
    pub(super) fn is_open_for_sending(&self) -> bool {
        !self.closed.peer() && !self.closed.write()
    }

    /// Returns true if the client is to be read from.
    pub(super) fn wants_turn(&self, write_buffer_max: usize) -> bool {
        self.is_readable && self.write_buffer_len() <= READ_PAUSE_THRESHOLD.min(write_buffer_max)
    }

    /// Notes that nothing more can be received until the descriptor shows it.
    pub(super) fn end_readable(&mut self, pool: &mut BufferPool) {
        self.is_readable = false;
        self.is_ready = false;
        if let Some(tally) = self.tally() {
            if self.incoming.is_inside_message() {
                tally.note_waiting(Direction::Received, WaitKind::Rest);
            }
        }
        self.release_buffers(pool);
    }

    /// Receives the next message into `out`. Returns [`Received::Closed`] at the end of the client's sending direction
    /// and from then on. If `arms`, requests a wake-up when it returns [`Received::Empty`].
    pub(super) fn recv(&mut self, out: &mut Message, pool: &mut BufferPool, arms: bool) -> Result<Received, Fault> {
        if self.closed.read() {
            return Ok(Received::Closed);
        }
        self.incoming.acquire(pool);
        loop {
            let received = self.incoming.try_recv(out, self.permit.as_ref())?;
            match received {
                Received::Message => self.note_received(out),
                Received::Closed => self.closed.set(Closed::READ),
                Received::Empty if arms && self.incoming.prepare_to_wait() => continue,
                Received::Empty => {}
            }
            return Ok(received);
        }
    }

    #[inline]
    fn note_received(&self, message: &Message) {
        let Some(permit) = &self.permit else { return };
        if permit.count(Direction::Received, message.len()) {
            self.record_received(message);
        }
        if let Some(tally) = permit.tally() {
            tally.note_awake(Direction::Received);
        }
    }

    #[inline]
    fn is_tapped(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_tapped)
    }

    /// Records a message for the processes that tap the server. Returns true if it was recorded.
    #[cold]
    fn record(&self, event: Event, descriptors: usize, parts: &[IoSlice<'_>]) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.record(event, descriptors, parts))
    }

    #[cold]
    #[inline(never)]
    fn record_received(&self, message: &Message) {
        self.record(Event::In, message.fds.len(), &[IoSlice::new(&message.bytes)]);
    }

    /// Returns true if a receive is known to return nothing until the descriptor is reported again. The caller then
    /// saves that receive.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.is_ending && self.incoming.is_exhausted()
    }

    /// Returns true if both directions have ended, given that the incoming one has.
    pub(super) fn is_closed(&self) -> bool {
        let Some(fd) = self.outgoing.fd() else { return true };
        self.closed.peer() || is_hung_up(fd)
    }

    /// Returns the fault of a connection that ended between two messages: the client has not received all that was sent
    /// to it.
    pub(super) fn close_fault(&self) -> Option<Fault> {
        (self.closed.peer() || self.write_buffer_len() > 0).then_some(Fault::Reset)
    }

    /// Sends a message, or buffers it if the limits allow that.
    pub(super) fn try_send_or_buffer(
        &mut self,
        payload: &Payload<'_>,
        limits: BufferLimits,
        pool: &mut BufferPool,
    ) -> Result<SendOutcome, Fault> {
        match self.is_tapped() {
            false => self.send_or_buffer(payload, limits, pool),
            true => self.send_tapped(payload, limits, pool),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_tapped(
        &mut self,
        payload: &Payload<'_>,
        limits: BufferLimits,
        pool: &mut BufferPool,
    ) -> Result<SendOutcome, Fault> {
        let is_recorded = self.record(Event::Out, payload.attached().count(), payload.parts());
        let outcome = self.send_or_buffer(payload, limits, pool);
        if is_recorded && !matches!(outcome, Ok(SendOutcome::Accepted)) {
            self.record(Event::OutFailed, 0, &[]);
        }
        outcome
    }

    fn send_or_buffer(
        &mut self,
        payload: &Payload<'_>,
        limits: BufferLimits,
        pool: &mut BufferPool,
    ) -> Result<SendOutcome, Fault> {
        if !self.is_open_for_sending() {
            return Ok(SendOutcome::Gone);
        }
        if self.backlog.is_some() || !matches!(payload.attached(), Attached::Nothing) {
            let outcome = self.send_parcel_or_keep(payload, limits)?;
            return Ok(self.counted(outcome, payload));
        }
        let write_buffer_max = limits.write_buffer_max;
        let parts = payload.parts();
        let needed = HEADER_LEN + payload.len();
        let fits = |buffered: usize, max: usize| fits(buffered, needed, max);
        if needed <= WRITE_BATCH_MAX && fits(self.write_buffer_len(), write_buffer_max.min(WRITE_BATCH_MAX)) {
            self.outgoing.acquire(pool);
            self.outgoing.feed(parts)?;
            return Ok(self.counted(SendOutcome::Accepted, payload));
        }
        let mut sent = 0;
        if !self.is_full && self.write_until_full(|outgoing| outgoing.try_send(parts, &[], &mut sent))? {
            return Ok(self.counted(SendOutcome::Accepted, payload));
        }
        if self.closed.peer() {
            return Ok(SendOutcome::Gone);
        }
        if sent > 0 {
            // A message of which a part was sent cannot be taken back. Everything before it was written.
            self.outgoing.keep_rest(parts, sent);
        } else if fits(self.write_buffer_len(), write_buffer_max) {
            self.outgoing.feed(parts)?;
        } else {
            return Ok(SendOutcome::Full);
        }
        Ok(self.counted(SendOutcome::Accepted, payload))
    }

    /// Counts a message that was accepted.
    #[inline]
    fn counted(&self, outcome: SendOutcome, payload: &Payload<'_>) -> SendOutcome {
        if let (SendOutcome::Accepted, Some(tally)) = (&outcome, self.tally()) {
            tally.count(Direction::Sent, payload.len());
            if self.is_full {
                self.note_held();
            }
        }
        outcome
    }

    /// Notes the bytes that the hub holds because the channel is full.
    #[cold]
    fn note_held(&self) {
        if let Some(tally) = self.tally() {
            tally.note_held(if self.is_full { self.write_buffer_len() } else { 0 });
        }
    }

    /// Sends a message that has blocks, or that may not overtake one that waits. Keeps it if the channel is full.
    #[cold]
    fn send_parcel_or_keep(&mut self, payload: &Payload<'_>, limits: BufferLimits) -> Result<SendOutcome, Fault> {
        let blocks = payload.attached().count();
        if blocks > 0 && !self.transport().capabilities(0).zero_copy {
            return Ok(SendOutcome::NoBlocks(NoBlocks::Transport));
        }
        if self.backlog.is_none() && !self.is_full {
            match self.send_parcel(payload) {
                Ok(true) => return Ok(SendOutcome::Accepted),
                Ok(false) if self.closed.peer() => return Ok(SendOutcome::Gone),
                Ok(false) => {}
                Err(fault) => return NoBlocks::from_fault(fault).map(SendOutcome::NoBlocks),
            }
        }
        let needed = HEADER_LEN + payload.len();
        if !fits(self.write_buffer_len(), needed, limits.write_buffer_max) {
            return Ok(SendOutcome::Full);
        }
        let backlog = self.backlog.get_or_insert_default();
        if !backlog.has_room(blocks, limits.blocks_max) {
            return Ok(SendOutcome::Full);
        }
        backlog.push(Parcel::new(payload));
        Ok(SendOutcome::Accepted)
    }

    /// Sends a message after what is in the write buffer. Returns false if nothing of it was sent. The rest of a
    /// message of which a part was sent goes to the write buffer.
    fn send_parcel(&mut self, payload: &Payload<'_>) -> Result<bool, Fault> {
        payload.with(|parts, fds| {
            let mut sent = 0;
            if self.write_until_full(|outgoing| outgoing.try_send(parts, fds, &mut sent))? {
                return Ok(true);
            }
            if sent == 0 || self.closed.peer() {
                return Ok(false);
            }
            self.outgoing.keep_rest(parts, sent);
            Ok(true)
        })
    }

    /// Writes what is buffered, as far as the channel takes it. Returns true if a message was discarded, because its
    /// blocks cannot be sent to this client.
    pub(super) fn flush(&mut self, pool: &mut BufferPool) -> Result<bool, Fault> {
        // The channel is tried, whatever it was before: a hub that ends has no reports of room any more.
        self.is_full = false;
        let all = self.outgoing.pending() == 0 || self.write_until_full(Outgoing::try_flush)?;
        let has_discarded = self.backlog.is_some() && self.flush_backlog()?;
        if all {
            self.outgoing.release(pool);
        }
        if self.is_full || self.tally().is_some_and(Tally::has_held) {
            self.note_held();
        }
        Ok(has_discarded)
    }

    /// Sends the messages that wait behind a block, once the write buffer is empty. Returns true if one was discarded.
    #[cold]
    fn flush_backlog(&mut self) -> Result<bool, Fault> {
        let mut has_discarded = false;
        while !self.is_full && self.outgoing.pending() == 0 {
            let Some(parcel) = self.backlog.as_mut().and_then(|backlog| backlog.pop()) else {
                self.backlog = None;
                break;
            };
            match parcel.with(|payload| self.send_parcel(payload)) {
                Ok(true) => {}
                Ok(false) => {
                    // The end of the client has discarded the backlog.
                    if let Some(backlog) = &mut self.backlog {
                        backlog.put_back(parcel);
                    }
                }
                Err(fault) => {
                    NoBlocks::from_fault(fault)?;
                    has_discarded = true;
                }
            }
        }
        Ok(has_discarded)
    }

    /// Writes until all is written, the channel is full, or the client does not receive any more. Returns true if all
    /// was written.
    fn write_until_full(&mut self, mut write: impl FnMut(&mut Outgoing) -> Result<bool, Fault>) -> Result<bool, Fault> {
        loop {
            let outcome = match write(&mut self.outgoing) {
                // Arms the descriptor, so that it reports when the channel has room.
                Ok(false) => self.outgoing.prepare_to_wait().map(|again| if again { None } else { Some(false) }),
                outcome => outcome.map(Some),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(all)) => {
                    self.is_full = !all;
                    return Ok(all);
                }
                // The client may have sent something before it disconnected, which is still received.
                Err(Fault::Disconnected | Fault::Reset) => {
                    self.closed.set(Closed::PEER);
                    self.is_full = false;
                    self.discard();
                    self.is_readable = true;
                    return Ok(false);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Discards what is buffered.
    pub(super) fn discard(&mut self) {
        self.outgoing.discard();
        self.backlog = None;
    }

    /// Ends both directions, with an error for the client.
    pub(super) fn abort(&mut self) {
        self.backlog = None;
        self.outgoing.abort();
        self.incoming.abort();
    }

    /// Ends sending, once what is buffered was written.
    pub(super) fn finish(&mut self) {
        self.closed.set(Closed::WRITE);
    }

    /// Returns true if the sending direction is to be ended now.
    pub(super) fn should_end_sending(&self) -> bool {
        self.closed.write() && self.write_buffer_len() == 0 && self.outgoing.fd().is_some()
    }

    /// Ends the sending direction. Returns true if the client has ended the other one.
    pub(super) fn end_sending(&mut self) -> bool {
        // The call fails only if the client has disconnected, which ends both directions.
        let _ = self.outgoing.finish();
        self.closed.read()
    }

    /// Returns the receive buffer to the pool until the next turn.
    pub(super) fn release_buffers(&mut self, pool: &mut BufferPool) {
        self.incoming.release(pool);
    }
}

/// Returns true if a message of `needed` bytes may be buffered behind `buffered` bytes. One is buffered in any case.
fn fits(buffered: usize, needed: usize, max: usize) -> bool {
    buffered == 0 || buffered.saturating_add(needed) <= max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_little_memory() {
        // With its descriptors (32 bytes, or 64 with shared memory) a client has at most 256 bytes. Its counters are
        // another 256 bytes, in memory that is shared with other processes.
        assert!(size_of::<Option<Member>>() <= 184, "{} bytes", size_of::<Option<Member>>());
    }
}
