//! A watch on the directories where a server may appear.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::address::Address;
use crate::error::Result;
use crate::name::base;
use crate::name::lock::LOCK;
use crate::wait::{Deadline, WaitSet};

/// The interval of polling where changes cannot be watched.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The changes that a watch reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// A server may have appeared.
    Arrivals,
    /// Also: a server may have ended, or may have handed its name over.
    All,
}

/// The changes that a watch has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// A change that may concern the name.
    pub(crate) something: bool,
    /// A process has closed the lock file. The kernel releases its lock after it has reported this.
    pub(crate) closed_lock: bool,
}

/// Reports changes in the directories where the server may appear, by inotify(7).
pub(crate) struct Watch {
    changes: Changes,
    /// `None` if no more watches are available. The caller then polls.
    inotify: Option<OwnedFd>,
    watched: Vec<Watched>,
    /// The next poll, or never while the watch works.
    spin_once: Deadline,
}

/// A directory that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// The number that the kernel gave the watch.
    pub(crate) number: i32,
    /// The entry of the directory in which, or below which, the server may appear. `None` for the directory of the
    /// name, in which every change counts.
    pub(crate) entry: Option<OsString>,
}

impl Watch {
    pub(crate) fn new(changes: Changes) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self { changes, inotify: inotify::init(flags).ok(), watched: Vec::new(), spin_once: Deadline::NEVER }
    }

    /// Watches the directories that exist now. Keeps the inotify instance, because closing one can take the kernel some
    /// milliseconds; a directory that is watched already stays watched.
    ///
    /// In each base, that is the directory of the name and the base itself. A server that ends removes the former, and
    /// the kernel reports that to its watch only when no process has it open any more; the new directory of the next
    /// server appears in the base.
    pub(crate) fn renew(&mut self, address: &Address, server_uid: Option<u32>) -> Result<()> {
        if let Some(inotify) = &self.inotify {
            let (watched, watched_all) = watch_directories(inotify, self.changes, address, server_uid)?;
            let stale = self.watched.iter().filter(|old| !watched.iter().any(|new| new.number == old.number));
            for old in stale {
                // The kernel has removed the watch of a directory that is gone.
                let _ = inotify::remove_watch(inotify, old.number);
            }
            self.watched = watched;
            if !watched_all {
                self.inotify = None;
            }
        }
        self.spin_once = match &self.inotify {
            Some(_) => Deadline::NEVER,
            None => Deadline::after(LOOK_AGAIN),
        };
        Ok(())
    }

    /// Returns true if a change that may concern the name has occurred since the last call, or if it is time to poll.
    pub(crate) fn has_seen_something(&self) -> bool {
        self.look().something
    }

    /// Returns the changes that have occurred since the last call.
    pub(crate) fn look(&self) -> Seen {
        let Some(inotify) = &self.inotify else {
            return Seen { something: self.spin_once.is_over(), closed_lock: false };
        };
        let mut seen = Seen::default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let file_name = event.file_name().map(|file_name| OsStr::from_bytes(file_name.to_bytes()));
            let is_overflow = event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            if is_overflow || self.concerns(event.wd(), file_name, event.events()) {
                seen.something = true;
                seen.closed_lock |= is_overflow || event.events().contains(inotify::ReadFlags::CLOSE_WRITE);
            }
        }
        seen
    }

    /// Returns true if a change of this entry, or of the directory itself, may concern the name.
    fn concerns(&self, number: i32, file_name: Option<&OsStr>, events: inotify::ReadFlags) -> bool {
        if !may_concern(file_name, events) {
            return false;
        }
        self.watched.iter().filter(|watched| watched.number == number).any(|watched| {
            match (&watched.entry, file_name) {
                (Some(entry), Some(file_name)) => *entry == *file_name,
                (None, _) | (_, None) => true,
            }
        })
    }

    /// Returns the descriptor that is readable after a change. `None` if changes cannot be reported.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Returns the time of the next poll.
    pub(crate) fn deadline(&self) -> Deadline {
        self.spin_once
    }

    /// Returns true if changes are reported. Otherwise [`has_seen_something`](Self::has_seen_something) only says when
    /// to look again.
    pub(crate) fn is_reporting(&self) -> bool {
        self.inotify.is_some()
    }

    pub(crate) fn wait_set(&self, wait_deadline: Deadline) -> WaitSet<'_> {
        let waits = WaitSet::until(wait_deadline.earliest(self.spin_once));
        match &self.inotify {
            Some(inotify) => waits.and(inotify.as_fd(), PollFlags::IN),
            None => waits,
        }
    }
}

/// Returns the events to watch for in the directory of the name (depth 0), in the base (1) or above.
fn events(changes: Changes, depth: usize) -> inotify::WatchFlags {
    use inotify::WatchFlags as Watch;
    let arrivals = Watch::CREATE | Watch::MOVED_TO | Watch::ATTRIB | Watch::DELETE_SELF | Watch::MOVE_SELF;
    let departures = Watch::DELETE | Watch::MOVED_FROM;
    match (changes, depth) {
        (Changes::Arrivals, _) => arrivals,
        (Changes::All, 0) => arrivals | departures | Watch::MODIFY | Watch::CLOSE_WRITE,
        (Changes::All, _) => arrivals | departures,
    }
}

