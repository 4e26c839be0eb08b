//! A server: a name that is held, its listeners, and the clients that come.

mod acceptor;
mod activation;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::PollFlags;

use self::acceptor::Acceptor;
pub(crate) use self::acceptor::Step;
use self::activation::{Activation, Socket};
use crate::address::Address;
use crate::admission::{Admission, ServerStats, locked};
use crate::backend::Link;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::name::{BindRequest, NameGuard, base};
use crate::options::ServerOptions;
use crate::poller::{Poller, ShutdownHandle};
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wait::{Deadline, wait_for};

/// Holds a name; clients that know the name connect.
///
/// Every method takes `&self`, and any number of threads may accept at once. Dropping the server, like
/// [`close`](Server::close), removes its files and gives the name up; connections that are open go on. When the process
/// is killed the kernel gives the name up, and the next server removes the files.
///
/// All work is done inside the accepting calls: handshakes move on, and clients are let in or turned away, while somebody
/// is in one of them. A `unix` client that comes meanwhile waits in the kernel's queue and may send already; a `shm` or
/// `fifo` client waits for its handshake, up to its own timeout. So serve long conversations in threads.
///
/// In a forked child the server is dead: it accepts nobody, and dropping it there leaves the parent's name alone.
///
/// # Poll loops
///
/// [`as_fd`](AsFd::as_fd) gives one descriptor that is readable when [`try_accept`](Server::try_accept) has something
/// to do, deadlines included; call it until it gives `None`. The descriptor is for waiting only.
pub struct Server {
    display_name: Arc<str>,
    name: String,
    path: PathBuf,
    transports: Vec<Transport>,
    admission: Arc<Admission>,
    spin_limit: u32,
    shutdown: ShutdownHandle,
    acceptor: Mutex<Acceptor>,
    /// The poller's descriptor, to be waited on without the lock.
    readiness: Arc<SharedFd>,
}

impl ServerOptions {
    /// Takes the name and listens. See [`Server::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::bind`], and [`ErrorKind::InvalidOption`] for a value outside the range that its setter
    /// states.
    pub fn bind(&self, address: impl AsRef<str>) -> Result<Server> {
        Server::bind_with(address.as_ref(), self)
    }

    /// Serves on the sockets that a service manager passed, all of them or those with this descriptor name. See
    /// [`Server::from_listen_fds`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::from_listen_fds`], and [`ErrorKind::InvalidOption`] for a value outside the range that its
    /// setter states.
    pub fn bind_listen_fds(&self, fd_name: Option<&str>) -> Result<Server> {
        Server::activate(fd_name, self)
    }
}

impl Server {
    /// Takes the name of `address` and listens, with the defaults of [`ServerOptions`].
    ///
    /// A name belongs to whoever holds the lock in its directory, so at most one live server has it, and after a crash
    /// it is free at once: what the dead server left is removed here. Runs no thread and changes neither signals nor
    /// umask.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`]: the address is not one.
    /// - [`ErrorKind::NameInUse`]: a live server has the name, here or in another base directory of this user;
    ///   [`Error::holder`] and the text say which.
    /// - [`ErrorKind::UnsafeDirectory`]: somebody else could interfere with the directory.
    /// - [`ErrorKind::Denied`], [`ErrorKind::Io`]: the system said no.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let server = parlour::Server::bind("echo")?;
    /// for connection in server.incoming() {
    ///     let mut connection = connection?;
    ///     while let Some(message) = connection.recv()? {
    ///         connection.send(&message)?;
    ///     }
    /// }
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[doc(alias = "new_server")]
    pub fn bind(address: impl AsRef<str>) -> Result<Self> {
        ServerOptions::default().bind(address)
    }

    pub(crate) fn bind_with(address: &str, options: &ServerOptions) -> Result<Self> {
        let address = Address::parse(address)?;
        options.check()?;
        let transports = transports_of(&address, options)?;
        Self::open(&address, &address, &transports, options, Vec::new())
    }

    /// Takes over the sockets of one name from the service manager.
    pub(crate) fn activate(fd_name: Option<&str>, options: &ServerOptions) -> Result<Self> {
        options.check()?;
        let Activation { address, sockets } = Activation::find(fd_name)?;
        // Who may connect is what the files say, and those were made by the manager. Connecting takes the right to write.
        let mut options = options.clone();
        let lets_others_in = |mode: &u32| mode & 0o022 != 0;
        let modes = sockets.iter().map(|socket| socket.mode).filter(lets_others_in);
        options.mode = modes.fold(options.mode, |all, mode| all | mode);
        let is_wanted = |transport: &Transport| {
            options.transports.contains(transport) || sockets.iter().any(|socket| socket.transport == *transport)
        };
        let transports: Vec<_> = Transport::ALL.iter().copied().filter(is_wanted).collect();
        // A name in one of the usual places must not be alive in another.
        let elsewhere = match base::candidates(None)?.iter().any(|base| Some(&*base.path) == address.base()) {
            true => Address::parse(address.name())?,
            false => address.clone(),
        };
        Self::open(&address, &elsewhere, &transports, &options, sockets)
    }

