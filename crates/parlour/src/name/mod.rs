//! Names: taking one for a server, finding one for a client.
//!
//! A name is a directory `<base>/<name>/`. The process that holds the lock in it owns the name and everything else in
//! the directory. `base` lists the directories that contain names, `directory` opens only directories that other users
//! cannot tamper with, `lock` is the ownership, `leftovers` removes the files of dead processes, and `listening`
//! detects a socket of a service manager, which is not a leftover. `hand_over` finds a name that another process of
//! this user holds, and continues to hold it. `keeper` keeps what a client has found, as long as nothing on the path
//! changes.

pub(crate) mod base;
pub(crate) mod directory;
pub(crate) mod entry;
pub(crate) mod hand_over;
pub(crate) mod keeper;
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
use self::entry::{Entries, Entry, EntryHandle};
use self::lock::{NameLock, Try};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::escape::escaped;
use crate::owner::Owner;
use crate::shm::stats::Place;
use crate::sys::fork::Process;
use crate::transport::Transport;
use crate::wire::client_file::ClientFile;

/// The subdirectory in which clients create their own files while they connect.
pub(crate) const CLIENTS: &str = "c";

/// A name that this process holds.
#[derive(Debug)]
pub(crate) struct NameGuard {
    name: String,
    path: PathBuf,
    /// The path of the lock file. It is built in advance because a signal handler, which may release the name, must not
    /// allocate.
    lock_path: CString,
    directory: OwnedFd,
    clients: OwnedFd,
    lock: NameLock,
    /// The base. It is open for reading where that is permitted, with a shared flock(2) on it; see
    /// [`keep_cleaners_out`].
    base: OwnedFd,
    /// Points of contact that another process created and keeps. Clients may wait there even after this server ends, so
    /// their files stay.
    kept: Vec<Transport>,
    process: Process,
}

/// The parameters of taking a name.
#[derive(Debug)]
pub(crate) struct BindRequest<'a> {
    pub(crate) address: &'a Address,
    /// The address as the users of the name write it. No other base in which they look may have a live server of the
    /// name.
    pub(crate) elsewhere: &'a Address,
    /// The transports that the server will offer.
    pub(crate) transports: &'a [Transport],
    /// The transports among them whose points of contact another process created and keeps.
    pub(crate) kept: &'a [Transport],
    pub(crate) open_to_others: bool,
    /// The limit for messages that the server will have, in bytes.
    pub(crate) message_max: usize,
    /// The server will yield the name to any other server.
    pub(crate) yields: bool,
    /// The place of the server's counters.
    pub(crate) stats: Option<Place>,
}

impl NameGuard {
    /// Takes a name, and removes the files that a dead holder left.
    pub(crate) fn take(request: &BindRequest<'_>) -> Result<Self> {
        let BindRequest { address, elsewhere, transports, kept, open_to_others, message_max, yields, stats } = *request;
        let owner = || Owner { yields, ..Owner::current(transports, message_max, stats) };
        /// An attempt fails only if another process removed the directory at that very moment, which every server does
        /// that ends. Attempts in a row fail only while servers of the name start and end without a pause.
        const TRIES: u32 = 100;
        // This check comes before anything is created, so that a refusal leaves nothing behind. It is repeated below
        // under the lock, which also stops a server that starts at the same moment in another environment.
        refuse_if_served_elsewhere(elsewhere, None)?;
        for _ in 0..TRIES {
            if let Some(guard) = Self::try_take(address, kept, open_to_others)? {
                if let Err(error) = guard.settle(elsewhere, &owner()) {
                    if guard.lock.is_new() {
                        // The directory is as new as the lock, and the error is more important than one of its removal.
                        let _ = guard.release_in_place();
                    }
                    return Err(error);
                }
                tracing::info!(name = address.name(), path = %escaped(&guard.path), "name taken");
                return Ok(guard);
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            Operation::Bind,
            format!("'{}'", address.name()),
            "its directory was replaced during every attempt to lock it",
        )
        .next("find the process that removes it"))
    }

    /// Makes the name ready to be served: writes the owner record, and removes what a dead holder left.
    fn settle(&self, elsewhere: &Address, owner: &Owner) -> Result<()> {
        refuse_if_served_elsewhere(elsewhere, Some(&self.path))?;
        self.lock.introduce(owner, &self.path)?;
        self.remove_server_files()?;
        self.remove_client_files()
            .map_err(|error| Error::io(Operation::ClearDirectory, self.display_path(CLIENTS), error))
    }

