//! Where names live: the candidate base directories, in order.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fstat};

use super::directory::{self, Opened, Trust};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};

/// The base for services of the system.
const SYSTEM_BASE: &str = "/run/parlour";

/// Why a directory is a candidate for a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The address gives it.
    Address,
    /// `$PARLOUR_DIR`; then it is the only one.
    ParlourDir,
    /// `parlour` in `$XDG_RUNTIME_DIR`.
    XdgRuntimeDir,
    /// `/run/user/<uid>/parlour`: what `$XDG_RUNTIME_DIR` would be in a session.
    RunUser,
    /// `/tmp/parlour-<uid>`: where there is no runtime directory.
    Tmp,
    /// `/run/parlour`: services of the system.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::ParlourDir => "$PARLOUR_DIR",
            Self::XdgRuntimeDir => "$XDG_RUNTIME_DIR",
            Self::RunUser => "/run/user",
            Self::Tmp => "/tmp",
            Self::System => "/run/parlour",
        })
    }
}

/// A directory that may hold names.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
}

/// Who looks for a base, and in which environment; apart from the real one so that the order can be tested.
struct Environment {
    uid: u32,
    parlour_dir: Option<PathBuf>,
    xdg_runtime_dir: Option<PathBuf>,
}

impl Environment {
    fn real() -> Self {
        let directory = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            uid: rustix::process::geteuid().as_raw(),
            parlour_dir: directory("PARLOUR_DIR"),
            xdg_runtime_dir: directory("XDG_RUNTIME_DIR"),
        }
    }

    /// All candidates in the order in which a client looks through them.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        if let Some(path) = &self.parlour_dir {
            if !path.is_absolute() {
                return Err(Error::new(
                    ErrorKind::UnsafeDirectory,
                    "use the directory",
                    path.display().to_string(),
                    "$PARLOUR_DIR must be an absolute path",
                ));
            }
            return Ok(vec![Candidate { path: path.clone(), origin: Origin::ParlourDir }]);
        }
        let mut candidates = Vec::new();
        let mut add = |path: PathBuf, origin| {
            if candidates.iter().all(|known: &Candidate| known.path != path) {
                candidates.push(Candidate { path, origin });
            }
        };
        // The specification of that variable says to ignore a relative path.
        if let Some(path) = self.xdg_runtime_dir.as_ref().filter(|path| path.is_absolute()) {
            add(path.join("parlour"), Origin::XdgRuntimeDir);
        }
        add(PathBuf::from(format!("/run/user/{}/parlour", self.uid)), Origin::RunUser);
        add(PathBuf::from(format!("/tmp/parlour-{}", self.uid)), Origin::Tmp);
        add(PathBuf::from(SYSTEM_BASE), Origin::System);
        Ok(candidates)
    }

    /// Those that a server of this user may take: root serves the system, anybody else their own sessions.
    fn is_for_server(&self, origin: Origin) -> bool {
        match origin {
            Origin::Address | Origin::ParlourDir => true,
            Origin::System => self.uid == 0,
            Origin::XdgRuntimeDir | Origin::RunUser | Origin::Tmp => self.uid != 0,
        }
    }
}

/// The candidates for this address, in the order in which a client looks through them.
pub(crate) fn candidates(address: Option<&Address>) -> Result<Vec<Candidate>> {
    match address.and_then(Address::base) {
        Some(path) => Ok(vec![Candidate { path: path.to_owned(), origin: Origin::Address }]),
        None => Environment::real().candidates(),
    }
}

/// The base that a server with this address takes, as it is now.
///
/// A candidate whose parent is not there is passed over. One that is there and is unsafe is an error: a server that
/// fell through to the next would let whoever made it choose where it goes.
fn choose(address: &Address) -> Result<(Candidate, Opened)> {
    let environment = Environment::real();
    let mut passed_over = Vec::new();
    for candidate in candidates(Some(address))? {
        if !environment.is_for_server(candidate.origin) {
            continue;
        }
        match directory::open(&candidate.path, &Trust::own())? {
            Opened::NoParent { missing } => {
                tracing::debug!(base = %candidate.path.display(), missing = %missing.display(), "base passed over");
                passed_over.push(missing.display().to_string());
            }
            opened => return Ok((candidate, opened)),
        }
    }
    let detail = format!("no base directory can be used: {} not there", passed_over.join(", "));
    Err(Error::new(ErrorKind::UnsafeDirectory, "bind", format!("'{}'", address.name()), detail)
        .next("make that directory, or set $PARLOUR_DIR to one of your own"))
}

