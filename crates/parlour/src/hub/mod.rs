//! A server and all its clients in one thread: neither threads nor async.
//!
//! ```no_run
//! use parlour::hub::{Event, Hub};
//!
//! let mut hub = Hub::bind("chat")?;
//! loop {
//!     match hub.next_event()? {
//!         Event::Joined(client, peer) => println!("{client} is {peer}"),
//!         Event::Message(client, message) => {
//!             let line = [format!("{client}: ").as_bytes(), &message].concat();
//!             hub.broadcast(&line)?;
//!         }
//!         Event::Finished(client) => hub.finish(client)?,
//!         Event::Left(client, why) => println!("{client} has left: {why}"),
//!         Event::Refused(refusal) => println!("refused: {refusal}"),
//!         _ => {}
//!     }
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), parlour::Error>(())
//! ```

mod event;
mod member;
mod options;
mod quantum;
mod scheduler;
mod sending;
mod table;
mod watch;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
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
use crate::transport::{Capabilities, Transport};
use crate::wait::{Deadline, wait};

use member::Member;
use quantum::Quantum;
use table::Table;
use watch::Watch;

pub use event::{Client, Clients, DisconnectReason, Event};
pub use options::{HubOptions, SlowClientPolicy};

const SEND: Operation = Operation::Send;
const RECV: Operation = Operation::Receive;
const WAIT: Operation = Operation::NextEvent;

/// How long at most something waits to be sent while messages come without pause.
const GATHERED_FOR: Duration = Duration::from_millis(1);

/// How long [`Hub::close`] waits for clients to take what was sent to them: as long as a handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Holds a name and serves all clients that come, in the thread that calls it.
///
/// [`next_event`](Hub::next_event) waits for the next thing that happens: a client has joined, has sent a message, has left.
/// [`send`](Hub::send) and [`broadcast`](Hub::broadcast) answer. Messages arrive as over a
/// [`Connection`](crate::Connection), which is what clients have at the other end.
///
/// # Fairness
///
/// Clients take turns: a client that sends without pause is heard up to 16 messages, or 64 KiB, at a time, and then the next
/// one that has something to say. Newcomers are let in a few at a time in between, so neither a flood of clients nor a
/// flood of messages keeps the other out.
///
/// # Sending
///
/// `send` gathers: messages for one client go out together, at the latest when 64 KiB have come together, when the hub has
/// nothing else to do, or, while messages come without pause, a millisecond later. [`flush`](Hub::flush) sends at once.
///
/// What the system does not take for a client waits in the hub, up to [`write_buffer_max`](HubOptions::write_buffer_max). What happens to
/// a client for which more would wait is a choice, [`SlowClientPolicy`]. A client for which more than 64 KiB wait is not read from
/// until it has taken them, so that who asks faster than it takes the answers is held up, alone, and is not slow.
///
/// # Poll loops
///
/// [`as_fd`](AsFd::as_fd) gives one descriptor, for waiting only, that is readable when
/// [`try_next_event`](Hub::try_next_event) has something to do. Call that until it gives `None` before each wait, also after
/// sending something: it writes what is to be written.
///
/// # Shutdown and fork
///
/// The [`shutdown_handle`](Hub::shutdown_handle) makes `next_event` return [`Shutdown`](ErrorKind::Shutdown), also while the
/// hub waits for a slow client; then [`close`](Hub::close). In a forked child the hub is dead: its calls fail with
/// [`NameLost`](ErrorKind::NameLost), and dropping it there leaves the parent's name and connections alone.
///
/// # Memory
///
/// An idle client costs less than 256 bytes, and over `shm` its rings besides; buffers are lent to those who are in the middle
/// of a message.
///
/// # Examples
///
/// A chat server; see also `examples/chat.rs`.
///
/// ```no_run
/// use parlour::hub::{Event, Hub};
///
/// let mut hub = Hub::bind("chat")?;
/// loop {
///     match hub.next_event()? {
///         Event::Message(_, line) => drop(hub.broadcast(&line)?),
///         Event::Finished(client) => hub.finish(client)?,
///         _ => {}
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), parlour::Error>(())
/// ```
pub struct Hub {
    server: Server,
    watch: Watch,
    members: Table,
    pool: BufferPool,
    /// What has happened and was not told yet.
    events: VecDeque<Event>,
    /// Those who have, or may have, something to say, by their places in the order of their turns.
    ready: VecDeque<u32>,
    quantum: Quantum,
    /// Those for whom something is to be written, by their places.
    dirty: Vec<u32>,
    /// Since when the first of them waits.
    dirty_since: Option<Instant>,
    message_max: usize,
    write_buffer_max: usize,
    slow_client_policy: SlowClientPolicy,
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
    /// Those of [`ServerOptions::bind`].
    pub fn bind(&self, address: impl AsRef<str>) -> Result<Hub> {
        Hub::bind_with(address.as_ref(), self)
    }

