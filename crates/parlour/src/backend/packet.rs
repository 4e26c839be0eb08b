//! `packet`: a `SOCK_SEQPACKET` socket, where the kernel keeps message boundaries.
//!
//! A message is sent as one datagram if it fits, otherwise in several. Several small messages that were buffered are
//! sent in one datagram. The last byte of each datagram, the marker, tells which of these it is. It also distinguishes
//! an empty message from end of file: without it, both are a read of 0 bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};

use super::attempt::Established;
use super::config::MessageMax;
use super::fault::{Fault, LostFds};
use super::notice::{self, Beginning, Ending, Origin};
use super::pool::Pool;
use super::socket::Kind;
use super::socket_half::{Half, Read};
use super::stream::{End, PIECES_MAX, would_block};
use crate::admission::Permit;
use crate::limits::MEMORY_FREE;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::peer::Peer;
use crate::sys::retry::{Retry, is_shortage};
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::hello::Reason;
use crate::wire::pack::{BadPack, PACK_MAX, Pack};
use crate::wire::pieces::{Assembler, BadPiece, Marker, PIECE_MAX, Split, Took};
use crate::wire::write_buffer::WriteBuffer;

/// The kind of socket of this transport.
pub(super) const KIND: Kind = Kind { transport: Transport::Packet, socket_type: SocketType::SEQPACKET };

/// The size of the send buffer that is requested from the kernel: space for the largest datagram and the next one. The
/// kernel doubles the number, for its own overhead, and limits it (`net.core.wmem_max`).
const SEND_BUFFER: usize = 2 * 1024 * 1024;

/// The length of the largest datagram of a message on a kernel that reports no send buffer.
const PIECE_MIN: usize = 4096;

/// The length of the marker, in bytes.
const MARKER_LEN: usize = 1;

/// The length of the buffer for the first datagrams.
const FIRST_LEN: usize = 4096;
/// The length of the buffer for the largest datagram.
const BUFFER_LEN: usize = PIECE_MAX + MARKER_LEN;

/// The number of datagrams of a connection whose length is queried before they are received. Most connections receive
/// more. Then the whole buffer costs less than a query for each datagram.
const LOOKED_AT_MAX: u8 = 16;

/// Creates both directions of a connected socket.
pub(super) fn establish(
    socket: OwnedFd,
    peer: Peer,
    origin: Origin,
    max: MessageMax,
) -> Established<Outgoing, Incoming> {
    let (beginning, permit) = origin.take_apart();
    let piece_max = prepare_send_buffer(&socket);
    let (receiving, sending) = Half::both_with(socket, max.fds() > 0, beginning);
    let incoming = Incoming { half: receiving, max, intake: None, reset: false, end: None };
    let outgoing = Outgoing { half: sending, piece_max, halvings: 0 };
    Established { outgoing, incoming, peer, permit }
}

/// Enlarges the send buffer, and returns the maximum number of bytes of a message in one datagram.
///
/// The kernel may grant less than requested. A part of what it grants is a reserve, which takes the last datagram of a
/// direction that is aborted while the buffer is full.
fn prepare_send_buffer(socket: &OwnedFd) -> u32 {
    if let Err(errno) = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER) {
        tracing::debug!(%errno, "send buffer was not enlarged");
    }
    let Ok(granted) = sockopt::socket_send_buffer_size(socket) else { return PIECE_MIN as u32 };
    let (size, piece_max) = divide(granted);
    if let Err(errno) = sockopt::set_socket_send_buffer_size(socket, size) {
        tracing::debug!(%errno, "send buffer was not limited");
    }
    piece_max
}

/// Divides the send buffer that the kernel grants. Returns the size to request, and the maximum number of bytes in one
/// datagram.
///
/// The kernel accepts a datagram as long as the buffer is not full, whatever its length, and allocates the next power
/// of two for a part of it. With half of the buffer in use, a datagram of a power of two up to a third of the whole
/// leaves a part of the other half.
fn divide(granted: usize) -> (usize, u32) {
    // The kernel doubles the size that is requested.
    (granted / 4, (1 << (granted / 3).max(1).ilog2()).clamp(PIECE_MIN, PIECE_MAX) as u32)
}

