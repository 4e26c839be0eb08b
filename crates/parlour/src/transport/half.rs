//! One half's share of a connected socket, for every transport that carries its messages on one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, RecvMsg, SendAncillaryBuffer, SendFlags, Shutdown, recvmsg, sendmsg, shutdown,
};

use super::Fault;
use crate::sys::credentials::peer_pidfd;
use crate::sys::fork::Process;

/// A share of the socket that both halves of a connection use.
pub(super) struct Half {
    socket: Arc<OwnedFd>,
    /// Which direction this half carries, and ends.
    direction: Shutdown,
    /// The halves were split: dropping one ends its direction and not the other. A connection that was not split is
    /// closed, and not shut down, because a forked child may go on with its own copy of it.
    apart: bool,
    process: Process,
}

impl Half {
    /// The receiving and the sending half of a socket.
    pub(super) fn both(socket: OwnedFd) -> (Self, Self) {
        let socket = Arc::new(socket);
        let process = Process::current();
        let half = |direction| Self { socket: Arc::clone(&socket), direction, apart: false, process };
        (half(Shutdown::Read), half(Shutdown::Write))
    }

    pub(super) fn set_apart(&mut self) {
        self.apart = true;
    }

    /// Ends this half's direction now.
    pub(super) fn end(&self) -> Result<(), Fault> {
        shutdown(&self.socket, self.direction).map_err(|errno| Fault::from_write(errno.into()))?;
        if matches!(self.direction, Shutdown::Read) {
            self.throw_away_what_has_come();
        }
        Ok(())
    }

    /// A peer that waits for room learns that nobody reads any more only when there is room. Nothing new can come after
    /// the shutdown, so this takes no more than the socket holds.
    fn throw_away_what_has_come(&self) {
        let mut scratch = vec![0; 64 * 1024];
        while matches!(self.read(&mut [io::IoSliceMut::new(&mut scratch)]), Ok(received) if received.bytes > 0) {}
    }

    pub(super) fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        peer_pidfd(&*self.socket)
    }

    /// Sends without waiting, and without a signal.
    pub(super) fn write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(&self.socket, pieces, &mut SendAncillaryBuffer::default(), flags)?)
    }

    /// Receives without waiting. There is no control buffer, so descriptors that the peer sends are closed by the kernel
    /// and never appear here.
    pub(super) fn read(&self, spaces: &mut [io::IoSliceMut<'_>]) -> io::Result<RecvMsg> {
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        Ok(recvmsg(&self.socket, spaces, &mut RecvAncillaryBuffer::default(), flags)?)
    }
}

impl AsFd for Half {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let other_lives = Arc::strong_count(&self.socket) > 1;
        if self.apart && other_lives && self.process.is_current() {
            // A peer that has gone has ended both directions already.
            let _ = self.end();
        }
    }
}
