//! The server's side of the handshake: a table of clients that have connected and not said hello yet, each with a
//! deadline.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::greeting::{self, HandshakeError, Reply};
use super::{Incoming, KIND, Outgoing, establish};
use crate::admission::{Admission, Permit};
use crate::backend::attempt::Established;
use crate::backend::config::{ListenConfig, MessageMax};
use crate::backend::fd_reserve::{Reserve, explain};
use crate::backend::socket::{self, Accepted};
use crate::error::Result;
use crate::name::NameGuard;
use crate::peer::Peer;
use crate::poller::Interest;
use crate::shm::mapping::Mapping;
use crate::sys::listen_fds::Passed;
use crate::transport::Transport;
use crate::wire::hello::Reason;

pub(crate) struct Listener {
    socket: socket::Listener,
    handshakes: Vec<Option<Handshake>>,
    handshake_timeout: Duration,
    interest: Interest,
    admission: Arc<Admission>,
    ring_size: usize,
    message_max: MessageMax,
}

/// A client that has been let in and has not said hello yet.
struct Handshake {
    socket: OwnedFd,
    peer: Peer,
    permit: Permit,
    deadline: Instant,
}

impl Listener {
    pub(in crate::backend) fn bind(guard: &NameGuard, config: &ListenConfig, interest: Interest) -> Result<Self> {
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

    fn new(socket: socket::Listener, config: &ListenConfig, interest: Interest) -> Self {
        Self {
            // It has registered itself under token 0.
            socket,
            handshakes: std::iter::repeat_with(|| None).take(config.half_open_max).collect(),
            handshake_timeout: config.handshake_timeout,
            interest,
            admission: Arc::clone(&config.admission),
            ring_size: config.ring_size,
            message_max: config.message_max,
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
        match token.checked_sub(1) {
            Some(number) => Ok(self.advance_handshake(number as usize)),
            None => self.accept(guard),
        }
    }

    /// Lets a client in. It says hello as soon as it is connected, so that there is often nothing to wait for.
    fn accept(&mut self, guard: &NameGuard) -> Result<Option<Established<Outgoing, Incoming>>> {
        let Some(accepted) = self.socket.accept(guard, |socket, reason| greeting::refuse(socket, reason))? else {
            return Ok(None);
        };
        let Accepted { socket, peer, permit } = accepted;
        let deadline = Instant::now() + self.handshake_timeout;
        let handshake = Handshake { socket, peer, permit, deadline };
        match greeting::recv_hello(&handshake.socket) {
            Ok(Reply::Nothing) => {
                self.note(handshake);
                Ok(None)
            }
            reply => Ok(self.complete(handshake, reply)),
        }
    }

    /// Keeps a client whose greeting is to come.
    fn note(&mut self, handshake: Handshake) {
        let Some(number) = self.handshakes.iter().position(Option::is_none) else {
            let why = format!("{} handshakes are under flavor", self.handshakes.len());
            return self.give_up(handshake, Reason::Busy, &why);
        };
        match self.interest.add_readable(&handshake.socket, number as u32 + 1) {
            Ok(()) => {
                tracing::debug!(transport = %Transport::Shm, peer = %handshake.peer, "handshake begun");
                self.handshakes[number] = Some(handshake);
            }
            Err(errno) => self.give_up(handshake, Reason::Failed, &format!("it cannot be waited for: {errno}")),
        }
    }

    fn advance_handshake(&mut self, number: usize) -> Option<Established<Outgoing, Incoming>> {
        let place = self.handshakes.get_mut(number)?;
        let reply = greeting::recv_hello(&place.as_ref()?.socket);
        if matches!(reply, Ok(Reply::Nothing)) {
            return None;
        }
        let handshake = place.take()?;
        self.interest.remove(&handshake.socket);
        self.complete(handshake, reply)
    }

    /// Answers a client that has said hello, with our own memory.
    fn complete(
        &self,
        handshake: Handshake,
        reply: Result<Reply, greeting::HandshakeError>,
    ) -> Option<Established<Outgoing, Incoming>> {
        let theirs = match reply {
            Ok(Reply::Hello(theirs)) => theirs,
            Ok(Reply::End | Reply::Nothing) => {
                self.give_up(handshake, Reason::Denied, "it went away during the handshake");
                return None;
            }
            Ok(Reply::Refused(_)) => {
                self.give_up(handshake, Reason::Denied, "its greeting is one of servers");
                return None;
            }
            Err(HandshakeError::Io(error)) => {
                let why = format!("its greeting cannot be received: {}", explain(&error));
                self.give_up(handshake, reason_of(&error), &why);
                return None;
            }
            Err(bad) => {
                self.give_up(handshake, Reason::Denied, &bad.to_string());
                return None;
            }
        };
        let answered = self.answer(&handshake.socket);
        let Handshake { socket, peer, permit, deadline } = handshake;
        let failed = |error: io::Error| format!("it cannot be answered: {}", explain(&error));
        let mine = match answered {
            Ok(mine) => mine,
            Err(error) => {
                let reason = reason_of(&error);
                self.give_up(Handshake { socket, peer, permit, deadline }, reason, &failed(error));
                return None;
            }
        };
        match establish(socket, (mine, theirs), peer.clone(), Some(permit), self.message_max) {
            Ok(established) => {
                tracing::debug!(transport = %Transport::Shm, %peer, "client connected");
                Some(established)
            }
            Err(error) => {
                self.admission.refuse(Transport::Shm, Some(peer), failed(error));
                None
            }
        }
    }

    fn answer(&self, socket: &OwnedFd) -> io::Result<Mapping> {
        let (mine, memfd) = Mapping::create(self.ring_size)?;
        greeting::send_hello(socket, self.ring_size, &memfd)?;
        Ok(mine)
    }

    fn give_up(&self, handshake: Handshake, reason: Reason, why: &str) {
        greeting::refuse(&handshake.socket, reason);
        self.admission.refuse(Transport::Shm, Some(handshake.peer), why);
    }

    pub(in crate::backend) fn note_queue_drained(&mut self, now: Instant) {
        self.socket.note_queue_drained(now);
    }

    pub(in crate::backend) fn deadline(&self) -> Option<Instant> {
        let handshakes = self.handshakes.iter().flatten().map(|handshake| handshake.deadline);
        handshakes.chain(self.socket.deadline()).min()
    }

    /// Ends handshakes that are late. One whose greeting is there in time is not, however late we come to hear it.
    pub(in crate::backend) fn expire(&mut self, now: Instant) -> Result<()> {
        for number in 0..self.handshakes.len() {
            let late = self.handshakes[number].take_if(|handshake| handshake.is_late(now));
            if let Some(handshake) = late {
                self.interest.remove(&handshake.socket);
                self.give_up(handshake, Reason::Busy, "it did not say hello in time");
            }
        }
        self.socket.expire(now)
    }
}

/// What a client is told whom this keeps out.
fn reason_of(error: &io::Error) -> Reason {
    match Errno::from_io_error(error) {
        Some(errno) if Reserve::is_for(errno) => Reason::Busy,
        _ => Reason::Failed,
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for handshake in self.handshakes.iter().flatten() {
            self.interest.remove(&handshake.socket);
        }
    }
}

impl Handshake {
    fn is_late(&self, now: Instant) -> bool {
        if self.deadline > now {
            return false;
        }
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        let has_more = poll(&mut fds, Some(&no_wait)).is_ok() && fds[0].revents().contains(PollFlags::IN);
        !has_more
    }
}
