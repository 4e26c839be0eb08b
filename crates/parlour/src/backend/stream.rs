//! Messages over a byte stream, for every transport that is one: framing between the caller and the system calls.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

use super::config::MessageMax;
use super::fault::{Fault, LostFds};
use super::pool::Pool;
use super::socket_half::Read;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::wire::decoder::Decoder;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::write_buffer::WriteBuffer;

/// How many pieces one `writev` takes; what is beyond goes with the next. Above a handful the gain is gone.
pub(super) const PIECES_MAX: usize = 16;

/// See [`Outgoing::try_send`](crate::backend::halves::Outgoing::try_send). What is in the outbox goes first.
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

/// [`try_send`] of a message with this header.
pub(super) fn try_send_frame(
    write_buffer: &mut WriteBuffer,
    header: [u8; HEADER_LEN],
    parts: &[IoSlice<'_>],
    sent: &mut usize,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> Result<bool, Fault> {
    let total = HEADER_LEN + message_len(parts);
    while *sent < total {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let count = gather(&mut pieces, write_buffer.pending(), &header, parts, *sent);
        match write(&pieces[..count]) {
            Ok(written) => *sent += write_buffer.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return would_block(error).map(|()| false),
        }
    }
    Ok(true)
}

/// See [`Outgoing::keep_rest`](crate::backend::halves::Outgoing::keep_rest).
pub(super) fn keep_rest(write_buffer: &mut WriteBuffer, parts: &[IoSlice<'_>], sent: usize) {
    let Some(header) = frame::header(message_len(parts)) else { return };
    write_buffer.push_behind(sent, std::iter::once(&header[..]).chain(parts.iter().map(|part| &part[..])));
}

/// Writes what was fed; `Ok(false)` when the kernel does not take all of it now.
pub(super) fn try_flush(
    write_buffer: &mut WriteBuffer,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> Result<bool, Fault> {
    while !write_buffer.is_empty() {
        match write(&[IoSlice::new(write_buffer.pending())]) {
            Ok(written) => {
                write_buffer.advance(written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return would_block(error).map(|()| false),
        }
    }
    Ok(true)
}

/// Lists what is still to be written: the outbox, then the frame without the `sent` bytes that are written already.
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

/// A write that did not happen: not now, or never again. (One that was interrupted is made again at once: nothing may
/// announce any room.)
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
    // The parts of a `MessageMax`, which leave room for what follows.
    bytes_max: u32,
    fds_max: u8,
    /// Headers may have a mark.
    has_marks: bool,
    /// The last try to receive has read, and found less than there was room for: then nothing was left.
    is_drained: bool,
    /// How the stream has ended, once it has.
    ended: Option<End>,
}

/// Where bytes become messages.
#[derive(Debug)]
pub(super) struct Intake {
    decoder: Decoder,
    /// How many messages it has given.
    given: u64,
    /// What belongs to messages that it has not given yet, in their order.
    attached: Vec<Attached>,
}

/// Descriptors that have come before the whole of their message.
#[derive(Debug)]
struct Attached {
    /// The message's number.
    message: u64,
    fds: Result<Vec<OwnedFd>, LostFds>,
}

impl Intake {
    /// Notes the descriptors that one read has brought: they belong to the last message of which it has brought anything.
    /// The kernel does not read on behind bytes that came with descriptors, and a sender begins a message with them.
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

    /// What belongs to the next message.
    fn next_attached(&self) -> Option<&Attached> {
        self.attached.first().filter(|attached| attached.message == self.given)
    }

    /// Moves the next message into `out`, if all of it has come.
    fn next(&mut self, out: &mut Message) -> Result<bool, Fault> {
        if let Some(&Attached { fds: Err(lost), .. }) = self.next_attached() {
            // Of messages that are not given any more.
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

/// How the other side ended what it sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The other side has ended this direction.
    Orderly,
    /// It has closed without reading everything that we sent (`ECONNRESET`; a FIFO cannot tell this).
    Reset,
}

impl FrameReceiver {
    pub(super) fn new(max: MessageMax) -> Self {
        let MessageMax { bytes: bytes_max, fds: fds_max } = max;
        Self { intake: None, bytes_max, fds_max, has_marks: false, is_drained: false, ended: None }
    }

    /// For a stream whose headers may have a mark.
    pub(super) fn with_marks(max: MessageMax) -> Self {
        Self { has_marks: true, ..Self::new(max) }
    }

    /// An intake for this stream, of the memory of one that is not needed any more.
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

    /// Moves the next message into `out`, if it is here and nothing came along with it.
    #[inline]
    pub(super) fn pop_buffered(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(intake) = &mut self.intake else { return false };
        let is_here = intake.attached.is_empty() && intake.decoder.next_short(out);
        intake.given += u64::from(is_here);
        is_here
    }

    /// See [`Incoming::try_recv`](crate::backend::halves::Incoming::try_recv).
    pub(super) fn try_recv(
        &mut self,
        out: &mut Message,
        mut read: impl FnMut(&mut [IoSliceMut<'_>]) -> io::Result<Read>,
    ) -> Result<Received, Fault> {
        if self.intake.is_none() {
            self.intake = Some(self.new_intake(None));
        }
        // What an earlier read found says nothing: something may have come since, and have been announced.
        self.is_drained = false;
        let fds_max = self.max().fds();
        let Some(intake) = &mut self.intake else { return Ok(Received::Empty) };
        loop {
            if intake.next(out)? {
                return Ok(Received::Message);
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
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => self.ended = Some(End::Reset),
                    _ => return Err(Fault::Io(error)),
                },
            }
        }
    }

    /// Whether the last try to receive has found everything that had come, and it is taken: until the descriptor announces
    /// something, there is nothing more. (A read also stops behind descriptors, so where some may come this is not known.)
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_drained && self.fds_max == 0 && !self.has_message()
    }

    /// Whether nothing was taken from the stream that was not given on.
    pub(super) fn is_pristine(&self) -> bool {
        self.ended.is_none() && self.intake.as_ref().is_none_or(|intake| intake.is_at_boundary())
    }

    pub(super) fn has_message(&self) -> bool {
        self.ended.is_some() || self.intake.as_ref().is_some_and(|intake| intake.has_next())
    }

    /// Whether the message that came last had a mark.
    pub(super) fn was_marked(&self) -> bool {
        self.intake.as_ref().is_some_and(|intake| intake.decoder.was_marked())
    }

    /// How many more bytes a message takes. See [`Decoder::missing`].
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

    /// A pipe that takes `room` bytes in pieces of at most `step`.
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
    fn a_write_that_is_interrupted_is_made_again_at_once() {
        let mut write_buffer = WriteBuffer::default();
        let mut wire = Vec::new();
        let mut is_interrupted = false;
        let mut write = |pieces: &[IoSlice<'_>]| {
            is_interrupted = !is_interrupted;
            if is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            // (A part of it, so that there is more than one write.)
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
    fn a_message_in_parts_is_one_frame_whatever_the_kernel_takes_at_once() {
        let parts: Vec<Vec<u8>> = (0..40u8).map(|part| vec![part; part as usize % 5]).collect();
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let body = parts.concat();
        let expected = [&frame::header(body.len()).unwrap()[..], &body].concat();
        for step in 1..expected.len() + 1 {
            assert_eq!(send_all(&mut WriteBuffer::default(), &slices, step), expected, "{step} at a time");
        }
    }

    #[test]
    fn what_was_fed_goes_first_and_a_kept_rest_completes_its_frame() {
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
