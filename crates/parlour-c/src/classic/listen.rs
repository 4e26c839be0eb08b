//! The operations on a server: taking a name, accepting clients, and giving the name up.

use std::os::fd::{IntoRawFd, RawFd};

use libc::pollfd;
use parlour::{RawFds, ServerOptions, Transport};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::errno::{Errno, explained};
use super::servers::{Handle, address};
use super::signals::Blocked;
use super::table;

/// Takes a name. Returns the descriptor to wait on, and the number of the server.
pub(crate) fn bind(name: &str, transport: Transport) -> Result<(RawFd, u64), Errno> {
    let address = address(name, transport)?;
    // A program of this interface knows of no hand-over: it would take the end of its server for a failure.
    let server = ServerOptions::new().hand_over(false).bind(address).map_err(|error| explained(&error))?;
    let watch = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&watch, &server, EventData::new_u64(0), EventFlags::IN)?;

    let blocked = Blocked::new();
    let mut table = table::lock(&blocked);
    table.servers.free_ended();
    let fd = watch.into_raw_fd();
    let id = table.servers.add(transport, server, fd);
    Ok((fd, id))
}

/// Gives the name up and closes the descriptor. Async-signal-safe: it does not allocate or free memory.
pub(crate) fn destroy(handle: Handle) {
    let blocked = Blocked::new();
    let mut table = table::lock(&blocked);
    if let Ok(slot) = table.servers.find(handle) {
        slot.end();
    }
}

/// Blocks until a client has connected. The server counts the connection as long as the program keeps the descriptor
/// open that `counted` selects.
pub(crate) fn accept(handle: Handle, counted: impl Fn(&RawFds) -> RawFd) -> Result<RawFds, Errno> {
    let blocked = Blocked::new();
    loop {
        let mut table = table::lock(&blocked);
        table.servers.free_ended();
        let slot = table.servers.find(handle)?;
        if let Some(fds) = slot.try_accept(&counted)? {
            return Ok(fds);
        }
        if slot.is_nonblocking()? {
            return Err(Errno(libc::EAGAIN));
        }
        let (id, fd) = slot.begin_waiting();
        drop(table);

        let mut fds = [pollfd { fd, events: libc::POLLIN, revents: 0 }];
        let slept = blocked.poll(&mut fds, None);
        table::lock(&blocked).servers.end_waiting(id)?;
        match slept {
            Err(Errno(libc::EINTR)) if !blocked.is_to_interrupt() => {}
            slept => drop(slept?),
        }
    }
}
