//! A server that serves all of its clients in one thread, without async.
//!
//! ```no_run
//! use parlour::hub::{Event, Hub};
//!
//! fn main() -> parlour::Result<()> {
//!     let mut hub = Hub::bind("chat")?;
//!     loop {
//!         match hub.next_event()? {
//!             Event::Joined(client, peer) => println!("{client} is {peer}"),
//!             Event::Message(client, text) => {
//!                 let line = [format!("{client}: ").as_bytes(), &text].concat();
//!                 if let Err(error) = hub.broadcast(&line) {
//!                     println!("{client}: {error}"); // a client can send a text that is too long with its number
//!                 }
//!             }
//!             Event::Finished(client) => hub.finish(client)?, // the client has ended sending
//!             Event::Left(client, reason) => println!("{client} has left: {reason}"),
//!             Event::Refused(refusal) => println!("refused: {refusal}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```

mod backlog;
mod check;
mod delivery;
mod drain;
mod event;
mod favourite;
mod handle;
mod member;
mod options;
mod parcel;
mod publishing;
mod quantum;
mod queue;
mod scheduler;
mod sending;
mod service;
mod table;
mod topics;
mod wakes;
mod watch;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::admission::ServerStats;
use crate::backend::halves::BufferPool;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::peer::Peer;
use crate::poller::ShutdownHandle;
use crate::server::Server;
use crate::sys::fork::Process;
use crate::sys::timer::Timer;
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait};

use check::Check;
use favourite::Favourite;
use handle::Mail;
use member::Member;
use quantum::Quantum;
use service::Service;
use table::Table;
use topics::{TopicLimits, Topics};
use watch::Watch;

pub use event::{Client, Clients, DisconnectReason, Event};
pub use handle::HubHandle;
pub use options::{HubOptions, SlowClientPolicy};

const SEND: Operation = Operation::Send;
const RECV: Operation = Operation::Receive;
const WAIT: Operation = Operation::NextEvent;

/// The age of the oldest buffered message from which on [`Hub::next_event`] writes before it returns an event.
const WRITE_DELAY_MAX: Duration = Duration::from_millis(1);

