//! A private two-way channel of messages, and its two halves.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::admission::Permit;
use crate::backend::Link;
use crate::backend::fault::{Fault, LostFds};
use crate::bare::{Bare, BareFds, IntoBareError, Place};
use crate::error::{Error, ErrorKind, Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::peer::Peer;
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::shared_bytes::SharedBytes;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait, wait_for};

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
/// direction); the peer sees the end when both have let go. What was fed or kept before the fork is the parent's to send:
/// flush before.
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    pub(crate) fn new(link: Link, quoted: Arc<str>, yields: u32) -> Self {
        let Link { transport, incoming, outgoing, peer, permit } = link;
        let message_max = incoming.message_max().bytes();
        let common = Arc::new(Common { quoted, transport, peer, message_max, yields, _permit: permit });
        let sender = Sender::new(Arc::clone(&common), outgoing);
        Self { sender, receiver: Receiver::new(common, incoming) }
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
    /// - [`ErrorKind::Refused`]: the server said no. On `unix` a server that refuses can only end the connection: the
    ///   first `recv` shows it, as `None` or as [`ErrorKind::Disconnected`].
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

    /// Sends a message with open descriptors, which the receiver finds in [`Message::fds`]. See [`Sender::send_with_fds`].
    ///
    /// # Errors
    ///
    /// - Those of `send`.
    /// - [`ErrorKind::Unsupported`]: the transport carries none. `unix` and `packet` do.
    /// - [`ErrorKind::Refused`]: the other side allows none; nothing was sent.
    /// - [`ErrorKind::MessageTooLong`]: there are more than 253.
    pub fn send_with_fds(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.sender.send_with_fds(message, fds)
    }

    /// [`send_with_fds`](Connection::send_with_fds) that gives up after `timeout`, as
    /// [`send_timeout`](Connection::send_timeout) does.
    ///
    /// # Errors
    ///
    /// Those of `send_with_fds`, and [`ErrorKind::TimedOut`]: nothing was sent.
    pub fn send_with_fds_timeout(&mut self, message: &[u8], fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<()> {
        self.sender.send_with_fds_timeout(message, fds, timeout)
    }

    /// Sends a message with blocks of memory that are not copied, however large; the receiver finds them with
    /// [`Message::take_shared`]. See [`Sender::send_shared`].
    ///
    /// # Errors
    ///
    /// - Those of `send`.
    /// - [`ErrorKind::Unsupported`]: the transport cannot. `shm`, `packet` and `unix` can.
    /// - [`ErrorKind::Refused`]: the other side allows no descriptors, of which each block is one; nothing was sent.
    /// - [`ErrorKind::MessageTooLong`]: there are more than 253.
    pub fn send_shared(&mut self, message: &[u8], blocks: &[&SharedBytes]) -> Result<()> {
        self.sender.send_shared(message, blocks)
    }

    /// [`send_shared`](Connection::send_shared) that gives up after `timeout`, as
    /// [`send_timeout`](Connection::send_timeout) does.
    ///
    /// # Errors
    ///
    /// Those of `send_shared`, and [`ErrorKind::TimedOut`]: nothing was sent.
    pub fn send_shared_timeout(&mut self, message: &[u8], blocks: &[&SharedBytes], timeout: Duration) -> Result<()> {
        self.sender.send_shared_timeout(message, blocks, timeout)
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
    /// - [`ErrorKind::Disconnected`]: it closed without reading all that this side sent, instead of `None`, where the
    ///   transport can tell (not on `fifo`). So does a `unix` server that refuses a client which has sent something by then.
    /// - [`ErrorKind::MessageTooLong`]: it announced more than the limit; nothing was allocated for it, and this
    ///   direction is over.
    #[doc(alias = "recv_info")]
    pub fn recv(&mut self) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_until(&mut message, Deadline::NEVER)?.then_some(message))
    }

    /// [`recv`](Connection::recv) into a `Vec` of the caller's, replacing what is in it; `false` is the end. Descriptors that
    /// come along are closed. See
    /// [`Receiver::recv_into`].
    ///
    /// # Errors
    ///
    /// Those of `recv`.
    pub fn recv_into(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        if self.receiver.incoming.next_here(bytes) {
            return Ok(true);
        }
        Message::receive_into(bytes, |message| self.recv_until(message, Deadline::NEVER))
    }

    /// [`recv`](Connection::recv) that gives up after `timeout`. Part of a message that has arrived by then is kept for
    /// the next call.
    ///
    /// # Errors
    ///
    /// Those of `recv`, and [`ErrorKind::TimedOut`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        let mut message = Message::default();
        Ok(self.recv_until(&mut message, Deadline::after(timeout))?.then_some(message))
    }

    /// [`recv`](Connection::recv) that does not wait.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] when no whole message has arrived; [`TryRecvError::Failed`] has the errors of `recv`.
    pub fn try_recv(&mut self) -> Result<Option<Message>, TryRecvError> {
        self.receiver.try_recv()
    }

    /// [`try_recv`](Connection::try_recv) into a message of the caller's; `false` is the end.
    #[cfg(feature = "serde")]
    pub(crate) fn try_recv_into(&mut self, message: &mut Message) -> Result<bool, TryRecvError> {
        self.receiver.try_recv_into(message)
    }

    #[cfg(feature = "serde")]
    pub(crate) fn common(&self) -> &Common {
        self.receiver.common()
    }

    /// Receives, and before it waits sends what was fed: the peer may be waiting for it.
    pub(crate) fn recv_until(&mut self, out: &mut Message, deadline: Deadline) -> Result<bool> {
        let Self { sender, receiver } = self;
        if receiver.incoming.next_here(&mut out.bytes) {
            out.fds.clear();
            return Ok(true);
        }
        if sender.outgoing().pending() == 0 {
            if sender.take_has_sent() {
                receiver.expect_answer();
            }
            return receiver.recv_alone(out, deadline);
        }
        if let Some(received) = receiver.recv_now(out)? {
            return Ok(received);
        }
        // What cannot be sent is no reason not to receive; the next send tells.
        let mut flushing = matches!(sender.try_flush(), Ok(false));
        receiver.recv_until(out, deadline, |receiver_fd| {
            flushing = flushing && matches!(sender.try_flush(), Ok(false));
            match sender.send_fd() {
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

    /// Both halves, which live and end together as before.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn into_halves(self) -> (Sender, Receiver) {
        let Self { sender, receiver } = self;
        (sender, receiver)
    }

    /// The two directions, for two threads. From now on, dropping one ends its direction and leaves the other.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        let Self { mut sender, mut receiver } = self;
        sender.set_apart();
        receiver.incoming.set_apart();
        (sender, receiver)
    }

    /// Takes the connection apart into its bare descriptors, for code that speaks the frames itself or hands them to
    /// another process. Of `unix` and `fifo`, while nothing was received ahead of what was asked for and nothing waits to be
    /// sent: right after `connect` or `accept` that is so.
    ///
    /// The descriptors are duplicates of those that this connection had, which are closed.
    ///
    /// # Errors
    ///
    /// The connection comes back, as it was, with the reason.
    ///
    /// - [`ErrorKind::Unsupported`]: another transport, or bytes are in here that the descriptors do not have.
    /// - [`ErrorKind::Io`]: no descriptor is left for the duplicates.
    pub fn into_bare(self) -> std::result::Result<Bare, IntoBareError> {
        match self.bare_fds() {
            Ok(fds) => {
                let peer = self.peer().clone();
                Ok(Bare { fds, peer, place: Place::of(Arc::clone(self.receiver.shared())) })
            }
            Err(error) => Err(IntoBareError { connection: Box::new(self), error }),
        }
    }

    fn bare_fds(&self) -> Result<BareFds> {
        const TAKE_APART: &str = "take apart the connection to";
        let common = self.receiver.common();
        let unsupported = |detail: Cow<'static, str>| common.error(ErrorKind::Unsupported, TAKE_APART, detail);
        if !self.receiver.incoming.is_untouched() || !self.sender.is_untouched() {
            return Err(unsupported("it holds bytes that its descriptors do not have, or has ended".into())
                .next("take it apart before the first receive, and flush what was fed"));
        }
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|error| common.io(TAKE_APART, error));
        match (self.transport(), self.send_fd()) {
            (Transport::Unix, _) => Ok(BareFds::Unix(duplicate(self.recv_fd())?)),
            (Transport::Fifo, Some(send)) => {
                Ok(BareFds::Fifo { recv: duplicate(self.recv_fd())?, send: duplicate(send)? })
            }
            (transport, _) => Err(unsupported(format!("there is more to {transport} than descriptors").into())
                .next("connect over unix or fifo")),
        }
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
        self.receiver.common().capabilities()
    }

    /// Readable when a receive may go on. For waiting only.
    #[must_use]
    pub fn recv_fd(&self) -> BorrowedFd<'_> {
        self.receiver.recv_fd()
    }

    /// Writable when a send may go on; in error or hung up when the peer has gone. (A peer that has only dropped its
    /// [`Receiver`] shows as writable on `unix`: the next send tells.) `None` once this side has finished. For waiting
    /// only.
    #[must_use]
    pub fn send_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sender.send_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.receiver.common().debug(f, "Connection")
    }
}

