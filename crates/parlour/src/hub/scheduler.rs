//! The scheduler of a hub: clients take turns, and new clients are accepted in between.

use std::os::fd::AsFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::event::{Client, DisconnectReason, Event};
use super::member::Member;
use super::{Hub, RECV, WAIT, WRITE_DELAY_MAX};
use crate::admission::RefusalReason;
use crate::backend::fault::Fault;
use crate::endpoint::{OtherSide, error_of};
use crate::error::{ErrorKind, Result};
use crate::message::{Message, Received};
use crate::wait::{Deadline, wait_for};

/// The maximum number of turns between two calls of epoll_wait(2). After the deadline, the hub serves the ready clients
/// without polling again.
const TURNS_MAX: usize = 16;

/// The maximum number of clients accepted per poll.
const ACCEPTS_MAX: usize = 16;

impl Hub {
    /// Returns the next event, or `None` at the deadline.
    pub(super) fn event_until(&mut self, deadline: Deadline) -> Result<Option<Event>> {
        self.check_process(WAIT)?;
        if self.dirty_since.is_some_and(|since| since.elapsed() >= WRITE_DELAY_MAX) {
            self.flush_dirty();
        }
        let mut budget = None;
        let mut before_deadline = true;
        let mut has_polled_last = false;
        loop {
            self.check_shutdown(WAIT)?;
            if let Some(event) = self.next_ready_event() {
                return Ok(Some(event));
            }
            self.flush_dirty();
            let has_more = !self.events.is_empty() || !self.ready.is_empty();
            match (has_more, has_polled_last) {
                // The deadline has passed: serve the remaining clients without polling again.
                (true, true) => self.quantum.turns_left = TURNS_MAX,
                // All turns are used up, or the flush queued events or clients: poll before the next turn.
                (true, false) => drop(self.poll_events()?),
                // The last poll was after the deadline, and all that it reported was served.
                (false, true) => return Ok(None),
                // Nothing is ready: poll, and wait if the poll reports nothing.
                (false, false) => {
                    // Data that has arrived by the deadline is still received. The hub does not wait for later data, so
                    // that a client that sends one byte at a time cannot delay the return past the deadline.
                    has_polled_last = !before_deadline || deadline.is_over();
                    if self.poll_events()? || has_polled_last {
                        continue;
                    }
                    // The back-off begins here, because most events are available without waiting.
                    let budget = budget.get_or_insert_with(|| self.backoff.begin(self.spin_limit));
                    if self.backoff.spin_once(budget) {
                        continue;
                    }
                    let woken = wait_for(self.watch.as_fd(), PollFlags::IN, deadline);
                    before_deadline = woken.map_err(|error| self.io_error(WAIT, error))?;
                }
            }
        }
    }

