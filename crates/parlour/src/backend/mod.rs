//! The transports: one public name, a private enum, and a plain `match`.
//!
//! # The contract
//!
//! What follows is what each transport must give, in this order of sections in its file. Nothing here ever blocks;
//! waiting is the caller's, on the descriptors that are named here.
//!
//! **Listening** ([`Listener`]) makes the transport's file in the directory of a name that is held, moves handshakes on
//! when the server's poller says so, and gives each client that has been let in as a [`Link`]. A handshake that stalls
//! delays nobody: it is state with a deadline. A client that is turned away is noted at the [`Gate`]. Errors are for
//! what keeps the listener itself from going on; nothing that a client does is one.
//!
//! **Connecting** (`connect`) makes one attempt at one directory and says whether another attempt, there or elsewhere,
//! can help ([`Attempt`]). Where the server has to answer it is state with a deadline ([`Handshake`]). It leaves no file
//! behind when it fails or is dropped.
//!
//! **Sending** ([`Outgoing`]) takes whole messages, in order; what it has taken is delivered unless the connection
//! breaks. It never raises `SIGPIPE`. Dropping it, once the halves are apart, ends this direction.
//!
//! **Receiving** ([`Incoming`]) gives whole messages, in order, tells an empty message from the end and the end from a
//! torn message, and allocates nothing on the word of the peer. The first end or fault is final.

pub(crate) mod client_file;
pub(crate) mod fifo;
pub(crate) mod stream;

mod half;
mod halves;
mod packet;
mod reserve;
mod shm;
mod socket;
mod spares;
mod unix;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::admission::{Gate, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::name::directory::Trust;
use crate::name::{Found, Holding};
use crate::options::ClientFilePolicy;
use crate::peer::Peer;
use crate::poller::Interest;
use crate::sys::listen_fds::Passed;
use crate::transport::Transport;
use crate::wait::{Deadline, Waits};
use crate::wire::client_file::{ClientFile, ClientId};
use crate::wire::nonce::Nonce;

use halves::Way;
pub(crate) use halves::{Incoming, Outgoing};
pub(crate) use spares::Spares;

/// The most that one message may have. Small, because every connection has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageMax {
    bytes: u32,
    fds: u8,
}

impl MessageMax {
    /// Of bytes, up to [`frame::MESSAGE_MAX`], and of descriptors, up to [`FDS_MAX`](crate::limits::FDS_MAX).
    pub(crate) fn new(bytes: usize, fds: usize) -> Self {
        Self { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), fds: u8::try_from(fds).unwrap_or(u8::MAX) }
    }

    pub(crate) fn bytes(self) -> usize {
        self.bytes as usize
    }

    pub(crate) fn fds(self) -> usize {
        usize::from(self.fds)
    }
}

/// What a server demands of its clients, for the listeners.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) gate: Arc<Gate>,
    pub(crate) message_max: MessageMax,
    pub(crate) half_open_max: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) client_file: ClientFilePolicy,
    pub(crate) ring_size: usize,
    pub(crate) mode: u32,
    pub(crate) group: Option<u32>,
    pub(crate) backlog: u32,
}

/// A connection that has been made.
pub(crate) struct Link {
    pub(crate) transport: Transport,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) peer: Peer,
    /// The server's count of connections.
    pub(crate) permit: Option<Permit>,
}

pub(crate) enum Listener {
    Shm(shm::Listener),
    Packet(socket::Listener),
    Unix(socket::Listener),
    Fifo(fifo::Listener),
}

impl Listener {
    /// Makes the point of contact and asks the poller to watch it.
    pub(crate) fn bind(transport: Transport, holding: &Holding, terms: &Terms, interest: Interest) -> Result<Self> {
        match transport {
            Transport::Shm => shm::Listener::bind(holding, terms, interest).map(Self::Shm),
            Transport::Packet => socket::Listener::bind(packet::KIND, holding, terms, interest).map(Self::Packet),
            Transport::Unix => socket::Listener::bind(unix::KIND, holding, terms, interest).map(Self::Unix),
            Transport::Fifo => fifo::Listener::bind(holding, terms, interest).map(Self::Fifo),
        }
    }

    /// Goes on with a point of contact that somebody else made, and that is theirs to remove.
    pub(crate) fn adopt(
        transport: Transport,
        passed: Passed,
        holding: &Holding,
        terms: &Terms,
        interest: Interest,
    ) -> Result<Self> {
        match transport {
            Transport::Shm => shm::Listener::adopt(passed, holding, terms, interest).map(Self::Shm),
            Transport::Packet => {
                socket::Listener::adopt(packet::KIND, passed, holding, terms, interest).map(Self::Packet)
            }
            Transport::Unix => socket::Listener::adopt(unix::KIND, passed, holding, terms, interest).map(Self::Unix),
            Transport::Fifo => {
                let detail = "a FIFO cannot be handed over: each server makes a new one";
                Err(Error::new(ErrorKind::Unsupported, "take over", holding.show(transport.file_name()), detail))
            }
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Shm(_) => Transport::Shm,
            Self::Packet(_) => Transport::Packet,
            Self::Unix(_) => Transport::Unix,
            Self::Fifo(_) => Transport::Fifo,
        }
    }

