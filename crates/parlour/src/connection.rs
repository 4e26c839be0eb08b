//! A private two-way channel of messages, and its two halves.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::error::{Error, ErrorKind, Result, TryRecvError, TrySendError};
use crate::limits::Permit;
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::peer::Peer;
use crate::sys::fork::Process;
use crate::transport::stream::message_len;
use crate::transport::{Capabilities, Fault, Incoming, Link, Outgoing, Received, Transport};
use crate::wait::{Deadline, wait, wait_for};
use crate::wire::frame::HEADER_LEN;

/// How many bytes `feed` gathers before it writes them. Measured: beyond 64 KiB per write nothing is gained.
const FEED_MAX: usize = 64 * 1024;

/// A private two-way channel of messages with one peer.
///
/// Messages arrive whole, in order, at most once. `send` returns when the kernel has the message, which says nothing
/// about the peer having read it; a full channel makes it wait, so a peer that does not read holds its sender up and
/// nothing grows. The other side's end is `None` from `recv`, after everything that it sent.
///
/// Both directions are independent: [`split`](Connection::split) gives one to each of two threads. Dropping the
/// connection, like [`close`](Connection::close), ends both.
///
/// # Poll loops
///
/// [`recv_fd`](Connection::recv_fd) and [`send_fd`](Connection::send_fd) are for waiting, with poll(2) and the like,
/// and for nothing else. One read may bring many messages: before waiting, take them with
/// [`try_recv`](Connection::try_recv) until it says [`Empty`](TryRecvError::Empty), or ask
/// [`has_message`](Connection::has_message).
///
/// # Fork
///
/// A forked child has the connection too. Either process may go on with it while the other drops it (or each takes one
/// direction); the peer sees the end when both have let go.
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

/// The sending half of a [`Connection`]. Dropping it ends this direction: the peer receives `None` after the last
/// message.
pub struct Sender {
    common: Arc<Common>,
    outgoing: Outgoing,
    message_max: usize,
    finished: bool,
    process: Process,
}

/// The receiving half of a [`Connection`]. Dropping it ends this direction: the peer's sends fail.
pub struct Receiver {
    common: Arc<Common>,
    incoming: Incoming,
}

/// What both halves know.
struct Common {
    /// The server's name in quotes, for messages.
    quoted: Arc<str>,
    transport: Transport,
    peer: Peer,
    /// Counts the connection with its server until both halves are gone.
    _permit: Option<Permit>,
}

impl Common {
    fn error(
        &self,
        kind: ErrorKind,
        operation: &'static str,
        detail: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Error {
        Error::new(kind, operation, self.object(), detail)
    }

    fn io(&self, operation: &'static str, error: io::Error) -> Error {
        Error::io(operation, self.object(), error)
    }

    /// The other side, for messages: the name tells which server, the process id which of its clients.
    fn object(&self) -> String {
        match self.peer.pid() {
            Some(pid) => format!("{} (pid {pid})", self.quoted),
            None => self.quoted.to_string(),
        }
    }

    fn fault(&self, operation: &'static str, fault: Fault, message_max: usize) -> Error {
        match fault {
            Fault::Disconnected => self
                .error(ErrorKind::Disconnected, operation, "the other side has gone, or receives no more")
                .next("connect again"),
            Fault::Truncated => self
                .error(ErrorKind::Truncated, operation, "the other side went in the middle of a message")
                .next("connect again; what was received before is whole"),
            Fault::TooLong { length } => self
                .error(
                    ErrorKind::MessageTooLong,
                    operation,
                    format!("the message has {length} bytes and {message_max} are allowed"),
                )
                .next("send it in parts, or raise message_max on both sides"),
            Fault::Io(error) => self.io(operation, error),
        }
    }
}

const SEND: &str = "send to";
const RECV: &str = "receive from";

impl Connection {
    pub(crate) fn new(link: Link, quoted: Arc<str>) -> Self {
        let Link { transport, incoming, outgoing, peer, permit } = link;
        let common = Arc::new(Common { quoted, transport, peer, _permit: permit });
        let sender = Sender {
            common: Arc::clone(&common),
            outgoing,
            message_max: incoming.message_max(),
            finished: false,
            process: Process::current(),
        };
        Self { sender, receiver: Receiver { common, incoming } }
    }

