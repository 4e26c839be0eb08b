//! The transports: one public name, a private enum, and a plain `match`.
//!
//! # The contract
//!
//! Each transport implements the following parts, in this order of sections in its file. No function in this module
//! blocks, except that an attempt to connect sleeps in a full queue if the caller allows it
//! ([`ConnectConfig::may_sleep`]). The caller waits on the descriptors that the functions return.
//!
//! **Listening** ([`Listener`]) creates the transport's file in the directory of a name that this process holds,
//! advances handshakes when the server's poller reports them, and returns each admitted client as a [`Link`]. A
//! handshake is state with a deadline, so one that stalls delays no other client. A refused client is recorded by the
//! [`Admission`](crate::admission::Admission). An error means that the listener itself cannot continue; no action of a
//! client is one.
//!
//! **Connecting** ([`connect`]) makes one attempt in one directory and reports whether another attempt, there or in
//! another directory, can help ([`Attempt`]). If the server has to answer, the attempt is state with a deadline
//! ([`Handshake`]). It leaves no file behind when it fails or is dropped.
//!
//! **Pairs** ([`pair`](mod@pair)) need no server and no name: both ends are made in this process.
//!
//! **Sending** ([`Outgoing`]) takes whole messages, in order. It delivers what it has taken unless the connection
//! breaks. It never raises `SIGPIPE`. Once the halves are detached, dropping it ends this direction.
//!
//! **Receiving** ([`Incoming`]) returns whole messages, in order. It distinguishes an empty message from end of file,
//! and end of file from a truncated message. It does not allocate memory because of a length that the peer announces.
//! The first end or fault is final.

pub(crate) mod attempt;
pub(crate) mod client_file;
pub(crate) mod config;
pub(crate) mod fault;
pub(crate) mod fifo;
pub(crate) mod halves;
pub(crate) mod pair;

mod bad_client_file;
mod fd_reserve;
mod handshakes;
mod notice;
mod origin_file;
mod packet;
mod pool;
mod shm;
mod socket;
mod socket_half;
mod stream;
mod unix;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::io::Errno;

use self::attempt::{Attempt, Established, Progress};
use self::config::{ConnectConfig, ListenConfig};
use self::halves::{Incoming, Outgoing, SendFlavor};
use crate::admission::Permit;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::{Found, NameGuard, directory};
use crate::peer::Peer;
use crate::poller::Interest;
use crate::sys::fork::ParentOnly;
use crate::sys::listen_fds::Passed;
use crate::transport::Transport;
use crate::wait::{Deadline, WaitSet};
use crate::wire::client_file::ClientId;
use crate::wire::request::Rest;

/// An established connection.
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) peer: Peer,
    /// The place among the connections that the server counts.
    pub(crate) permit: Option<Permit>,
}

impl Link {
    fn new<O, I>(
        transport: Transport,
        established: Established<O, I>,
        outgoing: impl FnOnce(O) -> SendFlavor,
        incoming: impl FnOnce(I) -> Incoming,
    ) -> Self {
        Self {
            transport,
            outgoing: Outgoing::new(outgoing(established.outgoing)),
            incoming: incoming(established.incoming),
            peer: established.peer,
            permit: established.permit,
        }
    }

    fn shm(established: Established<shm::Outgoing, shm::Incoming>) -> Self {
        Self::new(Transport::Shm, established, SendFlavor::Shm, Incoming::Shm)
    }

    fn packet(established: Established<packet::Outgoing, packet::Incoming>) -> Self {
        Self::new(Transport::Packet, established, SendFlavor::Packet, Incoming::Packet)
    }

    fn unix(established: Established<unix::Outgoing, unix::Incoming>) -> Self {
        Self::new(Transport::Unix, established, SendFlavor::Unix, Incoming::Unix)
    }

    fn fifo(established: Established<fifo::Outgoing, fifo::Incoming>) -> Self {
        Self::new(Transport::Fifo, established, SendFlavor::Fifo, Incoming::Fifo)
    }
}

/// A listener, by its transport.
pub(crate) enum Listener {
    Shm(shm::listen::Listener),
    Packet(socket::Listener),
    Unix(socket::Listener),
    Fifo(fifo::listen::Listener),
}