    /// Makes one attempt. Returns `None` if the directory or the lock was replaced in the meantime.
    fn try_take(address: &Address, kept: &[Transport], open_to_others: bool) -> Result<Option<Self>> {
        let name = address.name();
        let (base_path, base) = base::for_server(address, open_to_others)?;
        let path = base_path.join(name);
        // A directory that is private at first would look to a waiting client of another user like one that it may not
        // enter. A strict umask is corrected below.
        let mode = if open_to_others { 0o755 } else { 0o700 };
        directory::make(&base, name.as_ref(), Mode::from_raw_mode(mode), &path)?;
        let (directory, stat, lock) = match lock_directory(&base, name, &path, true)? {
            Locked::Taken(directory, stat, lock) => (directory, stat, lock),
            Locked::Held(owner) => return Err(name_in_use(name, &path, owner)),
            Locked::Replaced => return Ok(None),
        };
        // A server whose lock file was removed has lost the name and may still listen. It has created the clients'
        // directory, which a service manager does not do.
        let was_lost = lock.is_new() && FileId::at(&directory, CLIENTS).is_some();
        if kept.is_empty() && !was_lost && listening::somebody_goes_on_listening(&directory, &path)? {
            if lock.is_new() {
                // A refusal leaves nothing behind. A file that cannot be removed does no harm.
                let _ = directory::remove(&directory, lock::LOCK);
            }
            return Err(kept_by_a_manager(name, &path));
        }
        // From here on the directory and everything in it belongs to this server.
        if stat.st_mode & 0o7777 != mode {
            fchmod(&directory, Mode::from_raw_mode(mode))
                .map_err(|errno| Error::io(Operation::OpenDirectory, path.display().to_string(), errno))?;
        }
        let clients_path = path.join(CLIENTS);
        directory::make(&directory, CLIENTS.as_ref(), Mode::RWXU, &clients_path)?;
        let Some((clients, clients_stat)) = directory::open_inside(&directory, CLIENTS, &clients_path)? else {
            return Ok(None);
        };
        directory::check_clients(&clients_path, &clients_stat)?;
        Ok(Some(Self {
            name: name.to_owned(),
            base: keep_cleaners_out(base, &directory),
            lock_path: c_path(&path.join(lock::LOCK))?,
            path,
            directory,
            clients,
            lock,
            kept: kept.to_vec(),
            process: Process::current(),
        }))
    }

    /// Removes the points of contact in the directory, except those that another process keeps.
    pub(crate) fn remove_server_files(&self) -> Result<()> {
        leftovers::remove_server_files(&self.directory, &self.path, &self.kept)
    }

    /// Removes the files of clients, except the sockets and the origins of clients that may wait at a point of contact
    /// that another process keeps. Those are removed when the client is accepted, or when it is gone.
    fn remove_client_files(&self) -> io::Result<()> {
        let may_wait = |file| !self.kept.is_empty() && matches!(file, ClientFile::Socket | ClientFile::Origin);
        leftovers::remove_client_files(&self.clients, |_, file| !may_wait(file)).map(drop)
    }

    /// Returns `<base>/<name>`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Returns the directory of the clients' own files.
    pub(crate) fn clients(&self) -> &OwnedFd {
        &self.clients
    }

    /// Returns the path of a file in the directory, for messages.
    pub(crate) fn display_path(&self, file_name: &str) -> String {
        self.path.join(file_name).display().to_string()
    }

    /// Returns true in the process that took the name, and false in a forked child.
    pub(crate) fn is_in_this_process(&self) -> bool {
        self.process.is_current()
    }

    /// Returns true if the name belongs to this process alone, so that it may change the files of the name.
    pub(crate) fn is_owned(&self) -> bool {
        self.lock.is_owned()
    }

    pub(crate) fn lock(&self) -> &NameLock {
        &self.lock
    }

    pub(crate) fn lock_mut(&mut self) -> &mut NameLock {
        &mut self.lock
    }

    /// Returns true if the path still leads to the lock that is held. Returns an error if that cannot be determined
    /// now.
    pub(crate) fn is_still_held(&self) -> std::result::Result<bool, Errno> {
        lock::still_there(&self.lock_path, self.lock.id())
    }

    /// Releases the name. The caller has removed the server's own files. Removes the files of clients, and then the
    /// lock file and the directories, unless a file is left in them or another process keeps points of contact there.
    ///
    /// If the path leads to another lock by now, the files belong to the holder of that lock and stay. After a
    /// hand-over they belong to the other process.
    pub(crate) fn release(self) -> Result<()> {
        let was_owned = self.is_owned();
        let released = self.release_in_place();
        let path = self.path.display().to_string();
        if was_owned {
            tracing::info!(name = self.name, path = %escaped(&path), "name released");
        }
        released.map_err(|error| Error::io(Operation::Release, path, error))
    }

    /// Does the same without allocating or freeing memory, for a signal handler.
    pub(crate) fn release_in_place(&self) -> io::Result<()> {
        let removed = match self.is_still_held() {
            Ok(true) if self.is_owned() => self.remove_everything(),
            Ok(_) | Err(_) => Ok(()),
        };
        removed.and(self.lock.release())
    }

