//! Sending a frame to a reader: in its block, or by value.

use std::io::IoSlice;
use std::time::Duration;

use super::frame::Frame;
use super::options::AtShare;
use super::pool::{FramePool, ReaderId};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::payload::Payload;
use crate::shm::blocks::Hold;
use crate::wait::Deadline;
use crate::wire::frames::{Lent, encode_by_value};

impl FramePool {
    /// Sends a frame to a reader, with a `note` of the program: bytes that arrive with the frame. `send` sends the
    /// message over the connection with the reader, in any way: with a [`Connection`](crate::Connection), a
    /// [`Hub`](crate::Hub) or a [`HubHandle`](crate::hub::HubHandle).
    ///
    /// The bytes of the frame are not copied, and the reader holds the block until it drops the frame. If the reader
    /// holds its [share](super::FramePoolOptions::share), [`AtShare`] decides. The frame is sent by value if the
    /// pool exceeds the limits of the reader, or as many [readers](super::FramePoolOptions::readers) as the options say
    /// hold blocks.
    ///
    /// The closure must return an error only if nothing of the message was sent or queued, as every function of this
    /// library does. After an error the block is free to be filled again, so a reader that gets the message all the
    /// same sees it change. A closure that does more than to send, such as writing to a log, returns `Ok` once it has
    /// sent, and tells the caller in another way.
    ///
    /// # Errors
    ///
    /// The errors of `send`: the frame counts as not sent then. And:
    ///
    /// - [`ErrorKind::Busy`]: the reader holds its share, with [`AtShare::Refuse`]; or the frame would have to be sent
    ///   by value and is longer than [`by_value_max`](super::FramePoolOptions::by_value_max).
    /// - [`ErrorKind::Disconnected`]: the reader has ended or was removed.
    /// - [`ErrorKind::MessageTooLong`]: the note has 4 GiB or more.
    /// - [`ErrorKind::Unsupported`]: the frame belongs to another pool, or this is a forked child.
    pub fn send(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        note: &[u8],
        send: impl FnOnce(Payload<'_>) -> Result<()>,
    ) -> Result<()> {
        self.send_until(reader, frame, note, Deadline::NEVER, send)
    }

    /// Sends a frame as [`send`](Self::send) does. With [`AtShare::Wait`] it gives up after `timeout`. The time that
    /// `send` takes is up to the caller.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send), and [`ErrorKind::TimedOut`].
    pub fn send_timeout(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        note: &[u8],
        timeout: Duration,
        send: impl FnOnce(Payload<'_>) -> Result<()>,
    ) -> Result<()> {
        self.send_until(reader, frame, note, Deadline::after(timeout), send)
    }

    fn send_until(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        note: &[u8],
        deadline: Deadline,
        send: impl FnOnce(Payload<'_>) -> Result<()>,
    ) -> Result<()> {
        self.check_process(Operation::Send)?;
        let hold = frame.hold();
        if !self.blocks.has(hold) {
            let error = self.send_error(ErrorKind::Unsupported, "the frame belongs to another pool");
            return Err(error.next("send it with the pool that lent it, or copy it into a frame of this one"));
        }
        match self.place(reader, hold, deadline)? {
            Place::Lent => {
                let lent = Lent {
                    pool: self.number,
                    block: hold.block() as u32,
                    generation: hold.generation(),
                    length: hold.length() as u64,
                };
                let sent = self.blocks.send(reader.slot, hold);
                if let Some(lease) = self.lease_of(reader) {
                    lease.expect_ring();
                }
                let outcome = send(Payload::vectored(&[IoSlice::new(&lent.encode()), IoSlice::new(note)]));
                if outcome.is_err() {
                    self.blocks.undo(sent);
                    if let Some(lease) = self.lease_of(reader) {
                        lease.expect_no_ring();
                    }
                }
                outcome
            }
            Place::ByValue => {
                if frame.len() > self.options.by_value_max {
                    let detail = "the reader can hold no further block, and the frame is too long to be copied";
                    return Err(self
                        .send_error(ErrorKind::Busy, detail)
                        .next("send again later, or raise readers, share or by_value_max"));
                }
                let Ok(note_len) = u32::try_from(note.len()) else {
                    let error = self.send_error(ErrorKind::MessageTooLong, "the note has 4 GiB or more");
                    return Err(error.next("put what is long into the frame"));
                };
                let front = encode_by_value(note_len);
                send(Payload::vectored(&[IoSlice::new(&front), IoSlice::new(note), IoSlice::new(frame)]))
            }
        }
    }

    /// Returns true if sending this frame does not have to wait until the reader returns a block. Does not wait. After
    /// false, the [descriptor](std::os::fd::AsFd::as_fd) is readable when the reader may have returned one. For loops
    /// of events, with [`AtShare::Wait`]; otherwise it is always true.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`]: the reader has ended or was removed.
    /// - [`ErrorKind::Unsupported`]: this is a forked child.
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn has_place(&mut self, reader: ReaderId, frame: &Frame) -> Result<bool> {
        self.check_process(Operation::Send)?;
        let hold = frame.hold();
        if self.options.at_share != AtShare::Wait || !self.blocks.has(hold) || !self.can_borrow(reader)? {
            return Ok(true);
        }
        let found = self.attempt(Operation::Send, Some(reader), |pool| match pool.lease_of(reader) {
            Some(_) => pool.blocks.may_send(reader.slot, hold).then_some(()),
            // The send reports the end.
            None => Some(()),
        })?;
        Ok(found.is_some())
    }

    /// Decides how a frame is sent to a reader.
    fn place(&mut self, reader: ReaderId, hold: &Hold, deadline: Deadline) -> Result<Place> {
        if !self.can_borrow(reader)? {
            return Ok(Place::ByValue);
        }
        if self.blocks.may_send(reader.slot, hold) {
            return Ok(Place::Lent);
        }
        match self.options.at_share {
            AtShare::ByValue => Ok(Place::ByValue),
            AtShare::Refuse => Err(self
                .send_error(ErrorKind::Busy, "the reader holds its share of blocks")
                .next("send again later, or skip this frame")),
            AtShare::Wait => {
                let found = self.wait_until(Operation::Send, deadline, |pool| match pool.lease_of(reader) {
                    Some(_) => pool.blocks.may_send(reader.slot, hold).then_some(true),
                    None => Some(false),
                })?;
                match found {
                    Some(true) => Ok(Place::Lent),
                    Some(false) => Err(self.has_ended()),
                    None => Err(self
                        .send_error(ErrorKind::TimedOut, "the reader held its share of blocks until the deadline")
                        .next("send again later, or end its connection")),
                }
            }
        }
    }

    /// Returns true if the reader has one of the shares, after giving it one if there is one left.
    fn can_borrow(&mut self, reader: ReaderId) -> Result<bool> {
        let Some(lease) = self.lease_of(reader).filter(|lease| !lease.is_removed) else {
            return Err(self.has_ended());
        };
        if lease.has_share || !lease.has_pool {
            return Ok(lease.has_share);
        }
        let uid = lease.uid;
        let mut users = Vec::new();
        for slot in 0..self.leases.len() {
            let Some(other) = self.leases[slot].as_ref().filter(|lease| lease.has_share) else { continue };
            // One that was removed gets no further blocks.
            if !other.is_removed || self.blocks.held(slot) > 0 {
                users.push(other.uid);
            }
        }
        let of_user = users.iter().filter(|&&other| other == uid).count();
        let has_share = users.len() < self.options.readers && of_user < self.options.shares_of_user_max(uid);
        if let Some(lease) = self.lease_of(reader) {
            lease.has_share = has_share;
        }
        Ok(has_share)
    }

    fn has_ended(&self) -> Error {
        self.send_error(ErrorKind::Disconnected, "the reader has ended or was removed").next("end its connection")
    }

    fn send_error(&self, kind: ErrorKind, detail: &'static str) -> Error {
        Error::new(kind, Operation::Send, format!("a reader of {}", self.object()), detail)
    }
}

/// The way in which a frame is sent.
enum Place {
    Lent,
    ByValue,
}
