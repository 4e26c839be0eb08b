//! Names: taking one for a server, finding one for a client.
//!
//! A name is a directory `<base>/<name>/`. Whoever holds the lock in it owns the name; everything else in it belongs to
//! the holder. `base` says where names live, `directory` opens nothing that somebody else could interfere with, `lock`
//! is the ownership, `owner` what a holder says about itself, `leftovers` removes what the dead left, `listening` knows a socket
//! that is nobody's leftover.

pub(crate) mod base;
pub(crate) mod directory;
pub(crate) mod leftovers;
pub(crate) mod listening;
pub(crate) mod lock;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat, fchmod, flock, openat, unlinkat};

use rustix::io::Errno;

use self::base::Candidate;
use self::directory::{FileId, Opened, Trust};
use self::lock::{Holder, NameLock, Try};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::owner::Owner;
use crate::sys::fork::Process;
use crate::transport::Transport;
use crate::wire::client_file::ClientFile;

/// The directory in which clients put their own files while they connect.
pub(crate) const CLIENTS: &str = "c";

/// A name that this process holds.
#[derive(Debug)]
pub(crate) struct NameGuard {
    name: String,
    path: PathBuf,
    /// The path of the lock, made when there is time for it.
    lock_path: CString,
    directory: OwnedFd,
    clients: OwnedFd,
    lock: NameLock,
    /// Keeps age-based cleaners such as systemd-tmpfiles out of the base, by flock(2); `None` where that failed, which
    /// only costs this protection.
    _base: Option<OwnedFd>,
    /// Points of contact that somebody else made and keeps. Clients may wait there whatever we do, so their files stay.
    kept: Vec<Transport>,
    process: Process,
}

/// What a server wants to hold.
#[derive(Debug)]
pub(crate) struct BindRequest<'a> {
    pub(crate) address: &'a Address,
    /// Where else nobody may serve the name: the address as its users write it.
    pub(crate) elsewhere: &'a Address,
    pub(crate) transports: &'a [Transport],
    /// Those of them whose points of contact somebody else made and keeps.
    pub(crate) kept: &'a [Transport],
    pub(crate) open_to_others: bool,
}

impl NameGuard {
    /// Takes a name, and removes what a dead holder left.
    pub(crate) fn take(request: &BindRequest<'_>) -> Result<Self> {
        let BindRequest { address, elsewhere, transports, kept, open_to_others } = *request;
        /// Each try that fails means that somebody removed the directory under us at that very moment.
        const TRIES: u32 = 8;
        // Before anything is made, so that a refusal leaves nothing behind; and again below, when the lock keeps a
        // server that starts at the same moment in another environment from doing the same.
        refuse_if_served_elsewhere(elsewhere, None)?;
        for _ in 0..TRIES {
            if let Some(guard) = Self::try_take(address, kept, open_to_others)? {
                refuse_if_served_elsewhere(elsewhere, Some(&guard.path))?;
                guard.lock.introduce(&Owner::current(transports), &guard.path)?;
                guard.remove_server_files()?;
                guard
                    .remove_client_files()
                    .map_err(|error| Error::io("clear the directory", guard.display_path(CLIENTS), error))?;
                tracing::info!(name = address.name(), path = %guard.path.display(), "name taken");
                return Ok(guard);
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            "bind",
            format!("'{}'", address.name()),
            "its directory was replaced again and again while it was being locked",
        )
        .next("find out what removes it"))
    }

    /// One try; `None` when the directory or the lock was replaced in the meantime.
    fn try_take(address: &Address, kept: &[Transport], open_to_others: bool) -> Result<Option<Self>> {
        let name = address.name();
        let (base_path, base) = base::for_server(address, open_to_others)?;
        let path = base_path.join(name);
        directory::make(&base, name.as_ref(), Mode::RWXU, &path)?;
        let (directory, stat, lock) = match lock_directory(&base, name, &path, true)? {
            Locked::Taken(directory, stat, lock) => (directory, stat, lock),
            Locked::Held(owner) => return Err(name_in_use(name, &path, owner)),
            Locked::Replaced => return Ok(None),
        };
        // A server whose lock was removed under it has lost the name, and may still listen; it made the clients' directory.
        let was_lost = lock.is_new() && FileId::at(&directory, CLIENTS).is_some();
        if kept.is_empty() && !was_lost && listening::somebody_goes_on_listening(&path)? {
            return Err(kept_by_a_manager(name, &path));
        }
        // From here on the directory and everything in it is ours.
        let mode = if open_to_others { 0o755 } else { 0o700 };
        if stat.st_mode & 0o7777 != mode {
            fchmod(&directory, Mode::from_raw_mode(mode))
                .map_err(|errno| Error::io("use the directory", path.display().to_string(), errno))?;
        }
        let clients_path = path.join(CLIENTS);
        directory::make(&directory, CLIENTS.as_ref(), Mode::RWXU, &clients_path)?;
        let Some((clients, clients_stat)) = directory::open_inside(&directory, CLIENTS, &clients_path)? else {
            return Ok(None);
        };
        directory::check_ours(&clients_path, &clients_stat, &Trust::only_self())?;
        Ok(Some(Self {
            name: name.to_owned(),
            _base: keep_cleaners_out(&base, &directory),
            lock_path: c_path(&path.join(lock::LOCK))?,
            path,
            directory,
            clients,
            lock,
            kept: kept.to_vec(),
            process: Process::current(),
        }))
    }

