//! `packet`: a `SOCK_SEQPACKET` socket, where the kernel keeps message boundaries.
//!
//! A message is sent as one datagram if it fits, otherwise in several. The first byte of each datagram, the marker,
//! tells if more pieces of the message follow. It also distinguishes an empty message from end of file: without it,
//! both are a read of 0 bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{SocketType, sockopt};

use super::attempt::Established;
use super::config::MessageMax;
use super::fault::{Fault, LostFds};
use super::notice::{self, Beginning, Ending};
use super::pool::Pool;
use super::socket::Kind;
use super::socket_half::{Half, Read};
use super::stream::{End, PIECES_MAX, would_block};
use crate::admission::Permit;
use crate::limits::MEMORY_FREE;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::peer::Peer;
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wire::frame::{self, HEADER_LEN};
use crate::wire::hello::Reason;
use crate::wire::pieces::{Assembler, BadPiece, Marker, PIECE_MAX, Took};
use crate::wire::write_buffer::WriteBuffer;

/// The kind of socket of this transport.
pub(super) const KIND: Kind = Kind { transport: Transport::Packet, socket_type: SocketType::SEQPACKET };

/// The size of the send buffer that is requested from the kernel: space for the largest datagram and the next one. The
/// kernel doubles the number, for its own overhead, and limits it (`net.core.wmem_max`).
const SEND_BUFFER: usize = 2 * 1024 * 1024;

/// The amount by which the largest datagram is smaller than the send buffer (`unix_dgram_sendmsg` in the kernel), with
/// a margin.
const KERNEL_SHARE: usize = 4096;

/// The length of the marker, in bytes.
const MARKER_LEN: usize = 1;

/// The length of the buffer for the first datagrams.
const FIRST_LEN: usize = 4096;
/// The length of the buffer for the largest datagram.
const BUFFER_LEN: usize = MARKER_LEN + PIECE_MAX;

/// The number of datagrams of a connection whose length is queried before they are received. Most connections receive
/// more. Then the whole buffer costs less than a query for each datagram.
const LOOKED_AT_MAX: u8 = 16;

/// Creates both directions of a connected socket.
pub(super) fn establish(
    socket: OwnedFd,
    peer: Peer,
    permit: Option<Permit>,
    max: MessageMax,
) -> Established<Outgoing, Incoming> {
    // The kernel may grant less. `piece_max` follows from the size that it granted.
    if let Err(errno) = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER) {
        tracing::debug!(%errno, "send buffer was not enlarged");
    }
    let room = sockopt::socket_send_buffer_size(&socket).unwrap_or(2 * KERNEL_SHARE);
    let piece_max = room.saturating_sub(KERNEL_SHARE).clamp(KERNEL_SHARE, PIECE_MAX);
    // Only a server counts connections.
    let (receiving, sending) = Half::both_with(socket, max.fds() > 0, Beginning::new(permit.is_none()));
    let incoming = Incoming { half: receiving, max, intake: None, reset: false, end: None };
    let outgoing = Outgoing { half: sending, piece_max };
    Established { outgoing, incoming, peer, permit }
}

/// The outgoing direction of a `packet` connection.
pub(crate) struct Outgoing {
    half: Half<Beginning>,
    /// The maximum number of bytes of a message that this socket takes as one datagram.
    piece_max: usize,
}

impl Outgoing {
    /// Sends a message. `sent` counts the bytes of the message that were sent, and one more at its end, so that an
    /// empty message that was sent differs from one that was not.
    pub(super) fn try_send(
        &self,
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
        while *sent <= length {
            // The descriptors are sent with the first piece.
            let fds = if *sent == 0 { fds } else { &[] };
            match send_piece(&self.half, parts, fds, *sent, length, self.piece_max) {
                Ok(gone) => *sent = gone,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return would_block(error).map(|()| false),
            }
        }
        Ok(true)
    }

    pub(super) fn try_flush(&self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        while let Some((header, rest)) = write_buffer.pending().split_first_chunk::<HEADER_LEN>() {
            let length = frame::length(*header);
            let message = [IoSlice::new(&rest[..length.min(rest.len())])];
            match send_piece(&self.half, &message, &[], 0, length, self.piece_max) {
                Ok(gone) if gone > length => {
                    write_buffer.advance(HEADER_LEN + length);
                }
                // After a piece was sent, the buffer holds the shorter rest of the message.
                Ok(gone) => write_buffer.shorten_first(gone),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return would_block(error).map(|()| false),
            }
        }
        Ok(true)
    }