impl Listener {
    /// Creates the point of contact and registers it with the poller.
    pub(crate) fn bind(
        transport: Transport,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        match transport {
            Transport::Shm => shm::listen::Listener::bind(guard, config, interest).map(Self::Shm),
            Transport::Packet => socket::Listener::bind(packet::KIND, guard, config, interest).map(Self::Packet),
            Transport::Unix => socket::Listener::bind(unix::KIND, guard, config, interest).map(Self::Unix),
            Transport::Fifo => fifo::listen::Listener::bind(guard, config, interest).map(Self::Fifo),
        }
    }

    /// Takes over a point of contact that another process created. That process has to remove it.
    pub(crate) fn adopt(
        transport: Transport,
        passed: Passed,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        match transport {
            Transport::Shm => shm::listen::Listener::adopt(passed, guard, config, interest).map(Self::Shm),
            Transport::Packet => {
                socket::Listener::adopt(packet::KIND, passed, guard, config, interest).map(Self::Packet)
            }
            Transport::Unix => socket::Listener::adopt(unix::KIND, passed, guard, config, interest).map(Self::Unix),
            Transport::Fifo => {
                let detail = "a FIFO cannot be taken over: each server creates a new one";
                Err(Error::new(
                    ErrorKind::Unsupported,
                    Operation::Activate,
                    guard.display_path(transport.file_name()),
                    detail,
                )
                .next("pass sockets only; the server offers the FIFO by itself"))
            }
        }
    }

    /// Prepares to serve a name that its server hands over to this process: continues with the listener that the server
    /// has passed, and with the part of a request that it has read, or makes a new one. The server may have to
    /// continue, so clients notice nothing before [`take_up`](Self::take_up).
    pub(crate) fn prepare(
        transport: Transport,
        inherited: Option<ParentOnly>,
        rest: Rest,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        match transport {
            Transport::Shm => shm::listen::Listener::prepare(inherited, guard, config, interest).map(Self::Shm),
            Transport::Packet => {
                socket::Listener::prepare(packet::KIND, inherited, guard, config, interest).map(Self::Packet)
            }
            Transport::Unix => {
                socket::Listener::prepare(unix::KIND, inherited, guard, config, interest).map(Self::Unix)
            }
            Transport::Fifo => {
                let inherited = inherited.map(|reader| (reader, rest));
                fifo::listen::Listener::prepare(inherited, guard, config, interest).map(Self::Fifo)
            }
        }
    }