    /// Removes the files of clients and what [`release`](Self::release) removes with them.
    fn remove_everything(&self) -> io::Result<()> {
        /// The number of attempts to find the clients' directory empty. A client that connects at that moment creates a
        /// file there.
        const SWEEPS: u32 = 3;
        self.remove_client_files()?;
        if !self.kept.is_empty() || !leftovers::has_nothing_but(&self.directory, &[lock::LOCK, CLIENTS])? {
            return Ok(());
        }
        for _ in 0..SWEEPS {
            match remove_directories(&self.base, &self.name, &self.directory) {
                Ok(_) => return Ok(()),
                Err((CLIENTS, Errno::NOTEMPTY | Errno::EXIST)) => self.remove_client_files()?,
                Err((_, errno)) => return Err(errno.into()),
            }
        }
        // The lock file stays as well, so that the name can be listed and removed.
        Ok(())
    }
}

/// Removes the clients' directory, the lock file and the directory of a name, in this order. The caller holds the lock
/// and has found nothing else in the directory. Returns false if the directory of the name stays. An error contains the
/// name of the file that cannot be removed; what comes after it is left alone. Does not allocate memory.
///
/// No other process can hold the name in the meantime: one that opens the lock file finds it locked, or finds after
/// locking it that it has lost its name, and starts over. Without its lock file the name is free, so the server that
/// takes it may be the reason why the directory stays.
fn remove_directories(base: &OwnedFd, name: &str, directory: &OwnedFd) -> Result<bool, (&'static str, Errno)> {
    match unlinkat(directory, CLIENTS, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err((CLIENTS, errno)),
    }
    match unlinkat(directory, lock::LOCK, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err((lock::LOCK, errno)),
    }
    // Whoever made the directory for a service of this user may keep this process from removing it: it may be in a base
    // of another user, or a mount point. It is empty.
    Ok(unlinkat(base, name, AtFlags::REMOVEDIR).is_ok())
}

/// Converts a path for system calls. The path was opened before, so it contains no NUL byte.
fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::io(Operation::Bind, path.display().to_string(), Errno::INVAL))
}

/// The outcome of locking the directory of a name.
enum Locked {
    Taken(OwnedFd, Stat, NameLock),
    Held(Option<Owner>),
    /// The directory or the lock does not exist, or no longer exists.
    Replaced,
}

