//! A server: a name, its listeners, and the clients that connect to them.

mod acceptor;
mod activation;
mod control;
pub(crate) mod counters;
pub(crate) mod hand_over;
mod holder;
mod successor;
mod sweep;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::PollFlags;

use self::acceptor::Acceptor;
pub(crate) use self::acceptor::Step;
use self::activation::{Activation, Socket};
use self::control::Offer;
use crate::address::Address;
use crate::admission::{Admission, Refusal, ServerStats};
use crate::backend::Link;
use crate::backend::config::ListenConfig;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::name::{BindRequest, NameGuard, base, is_yielded};
use crate::options::ServerOptions;
use crate::poller::{Poller, ShutdownHandle};
use crate::shm::memfd;
use crate::shm::stats::Place;
use crate::standby::{Served, Standby};
use crate::stats::ClientStats;
use crate::sys::fork_mutex::ForkMutex;
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wait::{Deadline, wait_for};

/// A server, which holds a name and accepts the clients that connect to it.
///
/// Every method that accepts takes `&self`, and any number of threads may accept concurrently. Dropping the server
/// removes its files and releases the name, as [`close`](Server::close) does. Established connections are not affected.
/// If the process is killed, the kernel releases the name, and the next server removes the files.
///
/// The server has no thread of its own. Handshakes advance, and clients are admitted or refused, only while a thread is
/// in one of the accepting calls. At other times, a `unix` or `packet` client waits in the queue of the kernel and may
/// already send, and a `shm` or `fifo` client waits for its handshake, up to its own timeout. Handle each accepted
/// connection in another thread if it lasts long.
///
/// # Fork
///
/// In a forked child the server does not work: the name and its clients stay with the parent. Every call returns at
/// once there, also if other threads used the server during the fork. Accepting calls return
/// [`NameLost`](ErrorKind::NameLost). [`close`](Server::close), [`release`](Server::release) and dropping do nothing to
/// the parent's server. [`stats`](Server::stats) returns the counts at the fork, or zeros where another thread was
/// changing them. If another thread was accepting, the child keeps some descriptors open until it ends or executes
/// another program.
///
/// Use in the child only values that no other thread was creating, using or dropping during the fork, with the
/// exception of a server. This rule holds for every value that owns a descriptor, also for those of the standard
/// library: the kernel copies the memory later than the descriptors, so that the child may find a value whose
/// descriptor it does not have.
///
/// # Poll loops
///
/// [`as_fd`](AsFd::as_fd) returns one descriptor that is readable when [`try_accept`](Server::try_accept) has work to
/// do, including deadlines. Call `try_accept` until it returns [`Empty`](TryRecvError::Empty), then wait. The
/// descriptor is for waiting only.
pub struct Server {
    display_name: Arc<str>,
    name: String,
    path: PathBuf,
    transports: Vec<Transport>,
    admission: Arc<Admission>,
    message_max: usize,
    spin_limit: u32,
    hand_over_grace: Option<Duration>,
    shutdown: ShutdownHandle,
    /// Shared with the threads that hand the name over while they wait for a client.
    acceptor: Arc<ForkMutex<Acceptor>>,
    /// The descriptor of the poller. A thread waits on it without holding the lock.
    readiness: Arc<SharedFd>,
}

impl ServerOptions {
    /// Takes the name and listens, with these options. See [`Server::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`], and:
    ///
    /// - [`ErrorKind::InvalidOption`]: a value is outside the range that its setter states.
    pub fn bind(&self, address: impl AsRef<str>) -> Result<Server> {
        Server::bind_with(address.as_ref(), self)
    }

    /// Serves on the sockets that a service manager passed, with these options: on all of them, or on those with this
    /// descriptor name. See [`Server::from_listen_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::from_listen_fds`], and:
    ///
    /// - [`ErrorKind::InvalidOption`]: a value is outside the range that its setter states.
    pub fn bind_listen_fds(&self, fd_name: Option<&str>) -> Result<Server> {
        Server::activate(fd_name, self)
    }
}

