//! The table of the handshakes of a listener.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::config::ListenConfig;
use crate::wait::poll_now;

/// The poller's token of the listener itself. A handshake has the number of its slot plus 1.
pub(super) const LISTENER: u32 = 0;

/// The handshakes that are in progress, each with a deadline. `H` is one handshake; its descriptor is the one that the
/// client's answer arrives on.
///
/// The number of slots is fixed, so a client that stalls takes one slot until its deadline, and delays no other client.
pub(super) struct Handshakes<H> {
    slots: Vec<Option<Pending<H>>>,
    timeout: Duration,
}

struct Pending<H> {
    handshake: H,
    /// `None` if the timeout is longer than the clock can express.
    deadline: Option<Instant>,
}

/// A free slot. See [`Handshakes::vacant`].
pub(super) struct Vacant(u32);

impl Vacant {
    /// Returns the token under which the poller reports the handshake.
    pub(super) fn token(&self) -> u32 {
        self.0
    }
}

impl<H: AsFd> Handshakes<H> {
    pub(super) fn new(config: &ListenConfig) -> Self {
        let slots = std::iter::repeat_with(|| None).take(config.half_open_max).collect();
        Self { slots, timeout: config.handshake_timeout }
    }

    /// Returns a free slot, or an error text if there is none.
    pub(super) fn vacant(&self) -> Result<Vacant, String> {
        match self.slots.iter().position(Option::is_none) {
            Some(slot) => Ok(Vacant(slot as u32 + 1)),
            None => Err(format!("{} handshakes are under way", self.slots.len())),
        }
    }

    /// Begins a handshake in a free slot.
    pub(super) fn insert(&mut self, vacant: &Vacant, handshake: H) {
        let deadline = Instant::now().checked_add(self.timeout);
        if let Some(slot) = self.slot(vacant.0) {
            *slot = Some(Pending { handshake, deadline });
        }
    }

    /// Returns the handshake with this token.
    pub(super) fn get_mut(&mut self, token: u32) -> Option<&mut H> {
        self.slot(token)?.as_mut().map(|pending| &mut pending.handshake)
    }

    /// Takes the handshake with this token out of the table.
    pub(super) fn remove(&mut self, token: u32) -> Option<H> {
        self.slot(token)?.take().map(|pending| pending.handshake)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &H> {
        self.slots.iter().flatten().map(|pending| &pending.handshake)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut H> {
        self.slots.iter_mut().flatten().map(|pending| &mut pending.handshake)
    }

    /// Returns the earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().filter_map(|pending| pending.deadline).min()
    }

    /// Takes out the handshakes that are late. A handshake whose answer arrived in time is not late, even if it is read
    /// after the deadline.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<H> {
        let is_late = |pending: &mut Pending<H>| {
            pending.deadline.is_some_and(|deadline| deadline <= now)
                && !poll_now(pending.handshake.as_fd(), PollFlags::IN).contains(PollFlags::IN)
        };
        let late = self.slots.iter_mut().filter_map(|slot| slot.take_if(is_late));
        late.map(|pending| pending.handshake).collect()
    }

    /// Takes out the handshakes whose answer has not arrived.
    pub(super) fn take_unanswered(&mut self) -> Vec<H> {
        let is_unanswered =
            |pending: &mut Pending<H>| !poll_now(pending.handshake.as_fd(), PollFlags::IN).contains(PollFlags::IN);
        let taken = self.slots.iter_mut().filter_map(|slot| slot.take_if(is_unanswered));
        taken.map(|pending| pending.handshake).collect()
    }

    fn slot(&mut self, token: u32) -> Option<&mut Option<Pending<H>>> {
        self.slots.get_mut(token.checked_sub(1)? as usize)
    }
}
