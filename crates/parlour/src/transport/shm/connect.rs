//! The client's side of the handshake: it says hello first, so that one round trip is all.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;

use super::greeting::{self, Heard, Unheard};
use super::{KIND, link};
use crate::error::{Error, ErrorKind};
use crate::name::Found;
use crate::shm::mapping::Mapping;
use crate::transport::socket::{self, Connected};
use crate::transport::{Attempt, ClientTerms, Link};
use crate::wait::{Deadline, wait_for};
use crate::wire::hello::Reason;

/// One attempt to connect; see the contract in [`transport`](crate::transport).
pub(in crate::transport) fn connect(found: &Found, terms: &ClientTerms, deadline: Deadline) -> Result<Link, Attempt> {
    let path = KIND.path(found);
    let failed = |error: io::Error| Attempt::Failed(Error::io("connect to", &*path, error));
    let Connected { socket, peer, own_file } = socket::connect(KIND, found, terms)?;
    let (mine, memfd) = Mapping::create(terms.ring_size)
        .map_err(|error| Error::io("make shared memory for a connection to", &*path, error))?;
    match greeting::send_hello(&socket, terms.ring_size, &memfd) {
        Ok(()) => {}
        // It has ended the socket, and may have said why before.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        Err(error) => return Err(failed(error)),
    }
    // The server has it, or nobody needs it.
    drop(memfd);
    let theirs = await_answer(&socket, found, &path, deadline)?;
    // The server has seen it, and removed it. Until here we would have.
    if let Some(own_file) = own_file {
        own_file.leave_to_the_server();
    }
    link(socket, (mine, theirs), peer, None, terms.message_max).map_err(failed)
}

/// Waits for the server's memory, for its refusal, for its end and for the deadline.
fn await_answer(socket: &OwnedFd, found: &Found, path: &str, deadline: Deadline) -> Result<Mapping, Attempt> {
    let error = |kind: ErrorKind, detail: String| Error::new(kind, "connect to", path, detail);
    loop {
        match greeting::hear(socket) {
            Ok(Heard::Hello(theirs)) => return Ok(theirs),
            Ok(Heard::Nothing) => {}
            Ok(Heard::Refused(Reason::Denied)) => {
                let detail = "the server's policy does not let us in".to_owned();
                return Err(Attempt::Failed(error(ErrorKind::Refused, detail)));
            }
            Ok(Heard::Refused(Reason::Busy)) => {
                let detail = "the server has all the clients that it may have".to_owned();
                return Err(Attempt::Again(
                    error(ErrorKind::Busy, detail).next("try again later, or raise its limits"),
                ));
            }
            Ok(Heard::End) => {
                let detail = "the server ended the handshake".to_owned();
                let busy = error(ErrorKind::Busy, detail).next("try again; if it goes on, look at the server's log");
                return Err(socket::not_served(found, path, busy));
            }
            Err(Unheard::Io(failure)) => {
                return Err(Attempt::Failed(Error::io("connect to", path, failure)));
            }
            Err(unheard) => return Err(Attempt::Failed(error(ErrorKind::Protocol, unheard.to_string()))),
        }
        let ready = wait_for(socket.as_fd(), PollFlags::IN, deadline)
            .map_err(|failure| Attempt::Failed(Error::io("connect to", path, failure)))?;
        if !ready {
            let detail = "the server has our hello and does not answer".to_owned();
            return Err(Attempt::Failed(
                error(ErrorKind::TimedOut, detail)
                    .next("the server is stopped or overloaded; try again, or allow more time"),
            ));
        }
    }
}
