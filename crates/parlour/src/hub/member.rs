//! One client of a hub: its connection, and how far each direction of it has come.

use std::io::IoSlice;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::admission::Permit;
use crate::backend::Link;
use crate::backend::fault::{Fault, Received};
use crate::backend::halves::{BufferPool, Incoming, Outgoing};
use crate::message::Message;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wire::frame::HEADER_LEN;

/// How much is gathered for one client before it is written. Measured: beyond 64 KiB per write nothing is gained.
const GATHERED_MAX: usize = 64 * 1024;

/// A client is not read from while more than this waits for it: who does not take its answers must not ask for more. So
/// what an honest client causes to be sent to it, however fast it asks, waits in its own hands and not here.
const ANSWERED_MAX: usize = GATHERED_MAX;

/// Storage small: there may be ten thousand of them.
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
    /// It has finished sending.
    is_finished: bool,
    /// We send no more once what waits is gone.
    finishing: bool,
    /// It receives no more, and something that was sent to it was not received.
    write_closed: bool,
}

/// What one try to receive brought.
pub(super) enum Heard {
    Message(Message),
    /// Nothing, until the descriptor announces something.
    Nothing,
    /// It sends no more, and this is the first that is heard of it.
    Finished,
    /// The connection has ended; with a fault, or in order.
    End(Option<Fault>),
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
            is_finished: false,
            finishing: false,
            write_closed: false,
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
        !self.write_closed && !self.finishing
    }

    /// Whether it is to be read from.
    pub(super) fn wants_turn(&self, write_buffer_max: usize) -> bool {
        self.is_readable && self.unsent() <= ANSWERED_MAX.min(write_buffer_max)
    }

    /// Receives what is there.
    pub(super) fn hear(&mut self, pool: &mut BufferPool) -> Heard {
        if self.is_finished {
            // Whatever was announced, it is not a message.
            return if self.is_gone() { Heard::End(self.fault_at_the_end()) } else { Heard::Nothing };
        }
        self.incoming.acquire(pool);
        let mut message = Message::default();
        loop {
            return match self.incoming.try_recv(&mut message) {
                Ok(Received::Message) => Heard::Message(message),
                Ok(Received::Empty) if self.incoming.prepare_to_wait() => continue,
                Ok(Received::Empty) => Heard::Nothing,
                Ok(Received::Closed) => {
                    self.is_finished = true;
                    if self.is_gone() { Heard::End(self.fault_at_the_end()) } else { Heard::Finished }
                }
                Err(fault) => Heard::End(Some(fault)),
            };
        }
    }

    /// Whether it is known that there is nothing more to hear until something is announced: a look that can be spared.
    pub(super) fn is_exhausted(&self) -> bool {
        !self.is_ending && self.incoming.is_exhausted()
    }

    /// Whether both directions have ended, given that the incoming one has.
    fn is_gone(&self) -> bool {
        let Some(fd) = self.outgoing.fd() else { return true };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.write_closed
            || poll(&mut fds, Some(&no_wait)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// What is wrong with an end between messages.
    pub(super) fn fault_at_the_end(&self) -> Option<Fault> {
        (self.write_closed || self.unsent() > 0).then_some(Fault::Reset)
    }

    /// Takes a message to be sent, if it may wait or need not.
    pub(super) fn offer(
        &mut self,
        message: &[u8],
        write_buffer_max: usize,
        pool: &mut BufferPool,
    ) -> Result<Offered, Fault> {
        if !self.receives() {
            return Ok(Offered::Lost);
        }
        let needed = HEADER_LEN + message.len();
        let may_wait = |unsent: usize, max: usize| unsent == 0 || unsent.saturating_add(needed) <= max;
        if needed <= GATHERED_MAX && may_wait(self.unsent(), write_buffer_max.min(GATHERED_MAX)) {
            self.outgoing.acquire(pool);
            return self.outgoing.feed(message).map(|()| Offered::Taken);
        }
        let mut gone = 0;
        if !self.is_full && self.write(message, &mut gone)? {
            return Ok(Offered::Taken);
        }
        if self.write_closed {
            return Ok(Offered::Lost);
        }
        if gone > 0 {
            // Half a message cannot be taken back. Everything before it is gone.
            self.outgoing.keep_rest(&[IoSlice::new(message)], gone);
        } else if may_wait(self.unsent(), write_buffer_max) {
            self.outgoing.feed(message)?;
        } else {
            return Ok(Offered::Full);
        }
        Ok(Offered::Taken)
    }

    /// Writes what waits and then the message, of which `gone` says how much went.
    fn write(&mut self, message: &[u8], gone: &mut usize) -> Result<bool, Fault> {
        self.push(|outgoing| outgoing.try_send(&[IoSlice::new(message)], &[], gone))
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
                    self.write_closed = true;
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
        self.finishing = true;
    }

    /// Whether the sending direction is to be ended now.
    pub(super) fn is_to_end_sending(&self) -> bool {
        self.finishing && self.unsent() == 0 && self.outgoing.fd().is_some()
    }

    /// Ends the sending direction; `true` when that was the last.
    pub(super) fn end_sending(&mut self) -> bool {
        // A client that has gone by now has ended both.
        let _ = self.outgoing.finish();
        self.is_finished
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