/// The outgoing direction of a `packet` connection.
pub(crate) struct Outgoing {
    half: Half<Beginning>,
    /// The maximum number of bytes of a message that this socket takes as one datagram.
    piece_max: u32,
    /// The number of times that the next piece is halved, because the kernel had no memory for a longer one.
    halvings: u8,
}

impl Outgoing {
    /// Sends a message. `sent` counts the bytes of the message that were sent, and one more at its end, so that an
    /// empty message that was sent differs from one that was not.
    pub(super) fn try_send(
        &mut self,
        write_buffer: &mut WriteBuffer,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        let length = message_len(parts);
        if length > frame::MESSAGE_MAX {
            return Err(Fault::TooLong { length });
        }
        if *sent == 0 && !self.try_flush(write_buffer)? {
            return Ok(false);
        }
        let mut retry = Retry::default();
        while *sent <= length {
            // The descriptors are sent with the first piece.
            let fds = if *sent == 0 { fds } else { &[] };
            match send_piece(&self.half, parts, fds, *sent, length, self.piece_len()) {
                Ok(gone) => *sent = gone,
                Err(error) if self.is_retried(&error, &mut retry) => {}
                Err(error) => return not_sent(error).map(|()| false),
            }
        }
        self.lengthen_pieces();
        Ok(true)
    }

    /// Returns the maximum number of bytes of the next piece.
    #[inline]
    fn piece_len(&self) -> usize {
        (self.piece_max >> self.halvings) as usize
    }

    /// Returns true if a piece that was not sent is to be sent again at once. The kernel stores most of a long datagram
    /// in one block of memory, for which there may be no space in fragmented memory, so the pieces become shorter.
    #[cold]
    fn is_retried(&mut self, error: &io::Error, retry: &mut Retry) -> bool {
        if self.piece_len() > PIECE_MIN && Errno::from_io_error(error).is_some_and(is_shortage) {
            self.halvings += 1;
            return true;
        }
        retry.is_due_after(error)
    }

    /// Tries longer pieces again, after a message was sent in short ones.
    #[inline]
    fn lengthen_pieces(&mut self) {
        self.halvings = self.halvings.saturating_sub(1);
    }

    /// See [`Outgoing::try_write`](crate::backend::halves::Outgoing::try_write).
    #[cfg(feature = "testing")]
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.half.write(&[IoSlice::new(bytes)])
    }

    pub(super) fn try_flush(&mut self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        let mut retry = Retry::default();
        while let Some((header, rest)) = write_buffer.pending().split_first_chunk::<HEADER_LEN>() {
            if let Some(pack) = write_buffer.several(self.piece_len().min(PACK_MAX)) {
                match self.half.write(&[IoSlice::new(pack), IoSlice::new(Marker::Pack.bytes())]) {
                    Ok(_) => {
                        let length = pack.len();
                        write_buffer.advance(length);
                        self.lengthen_pieces();
                    }
                    Err(error) if self.is_retried(&error, &mut retry) => {}
                    Err(error) => return not_sent(error).map(|()| false),
                }
                continue;
            }
            let length = frame::length(*header);
            let message = [IoSlice::new(&rest[..length.min(rest.len())])];
            match send_piece(&self.half, &message, &[], 0, length, self.piece_len()) {
                Ok(gone) if gone > length => {
                    write_buffer.advance(HEADER_LEN + length);
                }
                // After a piece was sent, the buffer holds the shorter rest of the message.
                Ok(gone) => write_buffer.shorten_first(gone),
                Err(error) if self.is_retried(&error, &mut retry) => {}
                Err(error) => return not_sent(error).map(|()| false),
            }
        }
        Ok(true)
    }

    /// See [`Outgoing::refusal`](crate::backend::halves::Outgoing::refusal).
    pub(super) fn refusal(&self) -> Option<Reason> {
        if !notice::has_bytes(&self.half) {
            return self.half.fd().data().refusal();
        }
        match notice::look_in_datagrams(&self.half) {
            Ending::Refused(reason) => Some(reason),
            Ending::End | Ending::NotYet => None,
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.half.finish()
    }

    /// See [`Outgoing::abort`](crate::backend::halves::Outgoing::abort). A piece without bytes is valid in any place.
    pub(super) fn abort(&self) {
        self.half.write_last(Marker::More.bytes());
    }

    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.half.is_finished()
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<SharedFd<Beginning>> {
        self.half.fd()
    }
}