    fn open(
        address: &Address,
        elsewhere: &Address,
        transports: &[Transport],
        options: &ServerOptions,
        adopted: Vec<Socket>,
    ) -> Result<Self> {
        let display_name: Arc<str> = format!("'{}'", address.name()).into();
        let failed = |errno: rustix::io::Errno| Error::io(Operation::Bind, &*display_name, errno);
        let poller = Poller::new().map_err(failed)?;
        let readiness =
            poller.as_fd().try_clone_to_owned().map_err(|error| Error::io(Operation::Bind, &*display_name, error))?;
        let admission = Arc::new(options.admission());
        let config = options.config(&admission);

        let kept: Vec<_> = adopted.iter().map(|socket| socket.transport).collect();
        let open_to_others = options.open_to_others();
        let guard = NameGuard::take(&BindRequest { address, elsewhere, transports, kept: &kept, open_to_others })?;
        let path = guard.path().to_owned();
        let shutdown = poller.shutdown_handle().clone();
        let mut acceptor = Acceptor::new(Arc::clone(&display_name), guard, poller);
        acceptor.listen(transports, adopted, &config)?;
        Ok(Self {
            display_name,
            name: address.name().to_owned(),
            path,
            transports: transports.to_vec(),
            admission,
            spin_limit: options.spin_limit,
            shutdown,
            readiness: Arc::new(SharedFd::new(readiness, 1)),
            acceptor: Mutex::new(acceptor),
        })
    }

    /// Serves on the sockets that a service manager passed to this process: socket activation, `sd_listen_fds(3)`.
    ///
    /// The manager listens, starts this program when the first client connects, and keeps the sockets when the program
    /// ends. Clients then wait for the next start, and none is refused. The path of a socket says which name and transport
    /// it is for: `DIRECTORY/NAME/unix` (or `packet`, `shm`) is the transport `unix` of `NAME`, so
    /// `ListenStream=%t/parlour/NAME/unix` is where clients look for `NAME`. docs/systemd.md has complete units.
    ///
    /// With `fd_name`, only descriptors with that name (`FileDescriptorName=`) are used, for a program that gets others
    /// too; each of them must then be a socket of one name. Without it, the sockets that lie in the directory of a name are
    /// used. Each descriptor can be taken once, and the environment is left as it is.
    ///
    /// The server takes the lock of the name as [`bind`](Server::bind) does, so at most one live server has it. Closing it
    /// releases the name, and leaves the sockets and the files of clients that may wait there. The mode and group of the
    /// sockets are the manager's. The server creates the transports that the options ask for in addition. The kernel
    /// reports the manager as the peer of a client that connected before this program started.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: no socket was passed to this process, or it was taken before.
    /// - [`ErrorKind::InvalidOption`]: the sockets do not fit: the wrong type for the transport, connections instead of
    ///   listening sockets (`Accept=yes`), sockets of two names, or none of a name.
    /// - Those of [`bind`](Server::bind). The sockets are then left as they were.
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

    /// Accepts a client. Blocks until one has connected and was admitted. Clients that are refused do not end the wait; see
    /// [`stats`](Server::stats).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Shutdown`]: [`ShutdownHandle::shutdown`] was called.
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so that clients no longer find it; or this
    ///   is a forked child. Close the server and bind again.
    /// - [`ErrorKind::Io`]: a system call failed.
    #[doc(alias = "accept_client")]
    pub fn accept(&self) -> Result<Connection> {
        self.accept_until(Deadline::NEVER)
    }

