//! Waiting for changes in a directory with inotify(7).

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::support::wait;

/// Reports files that are created in a directory, removed, or moved in or out.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    pub fn new(directory: &Path) -> Self {
        Self::of(directory, WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM)
    }

    /// Reports each time that this file is opened.
    pub fn of_opening(file: &Path) -> Self {
        Self::of(file, WatchFlags::OPEN)
    }

    fn of(path: &Path, events: WatchFlags) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&inotify, path, events).unwrap();
        Self { inotify }
    }

    /// Waits until `holds` returns true. It is called after each event. Returns `false` after the timeout.
    pub fn until(&self, timeout: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        while !holds() {
            let left = deadline.saturating_duration_since(Instant::now());
            if !wait::readable_within(&self.inotify, left) {
                return holds();
            }
            self.drain();
        }
        true
    }

    /// Waits for this many events. Returns `false` after the timeout.
    pub fn sees(&self, count: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut seen = self.drain();
        while seen < count {
            if !wait::readable_within(&self.inotify, deadline.saturating_duration_since(Instant::now())) {
                return false;
            }
            seen += self.drain();
        }
        true
    }

    /// Returns the number of events since the last call.
    pub fn drain(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                // The kernel sends this event unasked when the watched file is gone.
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
                Ok(_) => count += 1,
                Err(Errno::AGAIN) => return count,
                Err(Errno::INTR) => {}
                Err(errno) => panic!("inotify: {errno}"),
            }
        }
    }
}
