//! Who is heard next: clients take turns, and newcomers come in between.

use std::os::fd::AsFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::event::{Client, DisconnectReason, Event};
use super::member::Member;
use super::{GATHERED_FOR, Hub, RECV, WAIT};
use crate::admission::RefusalReason;
use crate::backend::fault::Fault;
use crate::endpoint::{error_of, other_side};
use crate::error::{ErrorKind, Result};
use crate::message::{Message, Received};
use crate::wait::{Deadline, wait_for};

/// When everybody who is known to have something to say has had a turn, and at the latest after so many turns, the hub looks
/// who else has, writes what waits to be sent, and lets some newcomers in; so many each time.
const TURNS_MAX: usize = 16;
const ADMITTED_MAX: usize = 16;

impl Hub {
    /// Returns the next event, or `None` at the deadline.
    pub(super) fn event_until(&mut self, deadline: Deadline) -> Result<Option<Event>> {
        self.check_process(WAIT)?;
        if self.dirty_since.is_some_and(|since| since.elapsed() >= GATHERED_FOR) {
            self.flush_dirty();
        }
        let mut budget = None;
        let mut in_time = true;
        let mut looked_for_the_last_time = false;
        loop {
            self.check_shutdown(WAIT)?;
            if let Some(event) = self.next_ready() {
                return Ok(Some(event));
            }
            self.flush_dirty();
            let more_is_here = !self.events.is_empty() || !self.ready.is_empty();
            match (more_is_here, looked_for_the_last_time) {
                (true, true) => self.quantum.left = TURNS_MAX,
                (true, false) => drop(self.poll_events()?),
                (false, true) => return Ok(None),
                (false, false) => {
                    // What is there at the deadline is still taken, and what comes afterwards is not waited for: somebody
                    // who sends a byte at a time must not keep the call.
                    looked_for_the_last_time = !in_time || deadline.is_over();
                    if self.poll_events()? || looked_for_the_last_time {
                        continue;
                    }
                    // Only now: most events are here already, and are no wait.
                    let budget = budget.get_or_insert_with(|| self.backoff.begin(self.spin_limit));
                    if self.backoff.spin_once(budget) {
                        continue;
                    }
                    let woken = wait_for(self.watch.as_fd(), PollFlags::IN, deadline);
                    in_time = woken.map_err(|error| self.failed(WAIT, error))?;
                }
            }
        }
    }

