//! The counters of a server, read by another process. docs/stats.md specifies them.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, open};
use rustix::io::Errno;

use crate::admission::RefusalReason;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::directory::{self, Opened, Trust};
use crate::owner::Owner;
use crate::server::counters::{self, Answer, Asks};
use crate::shm::memfd::TMPFS_MAGIC;
use crate::shm::stats::{Place, now};
use crate::shm::stats_reader::{self, ReadError, Reading};
use crate::stats::{ClientStats, Flow};
use crate::sys::fork::ParentOnly;
use crate::sys::proc_fd;
use crate::wait::Deadline;
use crate::wire::stats::BadStats;

const INSPECT: Operation = Operation::Inspect;

/// The time that a server has to hand its counters out. It does so between two events, if a thread of it waits.
pub(super) const ASKING_MAX: Duration = Duration::from_secs(1);

/// The counters of a server and of its clients, at one time.
///
/// A server counts for itself. After a [hand-over](crate::ServerOptions::hand_over) the new server begins anew, and the
/// connections that stay with the old one are not shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NameStats {
    /// The owner record of the server.
    pub owner: Owner,
    /// The time since the server began to count, including time for which the system slept.
    pub uptime: Duration,
    /// Clients that were accepted.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Attempts to connect that were refused, for any reason.
    pub refused: u64,
    /// The messages that the server received, over all connections since it began.
    pub received: Flow,
    /// The messages that the server sent, over all connections since it began.
    pub sent: Flow,
    /// The clients that are connected, in the order in which they were accepted.
    pub clients: Vec<ClientStats>,
    /// The number of open connections that `clients` does not have: those that began or ended while they were read, and
    /// those for whose counters the server has no memory. The messages of the latter are in no counter.
    pub unlisted: u64,
    /// True if no connection began or ended while the counters were read. Otherwise `received` and `sent` may count a
    /// connection that has just ended twice, and be less at the next time. A reader retries a few times, so this is
    /// false only if connections begin and end faster than they can be read.
    pub is_exact: bool,
    refused_by: Vec<(RefusalReason, u64)>,
}

impl NameStats {
    /// Returns the number of attempts to connect that were refused for this reason.
    #[must_use]
    pub fn refused_by(&self, reason: RefusalReason) -> u64 {
        self.refused_by.iter().find(|(of, _)| *of == reason).map_or(0, |(_, count)| *count)
    }

    fn new(owner: Owner, reading: &Reading) -> Self {
        let now = now();
        let header = &reading.header;
        let (received, sent) = reading.totals();
        let mut clients: Vec<_> = reading.slots.iter().map(|slot| ClientStats::new(slot, now)).collect();
        clients.sort_by_key(|client| client.number);
        let by_reason = |reason: &RefusalReason| header.refused.get(*reason as usize).copied().unwrap_or(0);
        let refused_by: Vec<_> = RefusalReason::ALL.iter().map(|reason| (*reason, by_reason(reason))).collect();
        Self {
            owner,
            uptime: Duration::from_nanos(now.saturating_sub(header.since)),
            accepted: header.accepted,
            open: header.open,
            // A later version may have more reasons.
            refused: header.refused.iter().fold(0, |sum, count| sum.wrapping_add(*count)),
            received: received.into(),
            sent: sent.into(),
            clients,
            unlisted: header.unlisted.saturating_add(reading.changing as u64),
            is_exact: reading.is_exact,
            refused_by,
        }
    }
}

/// The directory of a name.
pub(super) struct NameDirectory<'a> {
    pub(super) base: &'a Path,
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
}

/// Reads the counters of a server, by its owner record.
pub(super) fn read(object: &str, name: &NameDirectory<'_>, owner: Option<Owner>) -> Result<NameStats> {
    let failed = |kind, detail: &str| Error::new(kind, INSPECT, object, detail.to_owned());
    let Some(owner) = owner else {
        return Err(failed(ErrorKind::Unsupported, "the owner record of the server cannot be read"));
    };
    let Some(place) = owner.stats else {
        return Err(failed(ErrorKind::Unsupported, "the server has no counters")
            .next("set its option stats, if it is of this version"));
    };
    let opened = match owner.has_other_pids() || !has_own_proc() {
        // The descriptors of another process have its number in this namespace, or in that of `/proc`.
        true => Err(Errno::ACCESS),
        false => open_counters(owner.pid, place),
    };
    let reading = match opened {
        Ok(file) => stats_reader::read(&file),
        Err(Errno::ACCESS | Errno::PERM) => match &ask(object, name, &owner, Asks::Counters)?[..] {
            [file, ..] if is_at(object, file, place)? => stats_reader::read(file),
            _ => return Err(not_given(object, &owner, Asks::Counters)),
        },
        // The process has ended, or has closed the descriptor, since its record was read.
        Err(Errno::NOENT | Errno::SRCH | Errno::STALE) => {
            let detail = "the server has ended, or its counters are not at the place that it states";
            return Err(failed(ErrorKind::NoServer, detail).next("try again"));
        }
        Err(errno) => return Err(Error::io(INSPECT, object, errno)),
    };
    match reading {
        Ok(reading) => Ok(NameStats::new(owner, &reading)),
        Err(ReadError::Io(error)) => Err(Error::io(INSPECT, object, error)),
        Err(ReadError::Bad(bad)) => Err(failed(ErrorKind::Unsupported, &bad.to_string()).next("use the same version")),
    }
}