    /// Removes the points of contact in the directory, but for those that somebody else keeps.
    pub(crate) fn remove_server_files(&self) -> Result<()> {
        leftovers::remove_server_files(&self.directory, &self.path, &self.kept)
    }

    /// Removes the files of clients, but for those whose clients may wait at a socket that somebody else keeps. These are
    /// removed when they are accepted, or are old.
    fn remove_client_files(&self) -> io::Result<()> {
        let may_wait = |file| !self.kept.is_empty() && file == ClientFile::Socket;
        leftovers::remove_client_files(&self.clients, |_, file, _| !may_wait(file)).map(drop)
    }

    /// `<base>/<name>`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The directory of the clients' own files.
    pub(crate) fn clients(&self) -> &OwnedFd {
        &self.clients
    }

    /// The path of a file in the directory, for messages.
    pub(crate) fn display_path(&self, file_name: &str) -> String {
        self.path.join(file_name).display().to_string()
    }

    /// Whether this is the process that took the name, and not a forked child of it.
    pub(crate) fn is_in_this_process(&self) -> bool {
        self.process.is_current()
    }

    /// Whether the path still leads to the lock that is held. An error: that cannot be said at present.
    pub(crate) fn is_still_held(&self) -> std::result::Result<bool, Errno> {
        lock::still_there(&self.lock_path, self.lock.id())
    }

    /// Gives the name up, after the server's own files are removed. The lock and the directory stay, so that nobody can
    /// take part in a race for them.
    ///
    /// Where the path leads to another lock by now, the clients' files are the business of whoever holds that.
    pub(crate) fn release(self) -> Result<()> {
        let released = self.release_in_place();
        let path = self.path.display().to_string();
        tracing::info!(name = self.name, path, "name released");
        released.map_err(|error| Error::io("release", path, error))
    }

    /// The same, for a signal handler: allocates and frees nothing.
    pub(crate) fn release_in_place(&self) -> io::Result<()> {
        let swept = match self.is_still_held() {
            Ok(true) => self.remove_client_files(),
            Ok(false) | Err(_) => Ok(()),
        };
        swept.and(self.lock.release())
    }
}

/// A path for the system's calls. It was opened, so there is no zero byte in it.
fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::io("bind", path.display().to_string(), Errno::INVAL))
}

/// The outcome of locking the directory of a name.
enum Locked {
    Taken(OwnedFd, Stat, NameLock),
    Held(Option<Owner>),
    /// The directory or the lock is not there, or not any more.
    Replaced,
}

/// Opens the directory of a name in a base that passed the checks, and takes its lock without waiting.
fn lock_directory(base: &OwnedFd, name: &str, path: &Path, make: bool) -> Result<Locked> {
    let Some((directory, stat)) = directory::open_inside(base, name, path)? else {
        return Ok(Locked::Replaced);
    };
    directory::check_ours(path, &stat, &Trust::only_self())?;
    let lock = match NameLock::take(&directory, path, make)? {
        Try::Taken(lock) => lock,
        Try::Held(owner) => return Ok(Locked::Held(owner)),
        Try::Replaced => return Ok(Locked::Replaced),
    };
    if FileId::at(base, name) != Some(FileId::of(&stat)) {
        return Ok(Locked::Replaced);
    }
    Ok(Locked::Taken(directory, stat, lock))
}