impl Server {
    /// Takes the name of `address` and listens, with the defaults of [`ServerOptions`].
    ///
    /// A name belongs to the process that holds the lock in its directory, so at most one live server has it. After a
    /// crash the name is free immediately; this call removes the files of the dead server. The call starts no thread,
    /// and changes neither signal dispositions nor the umask.
    ///
    /// The directory of the name is in a base directory. The address or `$PARLOUR_DIR` can set it. Otherwise it is the
    /// first of `$XDG_RUNTIME_DIR/parlour`, `/run/user/UID/parlour` and `/tmp/parlour-UID` whose parent directory
    /// exists, and `/run/parlour` for root. This call creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is malformed.
    /// - [`ErrorKind::NameInUse`]: a live server has the name, in this base directory or in another one that clients
    ///   search. [`Error::holder`] and the text identify it. A server that [yields](ServerOptions::yields) hands the
    ///   name over instead, for which this call may block for up to 1 second.
    /// - [`ErrorKind::UnsafeDirectory`]: another user could tamper with the directory.
    /// - [`ErrorKind::Denied`], [`ErrorKind::Io`]: a system call failed.
    ///
    /// # Examples
    ///
    /// A thread for each client, so a client that is slow, silent or gone affects no other.
    /// [`connections_max`](ServerOptions::connections_max) limits the number of threads.
    ///
    /// ```no_run
    /// use std::thread;
    ///
    /// use parlour::{Connection, Server};
    ///
    /// fn main() -> parlour::Result<()> {
    ///     for client in Server::bind("echo")?.incoming() {
    ///         let client = client?;
    ///         thread::spawn(move || echo(client)); // an error of a client ends the thread of this client
    ///     }
    ///     Ok(())
    /// }
    ///
    /// fn echo(mut client: Connection) -> parlour::Result<()> {
    ///     while let Some(message) = client.recv()? {
    ///         client.send(&message)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias = "new_server")]
    pub fn bind(address: impl AsRef<str>) -> Result<Self> {
        ServerOptions::default().bind(address)
    }

    pub(crate) fn bind_with(address: &str, options: &ServerOptions) -> Result<Self> {
        let address = Address::parse(address)?;
        options.check()?;
        let transports = transports_of(&address, options)?;
        if let Some(timeout) = options.take_over {
            return Self::take_over(&address, &transports, options, timeout);
        }
        match Self::open(&address, &address, &transports, options, Vec::new()) {
            Err(error) if is_yielded(&error) && !options.yields => Self::displace(&address, &transports, options),
            bound => bound,
        }
    }

