//! One half's share of a connected socket, for every transport that carries its messages on one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, recv, recvmsg, send, sendmsg, shutdown,
};

use super::fault::{Fault, LostFds};
use crate::limits::FDS_MAX;
use crate::message::message_len;
use crate::sys::fork::Process;
use crate::sys::pass_rights::refuses_descriptors;
use crate::sys::shared_fd::SharedFd;

/// Room for as many descriptors as the kernel sends at once.
const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

/// A share of the socket that both halves of a connection use.
///
/// `T` is what else the halves share.
pub(super) struct Half<T = ()> {
    socket: Arc<SharedFd<T>>,
    direction: Direction,
    /// The halves were split: dropping one ends its direction and not the other. A connection that was not split is
    /// closed, and not shut down, because a forked child may go on with its own copy of it.
    detached: bool,
    /// This side has ended the direction: the half-close state of a socket.
    finished: bool,
    fds: Fds,
    process: Process,
}

/// Which direction a half carries, and ends. (In a byte, of which the system's type takes four.)
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Incoming,
    Outgoing,
}

/// What becomes of descriptors that the peer sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fds {
    /// They are received.
    Taken,
    /// The kernel refuses them, so that none can come.
    Refused,
    /// They must not come, and are a fault if they do.
    Faulty,
}

/// Up to how many bytes the pieces of a write are copied together. Measured: the copy costs less than the system call's
/// list of pieces.
const JOINED_MAX: usize = 1024;

/// For most of them so many are enough, and the others need not be zeroed.
const JOINED_SHORT: usize = 128;
const JOINED_LONG: usize = JOINED_SHORT + 1;

/// What one read brought.
pub(super) struct Read {
    pub(super) bytes: usize,
    /// There was more in the datagram, or there may be more in the stream than was asked for.
    pub(super) is_cut: bool,
    /// The descriptors that came along.
    pub(super) fds: Result<Vec<OwnedFd>, LostFds>,
}

impl Read {
    /// Of something that carries no descriptors.
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self { bytes, is_cut: false, fds: Ok(Vec::new()) }
    }
}

impl Half {
    /// The receiving and the sending half of a socket.
    pub(super) fn both(socket: OwnedFd, takes_fds: bool) -> (Self, Self) {
        Self::both_with(socket, takes_fds, ())
    }
}

impl<T> Half<T> {
    /// The two halves, and what they share besides: it is dropped after the socket is closed.
    pub(super) fn both_with(socket: OwnedFd, takes_fds: bool, shared: T) -> (Self, Self) {
        let socket = Arc::new(SharedFd::with(socket, 2, shared));
        let process = Process::current();
        let fds = match takes_fds {
            true => Fds::Taken,
            false if refuses_descriptors(&*socket) => Fds::Refused,
            false => Fds::Faulty,
        };
        let half =
            |direction| Self { socket: Arc::clone(&socket), direction, detached: false, finished: false, fds, process };
        (half(Direction::Incoming), half(Direction::Outgoing))
    }

    /// The socket, for who waits for it in another way.
    pub(super) fn fd(&self) -> &Arc<SharedFd<T>> {
        &self.socket
    }

    pub(super) fn detach(&mut self) {
        self.detached = true;
    }

