//! What exists on this machine: bases, names, who holds them, and what the dead left.
//!
//! Everything here only looks, except [`clean`]. What another process does at the same time may make an answer old by
//! the time it is read.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags, openat};

use crate::address::{Address, is_name};
use crate::error::{Error, ErrorKind, Result};
use crate::name::base::{self, Candidate as BaseCandidate};
use crate::name::directory::{self, Opened, Trust};
use crate::name::lock::{self, Holder};
use crate::name::{self, Found, listening};
use crate::transport::Transport;

pub use crate::name::base::Origin;
pub use crate::owner::Owner;

/// A directory that may hold names.
#[derive(Debug)]
#[non_exhaustive]
pub struct Base {
    /// Its path.
    pub path: PathBuf,
    /// Why it is a candidate.
    pub origin: Origin,
    /// Whether it can be used.
    pub state: BaseState,
}

/// Whether a base can be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum BaseState {
    /// It is there and passed the checks.
    Usable,
    /// It is not there yet; the first server makes it.
    Missing,
    /// It is not there and its parent, which the error names, is not either.
    Unavailable(Error),
    /// It did not pass the checks; the error says why and what to do.
    Unsafe(Error),
}

/// A name that has a directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct NameStatus {
    /// The bare name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// The base that the directory is in.
    pub base: PathBuf,
    /// Whether somebody serves it.
    pub state: NameState,
    /// The transports that have a point of contact there, best first. Of a dead name: what it left.
    pub transports: Vec<Transport>,
    /// Who holds the name, or died holding it, as far as we may know.
    pub owner: Option<Owner>,
}

/// Whether a name is served.
#[derive(Debug)]
#[non_exhaustive]
pub enum NameState {
    /// A server holds it.
    Live,
    /// Nobody holds it; the next server can take it.
    Dead,
    /// Nobody holds it, and somebody listens: a service manager, which starts the server when a client comes.
    Waiting,
    /// Another user's: whether it is served cannot be told.
    Foreign,
    /// Its directory did not pass the checks; the error says why and what to do.
    Unsafe(Error),
}

/// How an address resolves.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resolution {
    /// The address.
    pub address: Address,
    /// Every base that is looked at, in order, with what is there.
    pub candidates: Vec<Candidate>,
    /// The directory that a server of ours would take.
    pub server: Result<PathBuf>,
    /// The directory through which a client of ours would connect.
    pub client: Result<PathBuf>,
}

/// One base on the way of an address.
#[derive(Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// The base.
    pub base: Base,
    /// The name in it, if it is there.
    pub name: Option<NameStatus>,
}

/// The candidate base directories, in the order in which clients look through them.
///
/// # Errors
///
/// [`ErrorKind::UnsafeDirectory`] when `$PARLOUR_DIR` is not an absolute path.
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
            "use the directory",
            path.display().to_string(),
            format!("{} is not there", missing.display()),
        )),
        Err(error) => BaseState::Unsafe(error),
    };
    Base { path, origin, state }
}

/// Every name in every base that can be used, by base and then by name.
///
/// # Errors
///
/// As [`bases`], and [`ErrorKind::Denied`] or [`ErrorKind::Io`] when a base cannot be listed.
pub fn names() -> Result<Vec<NameStatus>> {
    let mut names = Vec::new();
    for candidate in base::candidates(None)? {
        // What is wrong with an unsafe base, `bases` tells; its names are nobody's word.
        let Ok(Opened::Directory(base)) = directory::open(&candidate.path, &Trust::own()) else { continue };
        let failed = |errno: io::Error| Error::io("list", candidate.path.display().to_string(), errno);
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

/// What there is to say about a name in a base; `None` when it is not there.
fn look_at_name(candidate: &BaseCandidate, name: &str) -> Option<NameStatus> {
    let status = |state, transports, owner| NameStatus {
        name: name.to_owned(),
        path: candidate.path.join(name),
        base: candidate.path.clone(),
        state,
        transports,
        owner,
    };
    // In a base that passed, another user's directory is that user's service, and no danger to those who only look.
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
    Some(match lock::look(&found.directory, &found.path) {
        Ok(Holder::Live(owner)) => status(NameState::Live, transports, owner),
        Ok(Holder::Dead(_) | Holder::Nothing) if listening::somebody_listens(&found.path) => {
            status(NameState::Waiting, transports, None)
        }
        Ok(Holder::Dead(owner)) => status(NameState::Dead, transports, owner),
        Ok(Holder::Unknown) => status(NameState::Foreign, transports, None),
        // A directory that no server made.
        Ok(Holder::Nothing) => return None,
        Err(error) => status(NameState::Unsafe(error), transports, None),
    })
}

/// Whether the directory is one of a user that we have no reason to trust, and nothing worse.
fn another_users(candidate: &BaseCandidate, name: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::symlink_metadata(candidate.path.join(name)) else { return false };
    metadata.is_dir() && !Trust::own().includes(metadata.uid()) && metadata.mode() & 0o022 == 0
}

fn transports_of(found: &Found) -> Vec<Transport> {
    let is_there = |transport: &Transport| directory::FileId::at(&found.directory, transport.file_name()).is_some();
    Transport::ALL.iter().copied().filter(is_there).collect()
}

/// How an address resolves, for a server and for a client, and why.
///
/// # Errors
///
/// [`ErrorKind::InvalidName`], or as [`bases`]. That no server would be found is not an error of this function but in
/// [`Resolution::client`].
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
                let detail = format!("{} is another user's, and we may not enter it", name.path.display());
                return Err(Error::new(ErrorKind::Denied, "find", display_name, detail)
                    .next("have its server let other users in (the mode option)"));
            }
            NameState::Live | NameState::Foreign | NameState::Waiting | NameState::Dead | NameState::Unsafe(_) => {}
        }
    }
    Err(Error::new(ErrorKind::NoServer, "find", display_name, "nobody serves it").next("start the server"))
}

/// Removes the directory of a name that is proven dead, with what its server left in it. `Ok(false)`: it is live, or it
/// is not ours, and nothing was touched.
///
/// The proof is the lock: it is taken, without waiting, before anything is removed, so that no server can start in the
/// meantime. A file that no server makes is left, and the directory with it.
///
/// # Errors
///
/// [`ErrorKind::UnsafeDirectory`] when something is there that does not belong; [`ErrorKind::Io`] when a file cannot be
/// removed.
pub fn clean(status: &NameStatus) -> Result<bool> {
    match status.state {
        NameState::Live | NameState::Foreign | NameState::Waiting | NameState::Unsafe(_) => Ok(false),
        NameState::Dead => name::remove_dead(&status.base, &status.name),
    }
}
