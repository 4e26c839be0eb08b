//! A server: a name that is held, its listeners, and the clients that come.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::activation::{Activation, Socket};
use crate::address::Address;
use crate::admission::{Gate, Refusals, locked};
use crate::backend::config::Terms;
use crate::backend::{Link, Listener, client_file, fifo};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::name::{Claim, Holding, base, leftovers};
use crate::options::ServerOptions;
use crate::poller::{Poller, ShutdownHandle, Wake};
use crate::sys::shared_fd::SharedFd;
use crate::transport::Transport;
use crate::wait::{Deadline, wait_for};
use crate::wire::client_file::ClientFile;

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
    quoted: Arc<str>,
    name: String,
    path: PathBuf,
    transports: Vec<Transport>,
    gate: Arc<Gate>,
    yields: u32,
    shutdown: ShutdownHandle,
    state: Mutex<State>,
    /// The poller's descriptor, to be waited on without the lock.
    readiness: Arc<SharedFd>,
}

/// What one accepting thread at a time works on.
struct State {
    /// The name in quotes, for messages.
    quoted: Arc<str>,
    /// `None` once the name has been given up.
    holding: Option<Holding>,
    listeners: Vec<Listener>,
    poller: Poller,
    /// When to look for files of clients that have gone.
    sweep_at: Option<Instant>,
    /// When the name's files were last checked.
    checked_at: Instant,
    lost: bool,
    /// The name was given up in place; what is left is memory.
    released: bool,
}

/// How old the last check of the name's files may be when a client comes. A watch tells of most changes at once; this
/// is for those that it cannot see, such as a directory above that was renamed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Clients whose files are this old have gone or have been given up.
const SWEEP_INTERVAL: Duration = client_file::AGE_MAX;

