//! `fifo`: a pair of FIFOs for each client, which the client announces through a well-known FIFO. docs/wire.md
//! describes the handshake.
//!
//! No function in this module opens a FIFO in a way that could block. The module relies on three properties of FIFOs.
//! Before the first writer, poll(2) reports no hang-up although `read` returns 0. A read end that is also open for
//! writing never sees a hang-up. A write end whose reader has closed works again when another process opens the FIFO
//! for reading; therefore the first `EPIPE` is final here.

pub(super) mod connect;
pub(crate) mod listen;
mod splice;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, chmodat, mkfifoat, statat};
use rustix::io::Errno;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::attempt::Established;
use super::config::MessageMax;
use super::fault::Fault;
use super::socket_half::Read;
use super::stream::{self, FrameReceiver};
use crate::admission::Permit;
use crate::message::Received;
use crate::message::{Message, message_len};
use crate::name::directory;
use crate::peer::Peer;
use crate::sys::no_sigpipe;
use crate::sys::retry::Retry;
use crate::sys::shared_fd::{MayShare, SharedFd};
use crate::transport::Transport;
use crate::wait::poll_now;
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::frame;
use crate::wire::write_buffer::WriteBuffer;
use splice::{LARGE, SpliceBuffer, Spliced};

/// The name of the well-known FIFO.
const FILE: &str = Transport::Fifo.file_name();
/// The mode of every FIFO. FIFOs serve one user.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The minimum length of a message for which a FIFO is enlarged to [`LARGE`] bytes. A new FIFO holds 64 KiB, and each
/// time that it is full or empty one side waits for the other.
const LONG: usize = 32 * 1024;

/// The maximum number of bytes of one read of a long message. A read and a write of a FIFO exclude each other, so both
/// sides make progress at the same time only if no single call takes long.
const READ_MAX: usize = 64 * 1024;

/// The maximum number of tries to write the last byte of a direction.
const LAST_TRIES: u32 = 8;

const READ: OFlags = OFlags::RDONLY.union(COMMON);
const WRITE: OFlags = OFlags::WRONLY.union(COMMON);
const COMMON: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Creates a FIFO with exactly [`MODE`], independent of the umask.
fn make_fifo(directory: impl AsFd, file_name: &str) -> Result<(), Errno> {
    mkfifoat(&directory, file_name, MODE)?;
    if statat(&directory, file_name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777 != MODE.bits() {
        chmodat(&directory, file_name, MODE, AtFlags::empty())?;
    }
    Ok(())
}

/// Checks that an open file is a FIFO of this user, without rights for other users, and with this number of hard links.
fn check_fifo(stat: &Stat, links: u64) -> Result<(), String> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let mode = stat.st_mode & 0o7777;
    if kind != FileType::Fifo {
        Err(format!("it is a {}, not a FIFO", directory::describe(kind)))
    } else if stat.st_uid != rustix::process::geteuid().as_raw() {
        Err(format!("it belongs to uid {}", stat.st_uid))
    } else if mode != MODE.bits() {
        Err(format!("it has mode {mode:04o}, not 0600"))
    } else if stat.st_nlink != links {
        Err(format!("it has {} hard links", stat.st_nlink))
    } else {
        Ok(())
    }
}

/// Removes the pair of a client, and the file that shows its origin. Files of other types stay.
fn remove_pair(clients: &OwnedFd, id: &ClientId) {
    let pair = [(ClientFile::ServerToClient, FileType::Fifo), (ClientFile::ClientToServer, FileType::Fifo)];
    let origin = id.nonce.has_origin().then_some((ClientFile::Origin, FileType::RegularFile));
    for (file, kind) in pair.into_iter().chain(origin) {
        let file_name = id.file_name(file);
        let is_of_kind = statat(clients, &file_name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == kind);
        if is_of_kind {
            if let Err(error) = directory::remove(clients, &file_name) {
                tracing::warn!(file = file_name, %error, "file of a client cannot be removed");
            }
        }
    }
}