    /// Moves on what the poller reported under `token`, and gives the client whose handshake that completed.
    pub(crate) fn advance(&mut self, token: u32, holding: &Holding) -> Result<Option<Link>> {
        match self {
            Self::Shm(listener) => listener.advance(token, holding),
            Self::Packet(listener) => listener.advance(holding, packet::link),
            Self::Unix(listener) => listener.advance(holding, unix::link),
            Self::Fifo(listener) => listener.advance(token, holding),
        }
    }

    /// When [`expire`](Self::expire) wants to be called next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Shm(listener) => listener.deadline(),
            Self::Packet(listener) | Self::Unix(listener) => listener.deadline(),
            Self::Fifo(listener) => listener.deadline(),
        }
    }

    /// Ends what has taken too long by `now`.
    pub(crate) fn expire(&mut self, holding: &Holding, now: Instant) -> Result<()> {
        match self {
            Self::Shm(listener) => listener.expire(now),
            Self::Packet(listener) | Self::Unix(listener) => listener.expire(now),
            Self::Fifo(listener) => {
                listener.expire(holding, now);
                Ok(())
            }
        }
    }

    /// Whether a client file of this age may belong to a client that is on its way in.
    pub(crate) fn may_need(&self, id: &ClientId, file: ClientFile, age: Duration) -> bool {
        match self {
            Self::Shm(listener) => listener.socket().may_wait(file, age),
            Self::Packet(listener) | Self::Unix(listener) => listener.may_wait(file, age),
            Self::Fifo(listener) => listener.knows(id),
        }
    }

    /// Notes that nobody was waiting at this time.
    pub(crate) fn queue_is_empty(&mut self, now: Instant) {
        match self {
            Self::Shm(listener) => listener.queue_is_empty(now),
            Self::Packet(listener) | Self::Unix(listener) => listener.queue_is_empty(now),
            Self::Fifo(_) => {}
        }
    }

    /// Whether the file that clients find is still the one that was made. An error: that cannot be said at present.
    pub(crate) fn is_still_there(&self, holding: &Holding) -> std::result::Result<bool, Errno> {
        match self {
            Self::Shm(listener) => listener.socket().is_still_there(holding),
            Self::Packet(listener) | Self::Unix(listener) => listener.is_still_there(holding),
            Self::Fifo(listener) => listener.is_still_there(holding),
        }
    }

    /// Whether the file is somebody else's to remove.
    pub(crate) fn is_adopted(&self) -> bool {
        match self {
            Self::Shm(listener) => listener.socket().is_adopted(),
            Self::Packet(listener) | Self::Unix(listener) => listener.is_adopted(),
            Self::Fifo(_) => false,
        }
    }

    /// Removes that file, if it is, and is ours, and leaves those who have not been accepted: puts `instead` in the place
    /// of what they are connected to. For a signal handler: allocates and frees nothing.
    pub(crate) fn release(&mut self, holding: &Holding, instead: BorrowedFd<'_>) -> io::Result<()> {
        let removed = match self.is_adopted() || self.is_still_there(holding) != Ok(true) {
            true => Ok(()),
            false => crate::name::directory::remove(holding.directory(), self.transport().file_name()),
        };
        removed.and(match self {
            Self::Shm(listener) => listener.socket_mut().close_in_place(instead),
            Self::Packet(listener) | Self::Unix(listener) => listener.close_in_place(instead),
            Self::Fifo(listener) => listener.close_in_place(instead),
        })
    }

    /// Removes that file, if it is, and is ours.
    pub(crate) fn close(self, holding: &Holding) -> Result<()> {
        if self.is_adopted() || self.is_still_there(holding) != Ok(true) {
            return Ok(());
        }
        let file_name = self.transport().file_name();
        crate::name::directory::remove(holding.directory(), file_name)
            .map_err(|error| Error::io("remove", holding.show(file_name), error))
    }
}

/// What a client demands of its server.
pub(crate) struct ClientTerms {
    /// The server must run as this user; by default as we do, or as root.
    pub(crate) server_uid: Option<u32>,
    pub(crate) client_file: bool,
    pub(crate) message_max: MessageMax,
    pub(crate) ring_size: usize,
}

impl ClientTerms {
    /// Whether a server of this user is one that the client wants to talk to.
    pub(crate) fn accepts(&self, uid: Option<u32>) -> bool {
        match (uid, self.server_uid) {
            (Some(uid), Some(expected)) => uid == expected,
            (Some(uid), None) => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            (None, _) => false,
        }
    }

