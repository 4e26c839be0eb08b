//! A name that another process of this user holds, for a process that is to hold it next.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat, fchmod, fstat, openat};

use super::base::{self, Candidate};
use super::directory::{self, FileId, Opened, Trust};
use super::leftovers::{self, CONTROL};
use super::lock::{self, Holder, LOCK, NameLock};
use super::{CLIENTS, NameGuard, c_path, keep_cleaners_out};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::owner::Owner;
use crate::sys::fork::{ParentOnly, Process};

/// The state of a name in the bases in which it may be served.
pub(crate) enum Standing {
    /// No process of this user holds the name.
    Free,
    /// A process holds the name and offers it to nobody.
    Kept,
    /// A process holds the name and offers it.
    Offered(Box<Held>),
}

/// A name that another process of this user holds.
pub(crate) struct Held {
    name: String,
    pub(crate) path: PathBuf,
    base: OwnedFd,
    pub(crate) directory: OwnedFd,
    clients: OwnedFd,
    /// The proof that this process may write to the files of the name. It does not have the lock.
    pub(crate) lock: OwnedFd,
    pub(crate) owner: Option<Owner>,
}

/// Looks for a live server of this name, in every base in which a server of this user may be.
pub(crate) fn find_held(address: &Address) -> Result<Standing> {
    let mut standing = Standing::Free;
    for candidate in base::candidates(Some(address))? {
        match look(&candidate, address.name())? {
            Standing::Free => {}
            Standing::Kept => standing = Standing::Kept,
            offered @ Standing::Offered(_) => return Ok(offered),
        }
    }
    Ok(standing)
}

fn look(candidate: &Candidate, name: &str) -> Result<Standing> {
    // An unsafe base is the error of `bind`, if a server would use it.
    let Ok(Opened::Directory(base)) = candidate.open(&Trust::own()) else { return Ok(Standing::Free) };
    let path = candidate.path.join(name);
    let Ok(Some((directory, stat))) = directory::open_inside(&base, name, &path) else { return Ok(Standing::Free) };
    if directory::check_name(&path, &stat, &Trust::only_self()).is_err() {
        return Ok(Standing::Free);
    }
    let Ok(Holder::Live(owner)) = lock::look(&directory, &path) else { return Ok(Standing::Free) };
    if FileId::at(&directory, CONTROL).is_none() {
        return Ok(Standing::Kept);
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = match openat(&directory, LOCK, flags, Mode::empty()) {
        Ok(lock) => lock,
        Err(rustix::io::Errno::NOENT) => return Ok(Standing::Free),
        Err(errno) => {
            return Err(Error::io(Operation::Lock, path.join(LOCK).display().to_string(), errno)
                .note("only a process that may write to the files of the name can take it over"));
        }
    };
    let Ok(Some((clients, clients_stat))) = directory::open_inside(&directory, CLIENTS, &path.join(CLIENTS)) else {
        return Ok(Standing::Free);
    };
    directory::check_clients(&path.join(CLIENTS), &clients_stat)?;
    let held = Held { name: name.to_owned(), path, base, directory, clients, lock, owner };
    Ok(Standing::Offered(Box::new(held)))
}

impl Held {
    /// Continues to hold the name with the lock that its holder has passed: lent, until the holder knows that.
    pub(crate) fn inherit(self, lock: ParentOnly) -> Result<NameGuard> {
        let Some(lock) = NameLock::inherit(lock, &self.directory, &self.path)? else {
            let detail = "the descriptor that the holder passed is not the lock of the name";
            return Err(Error::new(ErrorKind::Protocol, Operation::Bind, format!("'{}'", self.name), detail)
                .next("stop that server, and bind the name"));
        };
        Ok(NameGuard {
            lock_path: c_path(&self.path.join(LOCK))?,
            name: self.name,
            base: keep_cleaners_out(self.base, &self.directory),
            path: self.path,
            directory: self.directory,
            clients: self.clients,
            lock,
            kept: Vec::new(),
            process: Process::current(),
        })
    }
}

impl NameGuard {
    /// Introduces this process as the owner of a name that it has taken over, and gives the directory its mode.
    pub(crate) fn settle_after_hand_over(&self, owner: &Owner, mode: u32) -> Result<()> {
        let failed = |errno| Error::io(Operation::OpenDirectory, self.path.display().to_string(), errno);
        if fstat(&self.directory).map_err(failed)?.st_mode & 0o7777 != mode {
            fchmod(&self.directory, Mode::from_raw_mode(mode)).map_err(failed)?;
        }
        self.lock.introduce(owner, &self.path)
    }

    /// Removes the files of a hand-over that did not come about.
    pub(crate) fn remove_new_files(&self) {
        if let Err(error) = leftovers::remove_new_files(&self.directory) {
            tracing::debug!(name = self.name, %error, "files of a hand-over cannot be removed yet");
        }
    }
}

impl NameLock {
    /// Returns true if a descriptor that another process sent proves that it may write to the file of this lock.
    pub(crate) fn is_proved_by(&self, proof: impl AsFd) -> bool {
        let is_writable =
            rustix::fs::fcntl_getfl(&proof).is_ok_and(|flags| flags & (OFlags::RWMODE | OFlags::PATH) == OFlags::RDWR);
        let is_this = |stat: Stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && FileId::of(&stat) == self.id()
        };
        is_writable && fstat(&proof).is_ok_and(is_this)
    }
}
