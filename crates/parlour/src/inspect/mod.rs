//! Inspection of this machine: base directories, names, their holders, and the files of dead servers.
//!
//! Every function only reads, except [`clean`]. Other processes run concurrently, so a result may be out of date when
//! the caller reads it.

mod stats;
mod tap;
mod tap_request;
mod watch;
mod watches;

use std::io;
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags, openat};

use crate::address::{Address, is_name};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::base::{self, Candidate as BaseCandidate};
use crate::name::directory::{self, Opened, Trust};
use crate::name::lock::{self, Holder};
use crate::name::{self, Found, listening};
use crate::options::ConnectOptions;
use crate::server::counters::Asks;
use crate::transport::Transport;

pub use crate::escape::{ESCAPED_LEN_MAX, Escaped, escaped};
pub use crate::name::base::Origin;
pub use crate::owner::Owner;
pub use stats::NameStats;
use tap::TappedName;
pub use tap::{Tap, TapDirection, TapMessage};
pub use watch::{Watch, watch, watch_with};
pub use watches::Watches;

/// A directory that may contain names.
#[derive(Debug)]
#[non_exhaustive]
pub struct Base {
    /// The path of the directory.
    pub path: PathBuf,
    /// The reason why the directory is a candidate.
    pub origin: Origin,
    /// The result of the checks of the directory.
    pub state: BaseState,
}

/// The usability of a base.
#[derive(Debug)]
#[non_exhaustive]
pub enum BaseState {
    /// The directory exists and passed the checks.
    Usable,
    /// The directory does not exist. The first server creates it.
    Missing,
    /// Neither the directory nor its parent exists. The error names the missing directory.
    Unavailable(Error),
    /// The directory did not pass the checks. The error contains the reason and the next step.
    Unsafe(Error),
}

/// A name that has a directory in a base.
#[derive(Debug)]
#[non_exhaustive]
pub struct NameStatus {
    /// The name, without transport and base.
    pub name: String,
    /// The directory of the name.
    pub path: PathBuf,
    /// The base that contains the directory.
    pub base: PathBuf,
    /// The state of the name.
    pub state: NameState,
    /// The transports that have a point of contact in the directory, best first. For a dead name, those that its server
    /// left.
    pub transports: Vec<Transport>,
    /// The owner record of the process that holds the name or died holding it. `None` if there is no complete record,
    /// if this process may not read it, or if the process of the record has ended and another one keeps the name (see
    /// the threat model for the children of a bare clone(2)).
    pub owner: Option<Owner>,
}

/// The state of a name.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameState {
    /// A server holds the name.
    Live,
    /// No server holds the name. The next server can take it.
    Dead,
    /// No server holds the name, but a process listens on one of its sockets: a service manager, which starts the
    /// server when a client connects.
    Waiting,
    /// The name belongs to another user. This process cannot determine whether a server holds it.
    Foreign,
    /// The directory did not pass the checks, or could not be looked at. The error contains the reason and the next
    /// step. If its kind is [`ErrorKind::Io`], a system call failed, for example because this process has no descriptor
    /// left: then a server may hold the name, and a later look may tell.
    Unsafe(Error),
}

/// The resolution of an address.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolution {
    /// The address.
    pub address: Address,
    /// The bases that are searched, in order, with their contents.
    pub candidates: Vec<Candidate>,
    /// The directory that a server of this user would take.
    pub server: Result<PathBuf>,
    /// The directory through which a client of this user would connect. The error is [`ErrorKind::NoServer`] if there
    /// is none, and [`ErrorKind::Io`] if a system call failed, so that it is not known.
    pub client: Result<PathBuf>,
}

impl Resolution {
    /// Returns the name through which a client of this user would connect, or `None` if there is none
    /// ([`client`](Self::client) has the reason).
    #[must_use]
    pub fn found(&self) -> Option<&NameStatus> {
        let path = self.client.as_ref().ok()?;
        let mut names = self.candidates.iter().filter_map(|candidate| candidate.name.as_ref());
        names.find(|name| name.path == *path)
    }
}

/// One base in the resolution of an address.
#[derive(Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The base.
    pub base: Base,
    /// The name in this base, if it exists there.
    pub name: Option<NameStatus>,
}

/// Returns the candidate base directories, in the order in which clients search them.
///
/// # Errors
///
/// - [`ErrorKind::UnsafeDirectory`]: `$PARLOUR_DIR` is not an absolute path.
pub fn bases() -> Result<Vec<Base>> {
    bases_with(&ConnectOptions::default())
}