    /// Connects to the server with this name, with the defaults of [`ConnectOptions`].
    ///
    /// Looks through the base directories in order, takes the best transport on offer if the address demands none, and
    /// makes sure that the server runs as this user or root before a byte is sent. Runs no thread and no runtime.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is not one.
    /// - [`ErrorKind::NoServer`]: nobody has the name, or not over this transport.
    /// - [`ErrorKind::Refused`]: the server said no. On `unix` a server that refuses can only end the connection, which
    ///   shows as the end at the first `recv`.
    /// - [`ErrorKind::Denied`]: the server is another user's, or the system does not let us in.
    /// - [`ErrorKind::Busy`], [`ErrorKind::TimedOut`]: the server is there and had no time until the deadline.
    /// - [`ErrorKind::UnsafeDirectory`]: somebody else could interfere with a directory where the server may be.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let mut connection = parlour::Connection::connect("echo")?;
    /// connection.send(b"hello")?;
    /// let reply = connection.recv()?.expect("the server answers");
    /// assert_eq!(reply, b"hello");
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[doc(alias = "connect_to")]
    pub fn connect(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().connect(address)
    }

    /// Sends one message of any length from 0 to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::MessageTooLong`]: nothing was sent, and the connection is as before.
    /// - [`ErrorKind::Disconnected`]: the peer receives no more; no signal is raised.
    #[doc(alias = "send_info")]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.sender.send(message)
    }

    /// [`send`](Connection::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.sender.send_vectored(parts)
    }

    /// [`send`](Connection::send) that gives up after `timeout`. See [`Sender::send_timeout`] for what that means.
    ///
    /// # Errors
    ///
    /// Those of `send`, and [`ErrorKind::TimedOut`]: nothing of the message was sent.
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.sender.send_timeout(message, timeout)
    }

    /// [`send`](Connection::send) that does not wait. See [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back; [`TrySendError::Failed`] has the errors of `send`.
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        self.sender.try_send(message)
    }

    /// Takes a message to go with the next ones. See [`Sender::feed`].
    ///
    /// Before this connection sleeps in `recv` it sends what was fed, so a reply is never waited for in vain.
    ///
    /// # Errors
    ///
    /// Those of `send`.
    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        self.sender.feed(message)
    }

    /// Sends what was fed. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }

    /// [`flush`](Connection::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn try_flush(&mut self) -> Result<bool> {
        self.sender.try_flush()
    }

    /// Blocks until a whole message has arrived. `None`: the other side has ended this direction, and all of its
    /// messages were received.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Truncated`]: the other side went in the middle of a message.
    /// - [`ErrorKind::MessageTooLong`]: it announced more than the limit; nothing was allocated for it, and this
    ///   direction is over.
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        let mut bytes = Vec::new();
        Ok(self.recv_until(&mut bytes, Deadline::NEVER)?.then(|| Message::new(bytes)))
    }

    /// [`recv`](Connection::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end. See
    /// [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of `recv`.
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        self.recv_until(message, Deadline::NEVER)
    }

    /// [`recv`](Connection::recv) that gives up after `timeout`. Part of a message that has arrived by then is kept for
    /// the next call.
    ///
    /// # Errors
    ///
    /// Those of `recv`, and [`ErrorKind::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let mut bytes = Vec::new();
        Ok(self.recv_until(&mut bytes, Deadline::after(timeout))?.then(|| Message::new(bytes)))
    }

    /// [`recv`](Connection::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// Receives, and before it sleeps sends what was fed: the peer may be waiting for it.
    fn recv_until(&mut self, out: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        let Self { sender, receiver } = self;
        let mut flushing = true;
        receiver.recv_until(out, deadline, |receiver_fd| {
            // What cannot be sent is no reason not to receive; the next send tells.
            flushing = flushing && matches!(sender.outgoing.try_flush(), Ok(false));
            match sender.outgoing.fd() {
                Some(sender_fd) if flushing => {
                    let mut fds = [
                        PollFd::from_borrowed_fd(receiver_fd, PollFlags::IN),
                        PollFd::from_borrowed_fd(sender_fd, PollFlags::OUT),
                    ];
                    wait(&mut fds, deadline)
                }
                _ => wait_for(receiver_fd, PollFlags::IN, deadline),
            }
        })
    }

    /// Whether a receive has an answer, a message or the end, that it need not wait for and that
    /// [`recv_fd`](Connection::recv_fd) will not announce: it is here already.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    /// Ends sending, after what was fed is sent; the peer receives `None` after the last message. Receiving goes on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] when the peer has gone before.
    pub fn finish(&mut self) -> Result<()> {
        self.sender.finish()
    }

    /// The two directions, for two threads. From now on, dropping one ends its direction and leaves the other.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, mut receiver } = self;
        sender.outgoing.set_apart();
        receiver.incoming.set_apart();
        (sender, receiver)
    }

    /// Sends what was fed, and ends the connection. Dropping it does the same without waiting: then what a full channel
    /// does not take at once is lost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] when something was still to be sent and the peer has gone.
    #[doc(alias = "disconnect_from")]
    pub fn close(mut self) -> Result<()> {
        self.sender.flush()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.receiver.peer()
    }

    /// A descriptor of the peer's process, for watching its life without the risk that its number is given to another.
    ///
    /// # Errors
    ///
    /// `Unsupported` on transports without kernel credentials (`fifo`); otherwise the system's error. (`SO_PEERPIDFD`,
    /// Linux 6.5.)
    ///
    /// # Platform
    ///
    /// Linux.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        self.receiver.incoming.peer_pidfd()
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.receiver.transport()
    }

    /// What this connection can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.transport().capabilities(self.sender.message_max)
    }

    /// Readable when a receive may go on. For waiting only.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.recv_fd()
    }

    /// Writable when a send may go on; in error or hung up when the peer receives no more. `None` once this side has
    /// finished. For waiting only.
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sender.send_fd()
    }
}