    /// Returns the next event. Returns `None` if no client is ready or `quantum.turns_left` is 0.
    fn next_ready_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Joined(client, _) = event {
                    if let Some(member) = self.members.get_mut(client) {
                        member.has_joined = true;
                    }
                }
                return Some(event);
            }
            if self.quantum.turns_left == 0 {
                return None;
            }
            let client = self.members.client_in(*self.ready.front()?);
            let Some((client, member)) = client.and_then(|client| Some((client, self.members.get_mut(client)?))) else {
                self.end_turn();
                continue;
            };
            if !member.wants_turn(self.write_buffer_max) {
                member.is_ready = false;
                member.release_buffers(&mut self.pool);
                self.end_turn();
                continue;
            }
            // `Finished` is returned once, when the end is first received.
            let was_closed = member.closed.read;
            let mut message = Message::default();
            match member.recv(&mut message, &mut self.pool) {
                Ok(Received::Message) => {
                    if member.is_exhausted() {
                        member.end_readable(&mut self.pool);
                        self.end_turn();
                    } else if self.quantum.is_over_after(message.len()) {
                        member.release_buffers(&mut self.pool);
                        self.ready.push_back(client.slot);
                        self.end_turn();
                    }
                    return Some(Event::Message(client, message));
                }
                Ok(Received::Closed) if member.is_closed() => {
                    member.release_buffers(&mut self.pool);
                    let fault = member.close_fault();
                    self.end_connection(client, fault);
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
                    member.release_buffers(&mut self.pool);
                    self.end_connection(client, Some(fault));
                }
            }
        }
    }

    /// Ends the turn of the first ready client: removes it from the queue, resets the quantum, and decrements
    /// `turns_left`.
    fn end_turn(&mut self) {
        self.ready.pop_front();
        self.quantum.next();
    }

    /// Polls epoll once without waiting, marks ready clients, and accepts new ones. Returns false if epoll reported
    /// nothing. Fails if epoll_wait(2) or accepting fails.
    fn poll_events(&mut self) -> Result<bool> {
        let batch = self.watch.poll().map_err(|errno| self.io_error(WAIT, errno))?;
        let mut has_changed = false;
        let mut server_is_ready = false;
        for readiness in batch {
            has_changed = true;
            let Some(slot) = readiness.slot else {
                server_is_ready = true;
                continue;
            };
            let Some(client) = self.members.client_in(slot) else { continue };
            // The event belongs to an earlier client of this slot.
            if client.number as u32 != readiness.number {
                continue;
            }
            if readiness.writable {
                self.mark_writable(client);
            }
            if readiness.readable {
                self.mark_readable(client);
            }
            if readiness.closed {
                self.mark_ending(client);
            }
        }
        self.quantum.turns_left = self.ready.len().clamp(1, TURNS_MAX);
        if server_is_ready {
            self.accept_clients().inspect_err(|error| {
                // The loss is permanent, so the server is removed from epoll: it would otherwise be reported at each
                // poll. The error is returned once, and connected clients are still served.
                if error.kind() == ErrorKind::NameLost {
                    self.watch.remove_server(self.server.as_fd());
                }
            })?;
        }
        Ok(has_changed)
    }

    /// Accepts up to `ACCEPTS_MAX` of the clients that wait.
    fn accept_clients(&mut self) -> Result<()> {
        for _ in 0..ACCEPTS_MAX {
            let admitted = self.server.try_accept_link();
            while let Some(refusal) = self.server.admission().pop_refusal() {
                self.events.push_back(Event::Refused(refusal));
            }
            let Some(link) = admitted? else { return Ok(()) };
            let client = self.members.insert(|number| Member::new(number, link));
            let Some(member) = self.members.get(client) else { continue };
            if let Err(errno) = self.watch.add(client, &member.incoming, &member.outgoing) {
                self.refuse_unwatched(client, errno);
                continue;
            }
            self.events.push_back(Event::Joined(client, member.peer.clone()));
            self.mark_readable(client);
        }
        Ok(())
    }

    /// Disconnects an admitted client whose descriptor epoll_ctl(2) rejected (ENOMEM, ENOSPC), and reports it as
    /// refused.
    fn refuse_unwatched(&mut self, client: Client, errno: Errno) {
        let Some(member) = self.members.remove(client) else { return };
        let detail = format!("the kernel cannot watch its descriptor: {errno}");
        self.server.admission().refuse(member.transport(), Some(member.peer.clone()), RefusalReason::System, detail);
        drop(member);
        if let Some(refusal) = self.server.admission().pop_refusal() {
            self.events.push_back(Event::Refused(refusal));
        }
    }

    /// Marks a client as readable, and queues it for a turn, unless too many bytes are buffered for it. In that case
    /// `after_write` queues it later.
    pub(super) fn mark_readable(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_readable = true;
        if !member.is_ready && member.wants_turn(self.write_buffer_max) {
            member.is_ready = true;
            self.ready.push_back(client.slot);
        }
    }

    /// Notes that the kernel has reported the end of a client's sending direction. The hub receives the remaining
    /// messages before it reports the end.
    fn mark_ending(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_ending = true;
        self.mark_readable(client);
    }

    /// Ends the connection of a client, because of `fault` or because both sides have closed it.
    pub(super) fn end_connection(&mut self, client: Client, fault: Option<Fault>) {
        let Some(member) = self.members.get(client) else { return };
        let reason = match fault {
            None => DisconnectReason::Closed,
            Some(fault) => DisconnectReason::Failed(error_of(
                fault,
                RECV,
                OtherSide::Client.describe(self.server.display_name(), &member.peer),
                OtherSide::Client,
                self.message_max,
            )),
        };
        self.remove_client(client, reason);
    }

    /// Removes a client, and queues the event `Left`.
    pub(super) fn remove_client(&mut self, client: Client, reason: DisconnectReason) {
        let Some(member) = self.members.remove(client) else { return };
        let (server, bytes) = (self.server.display_name(), member.write_buffer_len());
        tracing::debug!(%server, transport = %member.transport(), peer = %member.peer, %reason, "disconnected");
        if bytes > 0 {
            tracing::warn!(%server, peer = %member.peer, bytes, "messages lost: the connection ended");
        }
        self.watch.remove(&member.incoming, &member.outgoing);
        // The next client of this slot must not inherit its turn.
        if member.is_ready {
            match self.ready.front() {
                Some(&first) if first == client.slot => self.end_turn(),
                _ => self.ready.retain(|&slot| slot != client.slot),
            }
        }
        if member.is_dirty {
            self.dirty.retain(|&slot| slot != client.slot);
        }
        self.events.push_back(Event::Left(client, reason));
    }
}