/// Which base a server with this address would take.
pub(crate) fn path_for_server(address: &Address) -> Result<PathBuf> {
    choose(address).map(|(candidate, _)| candidate.path)
}

/// The base that a server with this address takes, made if need be.
pub(crate) fn for_server(address: &Address, open_to_others: bool) -> Result<(PathBuf, OwnedFd)> {
    let (candidate, opened) = choose(address)?;
    let base = match opened {
        Opened::Directory(base) => base,
        Opened::Missing { parent } => make(&candidate, &parent, open_to_others)?,
        Opened::NoParent { missing } => return Err(vanished(&missing)),
    };
    check_for_server(&candidate.path, &base, open_to_others)?;
    Ok((candidate.path, base))
}

fn make(candidate: &Candidate, parent: &OwnedFd, open_to_others: bool) -> Result<OwnedFd> {
    // The system's base serves every user, whatever its first server wants for itself.
    let mode = if open_to_others || candidate.origin == Origin::System { 0o755 } else { 0o700 };
    let name = candidate.path.file_name().unwrap_or_default();
    directory::make(parent, name, Mode::from_raw_mode(mode), &candidate.path)?;
    match directory::open(&candidate.path, &Trust::own())? {
        Opened::Directory(base) => Ok(base),
        Opened::Missing { .. } | Opened::NoParent { .. } => Err(vanished(&candidate.path)),
    }
}

fn vanished(path: &Path) -> Error {
    Error::new(ErrorKind::Io, "make the directory", path.display().to_string(), "it has gone again")
        .next("find out what removes it")
}

/// A service for other users is no use in a base that they cannot enter.
fn check_for_server(path: &Path, base: &OwnedFd, open_to_others: bool) -> Result<()> {
    let shown = || path.display().to_string();
    let stat = fstat(base).map_err(|errno| Error::io("use the directory", shown(), errno))?;
    if open_to_others && stat.st_mode & 0o001 == 0 {
        let detail = format!("other users cannot enter it (mode {:04o})", stat.st_mode & 0o7777);
        return Err(Error::new(ErrorKind::UnsafeDirectory, "use the directory", shown(), detail)
            .next(format!("chmod 755 {}, or keep the socket's mode at 0600", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(environment: &Environment) -> Vec<String> {
        let candidates = environment.candidates().unwrap();
        candidates.iter().map(|candidate| candidate.path.display().to_string()).collect()
    }

    #[test]
    fn a_client_looks_through_all_of_them_in_order() {
        let ssh = Environment { uid: 1000, parlour_dir: None, xdg_runtime_dir: None };
        assert_eq!(paths(&ssh), ["/run/user/1000/parlour", "/tmp/parlour-1000", "/run/parlour"]);
        let desktop = Environment { xdg_runtime_dir: Some("/run/user/1000".into()), ..ssh };
        assert_eq!(paths(&desktop), ["/run/user/1000/parlour", "/tmp/parlour-1000", "/run/parlour"]);
        let custom = Environment { xdg_runtime_dir: Some("/home/a/run".into()), ..desktop };
        assert_eq!(paths(&custom)[0], "/home/a/run/parlour");
        assert_eq!(paths(&custom).len(), 4);
    }

    #[test]
    fn parlour_dir_is_the_only_one_and_must_be_absolute() {
        let set = Environment { uid: 0, parlour_dir: Some("/srv/p".into()), xdg_runtime_dir: Some("/x".into()) };
        assert_eq!(paths(&set), ["/srv/p"]);
        let relative = Environment { parlour_dir: Some("p".into()), ..set };
        assert_eq!(relative.candidates().unwrap_err().kind(), ErrorKind::UnsafeDirectory);
    }

    #[test]
    fn a_relative_runtime_directory_is_ignored() {
        let odd = Environment { uid: 1, parlour_dir: None, xdg_runtime_dir: Some("run".into()) };
        assert_eq!(paths(&odd)[0], "/run/user/1/parlour");
    }

    #[test]
    fn root_serves_the_system_and_others_themselves() {
        let of = |uid| Environment { uid, parlour_dir: None, xdg_runtime_dir: None };
        assert!(of(0).is_for_server(Origin::System) && !of(0).is_for_server(Origin::Tmp));
        assert!(!of(5).is_for_server(Origin::System) && of(5).is_for_server(Origin::Tmp));
    }
}
