//! The server's side of the handshake: a table of clients that have connected and not sent a hello yet, each with a
//! deadline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::greeting::{self, HandshakeError, Reply};
use super::{Incoming, KIND, Outgoing, establish};
use crate::admission::{Admission, Permit, RefusalReason};
use crate::backend::attempt::Established;
use crate::backend::config::{ListenConfig, MessageMax};
use crate::backend::fd_reserve::{Reserve, explain};
use crate::backend::handshakes::{self, Handshakes};
use crate::backend::notice;
use crate::backend::socket::{self, Accepted};
use crate::error::{Error, Operation, Result};
use crate::name::NameGuard;
use crate::peer::Peer;
use crate::poller::Interest;
use crate::shm::mapping::Mapping;
use crate::shm::memfd;
use crate::sys::fork::ParentOnly;
use crate::sys::listen_fds::Passed;
use crate::transport::Transport;
use crate::wire::hello::Reason;

/// The listener of `shm`: a listening socket, and the handshakes of its clients.
pub(crate) struct Listener {
    socket: socket::Listener,
    handshakes: Handshakes<Handshake>,
    interest: Interest,
    admission: Arc<Admission>,
    ring_size: usize,
    peer_ring_max: usize,
    message_max: MessageMax,
    /// True once the server waits for no client any more.
    is_withdrawn: bool,
}

/// The handshake of a client that was admitted and has not sent a hello yet.
struct Handshake {
    socket: OwnedFd,
    peer: Peer,
    permit: Permit,
}

impl Listener {
    pub(in crate::backend) fn bind(guard: &NameGuard, config: &ListenConfig, interest: Interest) -> Result<Self> {
        check_supported(guard)?;
        Ok(Self::new(socket::Listener::bind(KIND, guard, config, interest.clone())?, config, interest))
    }

    pub(in crate::backend) fn adopt(
        passed: Passed,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        Ok(Self::new(socket::Listener::adopt(KIND, passed, guard, config, interest.clone())?, config, interest))
    }

    /// Listens on a new socket, or continues with an inherited one.
    pub(in crate::backend) fn prepare(
        inherited: Option<ParentOnly>,
        guard: &NameGuard,
        config: &ListenConfig,
        interest: Interest,
    ) -> Result<Self> {
        check_supported(guard)?;
        let socket = socket::Listener::prepare(KIND, inherited, guard, config, interest.clone())?;
        Ok(Self::new(socket, config, interest))
    }

    fn new(socket: socket::Listener, config: &ListenConfig, interest: Interest) -> Self {
        Self {
            // The socket has registered itself under token 0, `handshakes::LISTENER`.
            socket,
            handshakes: Handshakes::new(config),
            interest,
            admission: Arc::clone(&config.admission),
            ring_size: config.ring_size,
            peer_ring_max: config.peer_ring_max,
            message_max: config.message_max,
            is_withdrawn: false,
        }
    }

    pub(in crate::backend) fn socket_mut(&mut self) -> &mut socket::Listener {
        &mut self.socket
    }

    pub(in crate::backend) fn socket(&self) -> &socket::Listener {
        &self.socket
    }

    pub(in crate::backend) fn advance(
        &mut self,
        token: u32,
        guard: &NameGuard,
    ) -> Result<Option<Established<Outgoing, Incoming>>> {
        match token {
            handshakes::LISTENER => self.accept(guard),
            token => Ok(self.advance_handshake(token)),
        }
    }

    /// Accepts a client. A client sends its hello as soon as it is connected, so the hello has often arrived already.
    fn accept(&mut self, guard: &NameGuard) -> Result<Option<Established<Outgoing, Incoming>>> {
        let Some(accepted) = self.socket.accept(guard)? else { return Ok(None) };
        let Accepted { socket, peer, permit } = accepted;
        let handshake = Handshake { socket, peer, permit };
        match greeting::recv_hello(&handshake.socket, self.peer_ring_max) {
            Ok(Reply::Nothing) if self.is_withdrawn => {
                self.refuse(handshake, RefusalReason::Limit, ENDING);
                Ok(None)
            }
            Ok(Reply::Nothing) => {
                self.note(handshake);
                Ok(None)
            }
            reply => Ok(self.complete(handshake, reply)),
        }
    }

    /// Begins the handshake of a client whose hello has not arrived yet.
    fn note(&mut self, handshake: Handshake) {
        let vacant = match self.handshakes.vacant() {
            Ok(vacant) => vacant,
            Err(detail) => return self.refuse(handshake, RefusalReason::Limit, &detail),
        };
        match self.interest.add_readable(&handshake.socket, vacant.token()) {
            Ok(()) => {
                tracing::debug!(transport = %Transport::Shm, peer = %handshake.peer, "handshake begun");
                self.handshakes.insert(&vacant, handshake);
            }
            Err(errno) => self.refuse(
                handshake,
                RefusalReason::System,
                &format!("the socket of the client cannot be watched: {errno}"),
            ),
        }
    }

