//! On which processors the two ends run.

use std::fmt;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Where the scheduler may put the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Where it likes.
    Unpinned,
    /// Both on the same processor.
    OneCore,
    /// Each on its own.
    TwoCores,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unpinned, Self::OneCore, Self::TwoCores];

    /// What it is called on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unpinned => "unpinned",
            Self::OneCore => "one-core",
            Self::TwoCores => "two-cores",
        }
    }

    /// The processors of the server and of the client; `None` where this machine has not enough of them.
    pub(crate) fn processors(self, allowed: &[usize]) -> Option<(Option<usize>, Option<usize>)> {
        // The last ones: interrupts tend to go to the first.
        let mut last = allowed.iter().rev().copied();
        match self {
            Self::Unpinned => Some((None, None)),
            Self::OneCore => last.next().map(|one| (Some(one), Some(one))),
            Self::TwoCores => last.next().zip(last.next()).map(|(one, other)| (Some(one), Some(other))),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The processors that this process may run on.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("asking for the processors of this process (sched_getaffinity)")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Has this thread, and those that it starts, run on this processor alone.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("going to processor {cpu} (sched_setaffinity)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_are_two_where_there_are_two() {
        assert_eq!(Placement::TwoCores.processors(&[0, 1, 5]), Some((Some(5), Some(1))));
        assert_eq!(Placement::TwoCores.processors(&[3]), None);
        assert_eq!(Placement::OneCore.processors(&[3]), Some((Some(3), Some(3))));
        assert_eq!(Placement::Unpinned.processors(&[3]), Some((None, None)));
    }
}