/// How many events one `try_accept` works on before it returns, so that a flood of bad requests cannot keep it for
/// ever.
const EVENTS_MAX: usize = 256;

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
        let quoted: Arc<str> = format!("'{}'", address.name()).into();
        let failed = |errno: rustix::io::Errno| Error::io("bind", &*quoted, errno);
        let poller = Poller::new().map_err(failed)?;
        let readiness = poller.as_fd().try_clone_to_owned().map_err(|error| Error::io("bind", &*quoted, error))?;
        let gate = Arc::new(options.gate());
        let terms = options.terms(&gate);

        let kept: Vec<_> = adopted.iter().map(|socket| socket.transport).collect();
        let open_to_others = options.open_to_others();
        let holding = Holding::take(&Claim { address, elsewhere, transports, kept: &kept, open_to_others })?;
        let path = holding.path().to_owned();
        let shutdown = poller.shutdown_handle().clone();
        // From here on dropping the state removes what was made and gives the name up.
        let mut state = State {
            quoted: Arc::clone(&quoted),
            holding: Some(holding),
            listeners: Vec::new(),
            poller,
            sweep_at: None,
            checked_at: Instant::now(),
            lost: false,
            released: false,
        };
        state.listen(transports, adopted, &terms)?;
        Ok(Self {
            quoted,
            name: address.name().to_owned(),
            path,
            transports: transports.to_vec(),
            gate,
            yields: options.yields,
            shutdown,
            readiness: Arc::new(SharedFd::new(readiness, 1)),
            state: Mutex::new(state),
        })
    }

    /// Serves on the sockets that a service manager made, with the defaults of [`ServerOptions`]: socket activation,
    /// sd_listen_fds(3).
    ///
    /// The manager listens, starts this program when the first client comes, and keeps the sockets when it ends: then
    /// clients wait for the next start, and nobody is turned away. Where a socket lies says what it is for:
    /// `DIRECTORY/NAME/unix` (or `packet`, `shm`) is the transport `unix` of `NAME`, so `ListenStream=%t/parlour/NAME/unix`
    /// is where clients look for `NAME`. docs/systemd.md has whole units.
    ///
    /// This takes the name's lock as [`bind`](Server::bind) does, so that at most one live server has it; closing gives
    /// the name up and leaves the sockets, and the files of clients that may wait there. The sockets' mode and group are
    /// the manager's. Transports that the options ask for beyond what was handed over are made here.
    ///
    /// Of the descriptors only those that lie in the directory of a name are taken, and these once; the environment is
    /// left as it is. Peers of a client that came before the start are, by the kernel's word, the manager.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: nothing was handed over to this process, or it was taken before.
    /// - [`ErrorKind::InvalidOption`]: what was handed over does not fit: the wrong type for its transport, connections
    ///   instead of listening sockets (`Accept=yes`), sockets of two names, or none of a name.
    /// - Those of [`bind`](Server::bind). What was handed over is then left as it was.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let server = match parlour::Server::from_listen_fds() {
    ///     // Started by hand.
    ///     Err(error) if error.kind() == parlour::ErrorKind::Unsupported => parlour::Server::bind("echo")?,
    ///     server => server?,
    /// };
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn from_listen_fds() -> Result<Self> {
        ServerOptions::default().bind_listen_fds()
    }

    /// [`from_listen_fds`](Server::from_listen_fds) of those descriptors that the manager gave this name
    /// (`FileDescriptorName=`), for a program that is handed others too.
    ///
    /// # Errors
    ///
    /// Those of `from_listen_fds`; a descriptor with this name must be a socket of a name.
    pub fn from_listen_fds_named(fd_name: &str) -> Result<Self> {
        ServerOptions::default().bind_listen_fds_named(fd_name)
    }

    /// Blocks until a client has connected and was let in. Clients that are refused do not end the wait; see
    /// [`refused`](Server::refused).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Shutdown`]: somebody used the [`shutdown_handle`](Server::shutdown_handle).
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so that clients no longer find it; or
    ///   this is a forked child. Close it and bind again.
    /// - [`ErrorKind::Io`]: the system said no.
    #[doc(alias = "accept_client")]
    pub fn accept(&self) -> Result<Connection> {
        self.accept_until(Deadline::NEVER)
    }

    /// [`accept`](Server::accept) that gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of `accept`, and [`ErrorKind::TimedOut`]; no client is lost by that.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection> {
        self.accept_until(Deadline::after(timeout))
    }

    fn accept_until(&self, deadline: Deadline) -> Result<Connection> {
        // What is there at the deadline is still taken; events that bring no client may come without end.
        let mut in_time = true;
        loop {
            match self.step()? {
                Step::Client(link) => return Ok(self.connection(link)),
                Step::Idle if in_time => {
                    let ready = wait_for(self.readiness.as_fd(), PollFlags::IN, deadline)
                        .map_err(|error| Error::io("accept on", &*self.quoted, error))?;
                    // Until now nothing was ready.
                    self.nobody_has_waited();
                    in_time = ready && !deadline.is_over();
                }
                Step::More if in_time => in_time = !deadline.is_over(),
                Step::Idle | Step::More => {
                    let detail = "no client came before the deadline";
                    return Err(Error::new(ErrorKind::TimedOut, "accept on", &*self.quoted, detail));
                }
            }
        }
    }

    /// [`accept`](Server::accept) that does not wait: `None` when no client is there.
    ///
    /// It also moves handshakes on and ends those that take too long, so poll loops call it whenever the server's
    /// descriptor is readable.
    ///
    /// # Errors
    ///
    /// Those of `accept`.
    pub fn try_accept(&self) -> Result<Option<Connection>> {
        match self.step()? {
            Step::Client(link) => Ok(Some(self.connection(link))),
            Step::Idle | Step::More => Ok(None),
        }
    }

    /// Works on what is ready. When nothing is left, wait on the descriptor.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn accept_now(&self) -> Result<Accepted> {
        Ok(match self.step()? {
            Step::Client(link) => Accepted::Client(self.connection(link)),
            Step::Idle => Accepted::Nobody,
            Step::More => Accepted::NobodyYet,
        })
    }

    /// Notes that until now nothing was ready, after waiting for that.
    pub(crate) fn nobody_has_waited(&self) {
        locked(&self.state).nobody_waits();
    }

    /// The descriptor to wait on, for who waits in another way than a poll loop.
    #[allow(dead_code, reason = "for the APIs that are features")]
    pub(crate) fn shared_fd(&self) -> Arc<SharedFd> {
        Arc::clone(&self.readiness)
    }

    fn step(&self) -> Result<Step> {
        // First: who has waited for it while the server was released must not take that for a loss.
        let mut state = locked(&self.state);
        if self.shutdown.is_asked() {
            let detail = "the server was told to shut down";
            return Err(Error::new(ErrorKind::Shutdown, "accept on", &*self.quoted, detail));
        }
        state.step()
    }

    /// [`try_accept`](Server::try_accept) for an owner that makes no [`Connection`] of it.
    pub(crate) fn try_accept_link(&self) -> Result<Option<Link>> {
        match self.step()? {
            Step::Client(link) => Ok(Some(link)),
            Step::Idle | Step::More => Ok(None),
        }
    }

    fn connection(&self, link: Link) -> Connection {
        Connection::new(link, Arc::clone(&self.quoted), self.yields)
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
        let mut state = locked(&self.state);
        if !state.holding.as_ref().is_some_and(Holding::is_in_this_process) {
            return Ok(());
        }
        let released = state.release(&self.shutdown);
        self.shutdown.shutdown();
        released
    }

    /// [`close`](Server::close) for an owner that has more to end than this.
    pub(crate) fn give_up(&self) -> Result<()> {
        locked(&self.state).close()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The name in quotes, for messages.
    pub(crate) fn quoted(&self) -> &Arc<str> {
        &self.quoted
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

    /// The transports on offer, best first.
    #[must_use]
    pub fn transports(&self) -> Vec<Transport> {
        self.transports.clone()
    }

    /// How many clients were turned away, and why the last one.
    #[must_use]
    pub fn refused(&self) -> Refusals {
        locked(&self.gate.refusals).clone()
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

/// What one round of work brought, for the APIs that wait by themselves.
#[allow(dead_code, reason = "for the APIs that are features")]
pub(crate) enum Accepted {
    Client(Connection),
    /// Nothing is left to do until the descriptor says so.
    Nobody,
    /// And there is more to do.
    NobodyYet,
}

/// What one round of work brought.
enum Step {
    Client(Link),
    /// Nothing is left to do until the poller says so.
    Idle,
    /// No client yet, and more to do.
    More,
}

impl State {
    fn listen(&mut self, transports: &[Transport], mut adopted: Vec<Socket>, terms: &Terms) -> Result<()> {
        let Some(holding) = &self.holding else { return Ok(()) };
        for &transport in transports {
            let interest = self.poller.interest(self.listeners.len());
            let handed_over = adopted.iter().position(|socket| socket.transport == transport);
            let made = match handed_over.map(|at| adopted.swap_remove(at).passed) {
                Some(passed) => Listener::adopt(transport, passed, holding, terms, interest),
                None => Listener::bind(transport, holding, terms, interest),
            };
            match made {
                Ok(listener) => self.listeners.push(listener),
                Err(error) => {
                    // Its file may be there already, and nobody is served yet. What cannot be removed the next server
                    // will.
                    let _ = holding.remove_server_files();
                    return Err(error);
                }
            }
        }
        if let Err(errno) = self.poller.watch(holding) {
            tracing::debug!(%errno, "the name's files are not watched, only checked");
        }
        Ok(())
    }

    /// Works on what is ready until that brings a client or nothing is left.
    fn step(&mut self) -> Result<Step> {
        let step = self.work();
        let deadlines = self.listeners.iter().filter_map(Listener::deadline).chain(self.sweep_at);
        let next = deadlines.min();
        self.poller.set_deadline(next).map_err(|errno| Error::io("accept on", &*self.quoted, errno))?;
        step
    }

    fn work(&mut self) -> Result<Step> {
        let quoted = Arc::clone(&self.quoted);
        let failed = |errno: rustix::io::Errno| Error::io("accept on", &*quoted, errno);
        self.check_process()?;
        for _ in 0..EVENTS_MAX {
            if self.lost {
                return Err(self.name_lost());
            }
            match self.poller.next().map_err(failed)? {
                None => {
                    self.nobody_waits();
                    return Ok(Step::Idle);
                }
                // The next round finds the handle asked.
                Some(Wake::Shutdown) => return Ok(Step::More),
                Some(Wake::Files) => self.check_files(),
                Some(Wake::Deadline) => self.expire()?,
                Some(Wake::Listener(number, token)) => {
                    if self.checked_at.elapsed() >= CHECK_INTERVAL {
                        self.check_files();
                    }
                    let Some(holding) = &self.holding else { return Ok(Step::Idle) };
                    let Some(listener) = self.listeners.get_mut(number) else { continue };
                    self.sweep_at.get_or_insert_with(|| Instant::now() + SWEEP_INTERVAL);
                    if let Some(link) = listener.advance(token, holding)? {
                        return Ok(Step::Client(link));
                    }
                }
            }
        }
        Ok(Step::More)
    }

    /// Notes that every queue was empty a moment ago.
    fn nobody_waits(&mut self) {
        let now = Instant::now();
        for listener in &mut self.listeners {
            listener.queue_is_empty(now);
        }
    }

    fn check_process(&self) -> Result<()> {
        if self.holding.as_ref().is_some_and(Holding::is_in_this_process) {
            return Ok(());
        }
        let detail = "this is a forked child, and the name stayed with the parent";
        Err(Error::new(ErrorKind::NameLost, "accept on", &*self.quoted, detail)
            .next("accept in the parent and hand connections to children, or bind after the fork"))
    }

    fn name_lost(&self) -> Error {
        let path = self.holding.as_ref().map(|holding| holding.path().display().to_string()).unwrap_or_default();
        let detail = format!("its files in {path} were removed or replaced, so clients no longer find it");
        Error::new(ErrorKind::NameLost, "accept on", &*self.quoted, detail)
            .next("close it and bind again, and keep cleaners away from that directory")
    }

    fn check_files(&mut self) {
        let Some(holding) = &self.holding else { return };
        self.checked_at = Instant::now();
        let of_listeners = self.listeners.iter().map(|listener| listener.is_still_there(holding));
        // What cannot be said now is looked for the next time: a name that was lost is never had again.
        let is_gone = std::iter::once(holding.is_still_held()).chain(of_listeners).any(|there| there == Ok(false));
        if is_gone && !self.lost {
            self.lost = true;
            tracing::error!(name = %self.quoted, path = %holding.path().display(), "name lost");
        }
    }

    /// Ends handshakes that take too long, and removes what clients left that have gone.
    fn expire(&mut self) -> Result<()> {
        self.poller.deadline_passed();
        let Some(holding) = &self.holding else { return Ok(()) };
        let now = Instant::now();
        for listener in &mut self.listeners {
            listener.expire(holding, now)?;
        }
        if self.lost || self.sweep_at.is_none_or(|at| at > now) {
            return Ok(());
        }
        let listeners = &self.listeners;
        let swept = leftovers::remove_client_files(holding.clients(), |id, file, stat| {
            let age = client_file::age(stat);
            age >= client_file::AGE_MAX
                && !listeners.iter().any(|listener| listener.may_need(id, file, age))
                && match file {
                    ClientFile::Socket => true,
                    ClientFile::ServerToClient | ClientFile::ClientToServer => {
                        fifo::listen::is_gone(holding.clients(), id)
                    }
                }
        });
        // While files are left there is a reason to come back; else the next client is one.
        self.sweep_at = match swept {
            Ok(0) => None,
            Ok(_) => Some(now + SWEEP_INTERVAL),
            Err(error) => {
                tracing::warn!(name = %self.quoted, %error, "leftovers of clients cannot be removed");
                Some(now + SWEEP_INTERVAL)
            }
        };
        Ok(())
    }

    /// See [`Server::release`].
    fn release(&mut self, shutdown: &ShutdownHandle) -> io::Result<()> {
        let Some(holding) = &self.holding else { return Ok(()) };
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        let mut result = Ok(());
        for listener in &mut self.listeners {
            result = result.and(listener.release(holding, shutdown.as_fd()));
        }
        result.and(holding.release_in_place())
    }

    /// Gives the name up. In a forked child there is nothing to give.
    fn close(&mut self) -> Result<()> {
        let Some(holding) = self.holding.take() else { return Ok(()) };
        let listeners = mem::take(&mut self.listeners);
        if self.released || !holding.is_in_this_process() {
            return Ok(());
        }
        let mut result = Ok(());
        for listener in listeners {
            result = result.and(listener.close(&holding));
        }
        result.and(holding.release())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(name = %self.quoted, %error, "the server could not be closed cleanly");
        }
    }
}

/// What to offer: what the options say, or the address, or `unix`; best first.
fn transports_of(address: &Address, options: &ServerOptions) -> Result<Vec<Transport>> {
    let invalid = |detail: String| Err(Error::new(ErrorKind::InvalidOption, "use the option", "transports", detail));
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