/// Converts the error of a send as [`would_block`] does. The kernel reports once that the peer closed without reading
/// all, to whichever call comes first.
fn not_sent(error: io::Error) -> Result<(), Fault> {
    match error.kind() {
        io::ErrorKind::ConnectionReset => Err(Fault::Reset),
        _ => would_block(error),
    }
}

/// Buffers the rest of a message. See [`Outgoing::keep_rest`](crate::backend::halves::Outgoing::keep_rest). In the
/// write buffer, messages are framed as on a stream, only to find their ends again.
pub(super) fn keep_rest(write_buffer: &mut WriteBuffer, parts: &[IoSlice<'_>], sent: usize) {
    let Some(rest) = message_len(parts).checked_sub(sent) else { return };
    // The markers of the pieces that were sent tell that more follow, so the rest is framed like a message of its own.
    let Some(header) = frame::header(rest) else { return };
    write_buffer.push_rest(&header, sent, parts.iter().map(|part| &part[..]));
}

/// Sends the next datagram of a message. Returns the new value of `sent`, as [`try_send`](Outgoing::try_send) counts
/// it.
fn send_piece(
    half: &Half<Beginning>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
    sent: usize,
    length: usize,
    piece_max: usize,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); PIECES_MAX];
    let mut skip = sent;
    let mut taken = 0;
    // The last slice is the marker.
    const PARTS_MAX: usize = PIECES_MAX - 1;
    let mut count = 0;
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        let rest = &part[skipped..];
        let slice = &rest[..rest.len().min(piece_max - taken)];
        if slice.is_empty() {
            continue;
        }
        let Some(place) = slices[..PARTS_MAX].get_mut(count) else { break };
        *place = IoSlice::new(slice);
        count += 1;
        taken += slice.len();
    }
    let gone = sent + taken;
    let is_last = gone == length;
    slices[count] = IoSlice::new(if is_last { Marker::Last.bytes() } else { Marker::More.bytes() });
    half.write_with_fds(&slices[..=count], fds)?;
    Ok(if is_last { length + 1 } else { gone })
}

/// The incoming direction of a `packet` connection.
pub(crate) struct Incoming {
    half: Half<Beginning>,
    max: MessageMax,
    /// Allocated by the first receive, or acquired from a [`Pool`].
    intake: Option<Box<Intake>>,
    /// True if the peer closed without reading all that this side sent.
    reset: bool,
    /// The way in which receiving ended, once it has.
    end: Option<Ended>,
}

/// The state that turns datagrams into messages.
#[derive(Debug)]
pub(super) struct Intake {
    /// Receives one datagram, except for the part that the assembler expects. Short at first, because zeroing 1 MiB
    /// takes longer than connecting; later large enough for any datagram.
    buffer: Vec<u8>,
    /// The number of datagrams whose length was queried before they were received.
    looked_at: u8,
    assembler: Assembler,
    /// The messages of the last datagram that were not returned yet, in `buffer`.
    pack: Pack,
    /// True if this holds what another intake had left ([`Intake::of_rest`]).
    is_rest: bool,
    /// The descriptors of the message that is being assembled.
    fds: Vec<OwnedFd>,
}

impl Intake {
    fn new(message_max: usize) -> Self {
        Self::with_buffer(vec![0; FIRST_LEN], message_max)
    }

    fn with_buffer(buffer: Vec<u8>, message_max: usize) -> Self {
        let (assembler, pack) = (Assembler::new(message_max), Pack::default());
        Self { buffer, looked_at: 0, assembler, pack, is_rest: false, fds: Vec::new() }
    }

    /// Creates an intake with the messages that another one was left with, and little other memory.
    fn of_rest(messages: &[u8], message_max: usize) -> Self {
        let pack = Pack::new(0..messages.len()).unwrap_or_default();
        Self { pack, is_rest: true, ..Self::with_buffer(messages.to_vec(), message_max) }
    }