    /// Takes over the sockets of one name from a service manager.
    pub(crate) fn activate(fd_name: Option<&str>, options: &ServerOptions) -> Result<Self> {
        options.check()?;
        if options.take_over.is_some() {
            let detail = "the service manager passes its sockets to the next server itself";
            return Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, "take_over", detail)
                .next("restart the service: clients wait at the sockets meanwhile"));
        }
        if options.yields {
            let detail = "the service manager keeps its sockets, so that no other server could have the name";
            return Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, "yields", detail)
                .next("bind the name, without sockets of a service manager"));
        }
        let Activation { address, sockets } = Activation::find(fd_name)?;
        // The modes of the socket files determine which users may connect, and the manager has set them. connect(2)
        // requires write permission on the socket file.
        let mut options = options.clone();
        let is_open_to_others = |mode: &u32| mode & 0o022 != 0;
        let modes = sockets.iter().map(|socket| socket.mode).filter(is_open_to_others);
        options.mode = modes.fold(options.mode, |union, mode| union | mode);
        let is_wanted = |transport: &Transport| {
            options.transports.contains(transport) || sockets.iter().any(|socket| socket.transport == *transport)
        };
        let transports: Vec<_> = Transport::ALL.iter().copied().filter(is_wanted).collect();
        // If the sockets are in a default base directory, reject a live server of this name in any other default base.
        let search_address = match base::candidates(None)?.iter().any(|base| Some(&*base.path) == address.base()) {
            true => Address::parse(address.name())?,
            false => address.clone(),
        };
        Self::open(&address, &search_address, &transports, &options, sockets)
    }

    fn open(
        address: &Address,
        search_address: &Address,
        transports: &[Transport],
        options: &ServerOptions,
        adopted_sockets: Vec<Socket>,
    ) -> Result<Self> {
        let prepared = Prepared::new(address, transports, options)?;
        let adopted_transports: Vec<_> = adopted_sockets.iter().map(|socket| socket.transport).collect();
        let guard = NameGuard::take(&BindRequest {
            address,
            elsewhere: search_address,
            transports,
            kept: &adopted_transports,
            open_to_others: options.open_to_others(),
            message_max: options.message_max,
            yields: options.yields,
            stats: prepared.parts.stats_place(),
        })?;
        let path = guard.path().to_owned();
        let mut acceptor = Acceptor::new(Arc::clone(&prepared.parts.display_name), guard, prepared.poller);
        acceptor.listen(transports, adopted_sockets, &prepared.config, Offer::of(options))?;
        Ok(prepared.parts.serve(path, options, acceptor))
    }

    /// Serves on the sockets that a service manager passed to this process: socket activation, `sd_listen_fds(3)`.
    ///
    /// The manager listens, starts this program when the first client connects, and keeps the sockets when the program
    /// ends. Clients then wait for the next start, and none is refused. The path of a socket determines its name and
    /// transport: `DIRECTORY/NAME/unix` (or `packet`, `shm`) is the transport `unix` of `NAME`. Write
    /// `ListenStream=%t/parlour/NAME/unix` in the unit; clients search that directory. docs/systemd.md has complete
    /// units.
    ///
    /// With `fd_name`, only descriptors with that name (`FileDescriptorName=`) are selected, for a program that is
    /// passed other descriptors too. Each of them must be a socket in a name directory. Without `fd_name`, the sockets
    /// that are in a name directory are selected. All selected sockets must belong to one server name. Each descriptor
    /// can be taken once. Those that are not selected stay open. All passed descriptors become close-on-exec, so that
    /// no program that this process starts inherits them. The environment is not changed.
    ///
    /// The server takes the lock of the name as [`bind`](Server::bind) does, so at most one live server has the name.
    /// Closing the server releases the name, but keeps the sockets and the files of clients that may wait there. The
    /// manager determines the mode and group of the sockets. The server creates the transports that the options demand
    /// and that were not passed. The kernel reports the manager as the peer to a client that connected before this
    /// program started.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: no socket was passed to this process, or all were taken before.
    /// - [`ErrorKind::InvalidOption`]: a socket has the wrong type for its transport, is a connection instead of a
    ///   listening socket (`Accept=yes`), or belongs to no name; or the sockets belong to two names; or two sockets are
    ///   for one transport; or the environment variables of the manager are malformed.
    /// - Those of [`bind`](Server::bind). The sockets are then not changed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let server = match parlour::Server::from_listen_fds(None) {
    ///     // Started by hand.
    ///     Err(error) if error.kind() == parlour::ErrorKind::Unsupported => parlour::Server::bind("echo")?,
    ///     server => server?,
    /// };
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn from_listen_fds(fd_name: Option<&str>) -> Result<Self> {
        ServerOptions::default().bind_listen_fds(fd_name)
    }

    /// Accepts a client. Blocks until a client has connected and was admitted.
    ///
    /// A client that is refused does not end the wait. [`stats`](Server::stats) counts it.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Shutdown`]: [`ShutdownHandle::shutdown`] was called, and the clients that had connected before
    ///   were accepted. At the call, the server's files are removed, so that no further client connects. Over `fifo`
    ///   the end may come up to [`handshake_timeout`](ServerOptions::handshake_timeout) later, because a client
    ///   that was answered is about to be connected. Clients at the socket of a service manager are not accepted any
    ///   more; they wait for the next server.
    /// - [`ErrorKind::HandedOver`]: another process has taken the name over ([`ServerOptions::hand_over`]), and the
    ///   clients whose handshakes had begun before were accepted. Open connections go on.
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so that clients no longer find it.
    ///   Clients that were not accepted yet are disconnected. Close the server and bind again. A forked child gets this
    ///   error, too; accept in the parent.
    /// - [`ErrorKind::Io`]: a system call failed.
    #[doc(alias = "accept_client")]
    pub fn accept(&self) -> Result<Connection> {
        self.accept_until(Deadline::NEVER)
    }

    /// Accepts a client, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Server::accept), and:
    ///
    /// - [`ErrorKind::TimedOut`]: no client was admitted before the deadline. A client that is in its
    ///   handshake stays, and a later call accepts it.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        self.accept_until(Deadline::after(timeout))
    }

    fn accept_until(&self, deadline: Deadline) -> Result<Connection> {
        // A client that is ready at the deadline is still accepted. The deadline is also checked between rounds of
        // work, because events that bring no client may arrive without end.
        let mut in_time = true;
        loop {
            match self.step(false)? {
                Step::Ready(link) => return Ok(self.connection(link)),
                Step::Idle if in_time => {
                    let ready = wait_for(self.readiness.as_fd(), PollFlags::IN, deadline)
                        .map_err(|error| Error::io(Operation::Accept, &*self.display_name, error))?;
                    in_time = ready && !deadline.is_over();
                }
                Step::Yield if in_time => in_time = !deadline.is_over(),
                Step::Idle | Step::Yield => {
                    let detail = "no client was admitted before the deadline";
                    return Err(Error::new(ErrorKind::TimedOut, Operation::Accept, &*self.display_name, detail));
                }
            }
        }
    }

    /// Accepts a client without blocking.
    ///
    /// The call also advances handshakes and ends those that take too long, so a poll loop calls it whenever the
    /// server's descriptor is readable.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no client is ready. More work may remain; in that case the descriptor of the server is
    /// still readable. [`TryRecvError::Failed`] carries the errors of [`accept`](Server::accept).
    pub fn try_accept(&self) -> Result<Connection, TryRecvError> {
        match self.step(false)? {
            Step::Ready(link) => Ok(self.connection(link)),
            Step::Idle | Step::Yield => Err(TryRecvError::Empty),
        }
    }

    /// Does one round of work without blocking. After [`Step::Idle`] the caller waits on the descriptor.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn accept_now(&self) -> Result<Step<Connection>> {
        Ok(self.step(false)?.map(|link| self.connection(link)))
    }

    /// Returns the descriptor to wait on, for a runtime to watch.
    #[allow(dead_code, reason = "used by the APIs behind features")]
    pub(crate) fn shared_fd(&self) -> Arc<SharedFd> {
        Arc::clone(&self.readiness)
    }

    /// Does one round of work. With `drain`, lets no further client connect, as after a shutdown.
    fn step(&self, drain: bool) -> Result<Step<Link>> {
        // The lock comes first: a thread that waited for it while the server was released must report the shutdown, not
        // a lost name.
        let Some(mut acceptor) = self.acceptor.lock() else {
            return Err(acceptor::in_forked_child(&self.display_name));
        };
        let mut step = acceptor.step(drain || self.shutdown.is_asked())?;
        if let Step::Ready(link) = &mut step {
            self.admission.note_accepted();
            if let Some(permit) = &mut link.permit {
                permit.begin_to_count(&link.peer, link.transport);
            }
        }
        Ok(step)
    }

    /// Accepts a client without blocking, and without creating a [`Connection`]. With `drain`, lets no further client
    /// connect, and fails with [`ErrorKind::Shutdown`] once those that had connected were accepted.
    pub(crate) fn try_accept_link(&self, drain: bool) -> Result<Option<Link>> {
        match self.step(drain)? {
            Step::Ready(link) => Ok(Some(link)),
            Step::Idle | Step::Yield => Ok(None),
        }
    }

    fn connection(&self, link: Link) -> Connection {
        Connection::new(link, Arc::clone(&self.display_name), self.spin_limit)
    }

    /// Returns an iterator over the clients, which blocks for each in [`accept`](Server::accept). After a shutdown, it
    /// ends when the clients that had connected before were accepted; after a hand-over it ends, too. After any other
    /// error, it yields the error as its last item.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { server: self, ended: false }
    }

    /// Returns a handle that requests a shutdown. Any thread can use it to make `accept` return the clients that have
    /// connected, and then end.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Removes the server's files and the directory of the name, and releases the name. Dropping the server does the
    /// same. The directory stays if it contains a file that no server and no client creates, if a client creates a file
    /// at that moment, or if a service manager keeps its sockets in it; `parlour clean` removes what is left.
    ///
    /// Established connections are not affected. Clients that wait in the queue are disconnected, except on sockets of
    /// a service manager, where they wait for the next server. Handshakes that are not complete end.
    ///
    /// To disconnect no client, request a [`shutdown`](ShutdownHandle::shutdown) first, and accept until
    /// [`Shutdown`](ErrorKind::Shutdown): an orderly restart then loses nobody. `unix` and `packet` clients are
    /// connected as soon as they are in the queue.
    ///
    /// ```
    /// use parlour::{Connection, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let address = base.path().join("hello").display().to_string();
    /// let server = Server::bind(&address)?;
    /// // This client is in the queue when the server is told to end.
    /// let mut client = Connection::connect(&address)?;
    /// server.shutdown_handle().shutdown();
    /// for connection in server.incoming() {
    ///     connection?.send("hello and goodbye")?;
    /// }
    /// server.close()?;
    /// assert_eq!(client.recv()?.expect("the client was served"), b"hello and goodbye");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: a file could not be removed. The name is free nevertheless.
    #[doc(alias = "destroy_server")]
    pub fn close(self) -> Result<()> {
        self.give_up()
    }

    /// Releases the name as [`close`](Server::close) does, through a reference, for a signal handler.
    ///
    /// The call does not allocate or free memory. It locks a mutex that the accepting calls of this server hold while
    /// they work, but not while they sleep. A handler that interrupts such a call in the same thread while it works
    /// deadlocks. Block the signal around [`try_accept`](Server::try_accept), and unblock it only in ppoll(2).
    ///
    /// From then on every accepting call returns [`ErrorKind::Shutdown`], including calls that are blocked at present.
    /// The remaining resources are freed when the server is dropped. In a forked child the call does nothing.
    ///
    /// # Errors
    ///
    /// The error of the system call, if a file could not be removed. The name is free nevertheless.
    pub fn release(&self) -> io::Result<()> {
        let Some(mut acceptor) = self.acceptor.lock() else { return Ok(()) };
        if !acceptor.is_in_this_process() {
            return Ok(());
        }
        let released = acceptor.release(&self.shutdown);
        self.shutdown.shutdown();
        released
    }

    /// Closes the server as [`close`](Server::close) does, for an owner that has more to close.
    pub(crate) fn give_up(&self) -> Result<()> {
        // Without the lock, this is a forked child, and the name stays with the parent.
        self.acceptor.lock().map_or(Ok(()), |mut acceptor| acceptor.close())
    }

    /// Returns the limit on the length of a message in bytes.
    pub(crate) fn message_max(&self) -> usize {
        self.message_max
    }

    /// Returns the number of times that a blocking call polls before it sleeps.
    pub(crate) fn spin_limit(&self) -> u32 {
        self.spin_limit
    }

    /// Returns the time for which connected clients are served after a hand-over, if it was set.
    pub(crate) fn hand_over_grace(&self) -> Option<Duration> {
        self.hand_over_grace
    }

    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Returns the name in quotes, for error texts and logs.
    pub(crate) fn display_name(&self) -> &Arc<str> {
        &self.display_name
    }

    /// Returns the name, without transport or directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the directory of the name, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        &self.transports
    }

    /// Returns the oldest refusal that no earlier call returned, or `None` if there is none. Does not block.
    ///
    /// Refusals are queued from the first call on, up to 256; further ones are only counted in
    /// [`stats`](Server::stats). Call this once before accepting, and then in a poll loop whenever
    /// [`try_accept`](Server::try_accept) returns, or from another thread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let server = parlour::Server::bind("echo")?;
    /// while let Some(refusal) = server.next_refusal() {
    ///     eprintln!("refused {refusal}");
    /// }
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[must_use]
    pub fn next_refusal(&self) -> Option<Refusal> {
        self.admission.keep_refusals();
        self.admission.pop_refusal()
    }

    /// Returns the counts of clients: accepted, connected, and refused by reason; and those of messages.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.admission.stats()
    }

    /// Returns the counters of each client that is connected, in the order in which the clients were accepted. Empty if
    /// the server does not count ([`ServerOptions::stats`]), and in a forked child.
    ///
    /// These are the values that other processes see ([`inspect::stats`](crate::inspect::stats)). They are read with a
    /// few system calls for each 64 clients.
    #[must_use]
    pub fn client_stats(&self) -> Vec<ClientStats> {
        self.admission.client_stats()
    }
}

