//! What is sent to clients, and what happens when they do not take it.

use std::mem;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::event::{Client, DisconnectReason};
use super::member::Offered;
use super::options::SlowClientPolicy;
use super::{Hub, SEND};
use crate::backend::fault::Fault;
use crate::endpoint::error_of;
use crate::error::{Error, ErrorKind, Result};
use crate::payload::Payload;
use crate::wait::{Deadline, wait};

impl Hub {
    /// Sends one message to a client. Where it does not fit, [`SlowClientPolicy`] decides.
    ///
    /// Sending to a client that has gone, or is going, does nothing: whether it went a moment before or a moment after this
    /// call makes no difference to what it received, [`Left`](super::Event::Left) tells of it in either case, and no server should end
    /// because one client did. Ids are never used again, so nobody else gets it.
    ///
    /// # Errors
    ///
    /// Nothing of the message is sent then.
    ///
    /// - [`ErrorKind::MessageTooLong`].
    /// - [`ErrorKind::Unsupported`]: the payload has descriptors or shared memory, which a hub does not send.
    /// - [`ErrorKind::Busy`]: no room, with [`SlowClientPolicy::Refuse`].
    /// - [`ErrorKind::Shutdown`]: asked for while waiting, with [`SlowClientPolicy::Wait`].
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn send<'a>(&mut self, client: Client, payload: impl Into<Payload<'a>>) -> Result<()> {
        let payload = payload.into();
        self.check_process(SEND)?;
        self.check(&payload)?;
        match self.send_one(client, &payload)? {
            Offered::Taken | Offered::Lost => Ok(()),
            Offered::Full => {
                let detail = format!("client {client} has not taken what was sent to it before");
                Err(Error::new(ErrorKind::Busy, SEND, &**self.server.display_name(), detail)
                    .next("send it again later, or disconnect the client"))
            }
        }
    }

    /// Sends one message to every client that has joined, and gives those that did not get it: none but with
    /// [`SlowClientPolicy::Refuse`].
    ///
    /// # Errors
    ///
    /// Those of [`send`](Hub::send) but `Busy`. After [`Shutdown`](ErrorKind::Shutdown) some have it and some have not.
    pub fn broadcast<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<Vec<Client>> {
        let payload = payload.into();
        self.check_process(SEND)?;
        self.check(&payload)?;
        let mut missed = Vec::new();
        for client in self.clients() {
            if self.send_one(client, &payload)? == Offered::Full {
                missed.push(client);
            }
        }
        Ok(missed)
    }

    fn send_one(&mut self, client: Client, payload: &Payload<'_>) -> Result<Offered> {
        let mut deadline = None;
        loop {
            let Some(member) = self.members.get_mut(client) else { return Ok(Offered::Lost) };
            let offered = match member.offer(payload, self.write_buffer_max, &mut self.pool) {
                Ok(offered) => offered,
                Err(fault) => {
                    self.end(client, Some(fault));
                    return Ok(Offered::Lost);
                }
            };
            match (offered, self.slow_client_policy) {
                (Offered::Taken, _) => {
                    self.mark_dirty(client);
                    return Ok(Offered::Taken);
                }
                (Offered::Lost, _) => {
                    // Its end is to be heard, where that was just found out.
                    self.after_writing(client);
                    return Ok(Offered::Lost);
                }
                (Offered::Full, SlowClientPolicy::Refuse) => return Ok(Offered::Full),
                (Offered::Full, SlowClientPolicy::Wait(timeout)) => {
                    let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
                    if self.wait_for_room(client, deadline)? {
                        continue;
                    }
                }
                (Offered::Full, SlowClientPolicy::Disconnect) => {}
            }
            self.leave(client, DisconnectReason::Slow);
            return Ok(Offered::Lost);
        }
    }

    /// Waits until a client takes something; `false` at the deadline.
    fn wait_for_room(&mut self, client: Client, deadline: Deadline) -> Result<bool> {
        // It may be that the client waits for what another one is about to be told.
        self.flush_dirty();
        let Some(fd) = self.members.get(client).and_then(|member| member.outgoing.fd()) else { return Ok(true) };
        let mut fds = [
            PollFd::from_borrowed_fd(fd, PollFlags::OUT),
            PollFd::from_borrowed_fd(self.shutdown.as_fd(), PollFlags::IN),
        ];
        let ready = wait(&mut fds, deadline).map_err(|error| self.failed(SEND, error))?;
        self.check_shutdown(SEND)?;
        self.has_room(client);
        Ok(ready)
    }

    /// Writes what waits to be sent, as far as the system takes it. [`next_event`](Hub::next_event) does it by itself; this
    /// is for a program that is about to do something that takes long.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn flush(&mut self) -> Result<()> {
        self.check_process(SEND)?;
        self.flush_dirty();
        Ok(())
    }

    /// Ends sending to a client, after what was sent before: it receives `None` after the last message. What it sends is
    /// still received; it leaves when it has finished, too.
    ///
    /// Nothing happens if it has gone, as with [`send`](Hub::send).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn finish(&mut self, client: Client) -> Result<()> {
        self.check_process(SEND)?;
        if let Some(member) = self.members.get_mut(client) {
            member.finish();
            if member.unsent() == 0 {
                self.after_writing(client);
            }
        }
        Ok(())
    }

    /// Ends the connection of a client. What was sent to it before goes out as far as the system takes it at once, and the
    /// rest is lost: [`write_buffer_len`](Hub::write_buffer_len) tells how much waits, and [`finish`](Hub::finish) loses nothing.
    /// [`Left`](super::Event::Left) follows, and no message of it any more.
    ///
    /// Nothing happens if it has gone, as with [`send`](Hub::send).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn disconnect(&mut self, client: Client) -> Result<()> {
        self.check_process(SEND)?;
        self.flush_one(client);
        self.leave(client, DisconnectReason::Disconnected);
        Ok(())
    }

    /// What waits for a client may be written on.
    pub(super) fn has_room(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_full = false;
        if member.unsent() > 0 {
            self.mark_dirty(client);
        }
    }

    /// Notes that something is to be written for a client.
    fn mark_dirty(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        if !member.is_dirty && !member.is_full {
            member.is_dirty = true;
            self.dirty.push(client.place);
            self.dirty_since.get_or_insert_with(Instant::now);
        }
    }

    /// Writes what waits, as far as the system takes it.
    pub(super) fn flush_dirty(&mut self) {
        self.dirty_since = None;
        let mut fed = mem::take(&mut self.dirty);
        for place in fed.drain(..) {
            if let Some(client) = self.members.client_at(place) {
                self.flush_one(client);
            }
        }
        // Nobody is noted while they are written to. The memory is used again.
        self.dirty = fed;
    }

    fn flush_one(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_dirty = false;
        match member.flush(&mut self.pool) {
            Ok(_) => self.after_writing(client),
            Err(fault) => self.end(client, Some(fault)),
        }
    }

    /// Goes on with what had to wait until something was written.
    fn after_writing(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        if member.is_to_end_sending() {
            self.watch.remove_outgoing(&member.incoming, &member.outgoing);
            if member.end_sending() {
                let fault = member.fault_at_the_end();
                return self.end(client, fault);
            }
        }
        if member.is_readable {
            self.mark_readable(client);
        }
    }

    /// Writes what waits for anybody, as far as the system takes it.
    pub(super) fn flush_all(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.unsent() > 0) {
            if let Err(fault) = member.flush(&mut self.pool) {
                tracing::debug!(peer = %member.peer, ?fault, "cannot be sent to");
                member.outgoing.discard();
            }
        }
    }

    /// Checks what must hold before any part of a message is sent.
    fn check(&self, payload: &Payload<'_>) -> Result<()> {
        let server = || self.server.display_name().to_string();
        if payload.attached().count() > 0 {
            let detail = "a hub sends no descriptors and no shared memory";
            return Err(
                Error::new(ErrorKind::Unsupported, SEND, server(), detail).next("send bytes, or serve with a Server")
            );
        }
        if payload.len() <= self.message_max {
            return Ok(());
        }
        Err(error_of(Fault::TooLong { length: payload.len() }, SEND, server(), self.message_max))
    }
}