/// Returns true if the FIFO of this write end has no reader.
fn has_no_reader(fifo: BorrowedFd<'_>) -> bool {
    poll_now(fifo, PollFlags::empty()).intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Creates both directions of an open pair.
pub(super) fn establish(
    reader: OwnedFd,
    writer: OwnedFd,
    peer: Peer,
    permit: Option<Permit>,
    max: MessageMax,
) -> Established<Outgoing, Incoming> {
    let incoming = Incoming { fifo: MayShare::Alone(reader), frames: FrameReceiver::new(max) };
    let outgoing = Outgoing { fifo: Some(MayShare::Alone(writer)), finished: false, is_large: false, splice: None };
    Established { outgoing, incoming, peer, permit }
}

/// The space in a FIFO that a send uses.
#[derive(Clone, Copy)]
pub(super) enum Room {
    /// Any space.
    Any,
    /// Only space that is large enough to splice pages into. A small space takes a plain write, after which there is
    /// soon no space for spliced pages. That costs more than a short wait.
    Much,
}

/// Writes without blocking and without raising `SIGPIPE`.
fn write(
    fifo: BorrowedFd<'_>,
    splice: &mut Option<Box<SpliceBuffer>>,
    room: Room,
    pieces: &[IoSlice<'_>],
) -> io::Result<usize> {
    if let Some(lending) = splice {
        match (lending.write(fifo, pieces), room) {
            (Ok(Spliced::Some(count)), _) => return Ok(count),
            (Ok(Spliced::NoRoom), Room::Much) => return Err(ErrorKind::WouldBlock.into()),
            (Ok(Spliced::NoRoom | Spliced::TooShort), _) => {}
            (Err(error), _) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::BrokenPipe => return Err(error),
                // The system lacks vmsplice(2), or forbids it (seccomp(2)).
                _ => {
                    tracing::debug!(%error, "long messages are copied, because vmsplice failed");
                    *splice = None;
                }
            },
        }
    }
    no_sigpipe::write_vectored(fifo, pieces)
}

/// The outgoing direction of a `fifo` connection.
pub(crate) struct Outgoing {
    /// `None` once this direction has ended, on this side or because the peer does not read any more.
    fifo: Option<MayShare>,
    /// True once this side has ended the direction (half-close).
    finished: bool,
    /// True once the FIFO was enlarged, as far as the system allows.
    is_large: bool,
    /// The pages through which long messages are sent, if available.
    splice: Option<Box<SpliceBuffer>>,
}

impl Outgoing {
    pub(super) fn try_send(
        &mut self,
        write_buffer: &mut WriteBuffer,
        parts: &[IoSlice<'_>],
        sent: &mut usize,
        room: Room,
    ) -> Result<bool, Fault> {
        if !self.is_large && message_len(parts) >= LONG {
            self.enlarge();
        }
        let Self { fifo, splice, .. } = self;
        let Some(fifo) = fifo else { return Err(Fault::Disconnected) };
        let result = stream::try_send(write_buffer, parts, sent, |pieces| write(fifo.as_fd(), splice, room, pieces));
        self.end_if_broken(result)
    }

    /// See [`Outgoing::try_write`](crate::backend::halves::Outgoing::try_write).
    #[cfg(feature = "testing")]
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(fifo) = &self.fifo else { return Err(ErrorKind::BrokenPipe.into()) };
        write(fifo.as_fd(), &mut None, Room::Any, &[IoSlice::new(bytes)])
    }

    pub(super) fn try_flush(&mut self, write_buffer: &mut WriteBuffer) -> Result<bool, Fault> {
        let Self { fifo, splice, .. } = self;
        let Some(fifo) = fifo else { return Err(Fault::Disconnected) };
        let result = stream::try_flush(write_buffer, |pieces| write(fifo.as_fd(), splice, Room::Any, pieces));
        self.end_if_broken(result)
    }

    /// Prepares for long messages, once: enlarges the FIFO and allocates a splice buffer. If the system refuses (the
    /// total size of the pipes of a user is limited), long messages are slower but correct.
    fn enlarge(&mut self) {
        self.is_large = true;
        let Some(fifo) = &self.fifo else { return };
        let capacity = fcntl_setpipe_size(fifo, LARGE).or_else(|errno| {
            tracing::debug!(%errno, "FIFO was not enlarged");
            fcntl_getpipe_size(fifo)
        });
        self.splice = capacity.ok().and_then(SpliceBuffer::new).map(Box::new);
    }

    /// Ends the direction after `EPIPE`. A process that opens the FIFO for reading later must not receive the rest.
    fn end_if_broken<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if matches!(result, Err(Fault::Disconnected)) {
            self.end();
        }
        result
    }

    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        self.finished = true;
        self.end();
        Ok(())
    }

    /// See [`Outgoing::abort`](crate::backend::halves::Outgoing::abort).
    pub(super) fn abort(&self, is_in_frame: bool) {
        let Some(fifo) = self.fifo.as_ref().filter(|_| !is_in_frame) else { return };
        let mut retry = Retry::default();
        for _ in 0..LAST_TRIES {
            match no_sigpipe::write_vectored(fifo, &[IoSlice::new(&frame::CUT)]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The FIFO is full. A larger one takes another byte.
                    let _ = fcntl_getpipe_size(fifo).and_then(|size| fcntl_setpipe_size(fifo, size.saturating_mul(2)));
                }
                Err(error) if retry.is_due_after(&error) => {}
                _ => return,
            }
        }
        tracing::warn!("an aborted connection looks like one that has ended: its channel is full");
    }

    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Closes the FIFO. It keeps the pages that were spliced into it and not read yet.
    fn end(&mut self) {
        self.fifo = None;
        self.splice = None;
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fifo.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn share_fd(&mut self) -> Option<Arc<SharedFd>> {
        self.fifo.as_mut().map(MayShare::share)
    }
}

/// The incoming direction of a `fifo` connection.
pub(crate) struct Incoming {
    fifo: MayShare,
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
        let fifo = &self.fifo;
        self.frames.try_recv(out, permit, |spaces: &mut [IoSliceMut<'_>]| {
            let (bytes, is_cut) = match spaces {
                // Most reads fill one space, and read(2) costs less than readv(2).
                [space, rest @ ..] if space.len() >= READ_MAX || rest.iter().all(|space| space.is_empty()) => {
                    let count = space.len().min(READ_MAX);
                    let bytes = rustix::io::read(fifo, &mut space[..count])?;
                    (bytes, bytes == READ_MAX)
                }
                spaces => (rustix::io::readv(fifo, spaces)?, false),
            };
            Ok(Read { is_cut, ..Read::of_bytes(bytes) })
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }

    pub(super) fn share_fd(&mut self) -> Arc<SharedFd> {
        self.fifo.share()
    }
}
