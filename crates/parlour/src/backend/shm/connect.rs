//! The client's side of the handshake: it says hello first, so that one round trip is all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;

use super::greeting::{self, HandshakeError, Reply};
use super::{Incoming, KIND, Outgoing, establish};
use crate::backend::attempt::{Attempt, Established, Progress, failed_there};
use crate::backend::client_file::OwnFile;
use crate::backend::config::ConnectConfig;
use crate::backend::socket::{self, Connected};
use crate::error::{Error, ErrorKind, Operation};
use crate::name::Found;
use crate::peer::Peer;
use crate::shm::mapping::Mapping;
use crate::wait::{Deadline, WaitSet};
use crate::wire::hello::Reason;

/// A client that has said hello. See the contract in [`backend`](super::super).
pub(crate) struct Handshake {
    socket: OwnedFd,
    peer: Peer,
    /// Ours to remove until the server has answered.
    own_file: Option<OwnFile>,
    mine: Mapping,
    deadline: Deadline,
}

impl Handshake {
    /// Connects the socket and says hello.
    pub(in crate::backend) fn begin(
        found: &Found,
        config: &ConnectConfig,
        deadline: Deadline,
    ) -> Result<Box<Self>, Attempt> {
        let path = KIND.path(found);
        let Connected { socket, peer, own_file } = socket::connect(KIND, found, config)?;
        let (mine, memfd) = Mapping::create(config.ring_size)
            .map_err(|error| Error::io(Operation::CreateSharedMemory, &*path, error))?;
        match greeting::send_hello(&socket, config.ring_size, &memfd) {
            Ok(()) => {}
            // It has ended the socket, and may have said why before.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            Err(error) => return Err(Attempt::Failed(Error::io(Operation::Connect, path, error))),
        }
        // The server has it, or nobody needs it: the descriptor ends here.
        Ok(Box::new(Self { socket, peer, own_file, mine, deadline }))
    }

    /// Looks for the server's memory, for its refusal, for its end and at the deadline.
    pub(in crate::backend) fn step(
        self: Box<Self>,
        found: &Found,
        config: &ConnectConfig,
    ) -> Result<Progress<Established<Outgoing, Incoming>, Box<Self>>, Attempt> {
        let path = KIND.path(found);
        let error = |kind: ErrorKind, detail: String| Error::new(kind, Operation::Connect, &*path, detail);
        match greeting::recv_hello(&self.socket) {
            Ok(Reply::Hello(theirs)) => {
                let Self { socket, peer, own_file, mine, .. } = *self;
                // The server has seen it, and removed it. Until here we would have.
                if let Some(own_file) = own_file {
                    own_file.leave_to_the_server();
                }
                let established = establish(socket, (mine, theirs), peer, None, config.message_max)
                    .map_err(|failure| Error::io(Operation::Connect, &*path, failure))?;
                Ok(Progress::Done(established))
            }
            Ok(Reply::Nothing) if self.deadline.is_over() => {
                let detail = "the server has our hello and does not answer".to_owned();
                Err(Attempt::Failed(
                    error(ErrorKind::TimedOut, detail)
                        .next("the server is stopped or overloaded; try again, or allow more time"),
                ))
            }
            Ok(Reply::Nothing) => Ok(Progress::Waiting(self)),
            Ok(Reply::Refused(Reason::Denied)) => {
                let detail = "the server's policy does not let us in".to_owned();
                Err(Attempt::Failed(error(ErrorKind::Refused, detail)))
            }
            Ok(Reply::Refused(Reason::Busy)) => {
                let detail = "the server has all the clients that it may have".to_owned();
                Err(Attempt::Again(error(ErrorKind::Busy, detail).next("try again later, or raise its limits")))
            }
            Ok(Reply::Refused(Reason::Failed)) => Err(Attempt::Again(failed_there(&path))),
            Ok(Reply::End) => {
                let detail = "the server ended the handshake".to_owned();
                let busy = error(ErrorKind::Busy, detail).next("try again; if it goes on, look at the server's log");
                Err(socket::not_served(found, &path, busy))
            }
            Err(HandshakeError::Io(failure)) => Err(Attempt::Failed(Error::io(Operation::Connect, path, failure))),
            Err(bad) => Err(Attempt::Failed(error(ErrorKind::Protocol, bad.to_string()))),
        }
    }

    pub(in crate::backend) fn wait_set(&self) -> WaitSet<'_> {
        WaitSet::until(self.deadline).and(self.socket.as_fd(), PollFlags::IN)
    }
}
