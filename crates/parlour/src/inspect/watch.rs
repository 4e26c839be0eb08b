//! A descriptor that reports changes of a name.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::address::Address;
use crate::connect::watch::{self as connect, Changes};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::name::base::{self, Candidate};
use crate::name::directory::Trust;
use crate::name::lock::{self, Holder};
use crate::name::{self, listening};
use crate::options::ConnectOptions;
use crate::sys::timer::Timer;
use crate::wait::{Deadline, wait_for};

/// The times after which a look at a lock is repeated that a process has closed. The kernel reports the close before it
/// releases the lock, and a process that has been killed may wait for the processor in between.
pub(super) const AGAIN: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160), Duration::from_millis(640)];

/// A watch on one name, which [`watch()`] returns.
///
/// Its descriptor ([`AsFd`]) is readable when [`changed`](Watch::changed) may return true. It may become readable for
/// another reason, such as a change of another name in the same base. It is for waiting only: do not read it.
///
/// A watch takes three descriptors. [`Watches`](super::Watches) takes as many for any number of names. After fork(2),
/// only one of the processes may use it.
pub struct Watch {
    address: Address,
    server_uid: Option<u32>,
    changes: connect::Watch,
    timer: Timer,
    /// The time that the timer is set to.
    timer_at: Deadline,
    /// The times that remain of [`AGAIN`].
    again: &'static [Duration],
    /// Readable when the watch or the timer is.
    epoll: OwnedFd,
}

/// The reason to look at the name again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Report {
    Nothing,
    /// The time for a look that no change reports.
    Time,
    Change,
}

/// Watches a name: reports when one should look at it again, for example with [`resolve`](super::resolve).
///
/// A server that takes the name, ends in order, is killed, or hands the name over is such a change, as are the creation
/// and the removal of its sockets. The watch covers every base directory that a client searches for the name, also one
/// that does not exist yet. It covers the lock and the owner record, and not the process of the holder, because that is
/// another one after a hand-over. A report may come without a change of the state.
///
/// Create the watch first, and look at the name then, so that no change is missed.
///
/// # Errors
///
/// - [`ErrorKind::InvalidName`]: the address is malformed.
/// - [`ErrorKind::UnsafeDirectory`]: `$PARLOUR_DIR` is not an absolute path.
/// - [`ErrorKind::Io`]: a descriptor could not be created.
///
/// If directories cannot be watched, because the user has too many inotify(7) instances or a directory cannot be read,
/// the watch reports every 100 ms that one should look again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use parlour::{Server, inspect};
///
/// # fn main() -> parlour::Result<()> {
/// # let base = std::env::temp_dir().join(format!("parlour-watch-{}", std::process::id()));
/// # let name = base.join("service");
/// # let name = name.to_str().unwrap();
/// let mut watch = inspect::watch(name)?;
/// assert!(inspect::resolve(name)?.client.is_err(), "no server yet");
/// let server = Server::bind(name)?;
/// while inspect::resolve(name)?.client.is_err() {
///     watch.wait_timeout(Duration::from_secs(10))?;
/// }
/// # drop(server);
/// # let _ = std::fs::remove_dir(&base);
/// # Ok(())
/// # }
/// ```
pub fn watch(address: impl AsRef<str>) -> Result<Watch> {
    watch_with(address, &ConnectOptions::default())
}

/// Watches a name as [`watch()`] does, for a client that connects with these options. Of the options, only
/// [`server_uid`](ConnectOptions::server_uid) changes which bases are watched.
///
/// # Errors
///
/// Those of [`watch()`].
pub fn watch_with(address: impl AsRef<str>, options: &ConnectOptions) -> Result<Watch> {
    let address = Address::parse(address.as_ref())?;
    let failed = |errno: Errno| failed(&address, errno);
    let mut changes = connect::Watch::new(Changes::All);
    changes.renew(&address, options.server_uid)?;
    let timer = Timer::new().map_err(failed)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
    if let Some(fd) = changes.fd() {
        epoll::add(&epoll, fd, EventData::new_u64(0), EventFlags::IN).map_err(failed)?;
    }
    epoll::add(&epoll, &timer, EventData::new_u64(1), EventFlags::IN).map_err(failed)?;
    let server_uid = options.server_uid;
    let mut watch = Watch { address, server_uid, changes, timer, timer_at: Deadline::NEVER, again: &[], epoll };
    watch.set_timer()?;
    Ok(watch)
}

