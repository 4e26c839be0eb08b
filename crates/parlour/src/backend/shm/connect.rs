//! The client's side of the handshake. The client sends its hello first, so the handshake takes one round trip.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;

use super::greeting::{self, HandshakeError, Reply};
use super::{Incoming, KIND, Outgoing, establish};
use crate::backend::attempt::{Attempt, Established, Progress};
use crate::backend::client_file::OwnFile;
use crate::backend::config::ConnectConfig;
use crate::backend::socket::{self, Connected};
use crate::error::{Error, ErrorKind, Operation};
use crate::name::Found;
use crate::peer::Peer;
use crate::shm::mapping::Mapping;
use crate::wait::{Deadline, WaitSet};

/// The handshake of a client that has sent its hello. See the contract in [`backend`](super::super).
pub(crate) struct Handshake {
    socket: OwnedFd,
    peer: Peer,
    /// The client file. This process removes it until the server has answered.
    own_file: Option<OwnFile>,
    local: Mapping,
    deadline: Deadline,
}

impl Handshake {
    /// Connects the socket and sends the hello.
    pub(in crate::backend) fn begin(
        found: &Found,
        config: &ConnectConfig,
        deadline: Deadline,
    ) -> Result<Box<Self>, Attempt> {
        let path = KIND.path(found);
        let Connected { socket, peer, own_file } = socket::connect(KIND, found, config, deadline)?;
        let (local, memfd) = Mapping::create(config.ring_size)
            .map_err(|error| Error::io(Operation::CreateSharedMemory, &*path, error))?;
        match greeting::send_hello(&socket, config.ring_size, &memfd) {
            Ok(()) => {}
            // The server has closed the connection. It may have sent a refusal before, which `step` receives.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            Err(error) => return Err(Attempt::Failed(Error::io(Operation::Connect, path, error))),
        }
        // The memfd is closed here: the server has its duplicate, or the attempt has failed.
        Ok(Box::new(Self { socket, peer, own_file, local, deadline }))
    }

    /// Checks for the server's hello, for its refusal, for end of file and for the deadline.
    pub(in crate::backend) fn step(
        self: Box<Self>,
        found: &Found,
        config: &ConnectConfig,
    ) -> Result<Progress<Established<Outgoing, Incoming>, Box<Self>>, Attempt> {
        let path = KIND.path(found);
        let error = |kind: ErrorKind, detail: String| Error::new(kind, Operation::Connect, &*path, detail);
        match greeting::recv_hello(&self.socket, config.peer_ring_max) {
            Ok(Reply::Hello(remote)) => {
                let Self { socket, peer, own_file, local, .. } = *self;
                // The server has removed the client file. Before its answer, this process would have to.
                if let Some(own_file) = own_file {
                    own_file.leave_to_the_server();
                }
                let established = establish(socket, (local, remote), peer, None, config.message_max)
                    .map_err(|failure| Error::io(Operation::Connect, &*path, failure))?;
                Ok(Progress::Done(established))
            }
            Ok(Reply::Nothing) if self.deadline.is_over() => {
                let detail = "the server has the hello but does not answer".to_owned();
                Err(Attempt::Failed(
                    error(ErrorKind::TimedOut, detail)
                        .next("try again, or raise the timeout; the server is stopped or overloaded"),
                ))
            }
            Ok(Reply::Nothing) => Ok(Progress::Waiting(self)),
            Ok(Reply::Refused(reason)) => Err(Attempt::refused(reason, &path)),
            Ok(Reply::End) => {
                let detail = "the server ended the handshake".to_owned();
                let busy =
                    error(ErrorKind::Busy, detail).next("try again; if it fails repeatedly, look at the server's log");
                Err(socket::not_served(found, &path, busy))
            }
            Err(HandshakeError::Io(failure)) => Err(Attempt::Failed(Error::io(Operation::Connect, path, failure))),
            Err(bad) => {
                let step = "check that the server speaks this protocol";
                Err(Attempt::Failed(error(ErrorKind::Protocol, bad.to_string()).next(step)))
            }
        }
    }

    /// Returns the conditions under which to call [`step`](Self::step) again.
    pub(in crate::backend) fn wait_set(&self) -> WaitSet<'_> {
        WaitSet::until(self.deadline).and(self.socket.as_fd(), PollFlags::IN)
    }
}
