//! Framing of messages over a byte stream, for every transport that is one.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use super::config::MessageMax;
use super::fault::{Fault, LostFds};
use super::pool::Pool;
use super::socket_half::Read;
use crate::admission::Permit;
use crate::limits::MEMORY_FREE;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::sys::retry::Retry;
use crate::wire::decoder::Decoder;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::write_buffer::WriteBuffer;

/// The maximum number of pieces of one `writev`. Further pieces go with the next one. More than a handful gain nothing.
pub(super) const PIECES_MAX: usize = 16;

/// Sends a message, after the contents of the write buffer. See
/// [`Outgoing::try_send`](crate::backend::halves::Outgoing::try_send).
pub(super) fn try_send(
    write_buffer: &mut WriteBuffer,
    parts: &[IoSlice<'_>],
    sent: &mut usize,
    write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> Result<bool, Fault> {
    let length = message_len(parts);
    let header = frame::header(length).ok_or(Fault::TooLong { length })?;
    try_send_frame(write_buffer, header, parts, sent, write)
}

/// Sends a message with this header, like [`try_send`].
pub(super) fn try_send_frame(
    write_buffer: &mut WriteBuffer,
    header: [u8; HEADER_LEN],
    parts: &[IoSlice<'_>],
    sent: &mut usize,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> Result<bool, Fault> {
    let total = HEADER_LEN + message_len(parts);
    let mut retry = Retry::default();
    while *sent < total {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = gather(&mut pieces, write_buffer.pending(), &header, parts, *sent);
        match write(&pieces[..count]) {
            Ok(written) => *sent += write_buffer.advance(written),
            Err(error) if retry.is_due_after(&error) => {}
            Err(error) => return would_block(error).map(|()| false),
        }
    }
    Ok(true)
}

/// Buffers the rest of a message. See [`Outgoing::keep_rest`](crate::backend::halves::Outgoing::keep_rest).
pub(super) fn keep_rest(write_buffer: &mut WriteBuffer, parts: &[IoSlice<'_>], sent: usize) {
    let Some(header) = frame::header(message_len(parts)) else { return };
    write_buffer.push_behind(sent, std::iter::once(&header[..]).chain(parts.iter().map(|part| &part[..])));
}

/// Writes what is buffered. `Ok(false)`: the kernel did not take all of it.
pub(super) fn try_flush(
    write_buffer: &mut WriteBuffer,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> Result<bool, Fault> {
    let mut retry = Retry::default();
    while !write_buffer.is_empty() {
        match write(&[IoSlice::new(write_buffer.pending())]) {
            Ok(written) => {
                write_buffer.advance(written);
            }
            Err(error) if retry.is_due_after(&error) => {}
            Err(error) => return would_block(error).map(|()| false),
        }
    }
    Ok(true)
}

/// Lists the pieces that remain to be written: the write buffer, then the frame without its first `sent` bytes. Returns
/// their number.
fn gather<'a>(
    pieces: &mut [IoSlice<'a>; PIECES_MAX],
    write_buffer: &'a [u8],
    header: &'a [u8; HEADER_LEN],
    parts: &'a [IoSlice<'_>],
    sent: usize,
) -> usize {
    let mut count = 0;
    let mut skip = sent;
    let frame = std::iter::once(&header[..]).chain(parts.iter().map(|part| &part[..])).map(|piece| {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        &piece[skipped..]
    });
    let all = std::iter::once(write_buffer).chain(frame).filter(|piece| !piece.is_empty());
    for (place, piece) in pieces.iter_mut().zip(all) {
        *place = IoSlice::new(piece);
        count += 1;
    }
    count
}

/// Converts the error of a write: `Ok` if it would block, otherwise the fault. The callers retry an interrupted write
/// immediately, because a poll for space may not report any.
pub(super) fn would_block(error: io::Error) -> Result<(), Fault> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(()),
        _ => Err(Fault::from_write(error)),
    }
}

/// The receiving half of a byte stream.
#[derive(Debug)]
pub(super) struct FrameReceiver {
    /// Allocated by the first receive, or acquired from a [`Pool`].
    intake: Option<Box<Intake>>,
    // The two fields of a `MessageMax`. Stored separately, they leave no padding before the next fields.
    bytes_max: u32,
    fds_max: u8,
    /// True if headers may have a mark.
    has_marks: bool,
    /// True if the last attempt to receive read fewer bytes than it had space for, so that no bytes were left.
    is_drained: bool,
    /// The way in which the stream ended, once it has.
    ended: Option<End>,
}

/// The state that turns bytes into messages.
#[derive(Debug)]
pub(super) struct Intake {
    decoder: Decoder,
    /// The number of messages that were returned.
    given: u64,
    /// The descriptors of messages that were not returned yet, in the order of the messages.
    attached: Vec<Attached>,
}

/// Descriptors that arrived before the whole of their message.
#[derive(Debug)]
struct Attached {
    /// The number of the message, from 0.
    message: u64,
    fds: Result<Vec<OwnedFd>, LostFds>,
}

impl Intake {
    /// Notes the descriptors of one read. They belong to the last message of which the read returned a byte, because
    /// the kernel ends a read after bytes with descriptors, and the sender attaches descriptors to the first byte of a
    /// message.
    fn attach(&mut self, fds: Result<Vec<OwnedFd>, LostFds>, fds_max: usize) {
        if matches!(&fds, Ok(fds) if fds.is_empty()) {
            return;
        }
        let message = self.given + (self.decoder.begun() as u64).saturating_sub(1);
        let is_same = self.attached.last().is_some_and(|attached| attached.message == message);
        let earlier = is_same.then(|| self.attached.pop()).flatten().map_or(Ok(Vec::new()), |attached| attached.fds);
        let fds = earlier.and_then(|mut all| {
            all.extend(fds?);
            if all.len() > fds_max { Err(LostFds::too_many(all.len(), fds_max)) } else { Ok(all) }
        });
        self.attached.push(Attached { message, fds });
    }

    /// Returns the descriptors of the next message.
    fn next_attached(&self) -> Option<&Attached> {
        self.attached.first().filter(|attached| attached.message == self.given)
    }

    /// Moves the next message into `out` and returns true, if all of it has arrived.
    fn next(&mut self, out: &mut Message) -> Result<bool, Fault> {
        if let Some(&Attached { fds: Err(lost), .. }) = self.next_attached() {
            // The other entries belong to messages that are not returned any more.
            self.attached.truncate(1);
            return Err(Fault::Fds(lost));
        }
        match self.decoder.next(&mut out.bytes) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(too_long) => {
                self.attached.clear();
                return Err(Fault::TooLong { length: too_long.length });
            }
        }
        out.fds.clear();
        if self.next_attached().is_some() {
            out.fds = self.attached.remove(0).fds.unwrap_or_default();
        }
        self.given += 1;
        Ok(true)
    }

    fn has_next(&self) -> bool {
        self.decoder.has_next() || self.next_attached().is_some_and(|attached| attached.fds.is_err())
    }

    fn is_at_boundary(&self) -> bool {
        self.decoder.is_at_boundary() && self.attached.is_empty()
    }
}

/// The way in which the peer ended its direction.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// End of file: the peer ended this direction.
    Orderly,
    /// The peer closed without reading all that this side sent (`ECONNRESET`; a FIFO does not report this).
    Reset,
}

impl FrameReceiver {
    pub(super) fn new(max: MessageMax) -> Self {
        let MessageMax { bytes: bytes_max, fds: fds_max } = max;
        Self { intake: None, bytes_max, fds_max, has_marks: false, is_drained: false, ended: None }
    }

    /// Creates a receiver for a stream whose headers may have a mark.
    pub(super) fn with_marks(max: MessageMax) -> Self {
        Self { has_marks: true, ..Self::new(max) }
    }

    /// Creates an intake for this stream, if possible from the memory of a `spare` one.
    #[inline(always)]
    fn new_intake(&self, spare: Option<Box<Intake>>) -> Box<Intake> {
        let fresh = |decoder: Decoder| {
            let decoder = if self.has_marks { decoder.with_marks() } else { decoder };
            Intake { decoder, given: 0, attached: Vec::new() }
        };
        match spare {
            None => Box::new(fresh(Decoder::new(self.max().bytes()))),
            Some(mut spare) => {
                let decoder = std::mem::replace(&mut spare.decoder, Decoder::new(0));
                *spare = fresh(decoder.renewed(self.max().bytes()));
                spare
            }
        }
    }

    /// Moves the next message into `out` and returns true, if it is buffered and no descriptors are.
    #[inline]
    pub(super) fn pop_buffered(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(intake) = &mut self.intake else { return false };
        let is_here = intake.attached.is_empty() && intake.decoder.next_short(out);
        intake.given += u64::from(is_here);
        is_here
    }

    /// Returns the next message where it is, if it is buffered and no descriptors are.
    #[inline]
    pub(super) fn next_in_place(&mut self) -> Option<&[u8]> {
        let intake = self.intake.as_mut().filter(|intake| intake.attached.is_empty())?;
        let message = intake.decoder.next_in_place()?;
        intake.given += 1;
        Some(message)
    }

    /// Returns true if [`next_in_place`](Self::next_in_place) returns a message.
    pub(super) fn has_in_place(&self) -> bool {
        let is_here = |intake: &Intake| intake.attached.is_empty() && intake.decoder.len_in_place().is_some();
        self.intake.as_ref().is_some_and(|intake| is_here(intake))
    }

    /// Receives a message. See [`Incoming::try_recv`](crate::backend::halves::Incoming::try_recv).
    pub(super) fn try_recv(
        &mut self,
        out: &mut Message,
        permit: Option<&Permit>,
        mut read: impl FnMut(&mut [IoSliceMut<'_>]) -> io::Result<Read>,
    ) -> Result<Received, Fault> {
        if self.intake.is_none() {
            self.intake = Some(self.new_intake(None));
        }
        // The result of an earlier read is outdated: bytes may have arrived and been reported since.
        self.is_drained = false;
        let fds_max = self.max().fds();
        let Some(intake) = &mut self.intake else { return Ok(Received::Empty) };
        let mut retry = Retry::default();
        loop {
            if intake.next(out)? {
                if let Some(permit) = permit.filter(|_| out.bytes.len() > MEMORY_FREE) {
                    permit.note_incomplete(0).map_err(Fault::NoMemory)?;
                }
                return Ok(Received::Message);
            }
            if let Some(permit) = permit {
                permit.note_incomplete(intake.decoder.long_memory()).map_err(Fault::NoMemory)?;
            }
            if let Some(end) = self.ended {
                return match (intake.is_at_boundary(), end) {
                    (false, _) => {
                        intake.attached.clear();
                        Err(Fault::Truncated)
                    }
                    (true, End::Orderly) => Ok(Received::Closed),
                    (true, End::Reset) => Err(Fault::Reset),
                };
            }
            let mut spaces = intake.decoder.spaces().map(IoSliceMut::new);
            let room: usize = spaces.iter().map(|space| space.len()).sum();
            match read(&mut spaces) {
                Ok(Read { bytes: 0, .. }) => self.ended = Some(End::Orderly),
                Ok(Read { bytes, is_cut, fds }) => {
                    self.is_drained = bytes < room && !is_cut;
                    intake.decoder.filled(bytes);
                    intake.attach(fds, fds_max);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        intake.decoder.give_memory_back(&mut out.bytes);
                        return Ok(Received::Empty);
                    }
                    io::ErrorKind::ConnectionReset => self.ended = Some(End::Reset),
                    _ if retry.is_due_after(&error) => {}
                    _ => return Err(Fault::Io(error)),
                },
            }
        }
    }

    /// Returns true if the last attempt to receive read all bytes that had arrived, and no message is left in them.
    /// Then no more can be received until the descriptor is readable. A read also ends after descriptors, so this
    /// returns false if descriptors are allowed.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_drained && self.fds_max == 0 && !self.has_message()
    }

    /// Returns true if all bytes that were read belong to messages that were returned, and the stream has not ended.
    pub(super) fn is_pristine(&self) -> bool {
        self.ended.is_none() && self.is_at_boundary()
    }

    /// Returns true if all bytes that were read belong to messages that were returned.
    pub(super) fn is_at_boundary(&self) -> bool {
        self.intake.as_ref().is_none_or(|intake| intake.is_at_boundary())
    }

    pub(super) fn has_message(&self) -> bool {
        self.ended.is_some() || self.intake.as_ref().is_some_and(|intake| intake.has_next())
    }

    /// Returns the number of bytes that have arrived and that were not returned as messages.
    pub(super) fn partial_len(&self) -> usize {
        self.intake.as_ref().map_or(0, |intake| intake.decoder.partial_len())
    }

    /// Returns true if the last message had a mark.
    pub(super) fn was_marked(&self) -> bool {
        self.intake.as_ref().is_some_and(|intake| intake.decoder.was_marked())
    }

    /// Returns the number of bytes that are missing for a whole message. See [`Decoder::missing`].
    pub(super) fn missing(&self, coming: &[u8]) -> usize {
        match &self.intake {
            Some(intake) => intake.decoder.missing(coming),
            None => self.new_intake(None).decoder.missing(coming),
        }
    }

    /// Acquires an intake, if the pool has one idle.
    pub(super) fn acquire<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        if self.intake.is_none() {
            self.intake = pool.acquire().map(|idle| self.new_intake(Some(idle)));
        }
    }

    /// Releases the intake if no bytes wait in it.
    pub(super) fn release<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        if let Some(intake) = self.intake.take_if(|intake| intake.is_at_boundary()) {
            pool.release(intake);
        }
    }

    pub(super) fn max(&self) -> MessageMax {
        MessageMax { bytes: self.bytes_max, fds: self.fds_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a message through a pipe that takes at most `step` bytes before each write that would block. Returns the
    /// bytes on the wire.
    fn send_all(write_buffer: &mut WriteBuffer, parts: &[IoSlice<'_>], step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut sent = 0;
        let mut turns = 0;
        loop {
            let mut room = step;
            let done = try_send(write_buffer, parts, &mut sent, |pieces| {
                let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).take(room).collect();
                if bytes.is_empty() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                room -= bytes.len();
                wire.extend_from_slice(&bytes);
                Ok(bytes.len())
            })
            .unwrap();
            turns += 1;
            assert!(turns < 1000);
            if done {
                return wire;
            }
        }
    }

    #[test]
    fn an_interrupted_write_is_retried_immediately() {
        let mut write_buffer = WriteBuffer::default();
        let mut wire = Vec::new();
        let mut is_interrupted = false;
        let mut write = |pieces: &[IoSlice<'_>]| {
            is_interrupted = !is_interrupted;
            if is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            // A partial write, so that there is more than one.
            wire.extend_from_slice(&pieces[0][..1]);
            Ok(1)
        };
        assert!(try_send(&mut write_buffer, &[IoSlice::new(b"one")], &mut 0, &mut write).unwrap());
        write_buffer.push([&b"two"[..]]).unwrap();
        assert!(try_flush(&mut write_buffer, &mut write).unwrap());
        let frame = |message: &[u8]| [&frame::header(message.len()).unwrap()[..], message].concat();
        assert_eq!(wire, [frame(b"one"), frame(b"two")].concat());
    }

    #[test]
    fn a_message_in_parts_is_one_frame_for_any_size_of_partial_writes() {
        let parts: Vec<Vec<u8>> = (0..40u8).map(|part| vec![part; part as usize % 5]).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let body = parts.concat();
        let expected = [&frame::header(body.len()).unwrap()[..], &body].concat();
        for step in 1..expected.len() + 1 {
            assert_eq!(send_all(&mut WriteBuffer::default(), &slices, step), expected, "{step} at a time");
        }
    }

    #[test]
    fn buffered_messages_go_first_and_a_kept_rest_completes_its_frame() {
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push([&b"fed"[..]]).unwrap();
        let parts = [IoSlice::new(b"begun"), IoSlice::new(b" and kept")];
        let mut wire = Vec::new();
        let mut sent = 0;
        let mut room = 7 + 6;
        let done = try_send(&mut write_buffer, &parts, &mut sent, |pieces| {
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).take(room).collect();
            room -= bytes.len();
            wire.extend_from_slice(&bytes);
            if bytes.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes.len()) }
        });
        assert!(matches!(done, Ok(false)));
        assert_eq!(sent, 6, "header and two bytes of the second message");
        keep_rest(&mut write_buffer, &parts, sent);
        wire.extend(send_all(&mut write_buffer, &[IoSlice::new(b"next")], 1000));
        assert_eq!(wire, b"\0\0\0\x03fed\0\0\0\x0ebegun and kept\0\0\0\x04next");
    }
}