/// Removes the directory of a name that nobody holds, with what its server left. `Ok(false)`: it is held, or gone.
///
/// The lock is held meanwhile, so no server can take the name; one that has opened the lock file by then finds, after
/// locking, that it has lost its name, and starts over.
pub(crate) fn remove_dead(base_path: &Path, name: &str) -> Result<bool> {
    let Opened::Directory(base) = directory::open(base_path, &Trust::own())? else { return Ok(false) };
    let path = base_path.join(name);
    let Locked::Taken(directory, _, lock) = lock_directory(&base, name, &path, false)? else { return Ok(false) };
    if listening::somebody_goes_on_listening(&path)? {
        return Ok(false);
    }
    leftovers::remove_server_files(&directory, &path, &[])?;
    let failed = |what: &Path, error: io::Error| Error::io("remove", what.display().to_string(), error);
    let clients_path = path.join(CLIENTS);
    if let Some((clients, _)) = directory::open_inside(&directory, CLIENTS, &clients_path)? {
        leftovers::remove_client_files(&clients, |_, _, _| true).map_err(|error| failed(&clients_path, error))?;
        leftovers::check_nothing_left_but(&clients, &clients_path, &[])?;
    }
    leftovers::check_nothing_left_but(&directory, &path, &[lock::LOCK, CLIENTS])?;
    match unlinkat(&directory, CLIENTS, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed(&clients_path, errno.into())),
    }
    lock.remove(&directory).map_err(|error| failed(&path.join(lock::LOCK), error))?;
    match unlinkat(&base, name, AtFlags::REMOVEDIR) {
        Ok(()) => {}
        // Without its lock the name was free, and a server has taken it already, or somebody else was quicker.
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(failed(&path, errno.into())),
    }
    tracing::info!(name, path = %path.display(), "dead name removed");
    Ok(true)
}

/// The error for a name that is held, telling by whom.
pub(crate) fn name_in_use(name: &str, path: &Path, owner: Option<Owner>) -> Error {
    let holder = match &owner {
        Some(owner) => owner.to_string(),
        None => "a process that has not said who it is".to_owned(),
    };
    let detail = format!("the name is held by {holder}, at {}", path.display());
    Error::new(ErrorKind::NameInUse, "bind", format!("'{name}'"), detail)
        .next("stop that server or take another name")
        .held_by(owner)
}

/// The error for a name that nobody holds, with a socket on which somebody listens.
fn kept_by_a_manager(name: &str, path: &Path) -> Error {
    let detail = format!(
        "a service manager, as it seems, listens on a socket in {}, and starts the server when a client comes",
        path.display()
    );
    Error::new(ErrorKind::NameInUse, "bind", format!("'{name}'"), detail)
        .next("start the server through its unit, with sockets handed over, or stop the socket unit")
}

/// Different environments lead to different bases; a name that is served in one of them is taken in all.
fn refuse_if_served_elsewhere(address: &Address, own: Option<&Path>) -> Result<()> {
    for candidate in base::candidates(Some(address))? {
        let path = candidate.path.join(address.name());
        if own == Some(&*path) {
            continue;
        }
        // What is unsafe there is not ours to judge here: this server does not use it.
        let found = match find(&candidate, address.name(), &Trust::own()) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot tell whether the name is served there");
                continue;
            }
        };
        if let Ok(Holder::Live(owner)) = lock::look(&found.directory, &found.path) {
            return Err(name_in_use(address.name(), &found.path, owner));
        }
    }
    Ok(())
}

/// Shared locks on the base and on the name's directory, as tmpfiles.d(5) asks of those who want them spared.
fn keep_cleaners_out(base: &OwnedFd, directory: &OwnedFd) -> Option<OwnedFd> {
    let lock = |directory: &OwnedFd| flock(directory, FlockOperation::NonBlockingLockShared);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let kept = openat(base, ".", flags, Mode::empty()).and_then(|base| lock(&base).map(|()| base));
    if let Err(errno) = kept.as_ref().map(drop).and(lock(directory).as_ref().map(drop)) {
        tracing::debug!(%errno, "directories could not be locked against cleaners");
    }
    kept.ok()
}

/// The directory of a name that somebody may serve.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Opened `O_PATH`: it may be one that we may enter but not list.
    pub(crate) directory: OwnedFd,
    pub(crate) stat: Stat,
}

/// SpinBudget for a name in one base, trusting only directories of root, ourselves and whom `trust` adds.
pub(crate) fn find(candidate: &Candidate, name: &str, trust: &Trust) -> Result<Option<Found>> {
    let Opened::Directory(base) = directory::open(&candidate.path, trust)? else { return Ok(None) };
    let path = candidate.path.join(name);
    let Some((directory, stat)) = directory::walk_inside(&base, name, &path)? else { return Ok(None) };
    directory::check_ours(&path, &stat, trust)?;
    Ok(Some(Found { path, directory, stat }))
}