fn failed(address: &Address, errno: Errno) -> Error {
    Error::io(Operation::Find, format!("'{address}'"), errno)
}

/// Returns true if a server, or a service manager in its place, has the name in a base that clients search.
fn has_server(address: &Address, server_uid: Option<u32>) -> Result<bool> {
    let trust = Trust::own().and(server_uid);
    let is_served = |candidate: &Candidate| {
        let Ok(Some(found)) = name::find(candidate, address.name(), &trust) else { return false };
        matches!(lock::look(&found.directory, &found.path), Ok(Holder::Live(_)))
            || matches!(listening::somebody_listens(&found.directory, &found.path), Ok(true))
    };
    Ok(base::candidates_for_client(address, server_uid)?.iter().any(is_served))
}

impl Watch {
    /// Returns true if one should look at the name again, because of a change since the last call. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`watch()`].
    pub fn changed(&mut self) -> Result<bool> {
        Ok(self.look()? != Report::Nothing)
    }

    fn look(&mut self) -> Result<Report> {
        let seen = self.changes.look();
        if seen.closed_lock {
            self.again = &AGAIN;
        }
        let is_time = self.timer_at.is_over();
        if is_time {
            self.timer.stop_reporting();
            self.timer_at = Deadline::NEVER;
        }
        if seen.something || is_time {
            self.changes.renew(&self.address, self.server_uid)?;
            self.set_timer()?;
        }
        Ok(match (seen.something, is_time) {
            // Without inotify(7), changes are not seen.
            (true, _) if self.changes.fd().is_some() => Report::Change,
            (false, false) => Report::Nothing,
            _ => Report::Time,
        })
    }

    /// Blocks until one should look at the name again, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`watch()`], and [`ErrorKind::TimedOut`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<()> {
        if self.wait_until(Deadline::after(timeout))? != Report::Nothing {
            return Ok(());
        }
        let detail = "nothing has changed before the deadline";
        Err(Error::new(ErrorKind::TimedOut, Operation::Find, format!("'{}'", self.address), detail))
    }

    /// Blocks until the name has had no server for the time `quiet`, and gives up after `timeout`.
    ///
    /// For a program that binds the name while no other server has it ([`ServerOptions::yields`]): a server that is
    /// restarted, or that fails in its first moment, finds its name free within `quiet`. A socket of a service manager
    /// that listens for the name counts as a server. The time begins again with
    /// each change of the name, also if its server has ended by the time of the look. Another server may take the name
    /// before the caller does.
    ///
    /// [`ServerOptions::yields`]: crate::ServerOptions::yields
    ///
    /// # Errors
    ///
    /// Those of [`watch()`], and [`ErrorKind::TimedOut`].
    pub fn wait_until_quiet(&mut self, quiet: Duration, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let mut quiet_at = None;
        // A change that is reported from here on leads to another look.
        self.changed()?;
        loop {
            if has_server(&self.address, self.server_uid)? {
                quiet_at = None;
            } else if quiet_at.get_or_insert_with(|| Deadline::after(quiet)).is_over() {
                return Ok(());
            }
            let next = deadline.earliest(quiet_at.unwrap_or(Deadline::NEVER));
            let report = self.wait_until(next)?;
            if report == Report::Change {
                quiet_at = None;
            }
            if report == Report::Nothing && deadline.is_over() {
                let detail = "the name was not without a server for long enough before the deadline";
                return Err(Error::new(ErrorKind::TimedOut, Operation::Find, format!("'{}'", self.address), detail));
            }
        }
    }

    /// Waits for a report. Returns [`Report::Nothing`] at the deadline.
    fn wait_until(&mut self, deadline: Deadline) -> Result<Report> {
        loop {
            let report = self.look()?;
            if report != Report::Nothing {
                return Ok(report);
            }
            let is_readable = wait_for(self.epoll.as_fd(), PollFlags::IN, deadline);
            if !is_readable.map_err(|error| Error::io(Operation::Find, format!("'{}'", self.address), error))? {
                return Ok(Report::Nothing);
            }
        }
    }

    /// Sets the timer to the next look that no change reports.
    fn set_timer(&mut self) -> Result<()> {
        let mut next = self.timer_at.earliest(self.changes.deadline());
        if let [first, rest @ ..] = self.again {
            self.again = rest;
            next = next.earliest(Deadline::after(*first));
        }
        self.timer.set(next.at()).map_err(|errno| failed(&self.address, errno))?;
        self.timer_at = next;
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("address", &self.address).finish_non_exhaustive()
    }
}