    /// The next thing to tell, of what is here.
    fn next_ready(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Joined(client, _) = event {
                    if let Some(member) = self.members.get_mut(client) {
                        member.has_joined = true;
                    }
                }
                return Some(event);
            }
            if self.quantum.left == 0 {
                return None;
            }
            let client = self.members.client_at(*self.ready.front()?);
            let Some((client, member)) = client.and_then(|client| Some((client, self.members.get_mut(client)?))) else {
                self.end_turn();
                continue;
            };
            if !member.wants_turn(self.write_buffer_max) {
                member.is_ready = false;
                member.rest(&mut self.pool);
                self.end_turn();
                continue;
            }
            let was_closed = member.closed.read;
            let mut message = Message::default();
            match member.recv(&mut message, &mut self.pool) {
                Ok(Received::Message) => {
                    if member.is_exhausted() {
                        member.end_readable(&mut self.pool);
                        self.end_turn();
                    } else if self.quantum.is_over_after(message.len()) {
                        member.rest(&mut self.pool);
                        self.ready.push_back(client.place);
                        self.end_turn();
                    }
                    return Some(Event::Message(client, message));
                }
                Ok(Received::Closed) if member.is_gone() => {
                    member.rest(&mut self.pool);
                    let fault = member.fault_at_the_end();
                    self.end(client, fault);
                }
                Ok(Received::Empty | Received::Closed) => {
                    let just_closed = member.closed.read && !was_closed;
                    member.end_readable(&mut self.pool);
                    self.end_turn();
                    if just_closed {
                        return Some(Event::Finished(client));
                    }
                }
                Err(fault) => {
                    member.rest(&mut self.pool);
                    self.end(client, Some(fault));
                }
            }
        }
    }

    /// Takes the first one out of those that are ready.
    fn end_turn(&mut self) {
        self.ready.pop_front();
        self.quantum.next();
    }

    /// Finds out who has something to say, who can take more, and who wants to come in. `false`: nothing has changed.
    fn poll_events(&mut self) -> Result<bool> {
        let announced = self.watch.announced().map_err(|errno| self.failed(WAIT, errno))?;
        let mut found = false;
        let mut of_server = false;
        for announced in announced {
            found = true;
            let Some(place) = announced.place else {
                of_server = true;
                continue;
            };
            let Some(client) = self.members.client_at(place) else { continue };
            // Of one that is no more.
            if client.number as u32 != announced.number {
                continue;
            }
            if announced.sending {
                self.has_room(client);
            }
            if announced.receiving {
                self.mark_readable(client);
            }
            if announced.ended {
                self.is_ending(client);
            }
        }
        self.quantum.left = self.ready.len().clamp(1, TURNS_MAX);
        if of_server {
            self.admit().inspect_err(|error| {
                // That is so for good, and told once: those that are here go on.
                if error.kind() == ErrorKind::NameLost {
                    self.watch.remove_server(self.server.as_fd());
                }
            })?;
        }
        Ok(found)
    }

    /// Lets some of those in who wait for it.
    fn admit(&mut self) -> Result<()> {
        for _ in 0..ADMITTED_MAX {
            let admitted = self.server.try_accept_link();
            while let Some(refusal) = self.server.admission().untold_refusal() {
                self.events.push_back(Event::Refused(refusal));
            }
            let Some(link) = admitted? else { return Ok(()) };
            let client = self.members.insert(|number| Member::new(number, link));
            let Some(member) = self.members.get(client) else { continue };
            if let Err(errno) = self.watch.add(client, &member.incoming, &member.outgoing) {
                self.turn_away(client, errno);
                continue;
            }
            self.events.push_back(Event::Joined(client, member.peer.clone()));
            self.mark_readable(client);
        }
        Ok(())
    }

    /// A client that was let in and cannot be kept: the system has no room to watch it.
    fn turn_away(&mut self, client: Client, errno: Errno) {
        let Some(member) = self.members.remove(client) else { return };
        let detail = format!("it cannot be watched: {errno}");
        self.server.admission().refuse(member.transport(), Some(member.peer.clone()), RefusalReason::System, detail);
        drop(member);
        if let Some(refusal) = self.server.admission().untold_refusal() {
            self.events.push_back(Event::Refused(refusal));
        }
    }

    /// A client may be read from, now or when it has taken what waits for it.
    pub(super) fn mark_readable(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_readable = true;
        if !member.is_ready && member.wants_turn(self.write_buffer_max) {
            member.is_ready = true;
            self.ready.push_back(client.place);
        }
    }

    /// The end of what a client sends is there, and is to be looked for behind it.
    fn is_ending(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_ending = true;
        self.mark_readable(client);
    }

    /// The connection of a client has ended.
    pub(super) fn end(&mut self, client: Client, fault: Option<Fault>) {
        let Some(member) = self.members.get(client) else { return };
        let why = match fault {
            None => DisconnectReason::Closed,
            Some(fault) => DisconnectReason::Failed(error_of(
                fault,
                RECV,
                other_side(self.server.display_name(), &member.peer),
                self.message_max,
            )),
        };
        self.leave(client, why);
    }

    /// Lets go of a client, and has it told.
    pub(super) fn leave(&mut self, client: Client, why: DisconnectReason) {
        let Some(member) = self.members.remove(client) else { return };
        let (server, bytes) = (self.server.display_name(), member.unsent());
        tracing::debug!(%server, transport = %member.transport(), peer = %member.peer, %why, "disconnected");
        if bytes > 0 {
            tracing::warn!(%server, peer = %member.peer, bytes, "messages lost: the client has left");
        }
        self.watch.remove(&member.incoming, &member.outgoing);
        // The next one in its place does not inherit its turn.
        if member.is_ready {
            match self.ready.front() {
                Some(&first) if first == client.place => self.end_turn(),
                _ => self.ready.retain(|&place| place != client.place),
            }
        }
        if member.is_dirty {
            self.dirty.retain(|&place| place != client.place);
        }
        self.events.push_back(Event::Left(client, why));
    }
}