    /// Accepts a client, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Server::accept), and [`ErrorKind::TimedOut`]. No client is lost by that.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        self.accept_until(Deadline::after(timeout))
    }

    fn accept_until(&self, deadline: Deadline) -> Result<Connection> {
        // What is there at the deadline is still taken; events that bring no client may come without end.
        let mut in_time = true;
        loop {
            match self.step()? {
                Step::Ready(link) => return Ok(self.connection(link)),
                Step::Idle if in_time => {
                    let ready = wait_for(self.readiness.as_fd(), PollFlags::IN, deadline)
                        .map_err(|error| Error::io(Operation::Accept, &*self.display_name, error))?;
                    // Until now nothing was ready.
                    self.note_queue_drained();
                    in_time = ready && !deadline.is_over();
                }
                Step::Yield if in_time => in_time = !deadline.is_over(),
                Step::Idle | Step::Yield => {
                    let detail = "no client came before the deadline";
                    return Err(Error::new(ErrorKind::TimedOut, Operation::Accept, &*self.display_name, detail));
                }
            }
        }
    }

    /// Accepts a client without blocking.
    ///
    /// The call also advances handshakes and ends those that take too long, so a poll loop calls it whenever the server's
    /// descriptor is readable.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no client has connected. [`TryRecvError::Failed`] carries the errors of
    /// [`accept`](Server::accept).
    pub fn try_accept(&self) -> Result<Connection, TryRecvError> {
        match self.step()? {
            Step::Ready(link) => Ok(self.connection(link)),
            Step::Idle | Step::Yield => Err(TryRecvError::Empty),
        }
    }

    /// Works on what is ready. When nothing is left, wait on the descriptor.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn accept_now(&self) -> Result<Step<Connection>> {
        Ok(self.step()?.map(|link| self.connection(link)))
    }

    /// Notes that until now nothing was ready, after waiting for that.
    pub(crate) fn note_queue_drained(&self) {
        locked(&self.acceptor).note_queue_drained();
    }

    /// The descriptor to wait on, for who waits in another way than a poll loop.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn shared_fd(&self) -> Arc<SharedFd> {
        Arc::clone(&self.readiness)
    }

    fn step(&self) -> Result<Step<Link>> {
        // Locked first: a thread that waited for the lock while the server was released must not report a lost name.
        let mut acceptor = locked(&self.acceptor);
        if self.shutdown.is_asked() {
            let detail = "the server was told to shut down";
            return Err(Error::new(ErrorKind::Shutdown, Operation::Accept, &*self.display_name, detail));
        }
        let step = acceptor.step()?;
        if matches!(step, Step::Ready(_)) {
            self.admission.note_accepted();
        }
        Ok(step)
    }

    /// Accepts a client without blocking, and without making a [`Connection`] of it.
    pub(crate) fn try_accept_link(&self) -> Result<Option<Link>> {
        match self.step()? {
            Step::Ready(link) => Ok(Some(link)),
            Step::Idle | Step::Yield => Ok(None),
        }
    }

    fn connection(&self, link: Link) -> Connection {
        Connection::new(link, Arc::clone(&self.display_name), self.spin_limit)
    }

    /// The clients as they come. Ends at shutdown; any other error is an item, and ends it too.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { server: self, ended: false }
    }

    /// A handle with which any thread can make `accept` return.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Removes the server's files and gives the name up. Connections that are open go on; clients that were not
    /// accepted yet are disconnected.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when a file cannot be removed; the name is free all the same.
    #[doc(alias = "destroy_server")]
    pub fn close(self) -> Result<()> {
        self.give_up()
    }

    /// Gives the name up as [`close`](Server::close) does, through a reference, for a signal handler: it allocates and frees
    /// nothing, so it does not matter what the handler interrupts. The rest goes when the server is dropped.
    ///
    /// From then on accepting is [`ErrorKind::Shutdown`], also for who is blocked in it. It waits for calls of this very
    /// server that are working (not for those that sleep): so a handler must not interrupt one in its own thread. Block the
    /// signal around [`try_accept`](Server::try_accept), and let it come while you wait with ppoll(2). In a forked child it
    /// does nothing.
    ///
    /// # Errors
    ///
    /// The system's, when a file cannot be removed; the name is free all the same.
    pub fn release(&self) -> io::Result<()> {
        let mut acceptor = locked(&self.acceptor);
        if !acceptor.is_in_this_process() {
            return Ok(());
        }
        let released = acceptor.release(&self.shutdown);
        self.shutdown.shutdown();
        released
    }

    /// [`close`](Server::close) for an owner that has more to end than this.
    pub(crate) fn give_up(&self) -> Result<()> {
        locked(&self.acceptor).close()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The name in quotes, for messages.
    pub(crate) fn display_name(&self) -> &Arc<str> {
        &self.display_name
    }

    /// The bare name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name's directory, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        &self.transports
    }

    /// Returns the counts of clients: accepted, connected, and refused by reason.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.admission.stats()
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

/// The clients of a server as they come. See [`Server::incoming`].
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
                (error.kind() != ErrorKind::Shutdown).then_some(Err(error))
            }
        }
    }
}

/// What to offer: what the options say, or the address, or `unix`; best first.
fn transports_of(address: &Address, options: &ServerOptions) -> Result<Vec<Transport>> {
    let invalid =
        |detail: String| Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, "transports", detail));
    let asked = &options.transports;
    let transports = match (asked.is_empty(), address.transport()) {
        (true, transport) => vec![transport.unwrap_or(Transport::Unix)],
        (false, Some(transport)) if !asked.contains(&transport) => {
            return invalid(format!("the address demands {transport}, which is not among them"));
        }
        (false, _) => Transport::ALL.iter().copied().filter(|transport| asked.contains(transport)).collect(),
    };
    if options.open_to_others() && transports == [Transport::Fifo] {
        return invalid("fifo serves its own user only, and the mode lets others in; offer unix".to_owned());
    }
    Ok(transports)
}