/// Returns the candidate base directories as [`bases`] does, for a client that connects with these options. Of the
/// options, only [`server_uid`](ConnectOptions::server_uid) changes which bases are searched and trusted.
///
/// # Errors
///
/// Those of [`bases`].
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, inspect};
///
/// for base in inspect::bases_with(&ConnectOptions::new().server_uid(0))? {
///     println!("{} ({}): {:?}", base.path.display(), base.origin, base.state);
/// }
/// # Ok::<(), parlour::Error>(())
/// ```
pub fn bases_with(options: &ConnectOptions) -> Result<Vec<Base>> {
    let trust = Trust::own().and(options.server_uid);
    let candidates = base::all_for_client(options.server_uid)?;
    Ok(candidates.into_iter().map(|candidate| look_at_base(candidate, &trust)).collect())
}

fn look_at_base(candidate: BaseCandidate, trust: &Trust) -> Base {
    let BaseCandidate { path, origin } = candidate;
    let state = match directory::open(&path, trust) {
        Ok(Opened::Directory(_)) => BaseState::Usable,
        Ok(Opened::Missing { .. }) => BaseState::Missing,
        Ok(Opened::NoParent { missing }) => BaseState::Unavailable(Error::new(
            ErrorKind::UnsafeDirectory,
            Operation::OpenDirectory,
            path.display().to_string(),
            format!("{} does not exist", missing.display()),
        )),
        Err(error) => BaseState::Unsafe(error),
    };
    Base { path, origin, state }
}

/// Returns every name in every usable base, ordered by base and then by name.
///
/// # Errors
///
/// Those of [`bases`], and:
///
/// - [`ErrorKind::Denied`], [`ErrorKind::Io`]: a base cannot be listed.
pub fn names() -> Result<Vec<NameStatus>> {
    names_with(&ConnectOptions::default())
}

/// Returns the names as [`names`] does, for a client that connects with these options. Of the options, only
/// [`server_uid`](ConnectOptions::server_uid) changes which bases are searched and trusted. Root sees the names of
/// another user with the id of that user.
///
/// # Errors
///
/// Those of [`names`].
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, inspect};
///
/// for name in inspect::names_with(&ConnectOptions::new().server_uid(0))? {
///     println!("{}: {:?}", name.path.display(), name.state);
/// }
/// # Ok::<(), parlour::Error>(())
/// ```
pub fn names_with(options: &ConnectOptions) -> Result<Vec<NameStatus>> {
    let trust = Trust::own().and(options.server_uid);
    let mut names = Vec::new();
    for candidate in base::all_for_client(options.server_uid)? {
        // [`bases`] reports an unsafe base. The names in it are not trustworthy.
        let Ok(Opened::Directory(base)) = directory::open(&candidate.path, &trust) else { continue };
        let failed = |errno: io::Error| Error::io(Operation::List, candidate.path.display().to_string(), errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = openat(&base, ".", flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&listed).map_err(|errno| failed(errno.into()))? {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            if let Ok(name) = entry.file_name().to_str() {
                if is_name(name) {
                    found.push(name.to_owned());
                }
            }
        }
        found.sort();
        names.extend(found.iter().filter_map(|name| look_at_name(&candidate, name, &trust)));
    }
    Ok(names)
}

/// Returns the state of a name in a base, or `None` if the base does not have it.
fn look_at_name(candidate: &BaseCandidate, name: &str, trust: &Trust) -> Option<NameStatus> {
    let status = |state, transports, owner| NameStatus {
        name: name.to_owned(),
        path: candidate.path.join(name),
        base: candidate.path.clone(),
        state,
        transports,
        owner,
    };
    // In a base that passed the checks, a directory of another user is a service of that user, and reading its state is
    // safe.
    let found = match name::find(candidate, name, trust) {
        Ok(Some(found)) => found,
        Ok(None) => return None,
        Err(error) if error.kind() == ErrorKind::Io => return Some(status(NameState::Unsafe(error), Vec::new(), None)),
        Err(error) => {
            return Some(match another_users(candidate, name, trust) {
                true => status(NameState::Foreign, Vec::new(), None),
                false => status(NameState::Unsafe(error), Vec::new(), None),
            });
        }
    };
    let transports = transports_of(&found);
    let holder = match lock::look(&found.directory, &found.path) {
        Ok(Holder::Live(owner)) => {
            let holder = owner.filter(|owner| !owner.has_ended());
            return Some(status(NameState::Live, transports, holder));
        }
        Ok(Holder::Unknown) => return Some(status(NameState::Foreign, transports, None)),
        Ok(holder) => holder,
        Err(error) => return Some(status(NameState::Unsafe(error), transports, None)),
    };
    Some(match (listening::somebody_listens(&found.directory, &found.path), holder) {
        (Ok(true), _) => status(NameState::Waiting, transports, None),
        (_, Holder::Dead(owner)) => status(NameState::Dead, transports, owner),
        // No server created this directory.
        _ => return None,
    })
}

/// Returns true if the directory belongs to a user that this process does not trust, and is otherwise in order.
fn another_users(candidate: &BaseCandidate, name: &str, trust: &Trust) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::symlink_metadata(candidate.path.join(name)) else { return false };
    metadata.is_dir() && !trust.includes(metadata.uid()) && metadata.mode() & 0o022 == 0
}

