//! The scheduler of a hub: clients take turns, and new clients are accepted in between.

use std::os::fd::AsFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::event::{Client, DisconnectReason, Event};
use super::member::Member;
use super::service::Service;
use super::watch::Source;
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
        if !self.dirty.is_empty() && self.expects_favourite() {
            self.flush_dirty();
        }
        let mut budget = None;
        let mut before_deadline = true;
        let mut has_polled_last = false;
        loop {
            self.check_shutdown(WAIT)?;
            self.check_ended()?;
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
                (false, true) if self.arm_favourite() => {}
                (false, true) => return Ok(None),
                // Nothing is ready: poll, and wait if the poll reports nothing.
                (false, false) => {
                    // Data that has arrived by the deadline is still received. The hub does not wait for later data, so
                    // that a client that sends one byte at a time cannot delay the return past the deadline.
                    has_polled_last = !before_deadline || deadline.is_over();
                    if !has_polled_last {
                        let budget = budget.get_or_insert_with(|| self.backoff.begin(self.spin_limit));
                        if budget.has_polls_left() && self.look_at_favourite() && self.backoff.spin_once(budget) {
                            continue;
                        }
                    }
                    if self.poll_events()? || has_polled_last {
                        continue;
                    }
                    // The back-off begins here, because most events are available without waiting.
                    let budget = budget.get_or_insert_with(|| self.backoff.begin(self.spin_limit));
                    if self.backoff.spin_once(budget) || self.arm_favourite() {
                        continue;
                    }
                    let woken = wait_for(self.watch.as_fd(), PollFlags::IN, deadline.earliest(self.leaves_at()));
                    before_deadline = woken.map_err(|error| self.io_error(WAIT, error))? || !deadline.is_over();
                }
            }
        }
    }

    /// Returns the next event. Returns `None` if no client is ready or `quantum.turns_left` is 0.
    fn next_ready_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                if let Event::Joined(client, _) | Event::Missed(client) = event {
                    if let Some(member) = self.members.get_mut(client) {
                        member.has_joined = true;
                        member.has_missed = false;
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
            let was_closed = member.closed.read();
            let mut message = Message::default();
            let is_armed = !member.incoming.wakes_on_request() || self.spin_limit == 0 || !self.favourite.is(client);
            match member.recv(&mut message, &mut self.pool, is_armed) {
                Ok(Received::Message) => {
                    let to_arm = self.favourite.note_message(client);
                    if member.is_exhausted() {
                        member.end_readable(&mut self.pool);
                        self.end_turn();
                    } else if self.quantum.is_over_after(message.len()) {
                        member.release_buffers(&mut self.pool);
                        self.ready.push_back(client.slot);
                        self.end_turn();
                    }
                    if let Some(client) = to_arm {
                        self.mark_readable(client);
                    }
                    return Some(Event::Message(client, message));
                }
                Ok(Received::Closed) if member.is_closed() => {
                    member.release_buffers(&mut self.pool);
                    let fault = member.close_fault();
                    self.end_connection(client, fault);
                }
                Ok(Received::Empty | Received::Closed) => {
                    let just_closed = member.closed.read() && !was_closed;
                    if !is_armed {
                        self.favourite.note_unarmed(client);
                    }
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

    /// Returns true if the favourite is next, and to see whether it has sent more takes a system call. Its reply is
    /// written first then, because it usually waits for the reply.
    fn expects_favourite(&self) -> bool {
        let next = self.ready.front().and_then(|&slot| self.members.client_in(slot));
        next.is_some_and(|client| {
            self.favourite.is(client) && self.members.get(client).is_some_and(|member| member.incoming.needs_syscall())
        })
    }

    /// Gives the favourite a turn, if it has one and epoll_wait(2) need not be called first.
    fn look_at_favourite(&mut self) -> bool {
        let Some(client) = self.favourite.look() else { return false };
        self.quantum.turns_left = self.quantum.turns_left.max(1);
        self.mark_readable(client);
        true
    }

    /// Gives the client of which no wake-up was requested one more turn, in which it is requested. Returns true if
    /// there is such a client.
    fn arm_favourite(&mut self) -> bool {
        let Some(client) = self.favourite.take_unarmed() else { return false };
        self.quantum.turns_left = self.quantum.turns_left.max(1);
        self.mark_readable(client);
        true
    }

    /// Ends the turn of the first ready client: removes it from the queue, resets the quantum, and decrements
    /// `turns_left`.
    fn end_turn(&mut self) {
        self.ready.pop_front();
        self.quantum.next();
    }

    /// Polls epoll once without waiting, marks ready clients, sends what other threads have queued, and accepts new
    /// clients. Returns false if epoll reported nothing. Fails if epoll_wait(2), waiting for a slow client or accepting
    /// fails.
    fn poll_events(&mut self) -> Result<bool> {
        self.favourite.note_poll();
        let batch = self.watch.poll().map_err(|errno| self.io_error(WAIT, errno))?;
        let mut has_changed = false;
        let mut server_is_ready = false;
        let mut has_mail = false;
        for readiness in batch {
            has_changed = true;
            let (slot, number) = match readiness.source {
                Source::Client { slot, number } => (slot, number),
                Source::Server => {
                    server_is_ready = true;
                    continue;
                }
                Source::Handles => {
                    has_mail = true;
                    continue;
                }
            };
            let Some(client) = self.members.client_in(slot) else { continue };
            // The event belongs to an earlier client of this slot.
            if client.number as u32 != number {
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
        if has_mail {
            self.open_mail()?;
        }
        if server_is_ready {
            match self.accept_clients() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::HandedOver => self.leave_name()?,
                // The loss is permanent, so the server is removed from epoll: it would otherwise be reported at each
                // poll. The error is returned once, and connected clients are still served.
                Err(error) if error.kind() == ErrorKind::NameLost => {
                    self.watch.remove_server(self.server.as_fd());
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(has_changed)
    }

    /// Accepts up to `ACCEPTS_MAX` of the clients that wait. Returns true if more may wait.
    pub(super) fn accept_clients(&mut self) -> Result<bool> {
        let is_draining = match self.service {
            Service::Open => false,
            Service::Draining => true,
            Service::Released | Service::HandedOver(_) | Service::Ending => return Ok(false),
        };
        for _ in 0..ACCEPTS_MAX {
            let admitted = self.server.try_accept_link(is_draining);
            while let Some(refusal) = self.server.admission().pop_refusal() {
                self.events.push_back(Event::Refused(refusal));
            }
            let link = match admitted {
                Ok(Some(link)) => link,
                Ok(None) => return Ok(false),
                // The last client of a drain was let in.
                Err(error) if is_draining && error.kind() == ErrorKind::Shutdown && !self.shutdown.is_asked() => {
                    return self.release_name().map(|()| false);
                }
                Err(error) => return Err(error),
            };
            let client = self.members.insert(|number| Member::new(number, link));
            let Some(member) = self.members.get(client) else { continue };
            if let Err(errno) = self.watch.add(client, &member.incoming, &member.outgoing) {
                self.refuse_unwatched(client, errno);
                continue;
            }
            self.events.push_back(Event::Joined(client, member.peer.clone()));
            self.mark_readable(client);
        }
        Ok(true)
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
                self.check.message_max,
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
        if let Some(topics) = &mut self.topics {
            topics.remove(client);
        }
        self.watched_buffers.retain(|&watched| watched != client);
        self.events.push_back(Event::Left(client, reason));
    }
}