    fn advance_handshake(&mut self, token: u32) -> Option<Established<Outgoing, Incoming>> {
        let reply = greeting::recv_hello(&self.handshakes.get_mut(token)?.socket, self.peer_ring_max);
        if matches!(reply, Ok(Reply::Nothing)) {
            return None;
        }
        let handshake = self.handshakes.remove(token)?;
        self.interest.remove(&handshake.socket);
        self.complete(handshake, reply)
    }

    /// Answers the hello of a client with the memory of this side, or refuses the client.
    fn complete(
        &self,
        handshake: Handshake,
        reply: Result<Reply, greeting::HandshakeError>,
    ) -> Option<Established<Outgoing, Incoming>> {
        let remote = match reply {
            Ok(Reply::Hello(remote)) => remote,
            Ok(Reply::End | Reply::Nothing) => {
                self.refuse(handshake, RefusalReason::Handshake, "the client disconnected during the handshake");
                return None;
            }
            Ok(Reply::Refused(_)) => {
                self.refuse(
                    handshake,
                    RefusalReason::Handshake,
                    "the greeting of the client is one that only servers send",
                );
                return None;
            }
            Err(HandshakeError::Io(error)) => {
                let why = format!("the greeting of the client cannot be received: {}", explain(&error));
                self.refuse(handshake, reason_of(&error), &why);
                return None;
            }
            Err(bad) => {
                self.refuse(handshake, RefusalReason::Handshake, &bad.to_string());
                return None;
            }
        };
        let mut handshake = handshake;
        if let Err(limit) = handshake.permit.take_ring(self.ring_size) {
            self.refuse(handshake, limit.reason(), &limit.to_string());
            return None;
        }
        let answered = self.answer(&handshake.socket);
        let Handshake { socket, peer, permit } = handshake;
        let failed = |error: io::Error| format!("the client cannot be answered: {}", explain(&error));
        let local = match answered {
            Ok(local) => local,
            Err(error) => {
                let reason = reason_of(&error);
                self.refuse(Handshake { socket, peer, permit }, reason, &failed(error));
                return None;
            }
        };
        match establish(socket, (local, remote), peer.clone(), Some(permit), self.message_max) {
            Ok(established) => {
                tracing::debug!(transport = %Transport::Shm, %peer, "client connected");
                Some(established)
            }
            Err(error) => {
                self.admission.refuse(Transport::Shm, Some(peer), reason_of(&error), failed(error));
                None
            }
        }
    }

    fn answer(&self, socket: &OwnedFd) -> io::Result<Mapping> {
        let (local, memfd) = Mapping::create(self.ring_size)?;
        greeting::send_hello(socket, self.ring_size, &memfd)?;
        Ok(local)
    }

    fn refuse(&self, handshake: Handshake, reason: RefusalReason, detail: &str) {
        // Every refusal is counted before the client can see it.
        self.admission.refuse(Transport::Shm, Some(handshake.peer), reason, detail);
        notice::refuse(Transport::Shm, &handshake.socket, Reason::of(reason));
    }

    /// Lets no further client connect. A client that has not sent its hello yet is told to try again: it is not
    /// connected until the server answers the hello.
    pub(in crate::backend) fn withdraw(&mut self) {
        self.is_withdrawn = true;
        self.socket.withdraw();
        for handshake in self.handshakes.take_unanswered() {
            self.interest.remove(&handshake.socket);
            self.refuse(handshake, RefusalReason::Limit, ENDING);
        }
    }

    /// Returns true if no handshake is in progress.
    pub(in crate::backend) fn has_no_handshakes(&self) -> bool {
        self.handshakes.iter().next().is_none()
    }

    /// Returns the earliest deadline of a handshake. The socket has one of its own.
    pub(in crate::backend) fn deadline(&self) -> Option<Instant> {
        self.handshakes.deadline()
    }

    /// Ends the handshakes that are late.
    pub(in crate::backend) fn expire(&mut self, now: Instant) -> Result<()> {
        for handshake in self.handshakes.take_late(now) {
            self.interest.remove(&handshake.socket);
            self.refuse(handshake, RefusalReason::TimedOut, "the client did not say hello in time");
        }
        self.socket.expire(now)
    }
}

fn check_supported(guard: &NameGuard) -> Result<()> {
    memfd::check_supported().map_err(|error| {
        Error::io(Operation::Listen, guard.display_path(Transport::Shm.file_name()), error)
            .next("offer unix or packet, or allow the system call in the sandbox")
    })
}

/// The detail of refusals at the end of the service.
const ENDING: &str = "the server is ending";

/// Returns the reason of a refusal that this error causes.
fn reason_of(error: &io::Error) -> RefusalReason {
    match Errno::from_io_error(error) {
        Some(errno) if Reserve::is_for(errno) => RefusalReason::Descriptors,
        _ => RefusalReason::System,
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for handshake in self.handshakes.iter() {
            self.interest.remove(&handshake.socket);
        }
    }
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