/// The parts of a server apart from its name. It is created before the name is taken, because it can fail.
struct Prepared {
    parts: Parts,
    config: ListenConfig,
    poller: Poller,
}

/// The parts of it that do not accept.
struct Parts {
    display_name: Arc<str>,
    name: String,
    transports: Vec<Transport>,
    admission: Arc<Admission>,
    readiness: OwnedFd,
    shutdown: ShutdownHandle,
}

impl Prepared {
    fn new(address: &Address, transports: &[Transport], options: &ServerOptions) -> Result<Self> {
        let display_name: Arc<str> = format!("'{}'", address.name()).into();
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Bind, &*display_name, errno);
        let poller = Poller::new().map_err(failed)?;
        let readiness =
            poller.as_fd().try_clone_to_owned().map_err(|error| Error::io(Operation::Bind, &*display_name, error))?;
        let admission = Arc::new(options.admission(transports));
        let config = options.config(&admission);
        let (name, transports) = (address.name().to_owned(), transports.to_vec());
        let shutdown = poller.shutdown_handle().clone();
        Ok(Self { parts: Parts { display_name, name, transports, admission, readiness, shutdown }, config, poller })
    }
}

impl Parts {
    /// Returns the place of the counters, for the owner record.
    fn stats_place(&self) -> Option<Place> {
        self.admission.counters.as_ref().map(|counters| counters.place())
    }

