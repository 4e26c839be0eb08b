//! The state that both halves of a connection share, and the conversion of faults into errors.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};

use crate::admission::Permit;
use crate::backend::attempt::refused;
use crate::backend::fault::{Fault, LostFds};
use crate::error::{Error, ErrorKind, Operation};
use crate::peer::Peer;
use crate::shm::stats::{Direction, Tally};
use crate::standby::{Standby, Turns};
use crate::sys::fork::Process;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait, wait_for};
use crate::wire::stats::WaitKind;
use crate::wire::tap::Event;

/// The state that both halves share.
pub(crate) struct Common {
    /// The server's name in quotes, for error texts and logs. Without a server, the words for the other end.
    pub(crate) display_name: Arc<str>,
    pub(crate) other_side: OtherSide,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    /// The longest message in bytes, in both directions.
    pub(crate) message_max: usize,
    /// The number of times that a blocking call polls before it sleeps.
    pub(crate) spin_limit: u32,
    pub(crate) process: Process,
    /// Counts the messages until the next look for a hand-over.
    pub(crate) turns: Turns,
    /// Keeps the connection counted by its server until both halves are dropped.
    pub(crate) permit: Option<Permit>,
}

impl Drop for Common {
    fn drop(&mut self) {
        // In a forked child only the copy ends. A subscriber may need a lock that a thread of the parent held.
        if !self.process.is_before_fork() {
            tracing::debug!(server = %self.display_name, transport = %self.transport, peer = %self.peer, "disconnected");
        }
    }
}

impl Common {
    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation, detail: impl Into<Cow<'static, str>>) -> Error {
        Error::new(kind, operation, self.object(), detail)
    }

    pub(crate) fn io(&self, operation: Operation, error: io::Error) -> Error {
        Error::io(operation, self.object(), error)
    }

    pub(crate) fn object(&self) -> String {
        self.other_side.describe(&self.display_name, &self.peer)
    }

    pub(crate) fn fault(&self, operation: Operation, fault: Fault) -> Error {
        error_of(fault, operation, self.object(), self.other_side, self.message_max)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.transport.capabilities(self.message_max)
    }

    /// Returns the counters of the connection, on the side of a server that counts.
    #[inline]
    pub(crate) fn tally(&self) -> Option<&Tally> {
        self.permit.as_ref()?.tally()
    }

    /// Counts a message. The caller has the half of this direction. Returns true if the message is to be given to
    /// [`record`](Self::record), unless that was done before.
    #[inline]
    pub(crate) fn count(&self, direction: Direction, bytes: usize) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.count(direction, bytes))
    }

    /// Returns true if messages are to be given to [`record`](Self::record).
    #[inline]
    pub(crate) fn is_tapped(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_tapped)
    }

    /// Records a message for the processes that tap the server, on its side. Returns true if it was recorded.
    #[cold]
    pub(crate) fn record(&self, event: Event, descriptors: usize, parts: &[IoSlice<'_>]) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.record(event, descriptors, parts))
    }

    /// Notes that the half of this direction is about to sleep.
    pub(crate) fn note_waiting(&self, direction: Direction, kind: WaitKind) {
        if let Some(tally) = self.tally() {
            tally.note_waiting(direction, kind);
        }
    }

    /// Notes that the half of this direction does not wait any more.
    #[inline]
    pub(crate) fn note_awake(&self, direction: Direction) {
        if let Some(tally) = self.tally() {
            tally.note_awake(direction);
        }
    }

    pub(crate) fn standby(&self) -> Option<&Standby> {
        self.permit.as_ref()?.standby()
    }

    /// Sleeps like [`wait_for`], and hands the name of the server over meanwhile if a process asks for it.
    #[inline(never)]
    pub(crate) fn sleep(&self, fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<bool> {
        match self.standby() {
            Some(standby) => standby.wait(&mut [PollFd::from_borrowed_fd(fd, events), standby.entry()], deadline),
            None => wait_for(fd, events, deadline),
        }
    }

    /// Sleeps like [`sleep`](Self::sleep) until this side may receive or send.
    #[inline(never)]
    pub(crate) fn sleep_both_ways(
        &self,
        incoming: BorrowedFd<'_>,
        outgoing: BorrowedFd<'_>,
        deadline: Deadline,
    ) -> io::Result<bool> {
        let receiving = PollFd::from_borrowed_fd(incoming, PollFlags::IN);
        let sending = PollFd::from_borrowed_fd(outgoing, PollFlags::OUT);
        match self.standby() {
            Some(standby) => standby.wait(&mut [receiving, sending, standby.entry()], deadline),
            None => wait(&mut [receiving, sending], deadline),
        }
    }

    /// Sleeps like [`sleep`](Self::sleep) until one of three descriptors is ready, and returns their events, or `None`
    /// after the deadline.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn sleep_on(&self, fds: [PollFd<'_>; 3], deadline: Deadline) -> io::Result<Option<[PollFlags; 3]>> {
        let (is_ready, fds) = match self.standby() {
            Some(standby) => {
                let [one, two, three] = fds;
                let mut fds = [one, two, three, standby.entry()];
                let is_ready = standby.wait(&mut fds, deadline)?;
                let [one, two, three, _] = fds;
                (is_ready, [one, two, three])
            }
            None => {
                let mut fds = fds;
                (wait(&mut fds, deadline)?, fds)
            }
        };
        Ok(is_ready.then(|| fds.map(|fd| fd.revents())))
    }

    /// Hands the name of the server over if a process asks for it. For a thread that is never asleep, once in a number
    /// of messages.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_up(&self) {
        match self.standby() {
            Some(standby) => standby.look(&self.turns),
            None => self.turns.rest(),
        }
    }

    /// Formats a half, under the name `what`, for `Debug`.
    pub(crate) fn debug(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        f.debug_struct(what)
            .field("server", &self.display_name)
            .field("transport", &self.transport)
            .field("peer", &format_args!("{}", self.peer))
            .finish_non_exhaustive()
    }
}