/// The time that [`Hub::close`] takes at most to write buffered messages: as long as a handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that serves all of its clients in the thread that calls it.
///
/// [`next_event`](Hub::next_event) waits for the next event: a client has joined, has sent a message, or has left.
/// [`send`](Hub::send) and [`broadcast`](Hub::broadcast) send to clients. The peer of each client is an ordinary
/// [`Connection`](crate::Connection), and messages arrive with the same guarantees.
///
/// # Fairness
///
/// Clients take turns. A turn ends after 16 messages, or after the message with which the client reaches 64 KiB. Then
/// the next client with data is served. New clients are accepted while connected clients send without pause, and
/// connected clients are served while many clients connect.
///
/// # Sending
///
/// `send` buffers. Messages for one client are written together: when 64 KiB are buffered, when the hub has nothing
/// else to do, or when a call of `next_event` begins and the oldest buffered message is a millisecond old.
/// [`flush`](Hub::flush) writes immediately. Call it before work that takes long.
///
/// Messages that the kernel does not accept stay buffered in the hub, up to
/// [`write_buffer_max`](HubOptions::write_buffer_max) bytes per client, or one message if that is longer. If a message
/// would exceed the limit, the [`SlowClientPolicy`] applies. The hub does not read from a client for which more than
/// 64 KiB (or `write_buffer_max`, if that is less) are buffered. This delays a client that sends requests faster than
/// it receives the replies. Only that client is delayed, and the `SlowClientPolicy` does not apply to it.
///
/// # Other threads
///
/// A hub belongs to one thread at a time. Other threads wake it, and send through it, with the [`HubHandle`] that
/// [`handle`](Hub::handle) returns.
///
/// # Poll loops
///
/// [`as_fd`](AsFd::as_fd) returns a descriptor that is readable when [`try_next_event`](Hub::try_next_event) has
/// something to do. It is for waiting only. Before each wait, call `try_next_event` until it returns
/// [`Empty`](TryRecvError::Empty). Do this after sending too, because `try_next_event` writes buffered messages.
///
/// # Hand-over
///
/// Another process may take the name over ([`ServerOptions::hand_over`](crate::ServerOptions::hand_over)). New clients
/// are its clients from then on. This hub continues with those that are connected until all have left, or until
/// [`hand_over_grace`](crate::ServerOptions::hand_over_grace) has passed, by default 30 seconds. Then `next_event`
/// returns [`HandedOver`](ErrorKind::HandedOver), and the descriptor of the hub is readable.
///
/// # Shutdown and fork
///
/// After [`ShutdownHandle::shutdown`], `next_event` returns [`Shutdown`](ErrorKind::Shutdown). A `send` or `broadcast`
/// that waits for a slow client ([`SlowClientPolicy::Wait`]) returns it too. Then call [`close`](Hub::close). To let
/// the connected clients finish first, call [`drain`](Hub::drain) instead.
///
/// In a forked child the hub cannot be used: its calls fail with [`NameLost`](ErrorKind::NameLost). Dropping it there
/// does not affect the parent's name and connections.
///
/// # Memory
///
/// The hub allocates at most 256 bytes of user memory for an idle client, excluding kernel buffers and `shm` rings. The
/// client's counters are another 256 bytes, in shared memory ([`ServerOptions::stats`](crate::ServerOptions::stats)).
/// Buffers belong to a pool. A client holds a buffer only while it needs one.
///
/// # Examples
///
/// The [module](self) has a chat server. See also `examples/chat.rs`.
pub struct Hub {
    server: Server,
    watch: Watch,
    members: Table,
    pool: BufferPool,
    /// Events that were not returned yet.
    events: VecDeque<Event>,
    /// Slots of the clients that may have data to be received, in the order of their turns.
    ready: VecDeque<u32>,
    quantum: Quantum,
    favourite: Favourite,
    /// Slots of the clients with data that can be written now.
    dirty: Vec<u32>,
    /// The time at which the first client was added to `dirty`.
    dirty_since: Option<Instant>,
    check: Check,
    write_buffer_max: usize,
    slow_client_policy: SlowClientPolicy,
    handle_queue_max: usize,
    blocks_max: usize,
    service: Service,
    topic_limits: TopicLimits,
    /// The topics, once there is a subscription or a value that is kept.
    topics: Option<Box<Topics>>,
    /// The messages of other threads, once there is a handle.
    mail: Option<Box<Mail>>,
    /// Clients for which an event is due when all that is buffered for them is written.
    watched_buffers: Vec<Client>,
    /// The hub returns [`Event::Woken`] when it has handed its name over.
    wakes_at_hand_over: bool,
    /// Reports the end of the grace period after a hand-over.
    grace_timer: Option<Timer>,
    spin_limit: u32,
    backoff: Backoff,
    shutdown: ShutdownHandle,
    process: Process,
}

impl HubOptions {
    /// Takes the name and listens. See [`Hub::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`ServerOptions::bind`](crate::ServerOptions::bind).
    pub fn bind(&self, address: impl AsRef<str>) -> Result<Hub> {
        Hub::bind_with(address.as_ref(), self)
    }

    /// Serves on the sockets that a service manager passed. See [`Server::from_listen_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`ServerOptions::bind_listen_fds`](crate::ServerOptions::bind_listen_fds).
    pub fn bind_listen_fds(&self, fd_name: Option<&str>) -> Result<Hub> {
        Hub::over(self.server.bind_listen_fds(fd_name)?, self)
    }
}

impl Hub {
    /// Takes the name of `address` and listens, with the defaults of [`HubOptions`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`].
    pub fn bind(address: impl AsRef<str>) -> Result<Self> {
        HubOptions::default().bind(address)
    }

    pub(crate) fn bind_with(address: &str, options: &HubOptions) -> Result<Self> {
        Self::over(options.server.bind(address)?, options)
    }

    /// Creates a hub over a server that was bound with these options.
    pub(crate) fn over(server: Server, options: &HubOptions) -> Result<Self> {
        let HubOptions {
            server: server_options,
            write_buffer_max,
            slow_client_policy,
            handle_queue_max,
            blocks_max,
            topic_limits,
        } = options;
        server.admission().keep_refusals();
        let watch =
            Watch::new(server.as_fd()).map_err(|errno| Error::io(Operation::Bind, &**server.display_name(), errno))?;
        Ok(Self {
            watch,
            members: Table::default(),
            pool: BufferPool::default(),
            events: VecDeque::new(),
            ready: VecDeque::new(),
            quantum: Quantum::default(),
            favourite: Favourite::default(),
            dirty: Vec::new(),
            dirty_since: None,
            check: Check { display_name: Arc::clone(server.display_name()), message_max: server_options.message_max },
            write_buffer_max: *write_buffer_max,
            slow_client_policy: *slow_client_policy,
            handle_queue_max: *handle_queue_max,
            blocks_max: *blocks_max,
            service: Service::default(),
            topic_limits: *topic_limits,
            topics: None,
            mail: None,
            watched_buffers: Vec::new(),
            wakes_at_hand_over: false,
            grace_timer: None,
            spin_limit: server_options.spin_limit,
            backoff: Backoff::new(),
            shutdown: server.shutdown_handle(),
            process: Process::current(),
            server,
        })
    }