    fn serve(self, path: PathBuf, options: &ServerOptions, mut acceptor: Acceptor) -> Server {
        acceptor.shown = Some(Arc::clone(&self.admission));
        let control = acceptor.control.as_ref().map(|control| control.poller().clone());
        let acceptor = Arc::new(ForkMutex::new(acceptor));
        if let Some(control) = control {
            let acceptor = Arc::downgrade(&acceptor);
            let serve = move || match acceptor.upgrade() {
                Some(acceptor) => {
                    acceptor.try_lock().map_or(Served::Elsewhere, |mut acceptor| acceptor.serve_hand_over())
                }
                None => Served::Over,
            };
            self.admission.standby.fill(Standby::new(control, serve));
        }
        Server {
            display_name: self.display_name,
            name: self.name,
            path,
            transports: self.transports,
            admission: self.admission,
            message_max: options.message_max,
            spin_limit: options.spin_limit,
            hand_over_grace: options.hand_over_grace,
            shutdown: self.shutdown,
            readiness: Arc::new(SharedFd::new(self.readiness, 1)),
            acceptor,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A thread that hands the name over may hold the acceptor for a moment longer.
        if let Err(error) = self.give_up() {
            tracing::warn!(name = %self.display_name, %error, "server was not closed cleanly");
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("path", &self.path)
            .field("transports", &self.transports)
            .finish_non_exhaustive()
    }
}

/// A blocking iterator over the clients of a server. See [`Server::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    server: &'a Server,
    ended: bool,
}

impl Iterator for Incoming<'_> {
    type Item = Result<Connection>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.server.accept() {
            Ok(connection) => Some(Ok(connection)),
            Err(error) => {
                self.ended = true;
                let is_end = matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver);
                (!is_end).then_some(Err(error))
            }
        }
    }
}

/// Returns the transports to offer, best first: those of the options, or that of the address, or `unix`.
fn transports_of(address: &Address, options: &ServerOptions) -> Result<Vec<Transport>> {
    let invalid =
        |detail: String| Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, "transports", detail));
    let asked = &options.transports;
    let mut transports = match (asked.is_empty(), address.transport()) {
        (true, transport) => vec![transport.unwrap_or(Transport::Unix)],
        (false, Some(transport)) if !asked.contains(&transport) => {
            return invalid(format!("the address demands {transport}, which the options do not contain"));
        }
        (false, _) => Transport::ALL.iter().copied().filter(|transport| asked.contains(transport)).collect(),
    };
    // A server that offers other transports as well goes on without the one that this system lacks.
    if transports.len() > 1 && transports.contains(&Transport::Shm) {
        if let Err(error) = memfd::check_supported() {
            tracing::warn!(%error, "shm is not offered");
            transports.retain(|transport| *transport != Transport::Shm);
        }
    }
    if options.open_to_others() && transports == [Transport::Fifo] {
        return invalid("fifo serves only its own user, but the mode admits other users; offer unix".to_owned());
    }
    Ok(transports)
}