    /// Returns true if nothing that was read is left in this intake.
    fn is_empty(&self) -> bool {
        self.pack.is_empty() && self.assembler.is_at_boundary()
    }

    /// Moves the next message of a packed datagram into `out`. Returns false if there is none.
    #[inline]
    fn next_packed(&mut self, out: &mut Vec<u8>, message_max: usize) -> Result<bool, BadPack> {
        if self.pack.is_empty() { Ok(false) } else { self.take_packed(out, message_max) }
    }

    #[inline(never)]
    fn take_packed(&mut self, out: &mut Vec<u8>, message_max: usize) -> Result<bool, BadPack> {
        let Some(message) = self.pack.next(&self.buffer, message_max)? else { return Ok(false) };
        out.clear();
        out.extend_from_slice(message);
        Ok(true)
    }

    /// Begins with the messages of a packed datagram. `placed` bytes of them are in the space of the assembler, and
    /// `behind` others in the buffer.
    #[inline(never)]
    fn unpack(&mut self, placed: usize, behind: usize) -> Result<(), BadPack> {
        if !self.fds.is_empty() {
            return Err(BadPack::WithFds);
        }
        self.pack = Pack::new(0..placed + behind)?;
        if placed > 0 {
            self.buffer.copy_within(..behind, placed);
            self.buffer[..placed].copy_from_slice(self.assembler.placed(placed));
        }
        Ok(())
    }

    /// Returns the memory of the message of which a part has arrived, in bytes.
    fn incomplete_memory(&self) -> usize {
        if self.assembler.is_at_boundary() { 0 } else { self.assembler.memory() + self.buffer.len() }
    }

    /// Receives the next datagram. The number of bytes that is returned with it went to the space of the assembler, as
    /// far as the datagram has them, and the rest to the buffer.
    fn read(&mut self, half: &Half<Beginning>, out: &mut Message) -> io::Result<(Read, usize)> {
        let Self { buffer, looked_at, assembler, is_rest, .. } = self;
        if buffer.len() < BUFFER_LEN {
            // The kernel discards the rest of a datagram that does not fit.
            let length = half.next_len()?;
            *looked_at = looked_at.saturating_add(1);
            if *is_rest && length > buffer.len() {
                buffer.resize(length.clamp(FIRST_LEN, BUFFER_LEN), 0);
            } else if length > buffer.len() || *looked_at == LOOKED_AT_MAX {
                buffer.resize(BUFFER_LEN, 0);
            }
        }
        let space = assembler.space(&mut out.bytes);
        let expected = space.len();
        if expected == 0 {
            return Ok((half.read(&mut [IoSliceMut::new(buffer)])?, 0));
        }
        // The spaces together hold the largest datagram and no more.
        buffer.resize(BUFFER_LEN, 0);
        let behind = &mut buffer[..BUFFER_LEN - expected];
        Ok((half.read(&mut [space, behind].map(IoSliceMut::new))?, expected))
    }
}

/// The way in which receiving ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Stream(End),
    Bad(BadPiece),
    /// A datagram was longer than the maximum.
    Oversized,
    Fds(LostFds),
    Refused(Reason),
}