/// Asks a server for memory to which `/proc` does not lead.
pub(super) fn ask(object: &str, name: &NameDirectory<'_>, owner: &Owner, asks: Asks) -> Result<Vec<ParentOnly>> {
    let answer = match open_directory(name) {
        Some(directory) => counters::ask(&directory, name.path, asks, Deadline::after(ASKING_MAX)),
        None => Ok(Answer::Nothing),
    };
    match answer.map_err(|error| Error::io(INSPECT, object, error))? {
        Answer::Given(files) => Ok(files),
        Answer::Late => {
            let detail = "/proc does not lead to the memory of the server, and it did not hand it out in time";
            Err(Error::new(ErrorKind::Busy, INSPECT, object, detail)
                .next("try again when it waits for clients or messages"))
        }
        Answer::Nothing => Err(not_given(object, owner, asks)),
    }
}

/// Returns the error of a server that does not hand out what its record states.
pub(super) fn not_given(object: &str, owner: &Owner, asks: Asks) -> Error {
    let what = match asks {
        Asks::Counters => "its counters",
        Asks::Tap => "its messages",
    };
    let failed = |why: &str| {
        let detail = format!("{why}, and the server does not hand {what} out");
        Error::new(ErrorKind::Unsupported, INSPECT, object, detail)
    };
    if owner.has_other_pids() {
        let next = match asks {
            Asks::Counters => "run this in the PID namespace of the server, as its user",
            Asks::Tap => {
                "run this in the PID namespace of the server, as its user, or set the option tap of the server"
            }
        };
        return failed("the server is in another PID namespace").next(next);
    }
    if !has_own_proc() {
        let next = "mount /proc, or try again if the server has just ended";
        return failed("/proc is missing or of another PID namespace").next(next);
    }
    denied(object, asks)
}

/// Returns true if a file is the one that is stated.
fn is_at(object: &str, file: impl AsFd, place: Place) -> Result<bool> {
    is_counters(file, place).map_err(|errno| Error::io(INSPECT, object, errno))
}

/// Returns true if `/proc` shows the processes of the PID namespace of this process.
pub(super) fn has_own_proc() -> bool {
    let shown = std::fs::read_link("/proc/self").ok();
    shown.is_some_and(|shown| shown == Path::new(&std::process::id().to_string()))
}

/// Opens the directory of a name of this user. No other user can have put a socket there.
pub(super) fn open_directory(name: &NameDirectory<'_>) -> Option<OwnedFd> {
    let Ok(Opened::Directory(base)) = directory::open(name.base, &Trust::own()) else { return None };
    let (directory, stat) = directory::open_inside(&base, name.name, name.path).ok().flatten()?;
    directory::check_name(name.path, &stat, &Trust::only_self()).ok()?;
    Some(directory)
}

pub(super) fn denied(object: &str, asks: Asks) -> Error {
    let detail = "the server is of another user, or does not let other processes look at it";
    let next = match asks {
        Asks::Counters => "run this as the user of the server, or as root with the id of that user (option server_uid)",
        Asks::Tap => {
            "run this as the user of the server, or as root with the id of that user (option server_uid), and set the \
             option tap of a server that is not dumpable"
        }
    };
    Error::new(ErrorKind::Denied, INSPECT, object, detail).next(next)
}

/// Opens the counters of a process. Fails with `STALE` if another file is in their place.
///
/// The descriptor of another process may lead to any file, and opening a FIFO or a device has effects. So the file is
/// opened without access first, compared, and only then opened for reading.
pub(super) fn open_counters(pid: u32, place: Place) -> Result<OwnedFd, Errno> {
    open_place(pid, place, OFlags::RDONLY)
}

/// Opens another memory file of a process as [`open_counters`] does.
pub(super) fn open_place(pid: u32, place: Place, access: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/{pid}/fd/{}", place.fd);
    let found = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if !is_counters(&found, place)? {
        return Err(Errno::STALE);
    }
    open(proc_fd::path(found.as_fd()), access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Returns true if a file is the one of an owner record, and can be read without effects.
pub(super) fn is_counters(file: impl AsFd, place: Place) -> Result<bool, Errno> {
    let stat = fstat(&file)?;
    Ok((stat.st_dev, stat.st_ino) == (place.device, place.inode)
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        // A file on a file system of a user (fuse(4)) could keep a reader for ever.
        && fstatfs(&file)?.f_type == TMPFS_MAGIC)
}

impl fmt::Display for BadStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStats => f.write_str("the place of its counters has something else"),
            Self::Version(version) => write!(f, "its counters have version {version}, and this is version 1"),
            Self::Lengths => f.write_str("its counters state lengths that are out of bounds"),
        }
    }
}