    /// See [`Outgoing::refusal`](crate::backend::halves::Outgoing::refusal).
    pub(super) fn refusal(&self) -> Option<Reason> {
        match notice::look_in_datagrams(&self.half) {
            Ending::Refused(reason) => Some(reason),
            Ending::End | Ending::NotYet => None,
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.half.finish()
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

/// Buffers the rest of a message. See [`Outgoing::keep_rest`](crate::backend::halves::Outgoing::keep_rest). In the
/// write buffer, messages are framed as on a stream, only to find their ends again.
pub(super) fn keep_rest(write_buffer: &mut WriteBuffer, parts: &[IoSlice<'_>], sent: usize) {
    let Some(rest) = message_len(parts).checked_sub(sent) else { return };
    // The markers of the pieces that were sent tell that more follow, so the rest is framed like a message of its own.
    let Some(header) = frame::header(rest) else { return };
    write_buffer.push_raw(&header);
    write_buffer.push_behind(sent, parts.iter().map(|part| &part[..]));
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
    // The first slice is the marker, which depends on the length of the other slices.
    let mut count = 1;
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        let rest = &part[skipped..];
        let slice = &rest[..rest.len().min(piece_max - taken)];
        if slice.is_empty() {
            continue;
        }
        let Some(place) = slices.get_mut(count) else { break };
        *place = IoSlice::new(slice);
        count += 1;
        taken += slice.len();
    }
    let gone = sent + taken;
    let is_last = gone == length;
    slices[0] = IoSlice::new(if is_last { Marker::Last.bytes() } else { Marker::More.bytes() });
    half.write_with_fds(&slices[..count], fds)?;
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
    /// The descriptors of the message that is being assembled.
    fds: Vec<OwnedFd>,
}

impl Intake {
    fn new(message_max: usize) -> Self {
        Self { buffer: vec![0; FIRST_LEN], looked_at: 0, assembler: Assembler::new(message_max), fds: Vec::new() }
    }

    /// Returns the memory of the message of which a part has arrived, in bytes.
    fn incomplete_memory(&self) -> usize {
        if self.assembler.is_at_boundary() { 0 } else { self.assembler.memory() + self.buffer.len() }
    }

    /// Receives the next datagram. The number of bytes that is returned with it went to the space of the assembler, as
    /// far as the datagram has them, and the rest to the buffer.
    fn read(&mut self, half: &Half<Beginning>, out: &mut Message) -> io::Result<(Read, usize)> {
        let Self { buffer, looked_at, assembler, .. } = self;
        if buffer.len() < BUFFER_LEN {
            // The kernel discards the rest of a datagram that does not fit.
            let length = half.next_len()?;
            *looked_at += 1;
            if length > buffer.len() || *looked_at == LOOKED_AT_MAX {
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
        let (marker, behind) = buffer.split_at_mut(MARKER_LEN);
        let behind = &mut behind[..PIECE_MAX - expected];
        Ok((half.read(&mut [marker, space, behind].map(IoSliceMut::new))?, expected))
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
        while self.end.is_none() {
            if let Some(permit) = permit {
                permit.note_incomplete(intake.incomplete_memory()).map_err(Fault::NoMemory)?;
            }
            let (received, expected) = match intake.read(&self.half, out) {
                Ok(received) => received,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(Received::Empty),
                    io::ErrorKind::Interrupted => continue,
                    // The kernel reports this once, before it returns the datagrams that arrived earlier.
                    io::ErrorKind::ConnectionReset => {
                        self.reset = true;
                        continue;
                    }
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
            let placed = received.bytes.saturating_sub(MARKER_LEN).min(expected);
            let Some((&marker, rest)) = buffer[..received.bytes - placed].split_first() else {
                self.end = Some(match notice::look_in_datagrams(&self.half) {
                    Ending::NotYet => return Ok(Received::Empty),
                    Ending::Refused(reason) => Ended::Refused(reason),
                    Ending::End => Ended::Stream(if self.reset { End::Reset } else { End::Orderly }),
                });
                break;
            };
            if self.half.fd().data().is_ahead() {
                // The other half may have taken the empty datagram that precedes a refusal.
                if let Some(reason) = self.half.fd().data().note_datagram(&buffer[..received.bytes - placed]) {
                    self.end = Some(Ended::Refused(reason));
                    break;
                }
            }
            match assembler.take(marker, placed, rest, &mut out.bytes) {
                Ok(Took::Message) => {
                    out.fds = std::mem::take(fds);
                    if let Some(permit) = permit.filter(|_| out.bytes.len() > MEMORY_FREE) {
                        permit.note_incomplete(0).map_err(Fault::NoMemory)?;
                    }
                    return Ok(Received::Message);
                }
                Ok(Took::Piece) => {}
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
            Some(Ended::Bad(BadPiece::TooLong(too_long))) => Err(Fault::TooLong { length: too_long.length }),
            Some(Ended::Bad(BadPiece::Marker)) => Err(Fault::Protocol("a datagram begins with an unknown marker")),
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

    fn is_at_boundary(&self) -> bool {
        self.intake.as_ref().is_none_or(|intake| intake.assembler.is_at_boundary())
    }

    pub(super) fn has_message(&self) -> bool {
        self.end.is_some()
    }

    /// Acquires an intake, if the pool has one idle.
    pub(super) fn acquire<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        if self.intake.is_none() {
            self.intake = pool.acquire();
            if let Some(intake) = &mut self.intake {
                intake.assembler.renew(self.max.bytes());
            }
        }
    }

    /// Releases the intake if it holds no part of a message.
    pub(super) fn release<const MAX: usize>(&mut self, pool: &mut Pool<Intake, MAX>) {
        if let Some(intake) = self.intake.take_if(|intake| intake.assembler.is_at_boundary()) {
            pool.release(intake);
        }
    }

    pub(super) fn max(&self) -> MessageMax {
        self.max
    }

    pub(super) fn detach(&mut self) {
        self.half.detach();
    }

    pub(super) fn fd(&self) -> &Arc<SharedFd<Beginning>> {
        self.half.fd()
    }
}