    /// Serves clients from here on, with a prepared listener.
    pub(crate) fn take_up(&mut self, is_inherited: bool, guard: &NameGuard, config: &ListenConfig) -> Result<()> {
        match self.contact_mut() {
            Contact::Socket(socket) => socket.take_up(is_inherited, guard, config),
            Contact::Fifo(fifo) => fifo.take_up(is_inherited, guard),
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.contact() {
            Contact::Socket(socket) => socket.transport(),
            Contact::Fifo(_) => Transport::Fifo,
        }
    }

    /// Returns the descriptor to pass to the next server.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self.contact() {
            Contact::Socket(socket) => socket.as_fd(),
            Contact::Fifo(fifo) => fifo.as_fd(),
        }
    }

    /// Returns the part of a request that was read without its end.
    pub(crate) fn rest(&self) -> Rest {
        match self.contact() {
            Contact::Socket(_) => Rest::default(),
            Contact::Fifo(fifo) => fifo.rest(),
        }
    }

    /// Lets clients wait at the point of contact. Handshakes go on.
    pub(crate) fn pause(&mut self) {
        match self.contact_mut() {
            Contact::Socket(socket) => socket.pause(),
            Contact::Fifo(fifo) => fifo.pause(),
        }
    }

    /// Serves the clients at the point of contact again.
    pub(crate) fn resume(&mut self, guard: &NameGuard) -> Result<()> {
        match self.contact_mut() {
            Contact::Socket(socket) => socket.resume(),
            Contact::Fifo(fifo) => fifo.resume(guard)?,
        }
        Ok(())
    }

    /// Leaves the point of contact to the process that has taken it over. Handshakes go on. Puts `instead` in the place
    /// of the descriptor.
    pub(crate) fn leave(&mut self, instead: BorrowedFd<'_>) -> io::Result<()> {
        match self.contact_mut() {
            Contact::Socket(socket) => socket.leave(instead),
            Contact::Fifo(fifo) => fifo.leave(instead),
        }
    }

    /// Lets no further client connect through a point of contact that clients do not find any more. Those that have
    /// connected are served.
    pub(crate) fn retire(&mut self) {
        match self.contact_mut() {
            Contact::Socket(socket) => socket.withdraw(),
            Contact::Fifo(fifo) => fifo.withdraw(),
        }
    }

    /// Returns true if no client can come through this listener any more, given that the poller reports nothing.
    pub(crate) fn is_left(&self) -> bool {
        match self {
            Self::Shm(listener) => listener.socket().is_left() && listener.has_no_handshakes(),
            Self::Packet(listener) | Self::Unix(listener) => listener.is_left(),
            Self::Fifo(listener) => listener.has_left() && listener.is_drained(),
        }
    }

    /// Advances the handshake that the poller reported under `token`. Returns the client if that completed it.
    pub(crate) fn advance(&mut self, token: u32, guard: &NameGuard) -> Result<Option<Link>> {
        match self {
            Self::Shm(listener) => Ok(listener.advance(token, guard)?.map(Link::shm)),
            Self::Packet(listener) => Ok(listener.advance(guard, packet::establish)?.map(Link::packet)),
            Self::Unix(listener) => Ok(listener.advance(guard, unix::establish)?.map(Link::unix)),
            Self::Fifo(listener) => Ok(listener.advance(token, guard)?.map(Link::fifo)),
        }
    }

    /// Ends the handshakes that are late at `now`.
    pub(crate) fn expire(&mut self, guard: &NameGuard, now: Instant) -> Result<()> {
        match self {
            Self::Shm(listener) => listener.expire(now),
            Self::Packet(listener) | Self::Unix(listener) => listener.expire(now),
            Self::Fifo(listener) => {
                listener.expire(guard, now);
                Ok(())
            }
        }
    }

    /// Returns the point of contact.
    fn contact(&self) -> Contact<&socket::Listener, &fifo::listen::Listener> {
        match self {
            Self::Shm(listener) => Contact::Socket(listener.socket()),
            Self::Packet(listener) | Self::Unix(listener) => Contact::Socket(listener),
            Self::Fifo(listener) => Contact::Fifo(listener),
        }
    }

    /// Returns the point of contact, mutably.
    fn contact_mut(&mut self) -> Contact<&mut socket::Listener, &mut fifo::listen::Listener> {
        match self {
            Self::Shm(listener) => Contact::Socket(listener.socket_mut()),
            Self::Packet(listener) | Self::Unix(listener) => Contact::Socket(listener),
            Self::Fifo(listener) => Contact::Fifo(listener),
        }
    }

    /// Returns the time at which [`expire`](Self::expire) must be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let handshakes = if let Self::Shm(listener) = self { listener.deadline() } else { None };
        let contact = match self.contact() {
            Contact::Socket(socket) => socket.deadline(),
            Contact::Fifo(fifo) => fifo.deadline(),
        };
        handshakes.into_iter().chain(contact).min()
    }

    /// Returns true if the files of this client belong to a handshake in progress.
    pub(crate) fn knows(&self, id: &ClientId) -> bool {
        match self.contact() {
            Contact::Socket(_) => false,
            Contact::Fifo(fifo) => fifo.knows(id),
        }
    }

    /// Returns true if the poller reports waiting clients of this listener.
    pub(crate) fn is_watched(&self) -> bool {
        match self.contact() {
            Contact::Socket(socket) => socket.is_watched(),
            Contact::Fifo(_) => true,
        }
    }

    /// Returns true if the file that clients find is still the one that the listener made. An error means that the file
    /// cannot be inspected at present.
    pub(crate) fn is_still_there(&self, guard: &NameGuard) -> std::result::Result<bool, Errno> {
        match self.contact() {
            Contact::Socket(socket) => socket.is_still_there(guard),
            Contact::Fifo(fifo) => fifo.is_still_there(guard),
        }
    }

    /// Returns the name of the file, if this server has to remove it.
    fn own_file(&self, guard: &NameGuard) -> Option<&'static str> {
        if !guard.is_owned() {
            return None;
        }
        let file_name = match self.contact() {
            Contact::Socket(socket) if socket.is_adopted() => return None,
            Contact::Socket(socket) => socket.transport().file_name(),
            Contact::Fifo(_) => Transport::Fifo.file_name(),
        };
        (self.is_still_there(guard) == Ok(true)).then_some(file_name)
    }

    /// Lets no further client connect, and removes the listener's own file. Clients that have connected are still
    /// returned by [`advance`](Self::advance), until [`is_drained`](Self::is_drained). Clients whose handshake has not
    /// come so far are told to try again, or find that the server has gone.
    ///
    /// A point of contact of another process is left alone: clients wait there for the next server.
    pub(crate) fn withdraw(&mut self, guard: &NameGuard) -> io::Result<()> {
        let removed = match self.own_file(guard) {
            Some(file_name) => directory::remove(guard.directory(), file_name),
            None => Ok(()),
        };
        match self {
            Self::Shm(listener) => listener.withdraw(),
            Self::Packet(listener) | Self::Unix(listener) => listener.withdraw(),
            Self::Fifo(listener) => listener.withdraw(),
        }
        removed
    }

    /// Returns true if no client is left that has connected and was not returned, given that the poller reports
    /// nothing.
    pub(crate) fn is_drained(&self) -> bool {
        match self.contact() {
            Contact::Socket(socket) => socket.is_drained(),
            Contact::Fifo(fifo) => fifo.is_drained(),
        }
    }

    /// Removes the listener's own file, and puts `instead` in the place of the descriptors that unaccepted clients are
    /// connected to. For a signal handler: neither allocates nor frees memory.
    pub(crate) fn release(&mut self, guard: &NameGuard, instead: BorrowedFd<'_>) -> io::Result<()> {
        let removed = match self.own_file(guard) {
            Some(file_name) => directory::remove(guard.directory(), file_name),
            None => Ok(()),
        };
        removed.and(match self.contact_mut() {
            Contact::Socket(socket) => socket.close_in_place(instead),
            Contact::Fifo(fifo) => fifo.close_in_place(instead),
        })
    }

    /// Removes the listener's own file.
    pub(crate) fn close(self, guard: &NameGuard) -> Result<()> {
        let Some(file_name) = self.own_file(guard) else { return Ok(()) };
        directory::remove(guard.directory(), file_name)
            .map_err(|error| Error::io(Operation::Remove, guard.display_path(file_name), error))
    }
}