    /// The error for a server that is not.
    pub(crate) fn refuse(&self, path: &str, uid: Option<u32>) -> Error {
        let expected = match self.server_uid {
            Some(uid) => format!("uid {uid}"),
            None => format!("uid {} or root", rustix::process::geteuid().as_raw()),
        };
        let found = uid.map_or("an unknown user".to_owned(), |uid| format!("uid {uid}"));
        Error::new(ErrorKind::Denied, "connect to", path, format!("it belongs to {found}, not to {expected}"))
            .next("if that is the server you mean, say so with its uid as the expected one")
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::own().and(self.server_uid)
    }
}

/// Why an attempt to connect failed, for the caller to decide what to do next.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Nobody is there; somebody may be elsewhere, or later.
    Absent(Error),
    /// Somebody is there and has no time; try again soon.
    Again(Error),
    /// Trying again cannot help.
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How far an attempt to connect has come.
pub(crate) enum Progress {
    Done(Box<Link>),
    /// The server has to answer first.
    Waiting(Handshake),
}

/// Begins one attempt to connect through the directory of a name; until `deadline` the server may answer.
pub(crate) fn connect(
    transport: Transport,
    found: &Found,
    terms: &ClientTerms,
    deadline: Deadline,
) -> Result<Progress, Attempt> {
    let done = |link: Link| Ok(Progress::Done(Box::new(link)));
    match transport {
        Transport::Shm => shm::Handshake::begin(found, terms, deadline)?.step(found, terms),
        Transport::Packet => done(socket::connect(packet::KIND, found, terms)?.link(packet::link, terms.message_max)),
        Transport::Unix => done(socket::connect(unix::KIND, found, terms)?.link(unix::link, terms.message_max)),
        Transport::Fifo => fifo::Handshake::begin(found, terms, deadline)?.step(found, terms),
    }
}

/// An attempt that waits for the server. Dropped it leaves no file behind.
pub(crate) enum Handshake {
    Shm(Box<shm::Handshake>),
    Fifo(Box<fifo::Handshake>),
}

impl Handshake {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Shm(_) => Transport::Shm,
            Self::Fifo(_) => Transport::Fifo,
        }
    }

    /// Goes on with what has come. After its deadline it fails.
    pub(crate) fn step(self, found: &Found, terms: &ClientTerms) -> Result<Progress, Attempt> {
        match self {
            Self::Shm(handshake) => handshake.step(found, terms),
            Self::Fifo(handshake) => handshake.step(found, terms),
        }
    }

    /// What the next step waits for.
    pub(crate) fn waits(&self) -> Waits<'_> {
        match self {
            Self::Shm(handshake) => handshake.waits(),
            Self::Fifo(handshake) => handshake.waits(),
        }
    }
}

/// 128 bits that nobody can guess.
/// What a client is told whom the server cannot take in, because something of its own failed.
fn failed_there(path: &str) -> Error {
    Error::new(
        ErrorKind::Busy,
        "connect to",
        path,
        "the server could not let us in, because something failed on its side",
    )
    .next("try again; if it goes on, look at the server's log")
}

fn random_nonce() -> Result<Nonce> {
    let mut bytes = [0; Nonce::LEN];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("draw", "random bytes", errno)),
        }
    }
    Ok(Nonce::from_bytes(bytes))
}

/// What ends a connection, or this direction of it.
#[derive(Debug)]
pub(crate) enum Fault {
    Disconnected,
    /// The peer has gone without reading all that we sent.
    Reset,
    Truncated,
    /// The peer sent what has no meaning.
    Protocol(&'static str),
    TooLong {
        length: usize,
    },
    /// The other side takes no descriptors. Nothing was sent, and the connection is as before.
    FdsRefused,
    /// Descriptors came that this side does not have, and their message is worth nothing without.
    Fds(LostFds),
    Io(io::Error),
}

/// Why descriptors that have come were closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostFds {
    NotAllowed,
    TooMany {
        came: u16,
        allowed: u16,
    },
    /// This process can have no more open.
    TableFull,
}

impl LostFds {
    /// Neither can be more than the kernel sends with two messages.
    fn too_many(came: usize, allowed: usize) -> Self {
        let small = |count| u16::try_from(count).unwrap_or(u16::MAX);
        Self::TooMany { came: small(came), allowed: small(allowed) }
    }
}

impl Fault {
    fn from_write(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
                Self::Disconnected
            }
            io::ErrorKind::Unsupported => Self::FdsRefused,
            _ => Self::Io(error),
        }
    }
}

/// What one try to receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A whole message, in the caller's `Vec`.
    Message,
    /// None yet: wait until the descriptor is readable.
    Empty,
    /// The other side has ended this direction, between messages.
    Closed,
}
