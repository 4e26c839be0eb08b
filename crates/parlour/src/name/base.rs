//! Candidate base directories of names, and their order.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fstat, stat};

use super::directory::{self, Opened, Trust};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::sys::id_maps::is_unmapped_uid;
use crate::sys::privileges;

/// The base directory of system services.
const SYSTEM_BASE: &str = "/run/parlour";

/// The reason why a directory is a candidate base.
///
/// A program with more privileges than its caller (set-user-ID, set-group-ID or with capabilities, `AT_SECURE` in
/// getauxval(3)) ignores both variables, because its caller sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The address contains it.
    Address,
    /// `$PARLOUR_DIR`. If the variable is set, this is the only candidate.
    ParlourDir,
    /// `$XDG_RUNTIME_DIR/parlour`. A relative value of the variable is ignored, as its specification demands.
    XdgRuntimeDir,
    /// `/run/user/<uid>/parlour`, where `<uid>` is the effective user id. This is the default value of
    /// `$XDG_RUNTIME_DIR` in a login session, so processes without the variable (ssh, cron) use the same directory. A
    /// client also searches that of the user of the option
    /// [`server_uid`](crate::ConnectOptions::server_uid).
    RunUser,
    /// `/tmp/parlour-<uid>`, for systems without a runtime directory of the user. As for `RunUser`, `<uid>` is the
    /// effective user id or the user of the option `server_uid`.
    Tmp,
    /// `/run/parlour`, the base of system services.
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

/// A directory that may contain names.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
}

impl Candidate {
    /// Opens and checks the directory. An error names the variable that leads there, if one does.
    pub(crate) fn open(&self, trust: &Trust) -> Result<Opened> {
        directory::open(&self.path, trust).map_err(|error| match self.origin {
            Origin::ParlourDir | Origin::XdgRuntimeDir => error.note(format!("{} leads there", self.origin)),
            Origin::Address | Origin::RunUser | Origin::Tmp | Origin::System => error,
        })
    }
}

/// The inputs that determine the candidates: the user and the environment. Tests construct other values than the real
/// ones.
struct Environment {
    uid: u32,
    /// The base of the system belongs to another root than the user 0 of this user namespace.
    is_systems_foreign: bool,
    parlour_dir: Option<PathBuf>,
    xdg_runtime_dir: Option<PathBuf>,
}

impl Environment {
    fn real() -> Self {
        let is_trusted = !privileges::exceed_the_callers();
        let directory =
            |name| std::env::var_os(name).filter(|value| is_trusted && !value.is_empty()).map(PathBuf::from);
        let uid = rustix::process::geteuid().as_raw();
        Self {
            uid,
            is_systems_foreign: uid == 0 && stat("/run").is_ok_and(|stat| is_unmapped_uid(stat.st_uid)),
            parlour_dir: directory("PARLOUR_DIR"),
            xdg_runtime_dir: directory("XDG_RUNTIME_DIR"),
        }
    }

    /// Returns all candidates in the order in which a client searches them. A client that expects a server of the user
    /// `server_uid` first searches where a server of that user would be: a server of its own user that has the name is
    /// not the one that it looks for.
    fn candidates(&self, server_uid: Option<u32>) -> Result<Vec<Candidate>> {
        if let Some(path) = &self.parlour_dir {
            if !path.is_absolute() {
                return Err(Error::new(
                    ErrorKind::UnsafeDirectory,
                    Operation::OpenDirectory,
                    path.display().to_string(),
                    "$PARLOUR_DIR must be an absolute path",
                )
                .next("set the variable to the full path of the directory, or unset it"));
            }
            return Ok(vec![Candidate { path: path.clone(), origin: Origin::ParlourDir }]);
        }
        let mut candidates = Vec::new();
        let mut add = |path: PathBuf, origin| {
            if candidates.iter().all(|known: &Candidate| known.path != path) {
                candidates.push(Candidate { path, origin });
            }
        };
        let run_user = |uid: u32| PathBuf::from(format!("/run/user/{uid}/parlour"));
        let tmp = |uid: u32| PathBuf::from(format!("/tmp/parlour-{uid}"));
        match server_uid.filter(|&uid| uid != self.uid) {
            Some(0) => add(PathBuf::from(SYSTEM_BASE), Origin::System),
            Some(uid) => {
                add(run_user(uid), Origin::RunUser);
                add(tmp(uid), Origin::Tmp);
            }
            None => {}
        }
        // The XDG Base Directory Specification says that a relative path must be ignored.
        if let Some(path) = self.xdg_runtime_dir.as_ref().filter(|path| path.is_absolute()) {
            add(path.join("parlour"), Origin::XdgRuntimeDir);
        }
        add(run_user(self.uid), Origin::RunUser);
        add(tmp(self.uid), Origin::Tmp);
        add(PathBuf::from(SYSTEM_BASE), Origin::System);
        Ok(candidates)
    }