fn transports_of(found: &Found) -> Vec<Transport> {
    let is_there = |transport: &Transport| directory::FileId::at(&found.directory, transport.file_name()).is_some();
    Transport::ALL.iter().copied().filter(is_there).collect()
}

/// Resolves an address for a server and for a client, and returns the bases that led to the result.
///
/// # Errors
///
/// Those of [`bases`], and:
///
/// - [`ErrorKind::InvalidName`]: the address is malformed.
///
/// The absence of a server is not an error of this function. It is in [`Resolution::client`].
pub fn resolve(address: impl AsRef<str>) -> Result<Resolution> {
    resolve_with(address, &ConnectOptions::default())
}

/// Resolves an address as [`resolve`] does, for a client that connects with these options. Of the options, only
/// [`server_uid`](ConnectOptions::server_uid) changes which bases are searched and trusted.
///
/// # Errors
///
/// Those of [`resolve`].
pub fn resolve_with(address: impl AsRef<str>, options: &ConnectOptions) -> Result<Resolution> {
    let address = Address::parse(address.as_ref())?;
    let trust = Trust::own().and(options.server_uid);
    let candidates: Vec<Candidate> = base::candidates_for_client(&address, options.server_uid)?
        .into_iter()
        .map(|candidate| Candidate {
            name: look_at_name(&candidate, address.name(), &trust),
            base: look_at_base(candidate, &trust),
        })
        .collect();
    let server = base::path_for_server(&address).map(|base| base.join(address.name()));
    let client = resolve_client(&address, &candidates);
    Ok(Resolution { address, candidates, server, client })
}

fn resolve_client(address: &Address, candidates: &[Candidate]) -> Result<PathBuf> {
    let display_name = format!("'{address}'");
    let mut failed = None;
    for name in candidates.iter().filter_map(|candidate| candidate.name.as_ref()) {
        let offers = match address.transport() {
            Some(transport) => name.transports.contains(&transport),
            None => !name.transports.is_empty(),
        };
        match &name.state {
            NameState::Live | NameState::Foreign | NameState::Waiting if offers => return Ok(name.path.clone()),
            NameState::Foreign if name.transports.is_empty() => {
                let detail =
                    format!("{} belongs to another user, and this process may not enter it", name.path.display());
                return Err(Error::new(ErrorKind::Denied, Operation::Find, display_name, detail)
                    .next("ask that user to open the server to others (option mode)"));
            }
            // A server may be there. One in a later base is found nevertheless, as by a client that connects.
            NameState::Unsafe(error) if error.kind() == ErrorKind::Io => failed = failed.or(Some(error)),
            NameState::Live | NameState::Foreign | NameState::Waiting | NameState::Dead | NameState::Unsafe(_) => {}
        }
    }
    if let Some(error) = failed {
        return Err(error.again());
    }
    Err(Error::new(ErrorKind::NoServer, Operation::Find, display_name, "no server holds this name")
        .next("start the server"))
}

