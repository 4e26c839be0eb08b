//! The servers of the classic API: who holds which name, until it is given back.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};

use libc::pollfd;
use parlour::{Address, Bare, BareFds, Place, Server, ServerOptions, Transport};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::errno::{Errno, explained};
use super::signals::Blocked;
use super::table;

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

struct Slot {
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
    _place: Place,
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

/// Takes a name. Gives the descriptor to wait on, and the server's number.
pub(crate) fn bind(name: &str, transport: Transport) -> Result<(RawFd, u64), Errno> {
    let address = address(name, transport)?;
    let server = ServerOptions::new().bind(address).map_err(|error| explained(&error))?;
    let watch = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&watch, &server, EventData::new_u64(0), EventFlags::IN)?;

    let blocked = Blocked::new();
    let mut table = table::lock(&blocked);
    let servers = &mut table.servers;
    servers.free_ended();
    servers.last_id += 1;
    let (id, fd) = (servers.last_id, watch.into_raw_fd());
    servers.slots.push(Slot {
        id,
        transport,
        server,
        fd,
        waiters: 0,
        has_ended: false,
        held: Vec::new(),
        sweep_at: SWEEP_MIN,
    });
    Ok((fd, id))
}

/// Gives the name up and closes the descriptor. May run in a signal handler: nothing is allocated or freed.
pub(crate) fn destroy(handle: Handle) {
    let blocked = Blocked::new();
    let mut table = table::lock(&blocked);
    let Ok(slot) = table.servers.find(handle) else { return };
    slot.has_ended = true;
    // The name is free all the same, and there is nobody to tell.
    let _ = slot.server.release();
    if slot.is_still_there() {
        // SAFETY: the descriptor was made by `bind`, and is still the one that was made there.
        unsafe { libc::close(slot.fd) };
    }
}

/// Blocks until a client has connected. The connection is counted as long as the program has this one of its
/// descriptors open.
pub(crate) fn accept(handle: Handle, counted: impl Fn(&BareFds) -> RawFd) -> Result<BareFds, Errno> {
    let blocked = Blocked::new();
    loop {
        let mut table = table::lock(&blocked);
        table.servers.free_ended();
        let slot = table.servers.find(handle)?;
        slot.sweep();
        if let Some(connection) = slot.server.try_accept().map_err(|error| explained(&error))? {
            return slot.hold(connection.into_bare().map_err(|failed| explained(&failed.error))?, counted);
        }
        // A descriptor that was closed under a server of FIFOs is no reason not to wait.
        if slot.is_still_there() && fcntl_getfl(borrow(slot.fd)?)?.contains(OFlags::NONBLOCK) {
            return Err(Errno(libc::EAGAIN));
        }
        slot.waiters += 1;
        let id = slot.id;
        let mut fds = [pollfd { fd: slot.server.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        drop(table);

        let slept = blocked.poll(&mut fds, None);
        let mut table = table::lock(&blocked);
        let slot = table.servers.slots.iter_mut().find(|slot| slot.id == id).ok_or(Errno(libc::EBADF))?;
        slot.waiters -= 1;
        match slept {
            _ if slot.has_ended => return Err(Errno(libc::EBADF)),
            Err(Errno(libc::EINTR)) if !blocked.is_to_interrupt() => {}
            slept => drop(slept?),
        }
    }
}

impl Servers {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), last_id: 0 }
    }

    fn find(&mut self, handle: Handle) -> Result<&mut Slot, Errno> {
        let is_it = |slot: &&mut Slot| match handle {
            Handle::Unix(fd) => slot.transport == Transport::Unix && slot.fd == fd && slot.is_still_there(),
            Handle::Fifo(id) => slot.transport == Transport::Fifo && slot.id == id,
        };
        self.slots.iter_mut().filter(|slot| !slot.has_ended).find(is_it).ok_or(Errno(libc::EBADF))
    }

    fn free_ended(&mut self) {
        self.slots.retain(|slot| !slot.has_ended || slot.waiters > 0);
    }
}

impl Slot {
    /// Whether the program's descriptor is still the one that was made: only there is the server's to be changed.
    fn is_still_there(&self) -> bool {
        borrow(self.fd).is_ok_and(|fd| epoll::modify(fd, &self.server, EventData::new_u64(0), EventFlags::IN).is_ok())
    }

    fn hold(&mut self, bare: Bare, counted: impl Fn(&BareFds) -> RawFd) -> Result<BareFds, Errno> {
        let fd = counted(&bare.fds);
        let file = FileId::of(fd).ok_or(Errno(libc::EBADF))?;
        self.held.push(Held { fd, file, _place: bare.place });
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
