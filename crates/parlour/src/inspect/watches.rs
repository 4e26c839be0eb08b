//! A descriptor that reports changes of many names.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fs::inotify;
use rustix::io::Errno;

use super::watch::AGAIN;
use crate::address::Address;
use crate::connect::watch::{Changes, LOOK_AGAIN, Watched, may_concern, watch_directories};
use crate::error::{Error, Operation, Result};
use crate::sys::timer::Timer;
use crate::wait::Deadline;

/// A watch on any number of names.
///
/// It reports what [`Watch`](super::Watch) reports for one name, and takes three descriptors and one inotify(7)
/// instance for all of them. Each name whose directory exists takes one of the inotify watches of the user
/// (`fs.inotify.max_user_watches`), and a name that does not change costs nothing.
///
/// Its descriptor ([`AsFd`]) is readable when [`changed`](Self::changed) may return a name. It may become readable for
/// another reason. It is for waiting only: do not read it. After fork(2), only one of the processes may use it.
///
/// # Examples
///
/// ```
/// use parlour::{Server, inspect};
///
/// # fn main() -> parlour::Result<()> {
/// # let base = std::env::temp_dir().join(format!("parlour-watches-{}", std::process::id()));
/// # let names = ["red", "green"].map(|name| base.join(name).to_str().unwrap().to_owned());
/// let mut watches = inspect::Watches::new()?;
/// for name in &names {
///     watches.add(name)?;
/// }
/// assert!(watches.changed()?.is_empty());
/// let server = Server::bind(&names[1])?;
/// let changed = watches.changed()?;
/// assert!(changed.iter().any(|address| address.name() == "green"));
/// # drop(server);
/// # let _ = std::fs::remove_dir(&base);
/// # Ok(())
/// # }
/// ```
pub struct Watches {
    /// `None` if the user has too many instances. All names are then reported again and again.
    inotify: Option<OwnedFd>,
    names: HashMap<u64, Name>,
    numbers: HashMap<String, u64>,
    /// The directories that are watched, by the numbers that the kernel gave the watches.
    directories: HashMap<i32, Directory>,
    /// The looks that no change reports.
    due: BTreeSet<(Instant, u64)>,
    /// The names whose changes are not all reported, and the time at which they are reported next.
    unwatched: HashSet<u64>,
    poll_at: Deadline,
    next: u64,
    timer: Timer,
    timer_at: Option<Instant>,
    /// Readable when the inotify instance or the timer is.
    epoll: OwnedFd,
}

struct Name {
    address: Address,
    watched: Vec<Watched>,
    /// The time of the next look that no change reports, and the pauses that remain after it.
    due: Option<Instant>,
    again: &'static [Duration],
}

/// The names that a change of a directory concerns.
#[derive(Default)]
struct Directory {
    /// Those that each change concerns.
    whole: HashSet<u64>,
    /// Those that a change of one entry concerns.
    entries: HashMap<OsString, HashSet<u64>>,
}

/// The changes of some names.
#[derive(Default)]
struct Seen {
    names: BTreeSet<u64>,
    /// The names whose lock a process has closed. The kernel releases the lock after it has reported this.
    closed_lock: BTreeSet<u64>,
}

impl Directory {
    fn add(&mut self, entry: Option<&OsString>, name: u64) {
        match entry {
            None => self.whole.insert(name),
            Some(entry) => self.entries.entry(entry.clone()).or_default().insert(name),
        };
    }