/// Reads the counters of the server that holds a name. The server does nothing for it, and need not be running: it may
/// be stopped, or busy with one client.
///
/// The counters are for the user of the server, and for root, which names that user ([`stats_with`]). They are in
/// memory of the server, which its owner record names. This function opens it through `/proc`, and checks that it is
/// that memory.
///
/// `/proc` does not lead to a server in another PID namespace, nor to one that is not dumpable (prctl(2),
/// `PR_SET_DUMPABLE`), and leads nowhere if it is missing or of another PID namespace. This function then asks the
/// server for the memory, and blocks for up to a second. Such a server answers a process of its own user while a thread
/// of it waits for clients or messages, unless it was bound with
/// [`hand_over(false)`](crate::ServerOptions::hand_over) or on the sockets of a service manager.
///
/// # Errors
///
/// - [`ErrorKind::InvalidName`]: the address is malformed.
/// - [`ErrorKind::NoServer`]: no server holds the name.
/// - [`ErrorKind::Unsupported`]: the server has no counters: it is of an earlier or a later version, runs without them
///   ([`ServerOptions::stats`](crate::ServerOptions::stats)), or is in another PID namespace and hands nothing out.
/// - [`ErrorKind::Denied`]: the server is of another user, or is not dumpable and hands nothing out.
/// - [`ErrorKind::Busy`]: `/proc` does not lead to the counters, and the server did not hand them out within a second.
/// - [`ErrorKind::Io`]: a system call failed.
///
/// # Examples
///
/// ```
/// use parlour::{Connection, Server, inspect};
///
/// # let base = tempfile::tempdir()?;
/// # let address = base.path().join("counting").display().to_string();
/// let server = Server::bind(&address)?;
/// let mut client = Connection::connect(&address)?;
/// let mut accepted = server.accept()?;
/// client.send("hello")?;
/// accepted.recv()?;
///
/// let stats = inspect::stats(&address)?;
/// assert_eq!((stats.open, stats.received.messages, stats.received.bytes), (1, 1, 5));
/// assert_eq!(stats.clients[0].pid, Some(std::process::id()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Platform
///
/// Linux, with `/proc`.
pub fn stats(address: impl AsRef<str>) -> Result<NameStats> {
    stats_with(address, &ConnectOptions::default())
}

/// Reads the counters of a server as [`stats`] does, for a process that connects with these options. Of the options,
/// only [`server_uid`](ConnectOptions::server_uid) has an effect: the server must be of that user, whose bases are
/// searched and trusted. Root reads the counters of another user's server with the id of that user.
///
/// # Errors
///
/// Those of [`stats`]. [`ErrorKind::Denied`] also means that the server is not of the user that the options state.
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, Server, inspect};
///
/// # let base = tempfile::tempdir()?;
/// # let address = base.path().join("counting").display().to_string();
/// # let uid = rustix::process::geteuid().as_raw();
/// let server = Server::bind(&address)?;
/// let stats = inspect::stats_with(&address, &ConnectOptions::new().server_uid(uid))?;
/// assert_eq!(stats.accepted, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stats_with(address: impl AsRef<str>, options: &ConnectOptions) -> Result<NameStats> {
    let (object, name) = live(address, options, Asks::Counters)?;
    let at = stats::NameDirectory { base: &name.base, name: &name.name, path: &name.path };
    stats::read(&object, &at, name.owner)
}

/// Taps the server that holds a name: returns the messages that it receives and sends from now on, while they pass.
///
/// The server copies its messages into memory that this process reads. A process that taps cannot hold a server up, or
/// change a conversation: one that is too slow loses messages, which are counted ([`TapMessage::lost`]). The server
/// begins with the first message after this call, if that comes 100 ms or more after the end of an earlier tap. It
/// logs that it is tapped. This process opens the memory of the server up to 20 ms after the first message; messages of
/// a server that ends before that are missed.
///
/// Connections that were taken apart ([`Connection::into_raw_parts`](crate::Connection::into_raw_parts)) are not seen,
/// and neither are those of a classic C server.
///
/// ```
/// use std::time::Duration;
/// use parlour::{Connection, Server, inspect};
///
/// let base = tempfile::tempdir()?;
/// let address = base.path().join("tapped").display().to_string();
/// let server = Server::bind(&address)?;
/// let mut client = Connection::connect(&address)?;
/// let mut accepted = server.accept()?;
///
/// let mut tap = inspect::tap(&address)?;
/// client.send("hello")?;
/// accepted.recv()?;
/// let message = tap.recv_timeout(Duration::from_secs(10))?.expect("a message has passed");
/// assert_eq!((&message.bytes[..], message.direction), (&b"hello"[..], inspect::TapDirection::In));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// - [`ErrorKind::NoServer`]: no server holds this name, or it has just ended.
/// - [`ErrorKind::Denied`]: the server is of another user, or does not let other processes look at it.
/// - [`ErrorKind::Unsupported`]: the server does not let processes tap it
///   ([`ServerOptions::tap`](crate::ServerOptions::tap)), or is of an earlier version.
/// - [`ErrorKind::Busy`]: 128 processes tap the server; or `/proc` does not lead to it, and no thread of it waits for
///   clients or messages within a second.
/// - [`ErrorKind::Io`]: a system call failed.
///
/// # Platform
///
/// Linux. Where `/proc` does not lead to the memory of the server, because the server is in another PID namespace or is
/// not dumpable, the server hands the memory out at its socket `control` if its option
/// [`tap`](crate::ServerOptions::tap) is true, and not by default.
pub fn tap(address: impl AsRef<str>) -> Result<Tap> {
    tap_with(address, &ConnectOptions::default())
}

