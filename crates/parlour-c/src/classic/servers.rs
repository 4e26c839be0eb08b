//! The servers of the classic API: who holds which name, until it is given back.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use parlour::{Address, ConnectionGuard, RawFds, RawParts, Server, Transport, TryRecvError};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::errno::{Errno, explained};

/// So many connections are held before it is looked which of them were closed, at least and at most: the least so
/// that it costs nothing for each; the most because no limit of the library's counts fewer than that.
const SWEEP_MIN: usize = 64;
const SWEEP_MAX: usize = 4096;

pub(crate) struct Servers {
    slots: Vec<Slot>,
    last_id: u64,
}

/// What tells a server from others: over `unix` its descriptor, over `fifo` its number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handle {
    Unix(RawFd),
    Fifo(u64),
}

/// A server with its connections and its waiting calls.
pub(crate) struct Slot {
    id: u64,
    transport: Transport,
    server: Server,
    /// What the program waits on: an epoll instance of its own in which the server's is the only thing, so that it
    /// can be told from whatever else may have the number by now.
    fd: RawFd,
    /// Calls that sleep on the server's descriptor, which must stay.
    waiters: usize,
    /// The name was given up; what is left is freed when there is time for it, and not by a signal handler.
    has_ended: bool,
    held: Vec<Held>,
    sweep_at: usize,
}

/// A connection that the server counts, for as long as its descriptor is open.
struct Held {
    fd: RawFd,
    file: FileId,
    _guard: ConnectionGuard,
}

/// Device and inode: which file a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// `None`: nothing has that number.
    pub(crate) fn of(fd: RawFd) -> Option<Self> {
        let stat = fstat(borrow(fd).ok()?).ok()?;
        Some(Self(stat.st_dev, stat.st_ino))
    }
}

/// A number that the program gave. Whether something is behind it the system says.
pub(crate) fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: it is not -1. That it stays open is not known: each call of the system is told the number, and says
    // `EBADF` where nothing has it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// An address over this transport, which the classic API leaves out.
pub(crate) fn address(name: &str, transport: Transport) -> Result<String, Errno> {
    let address = Address::parse(name).map_err(|error| explained(&error))?;
    match address.transport() {
        None => Ok(format!("{transport}:{name}")),
        Some(other) if other == transport => Ok(name.to_owned()),
        Some(_) => Err(Errno(libc::EINVAL)),
    }
}

impl Servers {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), last_id: 0 }
    }

    /// Adds a server that the program waits for on `fd`, and gives its number.
    pub(crate) fn add(&mut self, transport: Transport, server: Server, fd: RawFd) -> u64 {
        self.last_id += 1;
        self.slots.push(Slot {
            id: self.last_id,
            transport,
            server,
            fd,
            waiters: 0,
            has_ended: false,
            held: Vec::new(),
            sweep_at: SWEEP_MIN,
        });
        self.last_id
    }

    /// The server of this handle. `Err(EBADF)`: it has ended, or never was.
    pub(crate) fn find(&mut self, handle: Handle) -> Result<&mut Slot, Errno> {
        let is_it = |slot: &&mut Slot| match handle {
            Handle::Unix(fd) => slot.transport == Transport::Unix && slot.fd == fd && slot.is_still_there(),
            Handle::Fifo(id) => slot.transport == Transport::Fifo && slot.id == id,
        };
        self.slots.iter_mut().filter(|slot| !slot.has_ended).find(is_it).ok_or(Errno(libc::EBADF))
    }

    /// Frees the servers that have ended and that no call sleeps on.
    pub(crate) fn free_ended(&mut self) {
        self.slots.retain(|slot| !slot.has_ended || slot.waiters > 0);
    }

    /// Counts out a call that [`Slot::begin_waiting`] has counted in. `Err(EBADF)`: the server has ended meanwhile.
    pub(crate) fn end_waiting(&mut self, id: u64) -> Result<(), Errno> {
        let slot = self.slots.iter_mut().find(|slot| slot.id == id).ok_or(Errno(libc::EBADF))?;
        slot.waiters -= 1;
        if slot.has_ended { Err(Errno(libc::EBADF)) } else { Ok(()) }
    }
}

impl Slot {
    /// Gives the name up and closes the program's descriptor. Allocates and frees nothing.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        // An error leaves the name free all the same, and the program cannot be told.
        let _ = self.server.release();
        if self.is_still_there() {
            // SAFETY: `listen::bind` made the descriptor, and it is still the one that was made there.
            unsafe { libc::close(self.fd) };
        }
    }

    /// Accepts a client that has connected, if there is one. The server counts the connection as long as the
    /// descriptor that `counted` picks is open.
    pub(crate) fn try_accept(&mut self, counted: impl Fn(&RawFds) -> RawFd) -> Result<Option<RawFds>, Errno> {
        self.sweep();
        let connection = match self.server.try_accept() {
            Ok(connection) => connection,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Failed(error)) => return Err(explained(&error)),
        };
        self.hold(connection.into_raw_parts().map_err(|failed| explained(&failed.error))?, counted).map(Some)
    }

    /// Says whether the program has set `O_NONBLOCK` on its descriptor.
    pub(crate) fn is_nonblocking(&self) -> Result<bool, Errno> {
        // A program may close the descriptor of a server of FIFOs and still wait for clients.
        Ok(self.is_still_there() && fcntl_getfl(borrow(self.fd)?)?.contains(OFlags::NONBLOCK))
    }

    /// Keeps the server's descriptor open for a call that is about to sleep on it. Gives the number to tell
    /// [`Servers::end_waiting`], and the descriptor.
    pub(crate) fn begin_waiting(&mut self) -> (u64, RawFd) {
        self.waiters += 1;
        (self.id, self.server.as_fd().as_raw_fd())
    }

    /// Says whether the program's descriptor is still the one that `listen::bind` made. The server's descriptor is
    /// registered only there, so the kernel refuses to modify it in any other file.
    fn is_still_there(&self) -> bool {
        borrow(self.fd).is_ok_and(|fd| epoll::modify(fd, &self.server, EventData::new_u64(0), EventFlags::IN).is_ok())
    }

    fn hold(&mut self, bare: RawParts, counted: impl Fn(&RawFds) -> RawFd) -> Result<RawFds, Errno> {
        let fd = counted(&bare.fds);
        let file = FileId::of(fd).ok_or(Errno(libc::EBADF))?;
        self.held.push(Held { fd, file, _guard: bare.guard });
        Ok(bare.fds)
    }

    /// Gives the places of connections back that the program has closed, in whatever way.
    fn sweep(&mut self) {
        if self.held.len() < self.sweep_at {
            return;
        }
        self.held.retain(|held| FileId::of(held.fd) == Some(held.file));
        self.sweep_at = (self.held.len() * 2).clamp(SWEEP_MIN, SWEEP_MAX);
    }
}