/// The two kinds of points of contact: a listening socket, or a FIFO for requests.
enum Contact<S, F> {
    Socket(S),
    Fifo(F),
}

/// The progress of an attempt over any transport.
pub(crate) type ConnectProgress = Progress<Box<Link>, Handshake>;

/// Begins one attempt to connect through the directory of a name. The server has until `deadline` to answer.
pub(crate) fn connect(
    transport: Transport,
    found: &Found,
    config: &ConnectConfig,
    deadline: Deadline,
) -> Result<ConnectProgress, Attempt> {
    let done = |link: Link| Ok(Progress::Done(Box::new(link)));
    match transport {
        Transport::Shm => Handshake::Shm(shm::connect::Handshake::begin(found, config, deadline)?).step(found, config),
        Transport::Packet => {
            let connected = socket::connect(packet::KIND, found, config, deadline)?;
            done(Link::packet(connected.establish(packet::establish, config.message_max)))
        }
        Transport::Unix => {
            let connected = socket::connect(unix::KIND, found, config, deadline)?;
            done(Link::unix(connected.establish(unix::establish, config.message_max)))
        }
        Transport::Fifo => {
            Handshake::Fifo(fifo::connect::Handshake::begin(found, config, deadline)?).step(found, config)
        }
    }
}

/// An attempt that waits for the server. Dropping it leaves no file behind.
pub(crate) enum Handshake {
    Shm(Box<shm::connect::Handshake>),
    Fifo(Box<fifo::connect::Handshake>),
}

impl Handshake {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Shm(_) => Transport::Shm,
            Self::Fifo(_) => Transport::Fifo,
        }
    }

    /// Advances the handshake with what has arrived. Fails after the deadline.
    pub(crate) fn step(self, found: &Found, config: &ConnectConfig) -> Result<ConnectProgress, Attempt> {
        Ok(match self {
            Self::Shm(handshake) => {
                handshake.step(found, config)?.map(|established| Box::new(Link::shm(established)), Self::Shm)
            }
            Self::Fifo(handshake) => {
                handshake.step(found, config)?.map(|established| Box::new(Link::fifo(established)), Self::Fifo)
            }
        })
    }

    /// Returns the conditions under which to call [`step`](Self::step) again.
    pub(crate) fn wait_set(&self) -> WaitSet<'_> {
        match self {
            Self::Shm(handshake) => handshake.wait_set(),
            Self::Fifo(handshake) => handshake.wait_set(),
        }
    }
}
