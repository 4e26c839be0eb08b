//! The `lock` file of a name. The process that holds the lock owns the name.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fchmod, fstat, ftruncate, openat, seek, statat, tell,
};
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

/// The time for which a holder is given time to write its record, which tells whether it yields. Some system calls lie
/// between locking and writing, and a machine may be loaded.
const INTRODUCTION_MAX: Duration = Duration::from_secs(1);

/// The lock of a name, held by this process. The kernel releases it when the process ends, for any reason.
///
/// During a hand-over two processes have descriptors of one open file, and so one lock: whoever unlocks it unlocks it
/// for both. Therefore only a lock that is [`Owned`](Possession::Owned) is unlocked, and closing it suffices otherwise.
#[derive(Debug)]
pub(crate) struct NameLock {
    /// `None` once the lock was given away.
    file: Option<ParentOnly>,
    id: FileId,
    is_new: bool,
    process: Process,
    possession: Possession,
    /// The position in the open file when the holder passed it to this process.
    inherited_at: u64,
}

/// The relation of this process to the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Possession {
    /// The name belongs to this process alone.
    Owned,
    /// Another process has the lock as well, and one of the two will own the name.
    Lent,
    /// The name belongs to another process.
    Given,
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
        let process = Process::current();
        Ok(Try::Taken(Self { file: Some(file), id, is_new, process, possession: Possession::Owned, inherited_at: 0 }))
    }

    /// Takes a lock that its holder has passed to this process: lent, until the holder knows that it arrived. Returns
    /// `None` if this is not the lock of the name.
    pub(crate) fn inherit(file: ParentOnly, name_directory: &OwnedFd, path: &Path) -> Result<Option<Self>> {
        let stat = fstat(&file).map_err(|errno| io_error(path, errno))?;
        check(path, &stat, geteuid().as_raw())?;
        let id = FileId::of(&stat);
        // This changes nothing for an open file that has the lock, and fails for any other one.
        let is_locked = ofd_lock::try_lock(&file).map_err(|error| io_error(path, error))?;
        if !is_locked || !id.is_at(name_directory, LOCK).map_err(|errno| io_error(path, errno))? {
            return Ok(None);
        }
        let process = Process::current();
        let inherited_at = tell(&file).map_err(|errno| io_error(path, errno))?;
        let possession = Possession::Lent;
        Ok(Some(Self { file: Some(file), id, is_new: false, process, possession, inherited_at }))
    }

    /// Returns true if the name belongs to this process alone.
    pub(crate) fn is_owned(&self) -> bool {
        self.possession == Possession::Owned
    }

    /// Notes that another process gets the lock, too.
    pub(crate) fn lend(&mut self) {
        self.possession = Possession::Lent;
    }

    /// Returns the descriptor to pass to that process, or `None` once the lock was given away.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Notes that the name belongs to this process alone, because the other process has left it. Returns false if this
    /// process does not have the lock any more.
    pub(crate) fn own(&mut self) -> bool {
        // An error says nothing about the lock, which nobody has unlocked on purpose.
        let is_locked = self.file.as_ref().is_some_and(|file| ofd_lock::try_lock(file).unwrap_or(true));
        self.possession = if is_locked { Possession::Owned } else { Possession::Given };
        is_locked
    }

    /// Owns the name again, as [`own`](Self::own) does, after it was lent. Changes the position in the open file, which
    /// the other process shares, if it lives: so it learns that it does not own the name.
    pub(crate) fn take_back(&mut self) -> bool {
        if let Some(file) = self.file.as_ref().filter(|_| self.possession == Possession::Lent) {
            // The position of a regular file can always be changed.
            let _ = seek(file, SeekFrom::Current(1));
        }
        self.own()
    }

    /// Returns true if the process that has passed the lock owns the name again, given that the socket to it has ended.
    pub(crate) fn was_taken_back(&self) -> bool {
        self.file.as_ref().is_none_or(|file| tell(file) != Ok(self.inherited_at))
    }

    /// Leaves the name to the other process.
    pub(crate) fn give(&mut self) {
        self.possession = Possession::Given;
        self.file = None;
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
        let file = self.file.as_ref().ok_or_else(|| io_error(path, Errno::BADF))?;
        ftruncate(file, 0).map_err(|errno| io_error(path, errno))?;
        // The record is one write of a page or two. A reader may see none of it, and detects a part by the missing last
        // line.
        let written = rustix::io::pwrite(file, record.as_bytes(), 0).map_err(|errno| io_error(path, errno))?;
        if written != record.len() {
            return Err(io_error(path, Errno::NOSPC));
        }
        Ok(())
    }

    /// Releases the lock and clears the record: no server holds the name, and none died holding it. A lock that is not
    /// owned is left alone.
    pub(crate) fn release(&self) -> std::io::Result<()> {
        match &self.file {
            Some(file) if self.is_owned() => {
                ftruncate(file, 0)?;
                ofd_lock::unlock(file)
            }
            _ => Ok(()),
        }
    }

    /// Closes a lock that is lent, and keeps its number in use. For a signal handler.
    pub(crate) fn leave_in_place(&mut self, instead: BorrowedFd<'_>) -> std::io::Result<()> {
        match &mut self.file {
            Some(file) if self.possession == Possession::Lent => file.close_in_place(instead),
            _ => Ok(()),
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // A child that is forked at this moment shares the lock. Unlocking releases it for both processes; closing
        // alone would not. A failure cannot be reported here, and the file is closed in any case.
        if let Some(file) = self.file.as_ref().filter(|_| self.is_owned() && self.process.is_current()) {
            let _ = ofd_lock::unlock(file);
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
    // The server ended in order and removed the file since it was opened.
    if stat.st_nlink == 0 {
        return Ok(Holder::Nothing);
    }
    // A lock that another user can open says nothing: that user may hold it.
    let directory = fstat(&name_directory).map_err(|errno| io_error(path, errno))?;
    check(path, &stat, directory.st_uid)?;
    let owner = read_owner(&file);
    match ofd_lock::is_locked(&file).map_err(|error| io_error(path, error))? {
        true => Ok(Holder::Live(owner)),
        false => Ok(Holder::Dead(owner)),
    }
}

/// Looks until the holder has written its record, for up to [`INTRODUCTION_MAX`]. Returns its record, if it has one, or
/// `None` if no process holds the lock.
pub(crate) fn introduced(
    look: impl Fn() -> Option<Holder>,
    failed: impl FnOnce(std::io::Error) -> Error,
) -> Result<Option<Option<Owner>>> {
    let deadline = Deadline::after(INTRODUCTION_MAX);
    loop {
        match look() {
            Some(Holder::Live(owner)) if owner.as_ref().is_some_and(|owner| !owner.has_ended()) => {
                return Ok(Some(owner));
            }
            Some(Holder::Live(owner)) if deadline.is_over() => return Ok(Some(owner)),
            Some(Holder::Live(_)) => {}
            _ => return Ok(None),
        }
        if let Err(error) = pause(Duration::from_millis(2), deadline) {
            return Err(failed(error));
        }
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