impl Sender {
    /// Sends one message of any length from 0 to the limit. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`].
    #[doc(alias = "send_info")]
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.send_vectored(&[IoSlice::new(message)])
    }

    /// [`send`](Sender::send) of one message that lies in parts, without copying them together.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`].
    pub fn send_vectored(&mut self, parts: &[IoSlice<'_>]) -> Result<()> {
        self.send_until(parts, Deadline::NEVER)
    }

    /// [`send`](Sender::send) that gives up after `timeout`.
    ///
    /// A message that the peer has taken a part of cannot be taken back. If the deadline passes then, the rest is kept,
    /// the call succeeds, and the rest goes out before anything else: with the next `send`, `flush`, or, on a
    /// [`Connection`], while it waits in `recv`. So `Ok` means that the message is on its way, and an error that
    /// nothing of it is, and that sending it again does not double it.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::TimedOut`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<()> {
        self.send_until(&[IoSlice::new(message)], Deadline::after(timeout))
    }

    fn send_until(&mut self, parts: &[IoSlice<'_>], deadline: Deadline) -> Result<()> {
        self.check(parts)?;
        let mut sent = 0;
        loop {
            match self.outgoing.try_send(parts, &mut sent) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(fault) => return Err(self.fault(fault)),
            }
            if !self.wait(deadline)? {
                if sent == 0 {
                    return Err(self.timed_out());
                }
                self.outgoing.keep_rest(parts, sent);
                return Ok(());
            }
        }
    }

    /// [`send`](Sender::send) that does not wait.
    ///
    /// When the channel takes only a part of the message, the rest is kept as [`send_timeout`](Sender::send_timeout)
    /// keeps it, and the call succeeds. While a rest is kept, the channel is full.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] hands the message back, of which nothing was sent; [`TrySendError::Failed`] has the
    /// errors of [`Connection::send`].
    pub fn try_send<M: AsRef<[u8]>>(&mut self, message: M) -> Result<(), TrySendError<M>> {
        let parts = [IoSlice::new(message.as_ref())];
        self.check(&parts).map_err(TrySendError::Failed)?;
        let mut sent = 0;
        match self.outgoing.try_send(&parts, &mut sent) {
            Ok(true) => Ok(()),
            Ok(false) if sent == 0 => Err(TrySendError::Full(message)),
            Ok(false) => {
                self.outgoing.keep_rest(&parts, sent);
                Ok(())
            }
            Err(fault) => Err(TrySendError::Failed(self.fault(fault))),
        }
    }

    /// Takes a message to go with the next ones in one write: many small messages a second are an order of magnitude
    /// faster so.
    ///
    /// They go when 64 KiB have come together, with the next [`send`](Sender::send), or with [`flush`](Sender::flush).
    /// It blocks only when it has to write.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`].
    pub fn feed(&mut self, message: &[u8]) -> Result<()> {
        let parts = [IoSlice::new(message)];
        if self.outgoing.pending() + HEADER_LEN + message.len() > FEED_MAX {
            return self.send_until(&parts, Deadline::NEVER);
        }
        self.check(&parts)?;
        self.outgoing.feed(message).map_err(|fault| self.fault(fault))
    }

    /// Sends what was fed. Blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn flush(&mut self) -> Result<()> {
        while !self.try_flush()? {
            self.wait(Deadline::NEVER)?;
        }
        Ok(())
    }

    /// [`flush`](Sender::flush) that does not wait: `false` when something is left to send.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`].
    pub fn try_flush(&mut self) -> Result<bool> {
        if self.outgoing.pending() == 0 {
            return Ok(true);
        }
        self.outgoing.try_flush().map_err(|fault| self.fault(fault))
    }

    /// Ends this direction, after what was fed is sent; the peer receives `None` after the last message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`] when the peer has gone before.
    pub fn finish(&mut self) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.flush()?;
        self.finished = true;
        self.outgoing.finish().map_err(|fault| self.fault(fault))
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.common.peer
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.transport
    }

    /// See [`Connection::send_fd`].
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.outgoing.fd()
    }

    /// What must hold before anything of a message is sent.
    fn check(&self, parts: &[IoSlice<'_>]) -> Result<()> {
        if self.finished {
            return Err(self
                .common
                .error(ErrorKind::Disconnected, SEND, "this side has finished sending")
                .next("send before finish()"));
        }
        let length = message_len(parts);
        if length > self.message_max {
            return Err(self.fault(Fault::TooLong { length }));
        }
        Ok(())
    }

    /// Waits until sending may go on; `false` when the deadline has passed.
    fn wait(&self, deadline: Deadline) -> Result<bool> {
        match self.outgoing.fd() {
            Some(fd) => wait_for(fd, PollFlags::OUT, deadline).map_err(|error| self.common.io(SEND, error)),
            None => Err(self.fault(Fault::Disconnected)),
        }
    }

    fn timed_out(&self) -> Error {
        self.common
            .error(
                ErrorKind::TimedOut,
                SEND,
                "the channel was full until the deadline; nothing of the message was sent",
            )
            .next("the other side does not read; send again later")
    }

    fn fault(&self, fault: Fault) -> Error {
        self.common.fault(SEND, fault, self.message_max)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // In a forked child what was fed is a copy, and the parent will send it.
        if self.outgoing.pending() == 0 || self.finished || !self.process.is_current() {
            return;
        }
        if !matches!(self.outgoing.try_flush(), Ok(true)) {
            let bytes = self.outgoing.pending();
            tracing::warn!(server = %self.common.quoted, bytes, "messages lost: dropped while they could not be sent");
        }
    }
}

