//! Inspection of this machine: base directories, names, their holders, and the files of dead servers.
//!
//! Every function only reads, except [`clean`]. Other processes run concurrently, so a result may be out of date when
//! the caller reads it.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags, openat};

use crate::address::{Address, is_name};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::base::{self, Candidate as BaseCandidate};
use crate::name::directory::{self, Opened, Trust};
use crate::name::lock::{self, Holder};
use crate::name::{self, Found, listening};
use crate::transport::Transport;

pub use crate::escape::{ESCAPED_LEN_MAX, Escaped, escaped};
pub use crate::name::base::Origin;
pub use crate::owner::Owner;

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
    /// The directory did not pass the checks. The error contains the reason and the next step.
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
    /// The directory through which a client of this user would connect.
    pub client: Result<PathBuf>,
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
    Ok(base::candidates(None)?.into_iter().map(look_at_base).collect())
}

fn look_at_base(candidate: BaseCandidate) -> Base {
    let BaseCandidate { path, origin } = candidate;
    let state = match directory::open(&path, &Trust::own()) {
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
    let mut names = Vec::new();
    for candidate in base::candidates(None)? {
        // [`bases`] reports an unsafe base. The names in it are not trustworthy.
        let Ok(Opened::Directory(base)) = directory::open(&candidate.path, &Trust::own()) else { continue };
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
        names.extend(found.iter().filter_map(|name| look_at_name(&candidate, name)));
    }
    Ok(names)
}

/// Returns the state of a name in a base, or `None` if the base does not have it.
fn look_at_name(candidate: &BaseCandidate, name: &str) -> Option<NameStatus> {
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
    let found = match name::find(candidate, name, &Trust::own()) {
        Ok(Some(found)) => found,
        Ok(None) => return None,
        Err(error) => {
            return Some(match another_users(candidate, name) {
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
fn another_users(candidate: &BaseCandidate, name: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::symlink_metadata(candidate.path.join(name)) else { return false };
    metadata.is_dir() && !Trust::own().includes(metadata.uid()) && metadata.mode() & 0o022 == 0
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
    let address = Address::parse(address.as_ref())?;
    let candidates: Vec<Candidate> = base::candidates(Some(&address))?
        .into_iter()
        .map(|candidate| Candidate { name: look_at_name(&candidate, address.name()), base: look_at_base(candidate) })
        .collect();
    let server = base::path_for_server(&address).map(|base| base.join(address.name()));
    let client = resolve_client(&address, &candidates);
    Ok(Resolution { address, candidates, server, client })
}

fn resolve_client(address: &Address, candidates: &[Candidate]) -> Result<PathBuf> {
    let display_name = format!("'{address}'");
    for name in candidates.iter().filter_map(|candidate| candidate.name.as_ref()) {
        let offers = match address.transport() {
            Some(transport) => name.transports.contains(&transport),
            None => !name.transports.is_empty(),
        };
        match name.state {
            NameState::Live | NameState::Foreign | NameState::Waiting if offers => return Ok(name.path.clone()),
            NameState::Foreign if name.transports.is_empty() => {
                let detail =
                    format!("{} belongs to another user, and this process may not enter it", name.path.display());
                return Err(Error::new(ErrorKind::Denied, Operation::Find, display_name, detail)
                    .next("ask that user to open the server to others (option mode)"));
            }
            NameState::Live | NameState::Foreign | NameState::Waiting | NameState::Dead | NameState::Unsafe(_) => {}
        }
    }
    Err(Error::new(ErrorKind::NoServer, Operation::Find, display_name, "no server holds this name")
        .next("start the server"))
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
