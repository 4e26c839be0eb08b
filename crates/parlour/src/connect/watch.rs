//! Watching the places where a server could appear.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::inotify;

use crate::address::Address;
use crate::error::Result;
use crate::name::base;
use crate::wait::{Deadline, WaitSet};

/// How often to look again where changes cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tells when something happens where the server could appear.
pub(super) struct Watch {
    /// `None` where no more watches can be had: then the caller looks again from time to time.
    inotify: Option<OwnedFd>,
    /// When to do so.
    spin_once: Deadline,
}

impl Watch {
    pub(super) fn new() -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Self { inotify: inotify::init(flags).ok(), spin_once: Deadline::NEVER }
    }

    /// Watches what is there now. (Closing an inotify instance can take the kernel some milliseconds, so it is kept; a
    /// directory that is watched already stays so.)
    pub(super) fn renew(&mut self, address: &Address) -> Result<()> {
        if let Some(inotify) = &self.inotify {
            let mut watched_all = true;
            for candidate in base::candidates(Some(address))? {
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

    /// Whether something has happened since this was asked last, or it is time to look.
    pub(super) fn has_seen_something(&self) -> bool {
        let Some(inotify) = &self.inotify else { return self.spin_once.is_over() };
        // What happened is of no interest, only that something did.
        let mut some = false;
        let mut events = [0; 4096];
        while matches!(rustix::io::read(inotify, &mut events), Ok(count) if count > 0) {
            some = true;
        }
        some
    }

    pub(super) fn wait_set(&self, wait_deadline: Deadline) -> WaitSet<'_> {
        let waits = WaitSet::until(wait_deadline.or(self.spin_once));
        match &self.inotify {
            Some(inotify) => waits.and(inotify.as_fd(), PollFlags::IN),
            None => waits,
        }
    }
}

/// Watches the nearest directory that is there: what is missing will appear in it.
fn add(inotify: &OwnedFd, directory: &Path) -> bool {
    use inotify::WatchFlags as Watch;
    let events = Watch::CREATE | Watch::MOVED_TO | Watch::ATTRIB | Watch::DELETE_SELF | Watch::MOVE_SELF;
    inotify::add_watch(inotify, directory, events | Watch::ONLYDIR).is_ok()
}