    fn remove(&mut self, entry: Option<&OsString>, name: u64) {
        match entry {
            None => {
                self.whole.remove(&name);
            }
            Some(entry) => {
                let names = self.entries.get_mut(entry);
                if names.is_some_and(|names| names.remove(&name) && names.is_empty()) {
                    self.entries.remove(entry);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.entries.is_empty()
    }

    /// Returns the names that a change of this entry, or of the directory itself, concerns.
    fn concerned(&self, file_name: Option<&OsStr>) -> Vec<u64> {
        let mut names: Vec<u64> = self.whole.iter().copied().collect();
        match file_name {
            Some(file_name) => names.extend(self.entries.get(file_name).into_iter().flatten()),
            None => names.extend(self.entries.values().flatten()),
        }
        names
    }
}

fn failed(errno: Errno) -> Error {
    Error::io(Operation::Find, "the watch on names", errno)
}

impl Watches {
    /// Creates a watch on no name.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a descriptor could not be created. Too many inotify(7) instances are
    ///   no error: the names are then reported every 100 ms.
    pub fn new() -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).ok();
        let timer = Timer::new().map_err(failed)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        if let Some(inotify) = &inotify {
            epoll::add(&epoll, inotify, EventData::new_u64(0), EventFlags::IN).map_err(failed)?;
        }
        epoll::add(&epoll, &timer, EventData::new_u64(1), EventFlags::IN).map_err(failed)?;
        Ok(Self {
            inotify,
            names: HashMap::new(),
            numbers: HashMap::new(),
            directories: HashMap::new(),
            due: BTreeSet::new(),
            unwatched: HashSet::new(),
            poll_at: Deadline::NEVER,
            next: 0,
            timer,
            timer_at: None,
            epoll,
        })
    }

    /// Begins to watch a name. Does nothing if it is watched already. Look at the name after this call, for example
    /// with [`resolve`](super::resolve), so that no change is missed.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    /// - [`ErrorKind::UnsafeDirectory`](crate::ErrorKind::UnsafeDirectory): `$PARLOUR_DIR` is not an absolute path.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed.
    ///
    /// If directories cannot be watched, because the user has too many watches or a directory cannot be read, the name
    /// is reported every 100 ms.
    pub fn add(&mut self, address: impl AsRef<str>) -> Result<()> {
        let address = Address::parse(address.as_ref())?;
        let key = address.to_string();
        if self.numbers.contains_key(&key) {
            return Ok(());
        }
        self.next += 1;
        self.numbers.insert(key.clone(), self.next);
        self.names.insert(self.next, Name { address, watched: Vec::new(), due: None, again: &[] });
        if let Err(error) = self.renew(self.next) {
            self.remove(key);
            return Err(error);
        }
        if let Err(error) = self.set_timer() {
            self.remove(key);
            return Err(error);
        }
        Ok(())
    }

    /// Ends the watch on a name. Returns false if the name is not watched.
    pub fn remove(&mut self, address: impl AsRef<str>) -> bool {
        let Ok(address) = Address::parse(address.as_ref()) else { return false };
        let Some(number) = self.numbers.remove(&address.to_string()) else { return false };
        if let Some(name) = self.names.remove(&number) {
            if let Some(at) = name.due {
                self.due.remove(&(at, number));
            }
            self.forget(number, &name.watched);
        }
        self.unwatched.remove(&number);
        true
    }

    /// Returns the names at which one should look again, because of a change since the last call. Does not block. After
    /// an error, the names that it concerns are returned by a later call.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add), without the first one.
    pub fn changed(&mut self) -> Result<Vec<Address>> {
        let mut seen = self.read();
        let now = Instant::now();
        if self.timer_at.is_some_and(|at| at <= now) {
            self.timer.stop_reporting();
            self.timer_at = None;
        }
        seen.names.extend(self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number));
        if self.poll_at.is_over() {
            self.poll_at = Deadline::NEVER;
            seen.names.extend(&self.unwatched);
        }
        let mut changed = Vec::new();
        let mut failure = None;
        for &number in &seen.names {
            let renewed = self.renew(number);
            let Some(name) = self.names.get_mut(&number) else { continue };
            if seen.closed_lock.contains(&number) {
                name.again = &AGAIN;
            }
            let again = match renewed {
                Ok(()) => {
                    changed.push(name.address.clone());
                    name.again.split_first().map(|(first, rest)| {
                        name.again = rest;
                        *first
                    })
                }
                Err(error) => {
                    failure = Some(error);
                    Some(LOOK_AGAIN)
                }
            };
            if let Some(at) = name.due.take() {
                self.due.remove(&(at, number));
            }
            if let Some(at) = again.and_then(|again| now.checked_add(again)) {
                name.due = Some(at);
                self.due.insert((at, number));
            }
        }
        if let Err(error) = self.set_timer() {
            // The caller does not get the names now, so they are due at once.
            for number in seen.names {
                let Some(name) = self.names.get_mut(&number) else { continue };
                if let Some(at) = name.due.replace(now) {
                    self.due.remove(&(at, number));
                }
                self.due.insert((now, number));
            }
            return Err(error);
        }
        // The others are not lost for one that failed.
        failure.filter(|_| changed.is_empty()).map_or(Ok(changed), Err)
    }

    /// Takes the reports of the kernel.
    fn read(&self) -> Seen {
        let mut seen = Seen::default();
        let Some(inotify) = &self.inotify else { return seen };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let file_name = event.file_name().map(|file_name| OsStr::from_bytes(file_name.to_bytes()));
            let flags = event.events();
            if flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                seen.names.extend(self.names.keys());
                seen.closed_lock.extend(self.names.keys());
            } else if let Some(directory) = self.directories.get(&event.wd()).filter(|_| may_concern(file_name, flags))
            {
                let concerned = directory.concerned(file_name);
                if flags.contains(inotify::ReadFlags::CLOSE_WRITE) {
                    seen.closed_lock.extend(&concerned);
                }
                seen.names.extend(concerned);
            }
        }
        seen
    }

    /// Watches the directories of a name that exist now.
    fn renew(&mut self, number: u64) -> Result<()> {
        let Some(name) = self.names.get_mut(&number) else { return Ok(()) };
        let is_watched = match &self.inotify {
            None => false,
            Some(inotify) => {
                let (watched, is_watched) = watch_directories(inotify, Changes::All, &name.address, None)?;
                for Watched { number: directory, entry } in &watched {
                    self.directories.entry(*directory).or_default().add(entry.as_ref(), number);
                }
                let former = std::mem::replace(&mut name.watched, watched.clone());
                let stale: Vec<Watched> = former.into_iter().filter(|former| !watched.contains(former)).collect();
                self.forget(number, &stale);
                is_watched
            }
        };
        if is_watched {
            self.unwatched.remove(&number);
        } else {
            self.unwatched.insert(number);
        }
        Ok(())
    }

    /// Ends the interest of a name in these directories.
    fn forget(&mut self, number: u64, stale: &[Watched]) {
        for Watched { number: watch, entry } in stale {
            let Some(directory) = self.directories.get_mut(watch) else { continue };
            directory.remove(entry.as_ref(), number);
            if directory.is_empty() {
                self.directories.remove(watch);
                if let Some(inotify) = &self.inotify {
                    // The kernel has removed the watch of a directory that is gone.
                    let _ = inotify::remove_watch(inotify, *watch);
                }
            }
        }
    }

    /// Sets the timer to the next look that no change reports.
    fn set_timer(&mut self) -> Result<()> {
        if self.unwatched.is_empty() {
            self.poll_at = Deadline::NEVER;
        } else if self.poll_at.at().is_none() {
            self.poll_at = Deadline::after(LOOK_AGAIN);
        }
        let next = self.due.first().map(|(at, _)| *at).into_iter().chain(self.poll_at.at()).min();
        if next != self.timer_at {
            self.timer.set(next).map_err(failed)?;
            self.timer_at = next;
        }
        Ok(())
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("names", &self.numbers.keys()).finish_non_exhaustive()
    }
}