/// Opens the directory of a name, in a base that passed the checks, and takes its lock without waiting.
fn lock_directory(base: &OwnedFd, name: &str, path: &Path, make: bool) -> Result<Locked> {
    let Some((directory, stat)) = directory::open_inside(base, name, path)? else {
        return Ok(Locked::Replaced);
    };
    directory::check_name(path, &stat, &Trust::only_self())?;
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

/// Removes the directory of a name that no process holds, with the files that its server left. Returns `Ok(false)` if
/// the name is held or the directory is gone.
///
/// The lock is held during the removal, so no server can take the name. A server that has opened the lock file by then
/// finds, after locking it, that the file has lost its name, and starts over.
pub(crate) fn remove_dead(base_path: &Path, name: &str) -> Result<bool> {
    let Opened::Directory(base) = directory::open(base_path, &Trust::own())? else { return Ok(false) };
    let path = base_path.join(name);
    let Locked::Taken(directory, _, lock) = lock_directory(&base, name, &path, false)? else { return Ok(false) };
    if listening::somebody_goes_on_listening(&directory, &path)? {
        return Ok(false);
    }
    leftovers::remove_server_files(&directory, &path, &[])?;
    let failed = |what: &Path, error: io::Error| Error::io(Operation::Remove, what.display().to_string(), error);
    let clients_path = path.join(CLIENTS);
    if let Some((clients, _)) = directory::open_inside(&directory, CLIENTS, &clients_path)? {
        leftovers::remove_client_files(&clients, |_, _| true).map_err(|error| failed(&clients_path, error))?;
        leftovers::check_nothing_left_but(&clients, &clients_path, &[])?;
    }
    leftovers::check_nothing_left_but(&directory, &path, &[lock::LOCK, CLIENTS])?;
    let removed = remove_directories(&base, name, &directory)
        .map_err(|(file_name, errno)| failed(&path.join(file_name), errno.into()))?;
    drop(lock);
    if removed {
        tracing::info!(name, path = %escaped(&path), "dead name removed");
    }
    Ok(removed)
}

/// Returns the error for a name that is held, with the holder.
pub(crate) fn name_in_use(name: &str, path: &Path, owner: Option<Owner>) -> Error {
    if let Some(owner) = owner.as_ref().filter(|owner| owner.has_ended()) {
        let lock = path.join(lock::LOCK);
        let detail = format!(
            "the process that took the name has ended ({owner}), and another one keeps its lock, probably a child that \
             was created by a bare clone(2)"
        );
        return Error::new(ErrorKind::NameInUse, Operation::Bind, format!("'{name}'"), detail)
            .next(format!("find the process that has {} open, for example with fuser(1)", lock.display()));
    }
    let holder = match &owner {
        Some(owner) => owner.to_string(),
        None => "a process that has not written its owner record".to_owned(),
    };
    let detail = format!("the name is held by {holder}, at {}", path.display());
    Error::new(ErrorKind::NameInUse, Operation::Bind, format!("'{name}'"), detail)
        .next("stop that server, or use another name")
        .held_by(owner)
}

/// Returns true if a server that yields its name holds it.
pub(crate) fn is_yielded(error: &Error) -> bool {
    error.kind() == ErrorKind::NameInUse && error.holder().is_some_and(|holder| holder.yields)
}

/// Returns the error for a name that no server holds while a process listens on one of its sockets.
fn kept_by_a_manager(name: &str, path: &Path) -> Error {
    let detail = format!(
        "a process, probably a service manager, listens on a socket in {} and starts the server when a client connects",
        path.display()
    );
    Error::new(ErrorKind::NameInUse, Operation::Bind, format!("'{name}'"), detail)
        .next("start the server through its service unit, which passes the sockets, or stop the socket unit")
}

/// Refuses a name that a live server holds in another base: different environments lead to different bases, and a name
/// that is served in one of them is in use in all.
fn refuse_if_served_elsewhere(address: &Address, own: Option<&Path>) -> Result<()> {
    for candidate in base::candidates(Some(address))? {
        let path = candidate.path.join(address.name());
        if own == Some(&*path) {
            continue;
        }
        let look = || match find(&candidate, address.name(), &Trust::own()) {
            Ok(Some(found)) => lock::look(&found.directory, &found.path).ok(),
            Ok(None) => None,
            // This server does not use that base, so an unsafe directory there is not its error.
            Err(error) => {
                tracing::debug!(%error, "could not determine whether another base serves the name");
                None
            }
        };
        if let Some(owner) = lock::introduced(look, |error| Error::io(Operation::Bind, address.name(), error))? {
            return Err(name_in_use(address.name(), &path, owner));
        }
    }
    Ok(())
}

/// Takes shared locks on the base and on the directory of the name, which tmpfiles.d(5) respects: age-based cleaners
/// such as systemd-tmpfiles then spare them. Returns the descriptor of the base that holds its lock. If a lock fails,
/// only this protection is lost.
fn keep_cleaners_out(base: OwnedFd, directory: &OwnedFd) -> OwnedFd {
    let lock = |directory: &OwnedFd| flock(directory, FlockOperation::NonBlockingLockShared);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let kept = openat(&base, ".", flags, Mode::empty()).and_then(|base| lock(&base).map(|()| base));
    if let Err(errno) = kept.as_ref().map(drop).and(lock(directory).as_ref().map(drop)) {
        tracing::debug!(%errno, "could not lock the directories against cleaners");
    }
    kept.unwrap_or(base)
}

/// The directory of a name that a server may hold.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Opened with `O_PATH`, because this process may be permitted to search the directory but not to list it.
    pub(crate) directory: OwnedFd,
    pub(crate) stat: Stat,
    /// The entries of the directory that clients have opened, if they are kept for further clients.
    entries: Option<Entries>,
}

impl Found {
    /// Keeps the entries that clients open. For a directory of which the caller sees every change.
    fn keeping_entries(self) -> Self {
        Self { entries: Some(Entries::default()), ..self }
    }

    /// Returns an entry of the directory: the one that is kept, or the one that `open` opens.
    pub(crate) fn entry<E>(
        &self,
        file_name: &'static str,
        open: impl FnOnce() -> std::result::Result<Entry, E>,
    ) -> std::result::Result<EntryHandle, E> {
        let Some(entries) = &self.entries else { return open().map(EntryHandle::Own) };
        match entries.get(file_name) {
            Some(entry) => Ok(EntryHandle::Kept(entry)),
            None => open().map(|entry| EntryHandle::Kept(entries.keep(file_name, entry))),
        }
    }
}

/// Looks for a name in one base. Trusts directories of root, of this user, and of the users that `trust` adds.
pub(crate) fn find(candidate: &Candidate, name: &str, trust: &Trust) -> Result<Option<Found>> {
    let Opened::Directory(base) = candidate.open(trust)? else { return Ok(None) };
    let path = candidate.path.join(name);
    let Some((directory, stat)) = directory::walk_inside(&base, name, &path)? else { return Ok(None) };
    directory::check_name(&path, &stat, trust)?;
    Ok(Some(Found { path, directory, stat, entries: None }))
}
