//! One client of a hub: its connection, and how far each direction of it has come.

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

/// How much is gathered for one client before it is written. Measured: beyond 64 KiB per write nothing is gained.
const GATHERED_MAX: usize = 64 * 1024;

/// A client is not read from while more than this waits for it: who does not take its answers must not ask for more. So
/// what an honest client causes to be sent to it, however fast it asks, waits in its own hands and not here.
const ANSWERED_MAX: usize = GATHERED_MAX;

/// Small: there may be ten thousand of them.
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) peer: Peer,
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// Gives the place among the server's connections back.
    _permit: Option<Permit>,
    /// The user knows of it.
    pub(super) has_joined: bool,
    /// There may be something to receive.
    pub(super) is_readable: bool,
    /// The kernel has announced the end of what it sends.
    pub(super) is_ending: bool,
    /// It is among those that wait for their turn.
    pub(super) is_ready: bool,
    /// It is among those for which something is to be written.
    pub(super) is_dirty: bool,
    /// The channel takes no more; the descriptor announces when it does.
    pub(super) is_full: bool,
    pub(super) closed: Closed,
}

/// The half-close state of a client's connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Closed {
    /// The client has ended what it sends.
    pub(super) read: bool,
    /// The hub sends nothing more, once the write buffer is empty.
    pub(super) write: bool,
    /// The client receives nothing more, and did not receive all that was sent to it.
    pub(super) peer: bool,
}

/// What became of something to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// There is no room for it.
    Full,
    /// There is nobody to receive it.
    Lost,
}

impl Member {
    pub(super) fn new(number: u64, link: Link) -> Self {
        let Link { incoming, outgoing, peer, permit, .. } = link;
        Self {
            number,
            peer,
            incoming,
            outgoing,
            _permit: permit,
            has_joined: false,
            // It may have sent before it was watched.
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

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.pending()
    }

    /// Whether anything more can be sent to it.
    pub(super) fn receives(&self) -> bool {
        !self.closed.peer && !self.closed.write
    }

    /// Whether it is to be read from.
    pub(super) fn wants_turn(&self, write_buffer_max: usize) -> bool {
        self.is_readable && self.unsent() <= ANSWERED_MAX.min(write_buffer_max)
    }

    /// Notes that nothing more can be received until the descriptor shows it.
    pub(super) fn end_readable(&mut self, pool: &mut BufferPool) {
        self.is_readable = false;
        self.is_ready = false;
        self.rest(pool);
    }

    /// Receives the next message into `out`. Returns [`Received::Closed`] from the end of what the client sends on.
    pub(super) fn recv(&mut self, out: &mut Message, pool: &mut BufferPool) -> Result<Received, Fault> {
        if self.closed.read {
            return Ok(Received::Closed);
        }
        self.incoming.acquire(pool);
        loop {
            let received = self.incoming.try_recv(out)?;
            if received == Received::Empty && self.incoming.prepare_to_wait() {
                continue;
            }
            self.closed.read = received == Received::Closed;
            return Ok(received);
        }
    }

    /// Whether it is known that there is nothing more to hear until something is announced: a look that can be spared.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.is_ending && self.incoming.is_exhausted()
    }

    /// Returns true if both directions have ended, given that the incoming one has.
    pub(super) fn is_gone(&self) -> bool {
        let Some(fd) = self.outgoing.fd() else { return true };
        self.closed.peer || poll_now(fd, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// What is wrong with an end between messages.
    pub(super) fn fault_at_the_end(&self) -> Option<Fault> {
        (self.closed.peer || self.unsent() > 0).then_some(Fault::Reset)
    }

    /// Takes a message to be sent, if it can be written or may be buffered.
    pub(super) fn offer(
        &mut self,
        payload: &Payload<'_>,
        write_buffer_max: usize,
        pool: &mut BufferPool,
    ) -> Result<Offered, Fault> {
        if !self.receives() {
            return Ok(Offered::Lost);
        }
        let parts = payload.parts();
        let needed = HEADER_LEN + payload.len();
        let may_wait = |unsent: usize, max: usize| unsent == 0 || unsent.saturating_add(needed) <= max;
        if needed <= GATHERED_MAX && may_wait(self.unsent(), write_buffer_max.min(GATHERED_MAX)) {
            self.outgoing.acquire(pool);
            return self.outgoing.feed(parts).map(|()| Offered::Taken);
        }
        let mut sent = 0;
        if !self.is_full && self.push(|outgoing| outgoing.try_send(parts, &[], &mut sent))? {
            return Ok(Offered::Taken);
        }
        if self.closed.peer {
            return Ok(Offered::Lost);
        }
        if sent > 0 {
            // A part of a message cannot be taken back. Everything before it was written.
            self.outgoing.keep_rest(parts, sent);
        } else if may_wait(self.unsent(), write_buffer_max) {
            self.outgoing.feed(parts)?;
        } else {
            return Ok(Offered::Full);
        }
        Ok(Offered::Taken)
    }

    /// Writes what waits; `false` when some of it has to wait on.
    pub(super) fn flush(&mut self, pool: &mut BufferPool) -> Result<bool, Fault> {
        let all = self.unsent() == 0 || self.push(Outgoing::try_flush)?;
        if all {
            self.outgoing.release(pool);
        }
        Ok(all)
    }

    /// Writes until all is written or the channel is full, or the client receives no more.
    fn push(&mut self, mut write: impl FnMut(&mut Outgoing) -> Result<bool, Fault>) -> Result<bool, Fault> {
        loop {
            let outcome = match write(&mut self.outgoing) {
                // It has to announce that it has room.
                Ok(false) => self.outgoing.prepare_to_wait().map(|again| if again { None } else { Some(false) }),
                outcome => outcome.map(Some),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(all)) => {
                    self.is_full = !all;
                    return Ok(all);
                }
                // It may have sent something before it went, which is still to be received.
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

    /// Sends no more, once what waits is gone.
    pub(super) fn finish(&mut self) {
        self.closed.write = true;
    }

    /// Whether the sending direction is to be ended now.
    pub(super) fn is_to_end_sending(&self) -> bool {
        self.closed.write && self.unsent() == 0 && self.outgoing.fd().is_some()
    }

    /// Ends the sending direction; `true` when that was the last.
    pub(super) fn end_sending(&mut self) -> bool {
        // A client that has gone by now has ended both.
        let _ = self.outgoing.finish();
        self.closed.read
    }

    /// Gives back what is not needed until its next turn.
    pub(super) fn rest(&mut self, pool: &mut BufferPool) {
        self.incoming.release(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_little_memory() {
        // With what its descriptors take besides (32, or 64 with shared memory) it stays below 256.
        assert!(size_of::<Option<Member>>() <= 176, "{} bytes", size_of::<Option<Member>>());
    }
}
