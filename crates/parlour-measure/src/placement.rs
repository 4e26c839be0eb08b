//! The processors on which the two ends run.

use std::fmt;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// The processors on which the scheduler may run the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Any processor.
    Unpinned,
    /// Both processes on the same processor.
    OneCore,
    /// Each process on its own processor.
    TwoCores,
}

impl Placement {
    /// All placements.
    pub const ALL: [Self; 3] = [Self::Unpinned, Self::OneCore, Self::TwoCores];

    /// Returns the name on the command line and in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unpinned => "unpinned",
            Self::OneCore => "one-core",
            Self::TwoCores => "two-cores",
        }
    }

    /// Returns the processors of the server and of the client, or `None` if `allowed` has too few.
    pub(crate) fn processors(self, allowed: &[usize]) -> Option<(Option<usize>, Option<usize>)> {
        // Interrupts tend to go to the first processors, so the last ones are used.
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

/// Returns the processors on which this process may run.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("reading the processor affinity of this process (sched_getaffinity)")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Restricts the calling thread, and the threads that it starts later, to one processor.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("pinning the thread to processor {cpu} (sched_setaffinity)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cores_takes_the_last_two_processors_and_is_impossible_with_one() {
        assert_eq!(Placement::TwoCores.processors(&[0, 1, 5]), Some((Some(5), Some(1))));
        assert_eq!(Placement::TwoCores.processors(&[3]), None);
        assert_eq!(Placement::OneCore.processors(&[3]), Some((Some(3), Some(3))));
        assert_eq!(Placement::Unpinned.processors(&[3]), Some((None, None)));
    }
}