    /// Returns true if a server of this user may take a base of this origin: root takes the base of the system, every
    /// other user a base of its own. Root of a user namespace that does not map the root of the system is one of the
    /// others.
    fn is_for_server(&self, origin: Origin) -> bool {
        let is_root = self.uid == 0 && !self.is_systems_foreign;
        match origin {
            Origin::Address | Origin::ParlourDir => true,
            Origin::System => is_root,
            Origin::XdgRuntimeDir | Origin::RunUser | Origin::Tmp => !is_root,
        }
    }
}

/// Returns the candidates for this address, in the order in which a client searches them.
pub(crate) fn candidates(address: Option<&Address>) -> Result<Vec<Candidate>> {
    match address.and_then(Address::base) {
        Some(path) => Ok(vec![Candidate { path: path.to_owned(), origin: Origin::Address }]),
        None => Environment::real().candidates(None),
    }
}

/// Returns the candidates for a client that expects a server of this user, in the order in which it searches them.
pub(crate) fn candidates_for_client(address: &Address, server_uid: Option<u32>) -> Result<Vec<Candidate>> {
    match address.base() {
        Some(_) => candidates(Some(address)),
        None => all_for_client(server_uid),
    }
}

/// Returns the candidates for a client that expects a server of this user, for all names.
pub(crate) fn all_for_client(server_uid: Option<u32>) -> Result<Vec<Candidate>> {
    Environment::real().candidates(server_uid)
}

/// Chooses the base for a server with this address, from the present state of the file system.
///
/// A candidate whose parent directory does not exist is skipped. An unsafe candidate is an error: if the server skipped
/// it, whoever created it could choose where the server's files go.
fn choose(address: &Address) -> Result<(Candidate, Opened)> {
    let environment = Environment::real();
    let mut passed_over = Vec::new();
    for candidate in candidates(Some(address))? {
        if !environment.is_for_server(candidate.origin) {
            continue;
        }
        match candidate.open(&Trust::own())? {
            Opened::NoParent { missing } => {
                tracing::debug!(base = %escaped(&candidate.path), missing = %escaped(&missing), "base directory skipped");
                passed_over.push(missing.display().to_string());
            }
            opened => return Ok((candidate, opened)),
        }
    }
    let detail = format!("no base directory is usable (missing: {})", passed_over.join(", "));
    Err(Error::new(ErrorKind::UnsafeDirectory, Operation::Bind, format!("'{}'", address.name()), detail)
        .next("create one of these directories, or set $PARLOUR_DIR to a directory of your own"))
}

/// Returns the base that a server with this address would take.
pub(crate) fn path_for_server(address: &Address) -> Result<PathBuf> {
    choose(address).map(|(candidate, _)| candidate.path)
}

/// Opens the base that a server with this address takes. Creates the base if it does not exist.
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
    // The system base serves every user, whatever the mode of its first server.
    let mode = if open_to_others || candidate.origin == Origin::System { 0o755 } else { 0o700 };
    let name = candidate.path.file_name().unwrap_or_default();
    directory::make(parent, name, Mode::from_raw_mode(mode), &candidate.path).map_err(|error| match error.kind() {
        ErrorKind::Denied => error.next("set $PARLOUR_DIR to a directory in one of your own"),
        _ => error,
    })?;
    match candidate.open(&Trust::own())? {
        Opened::Directory(base) => Ok(base),
        Opened::Missing { .. } | Opened::NoParent { .. } => Err(vanished(&candidate.path)),
    }
}

