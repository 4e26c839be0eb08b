//! The servers of the classic API.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use parlour::{Address, ConnectionGuard, RawFds, RawParts, Server, Transport, TryRecvError};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::errno::{Errno, explained};

/// The number of held connections, at least and at most, after which the server checks which of them the program
/// closed. The minimum makes the cost per connection negligible. The maximum is the limit on connections, so a check
/// happens before a client is refused.
const SWEEP_MIN: usize = 64;

pub(crate) struct Servers {
    slots: Vec<Slot>,
    last_id: u64,
}

/// The identification of a server: its descriptor over `unix`, its number over `fifo`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handle {
    Unix(RawFd),
    Fifo(u64),
}

/// A server with its connections and the number of calls that wait for clients.
pub(crate) struct Slot {
    id: u64,
    transport: Transport,
    server: Server,
    /// The descriptor on which the program waits: an epoll instance in which only the server's descriptor is
    /// registered. That distinguishes it from another file that reuses the number.
    fd: RawFd,
    /// The number of calls that sleep on the server's descriptor, which must stay open for them.
    waiters: usize,
    /// The name was given up. The memory is freed later, because a signal handler must not free it.
    has_ended: bool,
    held: Vec<Held>,
    sweep_at: usize,
}

/// A connection that the server counts as long as its descriptor is open.
struct Held {
    fd: RawFd,
    file: FileId,
    _guard: ConnectionGuard,
}

/// Device and inode of a file: the identity of the file that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// Returns `None` if the descriptor is not open.
    pub(crate) fn of(fd: RawFd) -> Option<Self> {
        let stat = fstat(borrow(fd).ok()?).ok()?;
        Some(Self(stat.st_dev, stat.st_ino))
    }
}

/// Borrows a descriptor by the number that the program passed. The descriptor may be closed.
pub(crate) fn borrow<'a>(fd: RawFd) -> Result<BorrowedFd<'a>, Errno> {
    if fd < 0 {
        return Err(Errno(libc::EBADF));
    }
    // SAFETY: not -1. The descriptor may be closed, or closed and reused, during the borrow. It is used only as the
    // argument of system calls, which fail with `EBADF` if it is closed; no memory depends on it.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Returns the address of a name over this transport.
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

    /// Adds a server whose program waits on `fd`, and returns its number.
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

    /// Returns the server of a handle. Fails with `EBADF` if it has ended or never existed.
    pub(crate) fn find(&mut self, handle: Handle) -> Result<&mut Slot, Errno> {
        let is_it = |slot: &&mut Slot| match handle {
            Handle::Unix(fd) => slot.transport == Transport::Unix && slot.fd == fd && slot.is_still_there(),
            Handle::Fifo(id) => slot.transport == Transport::Fifo && slot.id == id,
        };
        self.slots.iter_mut().filter(|slot| !slot.has_ended).find(is_it).ok_or(Errno(libc::EBADF))
    }

    /// Frees the servers that have ended and on which no call sleeps.
    pub(crate) fn free_ended(&mut self) {
        self.slots.retain(|slot| !slot.has_ended || slot.waiters > 0);
    }

    /// Ends a wait that [`Slot::begin_waiting`] began. Fails with `EBADF` if the server has ended meanwhile.
    pub(crate) fn end_waiting(&mut self, id: u64) -> Result<(), Errno> {
        let slot = self.slots.iter_mut().find(|slot| slot.id == id).ok_or(Errno(libc::EBADF))?;
        slot.waiters -= 1;
        if slot.has_ended { Err(Errno(libc::EBADF)) } else { Ok(()) }
    }
}

impl Slot {
    /// Gives the name up and closes the program's descriptor. Does not allocate or free memory.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        // After an error the name is free all the same, and `destroy_server` returns nothing.
        let _ = self.server.release();
        if self.is_still_there() {
            // SAFETY: `listen::bind` opened the descriptor, and `is_still_there` found it to be the same file.
            unsafe { libc::close(self.fd) };
        }
    }

    /// Accepts a client without blocking. The server counts the connection as long as the descriptor that `counted`
    /// selects is open.
    pub(crate) fn try_accept(&mut self, counted: impl Fn(&RawFds) -> RawFd) -> Result<Option<RawFds>, Errno> {
        self.sweep();
        let connection = match self.server.try_accept() {
            Ok(connection) => connection,
            Err(TryRecvError::Empty) => return Ok(None),
            Err(TryRecvError::Failed(error)) => return Err(explained(&error)),
        };
        self.hold(connection.into_raw_parts().map_err(|failed| explained(&failed.error))?, counted).map(Some)
    }

    /// Returns true if the program has set `O_NONBLOCK` on its descriptor.
    pub(crate) fn is_nonblocking(&self) -> Result<bool, Errno> {
        // A program may close the descriptor of a FIFO server and still wait for clients.
        Ok(self.is_still_there() && fcntl_getfl(borrow(self.fd)?)?.contains(OFlags::NONBLOCK))
    }

    /// Begins a wait: keeps the server's descriptor open for a call that will sleep on it. Returns the number for
    /// [`Servers::end_waiting`], and the descriptor.
    pub(crate) fn begin_waiting(&mut self) -> (u64, RawFd) {
        self.waiters += 1;
        (self.id, self.server.as_fd().as_raw_fd())
    }

    /// Returns true if the program's descriptor is still the epoll instance that `listen::bind` created. The server's
    /// descriptor is registered only in that instance, so the kernel refuses to modify it in any other file.
    fn is_still_there(&self) -> bool {
        borrow(self.fd).is_ok_and(|fd| epoll::modify(fd, &self.server, EventData::new_u64(0), EventFlags::IN).is_ok())
    }

    fn hold(&mut self, bare: RawParts, counted: impl Fn(&RawFds) -> RawFd) -> Result<RawFds, Errno> {
        let fd = counted(&bare.fds);
        let file = FileId::of(fd).ok_or(Errno(libc::EBADF))?;
        self.held.push(Held { fd, file, _guard: bare.guard });
        Ok(bare.fds)
    }

    /// Stops counting the connections whose descriptors the program has closed.
    fn sweep(&mut self) {
        if self.held.len() < self.sweep_at {
            return;
        }
        self.held.retain(|held| FileId::of(held.fd) == Some(held.file));
        let stats = self.server.stats();
        let max = stats.connections_max.min(stats.connections_per_uid_max);
        self.sweep_at = (self.held.len() * 2).max(SWEEP_MIN).min(max);
    }
}