impl Incoming {
    pub(super) fn try_recv(&mut self, out: &mut Message, permit: Option<&Permit>) -> Result<Received, Fault> {
        let message_max = self.max.bytes();
        let intake = self.intake.get_or_insert_with(|| Box::new(Intake::new(message_max)));
        let mut retry = Retry::default();
        while self.end.is_none() {
            match intake.next_packed(&mut out.bytes, message_max) {
                Ok(true) => {
                    out.fds.clear();
                    return Ok(Received::Message);
                }
                Ok(false) => {}
                Err(bad) => {
                    self.end = Some(Ended::Bad(BadPiece::Pack(bad)));
                    break;
                }
            }
            if let Some(permit) = permit {
                permit.note_incomplete(intake.incomplete_memory()).map_err(Fault::NoMemory)?;
            }
            let (received, expected) = match intake.read(&self.half, out) {
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Received::Empty),
                    // The kernel reports this once, before it returns the datagrams that arrived earlier.
                    io::ErrorKind::ConnectionReset => {
                        self.reset = true;
                        continue;
                    }
                    _ if retry.is_due_after(&error) => continue,
                    _ => return Err(Fault::Io(error)),
                },
            };
            let Intake { buffer, assembler, fds, .. } = &mut **intake;
            if received.is_cut {
                self.end = Some(Ended::Oversized);
                break;
            }
            match received.fds {
                Ok(some) => fds.extend(some),
                Err(lost) => {
                    self.end = Some(Ended::Fds(lost));
                    break;
                }
            }
            if fds.len() > self.max.fds() {
                self.end = Some(Ended::Fds(LostFds::too_many(fds.len(), self.max.fds())));
                break;
            }
            let placed = received.bytes.min(expected);
            let behind = &buffer[..received.bytes - placed];
            let Some(datagram) = assembler.split(placed, behind) else {
                self.end = Some(match notice::look_in_datagrams(&self.half) {
                    Ending::NotYet => return Ok(Received::Empty),
                    Ending::Refused(reason) => Ended::Refused(reason),
                    Ending::End => Ended::Stream(if self.reset { End::Reset } else { End::Orderly }),
                });
                break;
            };
            if self.half.fd().data().is_ahead() {
                // The other half may have taken the empty datagram that precedes a refusal.
                if let Some(reason) = self.half.fd().data().note_datagram(behind) {
                    self.end = Some(Ended::Refused(reason));
                    break;
                }
            }
            match assembler.take(datagram, &mut out.bytes) {
                Ok(Took::Message) => {
                    out.fds = std::mem::take(fds);
                    if let Some(permit) = permit.filter(|_| out.bytes.len() > MEMORY_FREE) {
                        permit.note_incomplete(0).map_err(Fault::NoMemory)?;
                    }
                    return Ok(Received::Message);
                }
                Ok(Took::Piece) => {}
                Ok(Took::Pack) => {
                    let Split { placed, rest, .. } = datagram;
                    let behind = rest.len();
                    if let Err(bad) = intake.unpack(placed, behind) {
                        self.end = Some(Ended::Bad(BadPiece::Pack(bad)));
                    }
                }
                Err(bad) => self.end = Some(Ended::Bad(bad)),
            }
        }
        // These descriptors belong to a message that will not be completed.
        intake.fds.clear();
        self.answer_at_the_end()
    }

    fn answer_at_the_end(&self) -> Result<Received, Fault> {
        match self.end {
            None => Ok(Received::Empty),
            Some(Ended::Bad(BadPiece::TooLong(too_long) | BadPiece::Pack(BadPack::Message(too_long)))) => {
                Err(Fault::TooLong { length: too_long.length })
            }
            Some(Ended::Bad(BadPiece::Pack(bad))) => Err(Fault::Protocol(bad.reason())),
            Some(Ended::Bad(BadPiece::Marker)) => Err(Fault::Protocol("a datagram ends with an unknown marker")),
            Some(Ended::Oversized) => Err(Fault::Protocol("a datagram is longer than the maximum")),
            Some(Ended::Fds(lost)) => Err(Fault::Fds(lost)),
            Some(Ended::Refused(reason)) => Err(Fault::Refused(reason)),
            Some(Ended::Stream(end)) => match (self.is_at_boundary(), end) {
                (false, _) => Err(Fault::Truncated),
                (true, End::Orderly) => Ok(Received::Closed),
                (true, End::Reset) => Err(Fault::Reset),
            },
        }
    }

    pub(super) fn is_at_boundary(&self) -> bool {
        self.intake.as_ref().is_none_or(|intake| intake.assembler.is_at_boundary())
    }

    /// Moves the next message of a packed datagram into `out` and returns true, if there is one.
    #[inline]
    pub(super) fn pop_buffered(&mut self, out: &mut Vec<u8>) -> bool {
        let message_max = self.max.bytes();
        // An error is returned again when the caller receives.
        self.intake.as_mut().is_some_and(|intake| intake.next_packed(out, message_max) == Ok(true))
    }

    /// Returns the next message of a packed datagram where it is, if there is one.
    pub(super) fn next_in_place(&mut self) -> Option<&[u8]> {
        let message_max = self.max.bytes();
        let intake = self.intake.as_mut()?;
        // An error is returned again when the caller receives.
        intake.pack.next(&intake.buffer, message_max).ok()?
    }

    /// Returns true if [`next_in_place`](Self::next_in_place) returns a message.
    pub(super) fn has_in_place(&self) -> bool {
        let message_max = self.max.bytes();
        self.intake.as_ref().is_some_and(|intake| intake.pack.has_next(&intake.buffer, message_max))
    }

    pub(super) fn has_message(&self) -> bool {
        self.end.is_some() || self.intake.as_ref().is_some_and(|intake| !intake.pack.is_empty())
    }

    /// Returns true if everything that was read was also returned.
    pub(super) fn is_pristine(&self) -> bool {
        self.intake.as_ref().is_none_or(|intake| intake.is_empty())
    }

    /// Returns the number of bytes that have arrived and that were not returned as messages.
    pub(super) fn partial_len(&self) -> usize {
        self.intake.as_ref().map_or(0, |intake| intake.assembler.partial_len())
    }

    /// Acquires an intake, if the pool has one idle.
    pub(super) fn acquire<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        if self.intake.as_ref().is_none_or(|intake| intake.is_rest && intake.is_empty()) {
            if let Some(mut intake) = pool.acquire() {
                intake.assembler.renew(self.max.bytes());
                self.intake = Some(intake);
            }
        }
    }

    /// Releases the intake if it holds no part of a message. Messages of a packed datagram move to a smaller one.
    pub(super) fn release<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        let Some(mut intake) = self.intake.take_if(|intake| intake.assembler.is_at_boundary()) else { return };
        match (intake.is_rest, intake.buffer.get(intake.pack.range()).filter(|rest| !rest.is_empty())) {
            (true, None) => {}
            (true, Some(_)) => self.intake = Some(intake),
            (false, None) => pool.release(intake),
            (false, Some(rest)) => {
                self.intake = Some(Box::new(Intake::of_rest(rest, self.max.bytes())));
                intake.pack = Pack::default();
                pool.release(intake);
            }
        }
    }

    pub(super) fn max(&self) -> MessageMax {
        self.max
    }

    /// See [`Incoming::abort`](crate::backend::halves::Incoming::abort).
    pub(super) fn abort(&self) {
        self.half.shut_down();
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<SharedFd<Beginning>> {
        self.half.fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, send, socketpair};

    use super::*;

    /// Returns true if the socket took a datagram of this length, and false if it is full.
    fn takes(socket: &OwnedFd, length: usize) -> bool {
        match send(socket, &vec![1; length], SendFlags::DONTWAIT) {
            Ok(_) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            Err(errno) => panic!("{length} bytes: {errno}"),
        }
    }

    /// Short datagrams, and then the longest ones, fill the socket in many ways.
    #[test]
    fn a_full_socket_takes_one_more_datagram_from_the_reserve() {
        for granted in
            [16_384, 65_536, 131_072, 212_992, 425_984, 600_000, 800_000, 1 << 20, 1_500_000, 3 << 20, 4 << 20]
        {
            let (size, piece_max) = divide(granted);
            let piece_max = piece_max as usize;
            for short in [1, 100, 3000, 5000, 20_000, 70_000, piece_max] {
                for count in [0, 1, 2, 3, usize::MAX] {
                    let (socket, _peer) =
                        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
                    sockopt::set_socket_send_buffer_size(&socket, granted / 2).unwrap();
                    if sockopt::socket_send_buffer_size(&socket).unwrap() < granted {
                        // The system grants less to every socket.
                        continue;
                    }
                    sockopt::set_socket_send_buffer_size(&socket, size).unwrap();
                    let short = short.min(piece_max) + MARKER_LEN;
                    (0..count).take_while(|_| takes(&socket, short)).for_each(drop);
                    while takes(&socket, piece_max + MARKER_LEN) {}
                    sockopt::set_socket_send_buffer_size(&socket, granted / 2).unwrap();
                    assert!(takes(&socket, MARKER_LEN), "{granted} bytes, {count} datagrams of {short}");
                }
            }
        }
    }
}