/// What both halves know.
pub(crate) struct Common {
    /// The server's name in quotes, for messages.
    pub(crate) quoted: Arc<str>,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    /// The longest message in bytes, in both directions.
    pub(crate) message_max: usize,
    /// How often a call looks again before it sleeps.
    pub(crate) yields: u32,
    /// Counts the connection with its server until both halves are gone.
    pub(crate) _permit: Option<Permit>,
}

impl Drop for Common {
    fn drop(&mut self) {
        tracing::debug!(server = %self.quoted, transport = %self.transport, peer = %self.peer, "disconnected");
    }
}

impl Common {
    pub(crate) fn error(
        &self,
        kind: ErrorKind,
        operation: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Error {
        Error::new(kind, operation, self.object(), detail)
    }

    pub(crate) fn io(&self, operation: &'static str, error: io::Error) -> Error {
        Error::io(operation, self.object(), error)
    }

    pub(crate) fn object(&self) -> String {
        other_side(&self.quoted, &self.peer)
    }

    pub(crate) fn fault(&self, operation: &'static str, fault: Fault) -> Error {
        error_of(fault, operation, self.object(), self.message_max)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.transport.capabilities(self.message_max)
    }

    /// What both halves show of themselves.
    pub(crate) fn debug(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        f.debug_struct(what)
            .field("server", &self.quoted)
            .field("transport", &self.transport)
            .field("peer", &format_args!("{}", self.peer))
            .finish_non_exhaustive()
    }
}

/// The other side, for messages: the name tells which server, the process id which of its clients.
pub(crate) fn other_side(quoted: &str, peer: &Peer) -> String {
    match peer.pid() {
        Some(pid) => format!("{quoted} (pid {pid})"),
        None => quoted.to_owned(),
    }
}

/// The error that a fault of a connection is to its user.
pub(crate) fn error_of(fault: Fault, operation: &'static str, object: String, message_max: usize) -> Error {
    let error = |kind, detail: Cow<'static, str>| Error::new(kind, operation, object.clone(), detail);
    match fault {
        Fault::Disconnected => {
            error(ErrorKind::Disconnected, "the other side has gone, or receives no more".into()).next("connect again")
        }
        Fault::Reset => {
            error(ErrorKind::Disconnected, "the other side has gone without reading all that was sent".into())
                .next("it refused us, ended early or died; connect again")
        }
        Fault::Truncated => error(ErrorKind::Truncated, "the other side went in the middle of a message".into())
            .next("connect again; what was received before is whole"),
        Fault::TooLong { length } => error(
            ErrorKind::MessageTooLong,
            format!("the message has {length} bytes and {message_max} are allowed").into(),
        )
        .next("send it in parts, or raise message_max on both sides"),
        Fault::FdsRefused => error(ErrorKind::Refused, "the other side takes no descriptors; nothing was sent".into())
            .next("have it allow some (the option fds_max)"),
        Fault::Fds(LostFds::NotAllowed) => {
            error(ErrorKind::Protocol, "descriptors came with a message, and none are allowed".into())
                .next("allow some (the option fds_max), and connect again")
        }
        Fault::Fds(LostFds::TooMany { came, allowed }) => error(
            ErrorKind::Protocol,
            format!("{came} descriptors came with a message, and {allowed} are allowed").into(),
        )
        .next("raise fds_max, and connect again"),
        Fault::Fds(LostFds::TableFull) => error(
            ErrorKind::Io,
            "this process has no room for the descriptors of a message, so that they are lost".into(),
        )
        .next("raise the limit on open descriptors (ulimit -n), and connect again"),
        Fault::Protocol(what) => {
            error(ErrorKind::Protocol, what.into()).next("the other side does not speak this protocol")
        }
        Fault::Io(failure) => Error::io(operation, object, failure),
    }
}