/// Taps a server as [`tap`] does, for a process that connects with these options. Of the options, only
/// [`server_uid`](ConnectOptions::server_uid) has an effect: the server must be of that user, whose bases are searched
/// and trusted. Root taps another user's server with the id of that user.
///
/// # Errors
///
/// Those of [`tap`]. [`ErrorKind::Denied`] also means that the server is not of the user that the options state.
///
/// # Examples
///
/// ```
/// use parlour::{ConnectOptions, Server, inspect};
///
/// # let base = tempfile::tempdir()?;
/// # let address = base.path().join("tapped").display().to_string();
/// # let uid = rustix::process::geteuid().as_raw();
/// let server = Server::bind(&address)?;
/// let mut tap = inspect::tap_with(&address, &ConnectOptions::new().server_uid(uid))?;
/// assert_eq!(tap.owner().pid, std::process::id());
/// assert!(tap.recv_timeout(std::time::Duration::ZERO)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn tap_with(address: impl AsRef<str>, options: &ConnectOptions) -> Result<Tap> {
    let (object, status) = live(&address, options, Asks::Tap)?;
    let NameStatus { base, name, path, owner, .. } = status;
    let (address, server_uid) = (address.as_ref().to_owned(), options.server_uid);
    let holder = |address: &str, server_uid: Option<u32>| {
        let options = ConnectOptions { server_uid, ..ConnectOptions::default() };
        let resolution = resolve_with(address, &options)?;
        for name in resolution.candidates.into_iter().filter_map(|candidate| candidate.name) {
            match name.state {
                NameState::Live => return Ok(name.owner),
                // The reason is in this process, and says nothing of the server.
                NameState::Unsafe(error) if is_scarcity(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    };
    Tap::begin(object, TappedName { address, server_uid, base, name, path, holder }, owner)
}

/// Returns true if a look at a name failed because this process, or the system, has too little of something.
fn is_scarcity(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let number = source.and_then(io::Error::raw_os_error);
    matches!(number, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// Returns an error if a server has another user than the one that is expected, as a client does that connects to it.
fn check_user(object: &str, name: &NameStatus, server_uid: Option<u32>) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Some(expected) = server_uid else { return Ok(()) };
    let found = std::fs::metadata(&name.path).map_err(|error| Error::io(Operation::Inspect, object, error))?.uid();
    if found == expected {
        return Ok(());
    }
    let detail = format!("the server belongs to uid {found}, not to uid {expected}");
    Err(Error::new(ErrorKind::Denied, Operation::Inspect, object, detail)
        .next(format!("if this is the intended server, expect its user (option server_uid, --server-uid {found})")))
}

/// Finds the server that holds a name. Returns the address in quotes as well.
fn live(address: impl AsRef<str>, options: &ConnectOptions, asks: Asks) -> Result<(String, NameStatus)> {
    let resolution = resolve_with(address, options)?;
    let object = format!("'{}'", resolution.address);
    let mut is_foreign = false;
    for name in resolution.candidates.into_iter().filter_map(|candidate| candidate.name) {
        match name.state {
            NameState::Live => {
                check_user(&object, &name, options.server_uid)?;
                return Ok((object, name));
            }
            NameState::Foreign => is_foreign = true,
            _ => {}
        }
    }
    Err(match is_foreign {
        true => stats::denied(&object, asks),
        false => Error::new(ErrorKind::NoServer, Operation::Inspect, object, "no server holds this name")
            .next("start the server"),
    })
}

/// Removes the directory of a dead name, with the files that its server left in it. Returns `Ok(true)` if the directory
/// was removed. Returns `Ok(false)` and leaves the name alone if it is live, is unsafe, belongs to another user, is
/// kept by a service manager, or no longer exists.
///
/// The proof that a name is dead is its lock: this function takes the lock without waiting before it removes anything,
/// so no server can start in the meantime. A file that no server creates is left in place, and with it the directory.
///
/// # Errors
///
/// - [`ErrorKind::UnsafeDirectory`]: the directory contains a file that no server and no client creates, or no longer
///   passes the checks.
/// - [`ErrorKind::Io`]: a file cannot be removed.
pub fn clean(status: &NameStatus) -> Result<bool> {
    match status.state {
        NameState::Live | NameState::Foreign | NameState::Waiting | NameState::Unsafe(_) => Ok(false),
        NameState::Dead => name::remove_dead(&status.base, &status.name),
    }
}
