//! Names of this host whose holders may change.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use parlour::inspect::Watches;
use tokio::io::unix::AsyncFd;

use crate::identity::Name;

/// The names that are watched, with one descriptor for all of them.
#[derive(Debug, Default)]
pub(super) struct Watched {
    watch: Option<Watch>,
    names: BTreeSet<Name>,
}

#[derive(Debug)]
struct Watch {
    watches: Watches,
    readiness: AsyncFd<OwnedFd>,
}

impl Watch {
    fn new() -> Option<Self> {
        let watches = Watches::new().ok()?;
        #[expect(deprecated, reason = "the descriptor is owned, and stays open while it is registered")]
        let readiness = AsyncFd::new(watches.as_fd().try_clone_to_owned().ok()?).ok()?;
        Some(Self { watches, readiness })
    }
}

impl Watched {
    /// Returns true if changes are reported. Otherwise the caller looks at all names from time to time.
    pub(super) fn is_reporting(&self) -> bool {
        self.watch.is_some()
    }

    /// Ends all watches, so that the next call of [`set`](Self::set) returns all names.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Watches these names and no others. Returns those at which to look now: the new ones, or all of them if changes
    /// are not reported. Begin the look after this call, so that no change is missed.
    pub(super) fn set(&mut self, names: BTreeSet<Name>) -> Vec<Name> {
        if self.watch.is_none() {
            (self.watch, self.names) = (Watch::new(), BTreeSet::new());
        }
        let new: Vec<Name> = names.difference(&self.names).cloned().collect();
        if let Some(Watch { watches, .. }) = &mut self.watch {
            for name in self.names.difference(&names) {
                watches.remove(name.as_str());
            }
            if new.iter().any(|name| watches.add(name.as_str()).is_err()) {
                // Descriptors or memory are short. The next call tries again.
                self.watch = None;
            }
        }
        self.names = names;
        new
    }

    /// Waits until there are names at which to look again, and returns them. Never returns if changes are not reported.
    /// No name is lost if the future is dropped.
    pub(super) async fn changed(&mut self) -> Vec<Name> {
        loop {
            let Some(Watch { watches, readiness }) = &mut self.watch else { return std::future::pending().await };
            let changed = match readiness.readable().await {
                Ok(mut ready) => {
                    let changed = watches.changed();
                    // A change after the call above is not cleared by this.
                    ready.clear_ready();
                    changed.ok()
                }
                Err(_) => None,
            };
            match changed {
                None => self.clear(),
                Some(changed) if changed.is_empty() => {}
                Some(changed) => return changed.iter().filter_map(|at| Name::parse(at.name()).ok()).collect(),
            }
        }
    }
}
