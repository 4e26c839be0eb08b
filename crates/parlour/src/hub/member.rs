//! A client of a hub: its connection, and the state of each direction.

use rustix::event::PollFlags;

use crate::admission::Permit;
use crate::backend::Link;
use crate::backend::fault::Fault;
use crate::backend::halves::{BufferPool, Incoming, Outgoing};
use crate::message::Message;
use crate::message::Received;
use crate::payload::Payload;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wait::poll_now;
use crate::wire::frame::HEADER_LEN;

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
    pub(super) closed: Closed,
}

/// The half-close state of a client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed {
    /// The client has finished sending.
    pub(super) read: bool,
    /// The hub has finished sending, once the write buffer is empty.
    pub(super) write: bool,
    /// The client does not receive any more, and did not receive all that was sent to it.
    pub(super) peer: bool,
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
}

impl Member {
    pub(super) fn new(number: u64, link: Link) -> Self {
        let Link { incoming, outgoing, peer, permit, .. } = link;
        Self {
            number,
            peer,
            incoming,
            outgoing,
            permit,
            has_joined: false,
            // The client may have sent before it was registered.
            is_readable: true,
            is_ending: false,
            is_ready: false,
            is_dirty: false,
            is_full: false,
            closed: Closed::default(),
        }
    }

    pub(super) fn transport(&self) -> Transport {
        self.incoming.transport()
    }

    /// Returns the number of buffered bytes.
    pub(super) fn write_buffer_len(&self) -> usize {
        self.outgoing.pending()
    }

    /// Returns true if the client receives messages and the hub has not finished sending to it.
    pub(super) fn is_open_for_sending(&self) -> bool {
        !self.closed.peer && !self.closed.write
    }

    /// Returns true if the client is to be read from.
    pub(super) fn wants_turn(&self, write_buffer_max: usize) -> bool {
        self.is_readable && self.write_buffer_len() <= READ_PAUSE_THRESHOLD.min(write_buffer_max)
    }

    /// Notes that nothing more can be received until the descriptor shows it.
    pub(super) fn end_readable(&mut self, pool: &mut BufferPool) {
        self.is_readable = false;
        self.is_ready = false;
        self.release_buffers(pool);
    }

    /// Receives the next message into `out`. Returns [`Received::Closed`] at the end of the client's sending direction
    /// and from then on.
    pub(super) fn recv(&mut self, out: &mut Message, pool: &mut BufferPool) -> Result<Received, Fault> {
        if self.closed.read {
            return Ok(Received::Closed);
        }
        self.incoming.acquire(pool);
        loop {
            let received = self.incoming.try_recv(out, self.permit.as_ref())?;
            if received == Received::Empty && self.incoming.prepare_to_wait() {
                continue;
            }
            self.closed.read = received == Received::Closed;
            return Ok(received);
        }
    }

    /// Returns true if a receive is known to return nothing until the descriptor is reported again. The caller then
    /// saves that receive.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.is_ending && self.incoming.is_exhausted()
    }

    /// Returns true if both directions have ended, given that the incoming one has.
    pub(super) fn is_closed(&self) -> bool {
        let Some(fd) = self.outgoing.fd() else { return true };
        self.closed.peer || poll_now(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Returns the fault of a connection that ended between two messages: the client has not received all that was sent
    /// to it.
    pub(super) fn close_fault(&self) -> Option<Fault> {
        (self.closed.peer || self.write_buffer_len() > 0).then_some(Fault::Reset)
    }

    /// Sends a message, or buffers it if `write_buffer_max` allows that.
    pub(super) fn try_send_or_buffer(
        &mut self,
        payload: &Payload<'_>,
        write_buffer_max: usize,
        pool: &mut BufferPool,
    ) -> Result<SendOutcome, Fault> {
        if !self.is_open_for_sending() {
            return Ok(SendOutcome::Gone);
        }
        let parts = payload.parts();
        let needed = HEADER_LEN + payload.len();
        let fits = |buffered: usize, max: usize| buffered == 0 || buffered.saturating_add(needed) <= max;
        if needed <= WRITE_BATCH_MAX && fits(self.write_buffer_len(), write_buffer_max.min(WRITE_BATCH_MAX)) {
            self.outgoing.acquire(pool);
            return self.outgoing.feed(parts).map(|()| SendOutcome::Accepted);
        }
        let mut sent = 0;
        if !self.is_full && self.write_until_full(|outgoing| outgoing.try_send(parts, &[], &mut sent))? {
            return Ok(SendOutcome::Accepted);
        }
        if self.closed.peer {
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
        Ok(SendOutcome::Accepted)
    }

    /// Writes what is buffered. Returns false if some of it stays buffered.
    pub(super) fn flush(&mut self, pool: &mut BufferPool) -> Result<bool, Fault> {
        let all = self.write_buffer_len() == 0 || self.write_until_full(Outgoing::try_flush)?;
        if all {
            self.outgoing.release(pool);
        }
        Ok(all)
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
                Err(Fault::Disconnected) => {
                    self.closed.peer = true;
                    self.is_full = false;
                    self.outgoing.discard();
                    self.is_readable = true;
                    return Ok(false);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Ends sending, once what is buffered was written.
    pub(super) fn finish(&mut self) {
        self.closed.write = true;
    }

    /// Returns true if the sending direction is to be ended now.
    pub(super) fn should_end_sending(&self) -> bool {
        self.closed.write && self.write_buffer_len() == 0 && self.outgoing.fd().is_some()
    }

    /// Ends the sending direction. Returns true if the client has ended the other one.
    pub(super) fn end_sending(&mut self) -> bool {
        // The call fails only if the client has disconnected, which ends both directions.
        let _ = self.outgoing.finish();
        self.closed.read
    }

    /// Returns the receive buffer to the pool until the next turn.
    pub(super) fn release_buffers(&mut self, pool: &mut BufferPool) {
        self.incoming.release(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_little_memory() {
        // With its descriptors (32 bytes, or 64 with shared memory) a client stays below 256 bytes.
        assert!(size_of::<Option<Member>>() <= 184, "{} bytes", size_of::<Option<Member>>());
    }
}