    /// Serves on the sockets that a service manager passed. See [`Server::from_listen_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`ServerOptions::bind_listen_fds`].
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

    /// Serves whoever comes to this server, which these options have made.
    pub(crate) fn over(server: Server, options: &HubOptions) -> Result<Self> {
        let HubOptions { server: of_server, write_buffer_max, slow_client_policy } = options;
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
            dirty: Vec::new(),
            dirty_since: None,
            message_max: of_server.message_max,
            write_buffer_max: *write_buffer_max,
            slow_client_policy: *slow_client_policy,
            spin_limit: of_server.spin_limit,
            backoff: Backoff::new(),
            shutdown: server.shutdown_handle(),
            process: Process::current(),
            server,
        })
    }

    /// Blocks until something happens, and says what.
    ///
    /// # Errors
    ///
    /// None of them ends a connection, and the call may be repeated.
    ///
    /// - [`ErrorKind::Shutdown`]: somebody used the [`shutdown_handle`](Hub::shutdown_handle); every later call says so, too.
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so that new clients no longer find it; those
    ///   that are here go on. Or this is a forked child.
    /// - [`ErrorKind::Io`]: the system said no.
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
            let detail = "nothing happened before the deadline";
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

    /// Who a client is; `None` when it has gone.
    #[must_use]
    pub fn peer(&self, client: Client) -> Option<&Peer> {
        self.members.get(client).map(|member| &member.peer)
    }

    /// The transport over which a client came; `None` when it has gone.
    #[must_use]
    pub fn transport(&self, client: Client) -> Option<Transport> {
        self.members.get(client).map(Member::transport)
    }

    /// What the connection of a client can do; `None` when it has gone.
    #[must_use]
    pub fn capabilities(&self, client: Client) -> Option<Capabilities> {
        Some(self.transport(client)?.capabilities(self.message_max))
    }

    /// How many bytes wait in the hub to be sent to a client, four for each message included; 0 when it has gone.
    #[must_use]
    pub fn write_buffer_len(&self, client: Client) -> usize {
        self.members.get(client).map_or(0, Member::unsent)
    }

    /// A handle with which any thread can make [`next_event`](Hub::next_event) return.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// The bare name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// The name's directory, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.server.path()
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        self.server.transports()
    }

    /// Returns the counts of clients: accepted, connected, and refused. In a flood they include refusals for which there
    /// was no [`Event::Refused`].
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.server.stats()
    }

    /// Gives the name up and ends every connection, after what was sent has gone: waits for that, up to 5 seconds. Dropping
    /// the hub does the same without waiting.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TimedOut`]: some clients have not taken all that was sent to them, and it is lost.
    /// - [`ErrorKind::Io`]: a file of the server cannot be removed; the name is free all the same.
    pub fn close(self) -> Result<()> {
        self.close_timeout(CLOSE_TIMEOUT)
    }

    /// [`close`](Hub::close) that waits up to `timeout`.
    ///
    /// # Errors
    ///
    /// Those of `close`.
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.check_process(Operation::Close)?;
        // The name first: the next server need not wait for slow clients of this one.
        let closed = self.server.give_up();
        let deadline = Deadline::after(timeout);
        let flushed = loop {
            self.flush_all();
            let mut fds: Vec<PollFd<'_>> = self
                .members
                .iter()
                .filter(|(_, member)| member.unsent() > 0)
                .filter_map(|(_, member)| member.outgoing.fd())
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT))
                .collect();
            if fds.is_empty() {
                break Ok(());
            }
            if !wait(&mut fds, deadline).map_err(|error| self.failed(Operation::Close, error))? {
                let late = fds.len();
                let bytes: usize = self.members.iter().map(|(_, member)| member.unsent()).sum();
                let detail = format!("{bytes} bytes for {late} clients that do not receive are lost");
                break Err(Error::new(ErrorKind::TimedOut, Operation::Close, &**self.server.display_name(), detail));
            }
        };
        closed.and(flushed)
    }

    fn check_process(&self, operation: Operation) -> Result<()> {
        if !self.process.is_before_fork() {
            return Ok(());
        }
        let detail = "this is a forked child, and the hub stayed with the parent";
        Err(Error::new(ErrorKind::NameLost, operation, &**self.server.display_name(), detail)
            .next("serve in the parent, or bind after the fork"))
    }

    fn check_shutdown(&self, operation: Operation) -> Result<()> {
        if !self.shutdown.is_asked() {
            return Ok(());
        }
        let detail = "the hub was told to shut down";
        Err(Error::new(ErrorKind::Shutdown, operation, &**self.server.display_name(), detail))
    }

    fn failed(&self, operation: Operation, error: impl Into<std::io::Error>) -> Error {
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
        // In a forked child what waits is a copy, and what is watched is the parent's.
        if !self.process.is_current() {
            return;
        }
        self.flush_all();
        for (_, member) in self.members.iter() {
            self.watch.remove(&member.incoming, &member.outgoing);
            if member.unsent() > 0 {
                let bytes = member.unsent();
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
