//! Entries of the directory of a name, which a client opens and may keep.

use std::fmt;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::Stat;

use crate::sys::fork_mutex::ForkMutex;

/// An entry of the directory of a name.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Opened with `O_PATH`.
    pub(crate) file: OwnedFd,
    pub(crate) stat: Stat,
}

/// An entry that a client uses: its own one, or one that is kept for further clients.
#[derive(Debug)]
pub(crate) enum EntryHandle {
    Own(Entry),
    Kept(Arc<Entry>),
}

impl Deref for EntryHandle {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        match self {
            Self::Own(entry) => entry,
            Self::Kept(entry) => entry,
        }
    }
}

/// The entries that are kept, with their names.
pub(super) struct Entries(ForkMutex<Vec<(&'static str, Arc<Entry>)>>);

impl Default for Entries {
    fn default() -> Self {
        Self(ForkMutex::new(Vec::new()))
    }
}

impl Entries {
    /// Returns the entry of this name, if it is kept.
    pub(super) fn get(&self, file_name: &str) -> Option<Arc<Entry>> {
        let entries = self.0.lock()?;
        entries.iter().find(|(kept, _)| *kept == file_name).map(|(_, entry)| Arc::clone(entry))
    }

    /// Keeps an entry. If two clients open it at the same time, either one is kept: nothing has changed in between, or
    /// none of them is used again.
    pub(super) fn keep(&self, file_name: &'static str, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        if let Some(mut entries) = self.0.lock() {
            entries.retain(|(kept, _)| *kept != file_name);
            entries.push((file_name, Arc::clone(&entry)));
        }
        entry
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").finish_non_exhaustive()
    }
}