/// Watches the directories of a name that exist now. Returns them, and false if changes of some will not be reported.
///
/// The masks of all callers of one inotify instance are united: the directory of one name may be the base of another.
pub(crate) fn watch_directories(
    inotify: &OwnedFd,
    changes: Changes,
    address: &Address,
    server_uid: Option<u32>,
) -> Result<(Vec<Watched>, bool)> {
    let mut watched = Vec::new();
    let mut watched_all = true;
    for candidate in base::candidates_for_client(address, server_uid)? {
        let path = candidate.path.join(address.name());
        let directories: Vec<&Path> = path.ancestors().collect();
        // The nearest directory above that exists, and then those below it that exist by now. A directory that is
        // created after the watch on the one above is an event, so none is missed in between.
        let mut add = |depth: usize| {
            let added = add(inotify, directories[depth], events(changes, depth));
            watched_all &= added != Err(Errno::NOSPC) && added != Err(Errno::NOMEM);
            added.ok()
        };
        let nearest = (1..directories.len()).find(|&depth| add(depth).is_some());
        let numbers = (0..=nearest.unwrap_or(0)).rev().map_while(|depth| Some((depth, add(depth)?)));
        watched.extend(numbers.map(|(depth, number)| {
            let entry = depth.checked_sub(1).and_then(|below| directories[below].file_name());
            Watched { number, entry: entry.map(OsStr::to_owned) }
        }));
        watched_all &= nearest.is_some();
    }
    Ok((watched, watched_all))
}

/// Returns true if a change of this entry of a directory may concern a name.
pub(crate) fn may_concern(file_name: Option<&OsStr>, events: inotify::ReadFlags) -> bool {
    // Clients write into a FIFO.
    let written = inotify::ReadFlags::MODIFY | inotify::ReadFlags::CLOSE_WRITE;
    !events.intersects(written) || file_name == Some(OsStr::new(LOCK))
}

/// Adds a watch on the directory. Fails if it does not exist, is no directory, or cannot be watched. A link is not
/// followed: no server is behind it, and another user may have made it.
fn add(inotify: &OwnedFd, directory: &Path, events: inotify::WatchFlags) -> Result<i32, Errno> {
    use inotify::WatchFlags as Watch;
    inotify::add_watch(inotify, directory, events | Watch::ONLYDIR | Watch::DONT_FOLLOW | Watch::MASK_ADD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    /// Returns true if the watch reports a change, and then watches anew.
    fn sees(watch: &mut Watch, address: &Address) -> bool {
        let seen = watch.has_seen_something();
        watch.renew(address, None).unwrap();
        seen
    }

    fn watch_of(path: &Path) -> (Watch, Address) {
        let address = Address::parse(path.to_str().unwrap()).unwrap();
        let mut watch = Watch::new(Changes::Arrivals);
        watch.renew(&address, None).unwrap();
        assert!(!watch.has_seen_something());
        (watch, address)
    }

    #[test]
    fn changes_of_other_names_are_not_changes_of_this_one() {
        let top = tempfile::tempdir().unwrap();
        let (mut watch, address) = watch_of(&top.path().join("mine"));
        for other in ["mine2", "min", "other"] {
            fs::create_dir(top.path().join(other)).unwrap();
            fs::remove_dir(top.path().join(other)).unwrap();
        }
        assert!(!sees(&mut watch, &address));
        fs::create_dir(top.path().join("mine")).unwrap();
        assert!(sees(&mut watch, &address));
        fs::create_dir(top.path().join("other")).unwrap();
        assert!(!sees(&mut watch, &address));
        fs::write(top.path().join("mine/lock"), "").unwrap();
        assert!(sees(&mut watch, &address), "every change in the directory of the name counts");
    }

    #[test]
    fn a_base_that_appears_is_seen_from_above() {
        let top = tempfile::tempdir().unwrap();
        let (mut watch, address) = watch_of(&top.path().join("a/b/mine"));
        fs::create_dir(top.path().join("b")).unwrap();
        assert!(!sees(&mut watch, &address));
        fs::create_dir(top.path().join("a")).unwrap();
        assert!(sees(&mut watch, &address));
        fs::create_dir(top.path().join("c")).unwrap();
        assert!(!sees(&mut watch, &address), "the directory above is not watched any more");
        fs::create_dir(top.path().join("a/b")).unwrap();
        assert!(sees(&mut watch, &address));
        fs::create_dir(top.path().join("a/b/mine")).unwrap();
        assert!(sees(&mut watch, &address));
    }

    /// The kernel reports the removal of a directory to its own watch only when nobody has it open any more.
    #[test]
    fn a_directory_that_is_made_anew_is_seen_while_the_old_one_is_open() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("mine");
        fs::create_dir(&path).unwrap();
        let _open = File::open(&path).unwrap();
        let (mut watch, address) = watch_of(&path);
        fs::remove_dir(&path).unwrap();
        sees(&mut watch, &address);
        fs::create_dir(&path).unwrap();
        assert!(sees(&mut watch, &address));
        fs::write(path.join("lock"), "").unwrap();
        assert!(sees(&mut watch, &address), "the new directory is watched");
    }
}
