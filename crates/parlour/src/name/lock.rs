//! The `lock` file of a name. The process that holds the lock owns the name.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fchmod, fstat, ftruncate, openat, statat};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use super::directory::{self, FileId};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::owner::{Owner, RECORD_LEN_MAX};
use crate::sys::fork::{ParentOnly, Process};
use crate::sys::ofd_lock;
use crate::wait::{Deadline, pause};

/// The name of the lock file in the directory of a name.
pub(crate) const LOCK: &str = "lock";

const OPERATION: Operation = Operation::Lock;

/// The longest time that a holder takes to write its record: two system calls lie between locking and writing it.
const INTRODUCTION_MAX: Duration = Duration::from_millis(200);

/// The lock of a name, held by this process. The kernel releases it when the process ends, for any reason.
#[derive(Debug)]
pub(crate) struct NameLock {
    file: ParentOnly,
    id: FileId,
    is_new: bool,
    process: Process,
}

/// The outcome of one attempt to take the lock.
pub(crate) enum Try {
    Taken(NameLock),
    /// Another open file holds the lock. Contains its owner record if that was written.
    Held(Option<Owner>),
    /// The file that was locked no longer has the name `lock`. Try again.
    Replaced,
}

impl NameLock {
    /// Takes the lock in the directory of a name, or reads who holds it. A missing lock file is created only if `make`
    /// is true, because a directory without a lock is not a name.
    pub(crate) fn take(name_directory: &OwnedFd, path: &Path, make: bool) -> Result<Try> {
        let deadline = Deadline::after(INTRODUCTION_MAX);
        loop {
            match Self::try_take(name_directory, path, make)? {
                // A process that died holding the lock no longer holds it. So a record that is missing, or names a
                // process that is gone, is one that the new holder has not replaced yet.
                Try::Held(owner) if owner.as_ref().is_none_or(Owner::has_ended) && !deadline.is_over() => {
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
                // The directory was removed since it was opened, or there is no file to lock.
                Some(Errno::NOENT) => return Ok(Try::Replaced),
                _ => return Err(cannot_open(name_directory, path, error)),
            },
        };
        let stat = fstat(&file).map_err(|errno| io_error(path, errno))?;
        if stat.st_nlink == 0 {
            return Ok(Try::Replaced);
        }
        check(path, &stat, geteuid().as_raw())?;
        if !ofd_lock::try_lock(&file).map_err(|error| io_error(path, error))? {
            return Ok(Try::Held(read_owner(&file)));
        }
        // A lock on a file that has lost its name excludes no other process.
        let id = FileId::of(&stat);
        if FileId::at(name_directory, LOCK) != Some(id) {
            return Ok(Try::Replaced);
        }
        // The umask of the creator may have cleared bits.
        fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(|errno| io_error(path, errno))?;
        Ok(Try::Taken(Self { file, id, is_new, process: Process::current() }))
    }

    /// Returns the identity of the locked file.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Returns true if this call created the lock file.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes the owner record into the lock file.
    pub(crate) fn introduce(&self, owner: &Owner, path: &Path) -> Result<()> {
        let record = owner.encode();
        // Above this limit the kernel would raise SIGXFSZ.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < record.len() as u64) {
            return Err(io_error(path, Errno::FBIG).next("raise the limit on the size of files (ulimit -f)"));
        }
        ftruncate(&self.file, 0).map_err(|errno| io_error(path, errno))?;
        // The record is one write of a page or two. A reader may see none of it, and detects a part by the missing last
        // line.
        let written = rustix::io::pwrite(&self.file, record.as_bytes(), 0).map_err(|errno| io_error(path, errno))?;
        if written != record.len() {
            return Err(io_error(path, Errno::NOSPC));
        }
        Ok(())
    }

    /// Releases the lock and clears the record: no server holds the name, and none died holding it.
    pub(crate) fn release(&self) -> std::io::Result<()> {
        ftruncate(&self.file, 0)?;
        ofd_lock::unlock(&self.file)
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // A child that is forked at this moment shares the lock. Unlocking releases it for both processes; closing
        // alone would not. A failure cannot be reported here, and the file is closed in any case.
        if self.process.is_current() {
            let _ = ofd_lock::unlock(&self.file);
        }
    }
}

/// The state of a name, from its lock.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// A process holds the lock. Contains its owner record if that is complete.
    Live(Option<Owner>),
    /// No process holds the lock. Contains the record of a process that died holding it, if there is one.
    Dead(Option<Owner>),
    /// The lock belongs to another user, and this process may not open it.
    Unknown,
    /// There is no lock file, so the directory is not a name.
    Nothing,
}

/// Reads the state of a lock without taking it.
pub(crate) fn look(name_directory: impl AsFd, path: &Path) -> Result<Holder> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&name_directory, LOCK, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Holder::Nothing),
        Err(Errno::ACCESS) => return Ok(Holder::Unknown),
        Err(errno) => return Err(cannot_open(&name_directory, path, errno)),
    };
    let stat = fstat(&file).map_err(|errno| io_error(path, errno))?;
    // A lock that another user can open says nothing: that user may hold it.
    let directory = fstat(&name_directory).map_err(|errno| io_error(path, errno))?;
    check(path, &stat, directory.st_uid)?;
    let owner = read_owner(&file);
    match ofd_lock::is_locked(&file).map_err(|error| io_error(path, error))? {
        true => Ok(Holder::Live(owner)),
        false => Ok(Holder::Dead(owner)),
    }
}

/// Reads the owner record. Returns `None` if the record is incomplete or not written yet.
fn read_owner(file: impl AsFd) -> Option<Owner> {
    let mut record = vec![0; RECORD_LEN_MAX];
    let length = rustix::io::pread(file, &mut record, 0).ok()?;
    Owner::parse(&record[..length])
}

/// Checks the type, owner, link count and mode of a lock file. The user `uid` owns the directory of the name.
fn check(path: &Path, stat: &Stat, uid: u32) -> Result<()> {
    let why = if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        "it must be a regular file"
    } else if stat.st_uid != uid {
        "it must belong to the user of the directory"
    } else if stat.st_nlink != 1 {
        "it must have exactly one hard link"
    } else if stat.st_mode & 0o077 != 0 {
        "its mode must deny access to other users"
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
        .next("find out which process created it, then remove it")
}

/// Returns the error for a lock file that cannot be opened. Names the type of the file that has its place.
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

/// Returns true if the lock file still has its name, for the server that holds it. See [`FileId::is_found`] for the
/// errors.
pub(crate) fn still_there(lock_path: &CStr, id: FileId) -> Result<bool, Errno> {
    id.is_found(statat(rustix::fs::CWD, lock_path, AtFlags::SYMLINK_NOFOLLOW))
}