fn vanished(path: &Path) -> Error {
    Error::new(ErrorKind::Io, Operation::CreateDirectory, path.display().to_string(), "another process removed it")
        .next("find the process that removes it")
}

/// Refuses a base that other users cannot enter if the server is open to other users.
fn check_for_server(path: &Path, base: &OwnedFd, open_to_others: bool) -> Result<()> {
    let shown = || path.display().to_string();
    let stat = fstat(base).map_err(|errno| Error::io(Operation::OpenDirectory, shown(), errno))?;
    if open_to_others && stat.st_mode & 0o001 == 0 {
        let detail = format!("other users may not enter it (mode {:04o})", stat.st_mode & 0o7777);
        return Err(Error::new(ErrorKind::UnsafeDirectory, Operation::OpenDirectory, shown(), detail)
            .next(format!("run chmod 755 {}, or set the mode of the socket to 0600", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Environment =
        Environment { uid: 1000, is_systems_foreign: false, parlour_dir: None, xdg_runtime_dir: None };

    fn paths_to(environment: &Environment, server_uid: Option<u32>) -> Vec<String> {
        let candidates = environment.candidates(server_uid).unwrap();
        candidates.iter().map(|candidate| candidate.path.display().to_string()).collect()
    }

    fn paths(environment: &Environment) -> Vec<String> {
        paths_to(environment, None)
    }

    #[test]
    fn a_client_searches_all_bases_in_order() {
        let ssh = NOTHING;
        assert_eq!(paths(&ssh), ["/run/user/1000/parlour", "/tmp/parlour-1000", "/run/parlour"]);
        let desktop = Environment { xdg_runtime_dir: Some("/run/user/1000".into()), ..ssh };
        assert_eq!(paths(&desktop), ["/run/user/1000/parlour", "/tmp/parlour-1000", "/run/parlour"]);
        let custom = Environment { xdg_runtime_dir: Some("/home/a/run".into()), ..desktop };
        assert_eq!(paths(&custom)[0], "/home/a/run/parlour");
        assert_eq!(paths(&custom).len(), 4);
    }

    #[test]
    fn parlour_dir_is_the_only_one_and_must_be_absolute() {
        let set = Environment { parlour_dir: Some("/srv/p".into()), xdg_runtime_dir: Some("/x".into()), ..NOTHING };
        assert_eq!(paths(&set), ["/srv/p"]);
        assert_eq!(paths_to(&set, Some(5)), ["/srv/p"]);
        let relative = Environment { parlour_dir: Some("p".into()), ..set };
        assert_eq!(relative.candidates(None).unwrap_err().kind(), ErrorKind::UnsafeDirectory);
    }

    #[test]
    fn a_relative_runtime_directory_is_ignored() {
        let odd = Environment { uid: 1, xdg_runtime_dir: Some("run".into()), ..NOTHING };
        assert_eq!(paths(&odd)[0], "/run/user/1/parlour");
    }

    #[test]
    fn root_takes_the_system_base_and_other_users_take_their_own() {
        let of = |uid| Environment { uid, ..NOTHING };
        assert!(of(0).is_for_server(Origin::System) && !of(0).is_for_server(Origin::Tmp));
        assert!(!of(5).is_for_server(Origin::System) && of(5).is_for_server(Origin::Tmp));
    }

    #[test]
    fn root_of_a_namespace_without_the_root_of_the_system_takes_a_base_of_its_own() {
        let root = Environment { uid: 0, is_systems_foreign: true, ..NOTHING };
        assert!(!root.is_for_server(Origin::System));
        assert!(root.is_for_server(Origin::Tmp) && root.is_for_server(Origin::XdgRuntimeDir));
    }

    #[test]
    fn a_client_that_expects_another_user_searches_the_bases_of_that_user_first() {
        let usual = paths(&NOTHING);
        let both = [&["/run/user/5/parlour".to_owned(), "/tmp/parlour-5".to_owned()], &usual[..]].concat();
        assert_eq!(paths_to(&NOTHING, Some(5)), both);
        assert_eq!(paths_to(&NOTHING, Some(NOTHING.uid)), usual);
        assert_eq!(paths_to(&NOTHING, Some(0)), ["/run/parlour", &usual[0], &usual[1]]);
    }
}