impl Receiver {
    /// Blocks until a whole message has arrived; `None` is the end. See [`Connection::recv`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`].
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        let mut bytes = Vec::new();
        Ok(self.recv_into(&mut bytes)?.then(|| Message::new(bytes)))
    }

    /// [`recv`](Receiver::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end.
    ///
    /// With the same `Vec` every time nothing is allocated once it, and one like it in here with which it changes
    /// places for messages over 64 KiB, are large enough.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`].
    pub fn recv_into(&mut self, message: &mut Vec<u8>) -> Result<bool> {
        self.recv_alone(message, Deadline::NEVER)
    }

    /// [`recv`](Receiver::recv) that gives up after `timeout`. See [`Connection::recv_timeout`].
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], and [`ErrorKind::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let mut bytes = Vec::new();
        Ok(self.recv_alone(&mut bytes, Deadline::after(timeout))?.then(|| Message::new(bytes)))
    }

    /// [`recv`](Receiver::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of
    /// [`Connection::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        let mut bytes = Vec::new();
        match self.incoming.try_recv(&mut bytes) {
            Ok(Received::Message) => Ok(Some(Message::new(bytes))),
            Ok(Received::Closed) => Ok(None),
            Ok(Received::Empty) => Err(TryRecvError::Empty),
            Err(fault) => Err(TryRecvError::Failed(self.fault(fault))),
        }
    }

    fn recv_alone(&mut self, out: &mut Vec<u8>, deadline: Deadline) -> Result<bool> {
        self.recv_until(out, deadline, |fd| wait_for(fd, PollFlags::IN, deadline))
    }

    /// Receives, with `wait` to sleep until the descriptor is readable or, `Ok(false)`, the deadline has passed.
    fn recv_until(
        &mut self,
        out: &mut Vec<u8>,
        deadline: Deadline,
        mut wait: impl FnMut(BorrowedFd<'_>) -> io::Result<bool>,
    ) -> Result<bool> {
        let mut in_time = true;
        loop {
            match self.incoming.try_recv(out) {
                Ok(Received::Message) => return Ok(true),
                Ok(Received::Closed) => return Ok(false),
                Ok(Received::Empty) => {}
                Err(fault) => return Err(self.fault(fault)),
            }
            // A peer that sends a byte at a time keeps the descriptor ready and must not keep the call: what has come
            // by the deadline is looked at once more, and no more than once.
            let ready = in_time && wait(self.incoming.fd()).map_err(|error| self.common.io(RECV, error))?;
            in_time = ready && !deadline.is_over();
            if !ready {
                return Err(self.common.error(
                    ErrorKind::TimedOut,
                    RECV,
                    "no whole message came before the deadline; what has come of one is kept",
                ));
            }
        }
    }

    /// See [`Connection::has_message`].
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.incoming.has_message()
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.common.peer
    }

    /// The transport that was chosen.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.common.transport
    }

    /// See [`Connection::recv_fd`].
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.incoming.fd()
    }

    fn fault(&self, fault: Fault) -> Error {
        self.common.fault(RECV, fault, self.incoming.message_max())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.common.debug(f, "Connection")
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Sender")
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.debug(f, "Receiver")
    }
}

impl Common {
    fn debug(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        f.debug_struct(what)
            .field("server", &self.quoted)
            .field("transport", &self.transport)
            .field("peer", &format_args!("{}", self.peer))
            .finish_non_exhaustive()
    }
}
