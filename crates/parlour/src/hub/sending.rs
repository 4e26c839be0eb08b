//! Sending to clients, and the policy for slow ones.

use std::mem;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::event::{Client, DisconnectReason, Event};
use super::member::{BufferLimits, NoBlocks, SendOutcome};
use super::options::SlowClientPolicy;
use super::{Hub, SEND};
use crate::error::{Error, ErrorKind, Result};
use crate::payload::Payload;
use crate::wait::{Deadline, wait};

impl Hub {
    /// Sends one message to a client. If it does not fit into the write buffer, the [`SlowClientPolicy`] decides.
    ///
    /// Sending to a client that has left, or is about to leave, does nothing and is not an error. The client misses the
    /// message in either case, [`Left`](super::Event::Left) reports its end, and no server should stop because one
    /// client disconnected. Numbers are never reused, so no other client receives the message.
    ///
    /// # Errors
    ///
    /// Nothing of the message was sent.
    ///
    /// - [`ErrorKind::MessageTooLong`]: the message is longer than the limit.
    /// - [`ErrorKind::Unsupported`]: the payload has descriptors, which a hub does not send; or it has blocks of shared
    ///   memory, and the client's transport does not carry them
    ///   ([`Capabilities::zero_copy`](crate::Capabilities::zero_copy)).
    /// - [`ErrorKind::Refused`]: the payload has blocks of shared memory, and the client allows no descriptors. Before
    ///   Linux 6.16 such a client ends its connection instead, with [`Left`](super::Event::Left).
    /// - [`ErrorKind::Busy`]: the write buffer is full, with [`SlowClientPolicy::Refuse`].
    /// - [`ErrorKind::Shutdown`]: the shutdown handle was used while the call waited, with [`SlowClientPolicy::Wait`].
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn send<'a>(&mut self, client: Client, payload: impl Into<Payload<'a>>) -> Result<()> {
        let payload = payload.into();
        self.check_process(SEND)?;
        self.check.message(&payload)?;
        match self.send_one(client, &payload)? {
            SendOutcome::Accepted | SendOutcome::Gone => Ok(()),
            SendOutcome::Full => {
                let detail = format!("the write buffer of client {client} is full");
                Err(Error::new(ErrorKind::Busy, SEND, &**self.server.display_name(), detail)
                    .next("send again later, or disconnect the client"))
            }
            SendOutcome::NoBlocks(reason) => Err(self.no_blocks(client, reason)),
        }
    }

    #[cold]
    fn no_blocks(&self, client: Client, reason: NoBlocks) -> Error {
        let object = format!("client {client} of {}", self.check.display_name);
        match reason {
            NoBlocks::Transport => {
                Error::new(ErrorKind::Unsupported, SEND, object, "its transport does not carry shared memory")
                    .next("send the bytes, or let it connect over shm, packet or unix")
            }
            NoBlocks::NotAllowed => Error::new(ErrorKind::Refused, SEND, object, "it allows no descriptors")
                .next("send the bytes, or let it allow some (fds_max)"),
            NoBlocks::TooManyInFlight => Error::io(SEND, object, Errno::TOOMANYREFS),
        }
    }

    /// Sends one message to every client that has joined. Returns the clients that did not get it: those whose write
    /// buffer is full, with [`SlowClientPolicy::Refuse`], and those that cannot receive the shared memory of the
    /// payload, for the reasons that [`send`](Hub::send) states. Send the bytes to the latter with
    /// [`send_to`](Hub::send_to).
    ///
    /// # Errors
    ///
    /// Those of [`send`](Hub::send) that do not concern a single client. After [`Shutdown`](ErrorKind::Shutdown) some
    /// clients have the message and some do not.
    pub fn broadcast<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<Vec<Client>> {
        self.send_to(self.clients(), payload)
    }

    /// Sends one message to every client that has joined except this one, such as the client that a message came from.
    /// Returns the clients that did not get it, as [`broadcast`](Hub::broadcast) does.
    ///
    /// # Errors
    ///
    /// Those of [`broadcast`](Hub::broadcast).
    pub fn broadcast_except<'a>(&mut self, client: Client, payload: impl Into<Payload<'a>>) -> Result<Vec<Client>> {
        self.send_to(self.clients().filter(|other| *other != client), payload)
    }

    /// Sends one message to these clients, to each as often as it occurs. Returns the clients that did not get it, as
    /// [`broadcast`](Hub::broadcast) does. Clients that have left are passed over, as by [`send`](Hub::send).
    ///
    /// # Errors
    ///
    /// Those of [`broadcast`](Hub::broadcast).
    ///
    /// # Examples
    ///
    /// ```
    /// use parlour::Connection;
    /// use parlour::hub::{Event, Hub};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/game", base.path().display());
    /// let mut hub = Hub::bind(&name)?;
    /// let mut player = Connection::connect(&name)?;
    /// let Event::Joined(client, _) = hub.next_event()? else { panic!("a client joins first") };
    ///
    /// let missed = hub.send_to([client], "your turn")?;
    /// assert!(missed.is_empty());
    /// hub.flush()?;
    /// assert_eq!(player.recv()?.unwrap(), b"your turn");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send_to<'a>(
        &mut self,
        clients: impl IntoIterator<Item = Client>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Vec<Client>> {
        let payload = payload.into();
        self.check_process(SEND)?;
        self.check.message(&payload)?;
        let mut missed = Vec::new();
        for client in clients {
            if let SendOutcome::Full | SendOutcome::NoBlocks(_) = self.send_one(client, &payload)? {
                missed.push(client);
            }
        }
        Ok(missed)
    }

    /// Sends to one client, with the policy for slow clients.
    pub(super) fn send_one(&mut self, client: Client, payload: &Payload<'_>) -> Result<SendOutcome> {
        let mut deadline = None;
        let limits = BufferLimits { write_buffer_max: self.write_buffer_max, blocks_max: self.blocks_max };
        loop {
            let Some(member) = self.members.get_mut(client) else { return Ok(SendOutcome::Gone) };
            let outcome = match member.try_send_or_buffer(payload, limits, &mut self.pool) {
                Ok(outcome) => outcome,
                Err(fault) => {
                    self.end_connection(client, Some(fault));
                    return Ok(SendOutcome::Gone);
                }
            };
            match (outcome, self.slow_client_policy) {
                (SendOutcome::Accepted, _) => {
                    self.mark_dirty(client);
                    return Ok(SendOutcome::Accepted);
                }
                (SendOutcome::NoBlocks(_), _) => return Ok(outcome),
                (SendOutcome::Gone, _) => {
                    // The end of a client that was just found to be gone has to be received.
                    self.after_write(client);
                    return Ok(SendOutcome::Gone);
                }
                (SendOutcome::Full, SlowClientPolicy::Refuse) => return Ok(SendOutcome::Full),
                (SendOutcome::Full, SlowClientPolicy::Wait(timeout)) => {
                    let deadline = *deadline.get_or_insert_with(|| Deadline::after(timeout));
                    if self.wait_for_room(client, deadline)? {
                        continue;
                    }
                }
                (SendOutcome::Full, SlowClientPolicy::Disconnect) => {}
            }
            self.remove_client(client, DisconnectReason::Slow);
            return Ok(SendOutcome::Gone);
        }
    }

    /// Waits until a client can be written to. Returns false at the deadline.
    fn wait_for_room(&mut self, client: Client, deadline: Deadline) -> Result<bool> {
        // The client may wait for something that another client does after it has received its messages.
        self.flush_dirty();
        let Some(fd) = self.members.get(client).and_then(|member| member.outgoing.fd()) else { return Ok(true) };
        let room = PollFd::from_borrowed_fd(fd, PollFlags::OUT);
        let shutdown = PollFd::from_borrowed_fd(self.shutdown.as_fd(), PollFlags::IN);
        let ready = match self.server.admission().standby() {
            Some(standby) => standby.wait(&mut [room, shutdown, standby.entry()], deadline),
            None => wait(&mut [room, shutdown], deadline),
        };
        let ready = ready.map_err(|error| self.io_error(SEND, error))?;
        self.check_shutdown(SEND)?;
        self.mark_writable(client);
        Ok(ready)
    }

    /// Writes buffered messages of all clients without blocking. [`next_event`](Hub::next_event) does so too, so this
    /// call is needed only before work that takes long.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn flush(&mut self) -> Result<()> {
        self.check_process(SEND)?;
        self.flush_dirty();
        Ok(())
    }

    /// Ends sending to a client (half-close), after what was sent before: the client receives `None` after the last
    /// message. Messages of the client are still received. It leaves when it has finished, too. Messages that a
    /// [`HubHandle`](super::HubHandle) has queued, and that the hub has not sent yet, are lost.
    ///
    /// Does nothing if the client has left, as [`send`](Hub::send) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn finish(&mut self, client: Client) -> Result<()> {
        self.check_process(SEND)?;
        if let Some(member) = self.members.get_mut(client) {
            member.finish();
            if member.write_buffer_len() == 0 {
                self.after_write(client);
            }
        }
        Ok(())
    }

    /// Ends the connection of a client. Buffered messages are written as far as that is possible without blocking, and
    /// the rest is lost. [`write_buffer_len`](Hub::write_buffer_len) returns how much is buffered;
    /// [`finish`](Hub::finish) loses nothing. [`Left`](super::Event::Left) follows, and no further message of the
    /// client.
    ///
    /// Does nothing if the client has left, as [`send`](Hub::send) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn disconnect(&mut self, client: Client) -> Result<()> {
        self.check_process(SEND)?;
        self.flush_one(client);
        self.remove_client(client, DisconnectReason::Disconnected);
        Ok(())
    }

    /// Ends the connection of a client with an error: the client receives [`Truncated`](ErrorKind::Truncated) or
    /// [`Disconnected`](ErrorKind::Disconnected), and not `None`, after messages that are in its channel. See
    /// [`Connection::abort`](crate::Connection::abort). Buffered messages are discarded.
    /// [`Left`](super::Event::Left) follows with the reason
    /// [`Disconnected`](super::DisconnectReason::Disconnected), and no further message of the client.
    ///
    /// Does nothing if the client has left, as [`send`](Hub::send) does.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn abort(&mut self, client: Client) -> Result<()> {
        self.check_process(SEND)?;
        if let Some(member) = self.members.get_mut(client) {
            // The descriptor of a FIFO is closed by this.
            self.watch.remove_outgoing(&member.incoming, &member.outgoing);
            member.abort();
        }
        self.remove_client(client, DisconnectReason::Disconnected);
        Ok(())
    }

    /// Notes that a client can be written to.
    pub(super) fn mark_writable(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_full = false;
        if member.write_buffer_len() > 0 {
            self.mark_dirty(client);
        }
    }

    /// Notes that data is to be written to a client.
    fn mark_dirty(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        if !member.is_dirty && !member.is_full {
            member.is_dirty = true;
            self.dirty.push(client.slot);
            self.dirty_since.get_or_insert_with(Instant::now);
        }
    }

    /// Writes to all clients in `dirty`, without blocking.
    pub(super) fn flush_dirty(&mut self) {
        self.dirty_since = None;
        let mut dirty = mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if let Some(client) = self.members.client_in(slot) {
                self.flush_one(client);
            }
        }
        // The loop adds no client to `dirty`. The memory of the list is reused.
        self.dirty = dirty;
    }

    #[inline(always)]
    fn flush_one(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.is_dirty = false;
        match member.flush(&mut self.pool) {
            Ok(has_discarded) => {
                let is_written = member.write_buffer_len() == 0;
                if has_discarded {
                    self.note_missed(client);
                }
                if is_written && !self.watched_buffers.is_empty() {
                    self.note_written(client);
                }
                self.after_write(client);
            }
            Err(fault) => self.end_connection(client, Some(fault)),
        }
    }

    /// Makes the hub return [`Event::Woken`](super::Event::Woken) once all that is buffered for a client is written.
    pub(crate) fn wake_when_written(&mut self, client: Client) {
        if !self.watched_buffers.contains(&client) {
            self.watched_buffers.push(client);
        }
    }

    #[cold]
    fn note_written(&mut self, client: Client) {
        let before = self.watched_buffers.len();
        self.watched_buffers.retain(|&watched| watched != client);
        if self.watched_buffers.len() < before {
            self.events.push_back(Event::Woken);
        }
    }

    /// Continues with what had to wait until buffered data was written.
    fn after_write(&mut self, client: Client) {
        let Some(member) = self.members.get_mut(client) else { return };
        if member.should_end_sending() {
            self.watch.remove_outgoing(&member.incoming, &member.outgoing);
            if member.end_sending() {
                let fault = member.close_fault();
                return self.end_connection(client, fault);
            }
        }
        if member.is_readable {
            self.mark_readable(client);
        }
    }

    /// Writes to all clients with buffered data, without blocking.
    pub(super) fn flush_all(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.write_buffer_len() > 0) {
            if let Err(fault) = member.flush(&mut self.pool) {
                tracing::debug!(peer = %member.peer, ?fault, "sending failed");
                member.discard();
            }
        }
    }
}
