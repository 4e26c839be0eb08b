//! `unix`: a `SOCK_STREAM` socket that carries frames and nothing else.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::SocketType;

use super::attempt::Established;
use super::config::MessageMax;
use super::fault::Fault;
use super::notice::{self, Beginning, Origin};
use super::socket::Kind;
use super::socket_half::Half;
use super::stream::{self, FrameReceiver};
use crate::admission::Permit;
use crate::message::Message;
use crate::message::Received;
use crate::peer::Peer;
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wire::frame;
use crate::wire::hello::Reason;
use crate::wire::write_buffer::WriteBuffer;

/// The kind of socket of this transport.
pub(super) const KIND: Kind = Kind { transport: Transport::Unix, socket_type: SocketType::STREAM };

/// Creates both directions of a connected socket.
pub(super) fn establish(
    socket: OwnedFd,
    peer: Peer,
    origin: Origin,
    max: MessageMax,
) -> Established<Outgoing, Incoming> {
    let (beginning, permit) = origin.take_apart();
    let (receiving, sending) = Half::both_with(socket, max.fds() > 0, beginning);
    let incoming = Incoming { half: receiving, frames: FrameReceiver::new(max) };
    let outgoing = Outgoing { half: sending };
    Established { outgoing, incoming, peer, permit }
}

/// The outgoing direction of a `unix` connection.
pub(crate) struct Outgoing {
    half: Half<Beginning>,
}

impl Outgoing {
    pub(super) fn try_send(
        &self,
        write_buffer: &mut WriteBuffer,
        parts: &[IoSlice<'_>],
        fds: &[BorrowedFd<'_>],
        sent: &mut usize,
    ) -> Result<bool, Fault> {
        let half = &self.half;
        if fds.is_empty() || *sent > 0 {
            return stream::try_send(write_buffer, parts, sent, |pieces| half.write(pieces));
        }
        // The descriptors are sent with the first byte of their message. That must be the first byte of a write, so
        // that the receiver can assign them to the message.
        if !stream::try_flush(write_buffer, |pieces| half.write(pieces))? {
            return Ok(false);
        }
        let mut fds = fds;
        stream::try_send(write_buffer, parts, sent, |pieces| {
            let written = half.write_with_fds(pieces, fds)?;
            fds = &[];
            Ok(written)
        })
    }

    /// See [`Outgoing::try_write`](crate::backend::halves::Outgoing::try_write).
    #[cfg(feature = "testing")]
    pub(super) fn try_write(&self, bytes: &[u8]) -> std::io::Result<usize> {
        self.half.write(&[IoSlice::new(bytes)])
    }

    pub(super) fn try_flush(&self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        stream::try_flush(write_buffer, |pieces| self.half.write(pieces))
    }

    /// See [`Outgoing::refusal`](crate::backend::halves::Outgoing::refusal).
    pub(super) fn refusal(&self) -> Option<Reason> {
        notice::look_in_stream(&self.half)
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.half.finish()
    }

    /// See [`Outgoing::abort`](crate::backend::halves::Outgoing::abort).
    pub(super) fn abort(&self, is_in_frame: bool) {
        if !is_in_frame {
            self.half.write_last(&frame::CUT);
        }
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

/// The incoming direction of a `unix` connection.
pub(crate) struct Incoming {
    half: Half<Beginning>,
    frames: FrameReceiver,
}

impl Incoming {
    pub(super) fn frames(&self) -> &FrameReceiver {
        &self.frames
    }

    pub(super) fn frames_mut(&mut self) -> &mut FrameReceiver {
        &mut self.frames
    }

    pub(super) fn try_recv(&mut self, out: &mut Message, permit: Option<&Permit>) -> Result<Received, Fault> {
        let Self { half, frames } = self;
        let received = frames.try_recv(out, permit, |spaces| {
            let read = half.read(spaces)?;
            if let [first, ..] = &*spaces[0] {
                half.fd().data().note_bytes(*first, read.bytes);
            }
            Ok(read)
        });
        match received {
            // The byte of a refusal is the beginning of a message that does not follow.
            Err(Fault::Truncated) => Err(half.fd().data().refusal().map_or(Fault::Truncated, Fault::Refused)),
            received => received,
        }
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