    /// Ends this half's direction for good. Does nothing the second time.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        match std::mem::replace(&mut self.finished, true) {
            true => Ok(()),
            false => self.end(),
        }
    }

    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Ends this half's direction now.
    pub(super) fn end(&self) -> Result<(), Fault> {
        let how = match self.direction {
            Direction::Incoming => Shutdown::Read,
            Direction::Outgoing => Shutdown::Write,
        };
        shutdown(&self.socket, how).map_err(|errno| Fault::from_write(errno.into()))?;
        if self.direction == Direction::Incoming {
            self.throw_away_what_has_come();
        }
        Ok(())
    }

    /// A peer that waits for room learns that nobody reads any more only when there is room. Nothing new can come after
    /// the shutdown, so this takes no more than the socket holds.
    fn throw_away_what_has_come(&self) {
        let mut scratch = vec![0; 64 * 1024];
        while matches!(self.read(&mut [io::IoSliceMut::new(&mut scratch)]), Ok(read) if read.bytes > 0) {}
    }

    /// Sends without waiting, and without a signal.
    pub(super) fn write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if let [piece] = pieces {
            return Ok(send(&self.socket, piece, flags)?);
        }
        match message_len(pieces) {
            0..=JOINED_SHORT => self.write_joined::<JOINED_SHORT>(pieces, flags),
            JOINED_LONG..=JOINED_MAX => self.write_joined::<JOINED_MAX>(pieces, flags),
            _ => self.write_with(pieces, &mut SendAncillaryBuffer::default()),
        }
    }

    /// Sends pieces in one, which together have no more than `MAX` bytes.
    fn write_joined<const MAX: usize>(&self, pieces: &[io::IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        let mut joined = [0; MAX];
        let mut rest = &mut joined[..];
        for piece in pieces {
            let (place, behind) = rest.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            rest = behind;
        }
        let length = MAX - rest.len();
        Ok(send(&self.socket, &joined[..length], flags)?)
    }

    /// Sends, and descriptors with the first byte.
    pub(super) fn write_with_fds(&self, pieces: &[io::IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if fds.is_empty() {
            return self.write(pieces);
        }
        let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.write_with(pieces, &mut control).map_err(|error| match error.raw_os_error() {
            // The other side takes none (`SO_PASSRIGHTS`). Nothing else on a connected socket is not permitted.
            Some(libc::EPERM) => io::ErrorKind::Unsupported.into(),
            _ => error,
        })
    }

    fn write_with(
        &self,
        pieces: &[io::IoSlice<'_>],
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(&self.socket, pieces, control, flags)?)
    }

    /// Receives without waiting. Where descriptors are not taken there is no room for them, so the kernel closes those
    /// that come and says so.
    pub(super) fn read(&self, spaces: &mut [io::IoSliceMut<'_>]) -> io::Result<Read> {
        match spaces {
            [space, rest @ ..] if self.fds == Fds::Refused && rest.iter().all(|space| space.is_empty()) => {
                // The least that the kernel does for a read. It says how long the datagram was.
                let (_, bytes) = recv(&self.socket, &mut space[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
                Ok(Read { is_cut: bytes > space.len(), ..Read::of_bytes(bytes.min(space.len())) })
            }
            spaces => self.read_with(spaces),
        }
    }

    /// How long the next datagram is, which stays. Nothing is waited for.
    pub(super) fn next_len(&self) -> io::Result<usize> {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (_, bytes) = recv(&self.socket, &mut [0; 1][..], flags)?;
        Ok(bytes)
    }

    /// Receives, and whatever comes along.
    fn read_with(&self, spaces: &mut [io::IoSliceMut<'_>]) -> io::Result<Read> {
        let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
        let mut control = match self.fds {
            Fds::Taken => RecvAncillaryBuffer::new(&mut space),
            Fds::Refused | Fds::Faulty => RecvAncillaryBuffer::default(),
        };
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(&self.socket, spaces, &mut control, flags)?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        let fds = match (received.flags.contains(ReturnFlags::CTRUNC), self.fds) {
            (false, _) => Ok(fds),
            // There was room for as many as the kernel sends.
            (true, Fds::Taken) => Err(LostFds::TableFull),
            (true, Fds::Refused | Fds::Faulty) => Err(LostFds::NotAllowed),
        };
        Ok(Read { bytes: received.bytes, is_cut: received.flags.contains(ReturnFlags::TRUNC), fds })
    }
}

impl<T> AsFd for Half<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<T> Drop for Half<T> {
    fn drop(&mut self) {
        let other_lives = self.socket.release() > 0;
        if self.detached && other_lives && self.process.is_current() {
            // A peer that has gone has ended both directions already.
            let _ = self.end();
        }
    }
}
