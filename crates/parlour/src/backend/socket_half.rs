//! One half of a connected socket, for every transport that uses one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, recv, recvmsg, send, sendmsg, shutdown,
};

use super::fault::{Fault, LostFds};
use crate::limits::FDS_MAX;
use crate::message::message_len;
use crate::sys::fork::Process;
use crate::sys::pass_rights::refuses_descriptors;
use crate::sys::retry::Retry;
use crate::sys::shared_fd::SharedFd;

/// The length of a control buffer for as many descriptors as the kernel sends with one message.
const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(FDS_MAX));

/// One half of a connection over a socket. Both halves share the socket.
///
/// `T` is other state that the halves share.
pub(super) struct Half<T> {
    socket: Arc<SharedFd<T>>,
    direction: Direction,
    /// True if the halves were split: dropping one ends its direction alone. A connection that was not split is closed,
    /// not shut down, because a forked child may continue to use its copy.
    detached: bool,
    /// True once this side has ended the direction (half-close).
    finished: bool,
    fds: Fds,
    process: Process,
}

/// The direction that a half carries, and ends. It takes one byte; the type of the system call takes four.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Incoming,
    Outgoing,
}

/// The treatment of descriptors that the peer sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fds {
    /// Descriptors are received.
    Taken,
    /// The kernel refuses descriptors (`SO_PASSRIGHTS`), so none can arrive.
    Refused,
    /// Descriptors that arrive are a fault.
    Faulty,
}

/// The maximum number of bytes for which the pieces of a write are copied into one buffer. Measured: the copy costs
/// less than the list of pieces in the system call.
const JOINED_MAX: usize = 1024;

/// The length of a smaller buffer, which is enough for most of these writes and takes less time to zero.
const JOINED_SHORT: usize = 128;
/// The shortest write that needs the larger buffer.
const JOINED_LONG: usize = JOINED_SHORT + 1;

/// The maximum number of tries to send the last bytes of a direction.
const LAST_TRIES: u32 = 8;

/// A send buffer larger than any system allows. The kernel grants as much as `net.core.wmem_max` permits.
const SEND_BUFFER_MAX: usize = 1 << 30;

/// The result of one read.
pub(super) struct Read {
    pub(super) bytes: usize,
    /// True if the datagram was longer than the space, or if the stream may have more bytes than the caller asked for.
    pub(super) is_cut: bool,
    /// The descriptors that arrived with the bytes.
    pub(super) fds: Result<Vec<OwnedFd>, LostFds>,
}

impl Read {
    /// Creates the result of a read without descriptors.
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self { bytes, is_cut: false, fds: Ok(Vec::new()) }
    }
}

impl<T> Half<T> {
    /// Creates the receiving and the sending half of a socket, with other state that they share. That state is dropped
    /// after the socket is closed.
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

    /// Returns the shared socket.
    pub(super) fn fd(&self) -> &Arc<SharedFd<T>> {
        &self.socket
    }

    pub(super) fn detach(&mut self) {
        self.detached = true;
    }

    /// Ends this half's direction. Further calls have no effect.
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

    /// Ends this half's direction with shutdown(2).
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

    /// Sends these bytes as the last ones of this direction. If the socket is full, enlarges the send buffer as far as
    /// the system allows: then one more write is accepted. An error means that the peer has disconnected.
    pub(super) fn write_last(&self, bytes: &[u8]) {
        let mut retry = Retry::default();
        for _ in 0..LAST_TRIES {
            match self.write(&[io::IoSlice::new(bytes)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = set_socket_send_buffer_size(&self.socket, SEND_BUFFER_MAX);
                }
                Err(error) if retry.is_due_after(&error) => {}
                _ => return,
            }
        }
        tracing::warn!("an aborted connection looks like one that has ended: its channel is full");
    }

    /// Ends both directions, also for other processes that have the socket.
    pub(super) fn shut_down(&self) {
        // An error means that the peer has disconnected.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Discards the bytes that have arrived. A peer that waits for space in the socket learns only then that this side
    /// does not read any more. No new bytes can arrive after the shutdown, so this reads no more than the socket holds.
    fn throw_away_what_has_come(&self) {
        let mut scratch = vec![0; 64 * 1024];
        while matches!(self.read(&mut [io::IoSliceMut::new(&mut scratch)]), Ok(read) if read.bytes > 0) {}
    }

    /// Sends without blocking and without raising `SIGPIPE`.
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

    /// Sends pieces of at most `MAX` bytes in total as one piece.
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

    /// Sends pieces, with descriptors attached to the first byte.
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
            // The peer refuses descriptors (`SO_PASSRIGHTS`). On a connected socket `EPERM` has no other cause.
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

    /// Receives without blocking. If descriptors are not allowed, there is no control buffer for them. The kernel then
    /// closes descriptors that arrive, and reports that (`MSG_CTRUNC`).
    pub(super) fn read(&self, spaces: &mut [io::IoSliceMut<'_>]) -> io::Result<Read> {
        match spaces {
            [space, rest @ ..] if self.fds == Fds::Refused && rest.iter().all(|space| space.is_empty()) => {
                // recv(2) is the cheapest read. With `MSG_TRUNC` it returns the length of the datagram.
                let (_, bytes) = recv(&self.socket, &mut space[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
                Ok(Read { is_cut: bytes > space.len(), ..Read::of_bytes(bytes.min(space.len())) })
            }
            spaces => self.read_with(spaces),
        }
    }

    /// Returns the length of the next datagram without receiving it (`MSG_PEEK`). Does not block.
    pub(super) fn next_len(&self) -> io::Result<usize> {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
        let (_, bytes) = recv(&self.socket, &mut [0; 1][..], flags)?;
        Ok(bytes)
    }

    /// Receives bytes and descriptors with recvmsg(2).
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
            // The control buffer has space for as many descriptors as the kernel sends, so the table was full.
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
            // An error means that the peer has disconnected, which ended both directions.
            let _ = self.end();
        }
    }
}
