//! The `lock` file of a name: who holds it owns the name.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fchmod, fstat, ftruncate, openat, statat};
use rustix::io::Errno;

use super::directory::{self, FileId};
use crate::error::{Error, ErrorKind, Result};
use crate::owner::{Owner, RECORD_LEN_MAX};
use crate::sys::fork::{ParentOnly, Process};
use crate::sys::ofd_lock;
use crate::wait::{Deadline, pause};

/// The name of the lock in the directory of a name.
pub(crate) const LOCK: &str = "lock";

const OPERATION: &str = "lock";

/// How long a holder may take to say who it is: between locking and writing its record lie two system calls.
const INTRODUCTION_MAX: Duration = Duration::from_millis(200);

/// The lock of a name, held. The kernel drops it when this process ends, however it ends.
#[derive(Debug)]
pub(crate) struct NameLock {
    file: ParentOnly,
    id: FileId,
    is_new: bool,
    process: Process,
}

/// The outcome of one try.
pub(crate) enum Try {
    Taken(NameLock),
    /// Somebody lives there; what they say about themselves, once they have.
    Held(Option<Owner>),
    /// The file that was locked is not the one with the name any more: try again.
    Replaced,
}

impl NameLock {
    /// Takes the lock in the directory of a name, or learns who holds it. A lock file that is not there is made only if
    /// `make` says so: a directory without one is nobody's name.
    pub(crate) fn take(name_directory: &OwnedFd, path: &Path, make: bool) -> Result<Try> {
        let deadline = Deadline::after(INTRODUCTION_MAX);
        loop {
            match Self::try_take(name_directory, path, make)? {
                // Who died holding the lock no longer holds it; so a record that is missing or names a process that is
                // gone is one that the holder has not replaced yet.
                Try::Held(owner) if !owner.as_ref().is_some_and(seems_alive) && !deadline.is_over() => {
                    pause(Duration::from_millis(2), deadline).map_err(|error| io_error(path, error))?;
                }
                outcome => return Ok(outcome),
            }
        }
    }

    fn try_take(name_directory: &OwnedFd, path: &Path, make: bool) -> Result<Try> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut is_new = false;
        let open = || match openat(name_directory, LOCK, flags, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                is_new = true;
                Ok(openat(name_directory, LOCK, flags | OFlags::CREATE, Mode::RUSR | Mode::WUSR)?)
            }
            opened => Ok(opened?),
        };
        let file = match ParentOnly::open(open) {
            Ok(file) => file,
            Err(error) => match Errno::from_io_error(&error) {
                // The directory was removed between opening it and this, or there is nothing to lock.
                Some(Errno::NOENT) => return Ok(Try::Replaced),
                _ => return Err(cannot_open(name_directory, path, error)),
            },
        };
        let stat = fstat(&file).map_err(|errno| io_error(path, errno))?;
        if stat.st_nlink == 0 {
            return Ok(Try::Replaced);
        }
        check(path, &stat)?;
        if !ofd_lock::try_lock(&file).map_err(|error| io_error(path, error))? {
            return Ok(Try::Held(read_owner(&file)));
        }
        // A lock on a file that has lost its name excludes nobody.
        let id = FileId::of(&stat);
        if FileId::at(name_directory, LOCK) != Some(id) {
            return Ok(Try::Replaced);
        }
        // The umask of whoever made it may have taken bits away.
        fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|errno| io_error(path, errno))?;
        Ok(Try::Taken(Self { file, id, is_new, process: Process::current() }))
    }

    /// Which file is locked.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether there was no lock file before.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Says who holds the name.
    pub(crate) fn introduce(&self, owner: &Owner, path: &Path) -> Result<()> {
        let record = owner.encode();
        ftruncate(&self.file, 0).map_err(|errno| io_error(path, errno))?;
        // One write of a page or two: a reader may see none of it, and knows by its last line when it sees only a part.
        let written = rustix::io::pwrite(&self.file, record.as_bytes(), 0).map_err(|errno| io_error(path, errno))?;
        if written != record.len() {
            return Err(io_error(path, Errno::NOSPC));
        }
        Ok(())
    }

    /// Removes the lock file, for whoever removes the name and holds its lock.
    pub(crate) fn remove(self, name_directory: &OwnedFd) -> std::io::Result<()> {
        directory::remove(name_directory, LOCK)
    }

    /// Gives the lock up in order: nobody holds the name now, and nobody died holding it.
    pub(crate) fn release(&self) -> std::io::Result<()> {
        ftruncate(&self.file, 0)?;
        ofd_lock::unlock(&self.file)
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // A child that was forked at this very moment shares the lock; unlocking works for both, closing would not.
        // There is nobody to tell of a failure, and closing the file follows in any case.
        if self.process.is_current() {
            let _ = ofd_lock::unlock(&self.file);
        }
    }
}

