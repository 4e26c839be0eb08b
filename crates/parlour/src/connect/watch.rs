//! A watch on the directories where a server may appear.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::inotify;

use crate::address::Address;
use crate::error::Result;
use crate::name::base;
use crate::wait::{Deadline, WaitSet};

/// The interval of polling where changes cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Reports changes in the directories where the server may appear, by inotify(7).
pub(super) struct Watch {
    /// `None` if no more watches are available. The caller then polls.
    inotify: Option<OwnedFd>,
    /// The next poll, or never while the watch works.
    spin_once: Deadline,
}

impl Watch {
    pub(super) fn new() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self { inotify: inotify::init(flags).ok(), spin_once: Deadline::NEVER }
    }

    /// Watches the directories that exist now. Keeps the inotify instance, because closing one can take the kernel some
    /// milliseconds; a directory that is watched already stays watched.
    pub(super) fn renew(&mut self, address: &Address, server_uid: Option<u32>) -> Result<()> {
        if let Some(inotify) = &self.inotify {
            let mut watched_all = true;
            for candidate in base::candidates_for_client(address, server_uid)? {
                let path = candidate.path.join(address.name());
                watched_all &= path.ancestors().any(|directory| add(inotify, directory));
            }
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

    /// Returns true if a change has occurred since the last call, or if it is time to poll.
    pub(super) fn has_seen_something(&self) -> bool {
        let Some(inotify) = &self.inotify else { return self.spin_once.is_over() };
        // Any event counts, whatever its type.
        let mut some = false;
        let mut events = [0; 4096];
        while matches!(rustix::io::read(inotify, &mut events), Ok(count) if count > 0) {
            some = true;
        }
        some
    }

    pub(super) fn wait_set(&self, wait_deadline: Deadline) -> WaitSet<'_> {
        let waits = WaitSet::until(wait_deadline.earliest(self.spin_once));
        match &self.inotify {
            Some(inotify) => waits.and(inotify.as_fd(), PollFlags::IN),
            None => waits,
        }
    }
}

/// Adds a watch on the directory. Returns false if it does not exist, is no directory, or cannot be watched; the caller
/// then watches its parent, in which it would appear. A link is not followed: no server is behind it, and another user
/// may have made it.
fn add(inotify: &OwnedFd, directory: &Path) -> bool {
    use inotify::WatchFlags as Watch;
    let events = Watch::CREATE | Watch::MOVED_TO | Watch::ATTRIB | Watch::DELETE_SELF | Watch::MOVE_SELF;
    inotify::add_watch(inotify, directory, events | Watch::ONLYDIR | Watch::DONT_FOLLOW).is_ok()
}