/// The peer of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherSide {
    Server,
    /// A client of a server in this process.
    Client,
    /// The other end of a pair, for which there is no server.
    End,
}

impl OtherSide {
    /// Describes the peer for error texts: the server by its name, or one of its clients. The process id, or the user
    /// if there is none, tells clients apart.
    pub(crate) fn describe(self, display_name: &str, peer: &Peer) -> String {
        let which = match (peer.pid(), peer.uid()) {
            (Some(pid), _) => format!(" (pid {pid})"),
            (None, Some(uid)) => format!(" (uid {uid})"),
            (None, None) => String::new(),
        };
        match self {
            Self::Server | Self::End => format!("{display_name}{which}"),
            Self::Client => format!("a client of {display_name}{which}"),
        }
    }

    /// Returns the next step after the end of a connection.
    fn step(self, for_a_client: &'static str) -> &'static str {
        match self {
            Self::Server => for_a_client,
            Self::Client => "drop this connection; the client may connect again",
            Self::End => "drop this connection; the two ends of a pair cannot connect again",
        }
    }
}

/// Converts a fault of a connection to this peer into the error that the caller gets.
pub(crate) fn error_of(
    fault: Fault,
    operation: Operation,
    object: String,
    other_side: OtherSide,
    message_max: usize,
) -> Error {
    let error = |kind, detail: Cow<'static, str>| Error::new(kind, operation, object.clone(), detail);
    match fault {
        Fault::Disconnected => error(ErrorKind::Disconnected, "the peer has disconnected or does not receive".into())
            .next(other_side.step("connect again")),
        Fault::Reset => {
            error(ErrorKind::Disconnected, "the peer disconnected without reading all that this side sent".into())
                .next(other_side.step("connect again; the peer rejected the connection, ended early or died"))
                .after_reset()
        }
        // A hub ends the connection of a client whose write buffer is full, wherever in a message that happens.
        Fault::Truncated => {
            error(ErrorKind::Truncated, "the peer disconnected mid-message".into()).next(other_side.step(
                "connect again; the messages received before are complete; the server or its host died, or ended the \
                 connection because this client received too slowly or violates its protocol",
            ))
        }
        Fault::Refused(reason) => refused(reason, operation, object),
        Fault::TooLong { length } => error(
            ErrorKind::MessageTooLong,
            format!("the message has {length} bytes and {message_max} are allowed").into(),
        )
        .next("split the message, or raise message_max on both sides"),
        Fault::FdsRefused => error(ErrorKind::Refused, "the peer allows no descriptors; nothing was sent".into())
            .next("set the option fds_max of the peer"),
        Fault::Fds(LostFds::NotAllowed) => {
            error(ErrorKind::Protocol, "the peer sent descriptors with a message, and none are allowed".into())
                .next("set the option fds_max of this side, and connect again")
        }
        Fault::Fds(LostFds::TooMany { came, allowed }) => error(
            ErrorKind::Protocol,
            format!("the peer sent {came} descriptors with a message, and {allowed} are allowed").into(),
        )
        .next("raise the option fds_max of this side, and connect again"),
        Fault::Fds(LostFds::TableFull) => error(
            ErrorKind::Io,
            "the descriptor table of this process is full, so the descriptors of a message were lost".into(),
        )
        .next("raise the limit on open descriptors (ulimit -n), and connect again"),
        Fault::Protocol(what) => {
            error(ErrorKind::Protocol, what.into()).next("check that the peer speaks this protocol")
        }
        Fault::NoMemory(limit) => error(
            ErrorKind::Busy,
            format!("a message that has not arrived completely needs more memory: {limit}").into(),
        )
        .next("end this connection, or receive again when other messages are complete; or raise the limit"),
        Fault::Io(failure) => Error::io(operation, object, failure),
    }
}