/// Whether the process of a record is still there, as far as can be told; the lock decides, this only tells whether a
/// record may be out of date.
fn seems_alive(owner: &Owner) -> bool {
    match i32::try_from(owner.pid).ok().and_then(rustix::process::Pid::from_raw) {
        Some(pid) => rustix::process::test_kill_process(pid) != Err(Errno::SRCH),
        None => false,
    }
}

/// Whether a name is served, as its lock tells.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// Somebody holds the lock.
    Live(Option<Owner>),
    /// Nobody does; whoever died holding it left a record.
    Dead(Option<Owner>),
    /// We may not open the lock: another user's.
    Unknown,
    /// There is no lock, so this is no name.
    Nothing,
}

/// SpinBudget at a lock without taking it.
pub(crate) fn look(name_directory: impl AsFd, path: &Path) -> Result<Holder> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&name_directory, LOCK, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Holder::Nothing),
        Err(Errno::ACCESS) => return Ok(Holder::Unknown),
        Err(errno) => return Err(cannot_open(&name_directory, path, errno)),
    };
    let stat = fstat(&file).map_err(|errno| io_error(path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_a_lock(path, "it must be a regular file", &stat));
    }
    let owner = read_owner(&file);
    match ofd_lock::is_locked(&file).map_err(|error| io_error(path, error))? {
        true => Ok(Holder::Live(owner)),
        false => Ok(Holder::Dead(owner)),
    }
}

/// What the holder wrote; `None` when it is not whole (yet).
fn read_owner(file: impl AsFd) -> Option<Owner> {
    let mut record = vec![0; RECORD_LEN_MAX];
    let length = rustix::io::pread(file, &mut record, 0).ok()?;
    Owner::parse(&record[..length])
}

fn check(path: &Path, stat: &Stat) -> Result<()> {
    let why = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        "it must be a regular file"
    } else if stat.st_uid != rustix::process::geteuid().as_raw() {
        "it must be our own"
    } else if stat.st_nlink != 1 {
        "it must have no other name"
    } else if stat.st_mode & 0o077 != 0 {
        "nobody else may be able to open it"
    } else {
        return Ok(());
    };
    Err(not_a_lock(path, why, stat))
}

fn lock_path(path: &Path) -> PathBuf {
    path.join(LOCK)
}

fn not_a_lock(path: &Path, why: &str, stat: &Stat) -> Error {
    let detail = format!("{why}; it is a {}", directory::describe_file(stat));
    Error::new(ErrorKind::UnsafeDirectory, OPERATION, lock_path(path).display().to_string(), detail)
        .next("find out who put it there, and remove it")
}

/// Says what stands in the place of a lock that cannot be opened; some things cannot be.
fn cannot_open(name_directory: impl AsFd, path: &Path, error: impl Into<std::io::Error>) -> Error {
    match statat(name_directory, LOCK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
            not_a_lock(path, "it must be a regular file", &stat)
        }
        _ => io_error(path, error),
    }
}

fn io_error(path: &Path, error: impl Into<std::io::Error>) -> Error {
    Error::io(OPERATION, lock_path(path).display().to_string(), error)
}

/// Whether the directory of a name still has its lock, for a server that holds it; see [`FileId::is_found`].
pub(crate) fn still_there(lock_path: &CStr, id: FileId) -> Result<bool, Errno> {
    id.is_found(statat(rustix::fs::CWD, lock_path, AtFlags::SYMLINK_NOFOLLOW))
}
