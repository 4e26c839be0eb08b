//! `unix`: a `SOCK_STREAM` socket, with nothing on the wire but frames.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketType, recvmsg, sendmsg, shutdown,
};

use super::socket::Kind;
use super::stream::{FrameReceiver, FrameSender};
use super::{Fault, Link, Received, Transport};
use crate::limits::Permit;
use crate::peer::Peer;
use crate::sys::credentials::peer_pidfd;
use crate::sys::fork::Process;

/// The socket behind this transport.
pub(super) const KIND: Kind = Kind { transport: Transport::Unix, socket_type: SocketType::STREAM, link };

fn link(socket: OwnedFd, peer: Peer, permit: Option<Permit>, message_max: usize) -> Link {
    let socket = Arc::new(socket);
    let incoming = Incoming { half: Half::new(&socket), frames: FrameReceiver::new(message_max) };
    let outgoing = Outgoing { half: Half::new(&socket), frames: FrameSender::default(), finished: false };
    Link {
        transport: Transport::Unix,
        incoming: super::Incoming::Unix(incoming),
        outgoing: super::Outgoing::Unix(outgoing),
        peer,
        permit,
    }
}

/// One half's share of the socket.
struct Half {
    socket: Arc<OwnedFd>,
    /// The halves were split: dropping one ends its direction and not the other. A connection that was not split is
    /// closed, and not shut down, because a forked child may go on with its own copy of it.
    apart: bool,
    process: Process,
}

impl Half {
    fn new(socket: &Arc<OwnedFd>) -> Self {
        Self { socket: Arc::clone(socket), apart: false, process: Process::current() }
    }

    fn end(&self, direction: Shutdown) {
        let other_lives = Arc::strong_count(&self.socket) > 1;
        if self.apart && other_lives && self.process.is_current() {
            // A peer that has gone has ended both directions already.
            let _ = shutdown(&*self.socket, direction);
        }
    }
}

pub(crate) struct Outgoing {
    half: Half,
    frames: FrameSender,
    finished: bool,
}

impl Outgoing {
    pub(super) fn frames(&mut self) -> &mut FrameSender {
        &mut self.frames
    }

    pub(super) fn pending(&self) -> usize {
        self.frames.pending()
    }

    pub(super) fn try_send(&mut self, parts: &[IoSlice<'_>], sent: &mut usize) -> Result<bool, Fault> {
        let socket = &*self.half.socket;
        self.frames.try_send(parts, sent, |pieces| write(socket, pieces))
    }

    pub(super) fn try_flush(&mut self) -> Result<bool, Fault> {
        let socket = &*self.half.socket;
        self.frames.try_flush(|pieces| write(socket, pieces))
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.finished = true;
        shutdown(&*self.half.socket, Shutdown::Write).map_err(|errno| Fault::from_write(errno.into()))
    }

    pub(super) fn set_apart(&mut self) {
        self.half.apart = true;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.finished).then(|| self.half.socket.as_fd())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.half.end(Shutdown::Write);
    }
}

pub(crate) struct Incoming {
    half: Half,
    frames: FrameReceiver,
}

impl Incoming {
    pub(super) fn frames(&self) -> &FrameReceiver {
        &self.frames
    }

    pub(super) fn try_recv(&mut self, out: &mut Vec<u8>) -> Result<Received, Fault> {
        let socket = &*self.half.socket;
        self.frames.try_recv(out, |spaces| read(socket, spaces))
    }

    pub(super) fn set_apart(&mut self) {
        self.half.apart = true;
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.half.socket.as_fd()
    }

    pub(super) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        peer_pidfd(&*self.half.socket)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.half.end(Shutdown::Read);
    }
}

fn write(socket: &OwnedFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), flags)?)
}

/// There is no control buffer, so descriptors that the peer sends are closed by the kernel and never appear here.
fn read(socket: &OwnedFd, spaces: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    Ok(recvmsg(socket, spaces, &mut RecvAncillaryBuffer::default(), flags)?.bytes)
}