    /// Returns the next event. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// An error does not end a client's connection.
    ///
    /// - [`ErrorKind::Shutdown`]: the [`shutdown_handle`](Hub::shutdown_handle) was called. Events that are still
    ///   queued are not returned. Or the hub was [drained](Hub::drain) and the last client has left. Every later call
    ///   returns this error.
    /// - [`ErrorKind::HandedOver`]: another process has taken the name over, and every client has left, or the
    ///   [grace period](crate::ServerOptions::hand_over_grace) has passed since. Every later call returns this error,
    ///   once its queued events were returned.
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so new clients do not find it. The hub
    ///   returns this once. Connected clients are still served. In a forked child, every call returns this error.
    /// - [`ErrorKind::Io`]: a system call failed.
    pub fn next_event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.event_until(Deadline::NEVER)? {
                return Ok(event);
            }
        }
    }

    /// Returns the next event, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`next_event`](Hub::next_event), and [`ErrorKind::TimedOut`].
    pub fn next_event_timeout(&mut self, timeout: Duration) -> Result<Event> {
        self.event_until(Deadline::after(timeout))?.ok_or_else(|| {
            let detail = "no event occurred before the deadline";
            Error::new(ErrorKind::TimedOut, WAIT, &**self.server.display_name(), detail)
        })
    }

    /// Returns the next event without blocking.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: nothing has happened. [`TryRecvError::Failed`] carries the errors of
    /// [`next_event`](Hub::next_event).
    pub fn try_next_event(&mut self) -> Result<Event, TryRecvError> {
        self.event_until(Deadline::now())?.ok_or(TryRecvError::Empty)
    }

    /// Returns the clients that have joined and not left, in the order in which they joined.
    ///
    /// The iterator is a snapshot and does not borrow the hub, so a loop over it can send. Sending to a client that has
    /// left meanwhile does nothing.
    #[must_use]
    pub fn clients(&self) -> Clients {
        let joined = self.members.iter().filter(|(_, member)| member.has_joined);
        let mut clients: Vec<Client> = joined.map(|(client, _)| client).collect();
        clients.sort_unstable();
        Clients(clients.into_iter())
    }

    /// Returns the identity of a client, or `None` once the connection has ended, also before
    /// [`Event::Left`] is returned.
    #[must_use]
    pub fn peer(&self, client: Client) -> Option<&Peer> {
        self.members.get(client).map(|member| &member.peer)
    }

    /// Returns the transport of a client, or `None` once the connection has ended, as [`peer`](Hub::peer) does.
    #[must_use]
    pub fn transport(&self, client: Client) -> Option<Transport> {
        self.members.get(client).map(Member::transport)
    }

    /// Returns the capabilities of a client's connection, or `None` once it has ended, as [`peer`](Hub::peer) does.
    #[must_use]
    pub fn capabilities(&self, client: Client) -> Option<Capabilities> {
        Some(self.transport(client)?.capabilities(self.check.message_max))
    }

    /// Returns the number of bytes that are buffered for a client, including a header of 4 bytes for each message, and
    /// without the contents of blocks of shared memory.
    /// Returns 0 once the connection has ended.
    #[must_use]
    pub fn write_buffer_len(&self, client: Client) -> usize {
        self.members.get(client).map_or(0, Member::write_buffer_len)
    }

    /// Returns a handle with which any thread can make [`next_event`](Hub::next_event) return.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Returns the name without directory and transport.
    #[must_use]
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// Returns the directory of the name, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.server.path()
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        self.server.transports()
    }

    /// Returns the counts of clients: accepted, connected, and refused. The hub queues a bounded number of refusals as
    /// [`Event::Refused`]; the count also includes those that were not queued.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// Releases the name, writes buffered messages and those that handles have queued for up to 5 seconds, and ends
    /// every connection.
    ///
    /// Messages for clients that have disconnected are discarded without an error. Dropping the hub writes what the
    /// channels accept immediately; the rest is lost.
    ///
    /// # Errors
    ///
    /// If both removing a file and writing fail, the first error is returned.
    ///
    /// - [`ErrorKind::TimedOut`]: the deadline passed before all bytes were written. They are lost.
    /// - [`ErrorKind::Io`]: a file of the server could not be removed, or waiting failed. The name is free.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn close(self) -> Result<()> {
        self.close_timeout(CLOSE_TIMEOUT)
    }

    /// Closes the hub as [`close`](Hub::close) does, and waits up to `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Hub::close).
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.end_timeout(timeout)
    }

    /// Does what [`close_timeout`](Hub::close_timeout) does, and keeps the hub and the messages that were not written.
    ///
    /// For a program that ends the wait for a reason of its own, for example a signal: it calls this with a short time
    /// as long as the error is `TimedOut`, and then drops the hub. The first call releases the name. No further client
    /// is let in, and [`next_event`](Hub::next_event) still returns the events of those that are connected.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Hub::close). After `TimedOut` nothing is lost yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use parlour::ErrorKind;
    /// use parlour::hub::Hub;
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/service", base.path().display());
    /// # let is_interrupted = || false;
    /// let mut hub = Hub::bind(&name)?;
    /// while let Err(error) = hub.end_timeout(Duration::from_millis(50)) {
    ///     if error.kind() != ErrorKind::TimedOut || is_interrupted() {
    ///         return Err(error.into());
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.check_process(Operation::Close)?;
        // Release the name first, so that the next server does not have to wait for slow clients of this one.
        let closed = match self.service {
            Service::Ending => Ok(()),
            _ => self.begin_ending(),
        };
        let deadline = Deadline::after(timeout);
        self.end_mail();
        let flushed = loop {
            self.flush_all();
            let mut fds: Vec<PollFd<'_>> = self
                .members
                .iter()
                .filter(|(_, member)| member.write_buffer_len() > 0)
                .filter_map(|(_, member)| member.outgoing.fd())
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT))
                .collect();
            if fds.is_empty() {
                break Ok(());
            }
            if !wait(&mut fds, deadline).map_err(|error| self.io_error(Operation::Close, error))? {
                let count = fds.len();
                let bytes: usize = self.members.iter().map(|(_, member)| member.write_buffer_len()).sum();
                let detail = format!(
                    "{bytes} bytes for {count} clients were not written in time; they are lost when the hub is dropped"
                );
                break Err(Error::new(ErrorKind::TimedOut, Operation::Close, &**self.server.display_name(), detail));
            }
        };
        closed.and(flushed)
    }

    /// Returns the name in quotes, for error texts.
    #[cfg(feature = "serde")]
    pub(crate) fn display_name(&self) -> &str {
        self.server.display_name()
    }

    /// Returns the limit on the length of a message in bytes.
    #[cfg(feature = "serde")]
    pub(crate) fn message_max(&self) -> usize {
        self.check.message_max
    }

    fn check_process(&self, operation: Operation) -> Result<()> {
        if !self.process.is_before_fork() {
            return Ok(());
        }
        Err(self.check.in_forked_child(operation))
    }

    fn check_shutdown(&self, operation: Operation) -> Result<()> {
        if !self.shutdown.is_asked() || matches!(self.service, Service::Ending) {
            return Ok(());
        }
        let detail = "the hub is shutting down";
        Err(Error::new(ErrorKind::Shutdown, operation, &**self.server.display_name(), detail))
    }

    fn io_error(&self, operation: Operation, error: impl Into<std::io::Error>) -> Error {
        Error::io(operation, &**self.server.display_name(), error)
    }
}

impl AsFd for Hub {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // In a forked child the buffered messages are a copy, and the epoll instance belongs to the parent.
        if !self.process.is_current() {
            return;
        }
        self.end_mail();
        self.flush_all();
        for (_, member) in self.members.iter() {
            self.watch.remove(&member.incoming, &member.outgoing);
            if member.write_buffer_len() > 0 {
                let bytes = member.write_buffer_len();
                tracing::warn!(server = %self.server.display_name(), peer = %member.peer, bytes, "messages lost: the hub was dropped");
            }
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("server", &self.server)
            .field("clients", &self.members.iter().count())
            .finish_non_exhaustive()
    }
}
