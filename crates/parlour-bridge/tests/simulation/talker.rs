//! A client or one session of a server: it sends numbered messages, ends, and records what it receives.

use super::random::Random;
use super::sockets::{EndId, Got, Sockets};

/// The end of what a talker receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// End of file between two messages.
    Clean,
    /// End of file within a message, or a reset.
    Error,
}

/// The manners that talkers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Any,
    /// All but those that close their sockets at any time.
    Civil,
    /// None of them ends before the other side does.
    Waiting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// Sends everything, ends its direction, and receives until the end.
    Polite,
    /// Receives until the end of the other direction before it ends its own.
    Last,
    /// Sends everything and closes its socket, whatever it has not received.
    Leaves,
    /// Closes its socket after this many polls, in whatever state it is.
    Rude(u64),
}

pub(crate) struct Talker {
    pub(crate) end: EndId,
    plan: Vec<u8>,
    /// The bytes of the plan that the socket has taken.
    sent: usize,
    pub(crate) got: Vec<u8>,
    manners: Manners,
    polls: u64,
    has_shut: bool,
    pub(crate) is_closed: bool,
    pub(crate) ended: Option<Ended>,
}

impl Talker {
    pub(crate) fn new(end: EndId, id: u32, random: &mut Random, temper: Temper) -> Self {
        let count = random.below(12);
        let mut plan = Vec::new();
        for number in 0..count {
            let len = match random.below(20) {
                0 => 100_000 + random.below(100_000) as usize,
                1..4 => 0,
                _ => 8 + random.below(300) as usize,
            };
            plan.extend_from_slice(&(len as u32).to_be_bytes());
            let mut message = [id.to_be_bytes(), (number as u32).to_be_bytes()].concat();
            message.resize(len, number as u8 | 1);
            plan.extend_from_slice(&message);
        }
        let manners = match random.below(6) {
            _ if temper == Temper::Waiting => Manners::Last,
            0 if temper == Temper::Any => Manners::Rude(random.below(80)),
            1 | 2 => Manners::Last,
            3 => Manners::Leaves,
            _ => Manners::Polite,
        };
        // Two sides that wait for each other would never end.
        let manners = if id.is_multiple_of(2) && manners == Manners::Last && temper != Temper::Waiting {
            Manners::Polite
        } else {
            manners
        };
        let (sent, got, polls) = (0, Vec::new(), 0);
        Self { end, plan, sent, got, manners, polls, has_shut: false, is_closed: false, ended: None }
    }

    /// Returns the bytes that were sent.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.plan[..self.sent]
    }

    /// Returns true if this side has ended its direction.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_shut || self.is_closed
    }

    pub(crate) fn has_sent_everything(&self) -> bool {
        self.sent == self.plan.len()
    }

    /// Returns true if this side does not wait for the end of what it receives.
    pub(crate) fn leaves(&self) -> bool {
        self.manners == Manners::Leaves
    }

    pub(crate) fn poll(&mut self, sockets: &mut Sockets, random: &mut Random) {
        if self.is_closed {
            return;
        }
        self.polls += 1;
        if matches!(self.manners, Manners::Rude(polls) if self.polls > polls) {
            return self.close(sockets);
        }
        let may_send = self.manners != Manners::Last || self.ended.is_some() || random.once_in(3);
        if may_send && !self.has_shut && self.sent < self.plan.len() {
            let count = (self.plan.len() - self.sent).min(1 + random.below(60_000) as usize);
            match sockets.send(self.end, &self.plan[self.sent..self.sent + count]) {
                Ok(count) => self.sent += count,
                // Nobody takes the rest. What was sent before the end may have arrived.
                Err(()) => self.shut(sockets),
            }
        }
        if self.has_sent_everything() && (self.manners != Manners::Last || self.ended.is_some()) {
            self.shut(sockets);
        }
        if self.ended.is_none() && !random.once_in(4) {
            self.receive(sockets, random);
        }
        if (self.ended.is_some() || self.leaves()) && self.has_shut {
            self.close(sockets);
        }
    }

    fn receive(&mut self, sockets: &mut Sockets, random: &mut Random) {
        match sockets.recv(self.end, 1 + random.below(100_000) as usize) {
            Got::Nothing => {}
            Got::Bytes(bytes) => self.got.extend_from_slice(&bytes),
            Got::End => self.ended = Some(if is_whole(&self.got) { Ended::Clean } else { Ended::Error }),
            Got::Reset => self.ended = Some(Ended::Error),
            Got::Notify => panic!("close_notify on a UNIX socket"),
        }
    }

    fn shut(&mut self, sockets: &mut Sockets) {
        if !self.has_shut {
            sockets.shut(self.end);
            self.has_shut = true;
        }
    }

    pub(crate) fn close(&mut self, sockets: &mut Sockets) {
        if !self.is_closed {
            sockets.die(self.end, false);
            self.is_closed = true;
        }
    }
}

/// Returns the messages of a stream, and the rest behind them.
pub(crate) fn messages(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut found = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let len = u32::from_be_bytes(*header) as usize;
        if rest.len() < len {
            break;
        }
        found.push(&rest[..len]);
        bytes = &rest[len..];
    }
    (found, bytes)
}

fn is_whole(bytes: &[u8]) -> bool {
    messages(bytes).1.is_empty()
}
