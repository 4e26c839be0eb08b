//! What scenarios cost, as it was accepted and as it is counted now.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What may change without anybody having changed anything: another state of the memory allocator, a table that grows
/// at another moment. Instructions of one build are the same to a few in ten thousand.
const CALLS_MORE: f64 = 0.01;
const ALLOCATIONS_MORE: f64 = 0.01;
const INSTRUCTIONS_MORE: f64 = 0.03;

/// What one step of a scenario costs both ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) allocations: f64,
    /// `None` where they cannot be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<f64>,
}

/// All that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// With another compiler the instructions are others.
    pub(super) compiler: String,
    pub(super) scenarios: BTreeMap<String, Figures>,
}

impl Known {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} has no figures in it", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// These, and where there are newer ones, those.
    pub(super) fn with(mut self, newer: Self) -> Self {
        self.compiler = newer.compiler;
        self.scenarios.extend(newer.scenarios);
        self
    }
}

impl Figures {
    /// Why this is worse; nothing if it is not.
    pub(super) fn worse_than(&self, before: &Self, same_compiler: bool) -> Vec<String> {
        let more = |what: &str, now: Option<f64>, before: Option<f64>, tolerance: f64| {
            let (now, before) = now.zip(before)?;
            // A hundredth of one for all steps together is none.
            (now > before * (1.0 + tolerance) + 0.01)
                .then(|| format!("{what}: {now:.2}, and {before:.2} were accepted"))
        };
        let instructions = if same_compiler { self.instructions } else { None };
        [
            more("allocations", Some(self.allocations), Some(before.allocations), ALLOCATIONS_MORE),
            more("system calls", self.calls, before.calls, CALLS_MORE),
            more("instructions", instructions, before.instructions, INSTRUCTIONS_MORE),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether the accepted figures could be lowered.
    pub(super) fn better_than(&self, before: &Self) -> bool {
        !before.worse_than(self, true).is_empty()
    }

    /// How the instructions have changed.
    pub(super) fn change(&self, now: &Self) -> String {
        match self.instructions.zip(now.instructions) {
            Some((before, now)) => format!(" ({:+.1} %)", (now / before - 1.0) * 100.0),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Figures = Figures { allocations: 0.0, calls: Some(4.0), instructions: Some(1000.0) };

    #[test]
    fn one_more_call_is_worse_and_so_is_an_allocation_and_much_more_work() {
        assert!(BEFORE.worse_than(&BEFORE, true).is_empty());
        for worse in [
            Figures { calls: Some(4.1), ..BEFORE },
            Figures { allocations: 1.0, ..BEFORE },
            Figures { instructions: Some(1040.0), ..BEFORE },
        ] {
            assert_eq!(worse.worse_than(&BEFORE, true).len(), 1, "{worse}");
            assert!(BEFORE.better_than(&worse) && !worse.better_than(&BEFORE));
        }
    }

    #[test]
    fn a_little_more_work_is_not_worse_and_neither_is_what_was_not_counted() {
        assert!(Figures { instructions: Some(1020.0), ..BEFORE }.worse_than(&BEFORE, true).is_empty());
        let uncounted = Figures { calls: None, instructions: None, ..BEFORE };
        assert!(uncounted.worse_than(&BEFORE, true).is_empty() && BEFORE.worse_than(&uncounted, true).is_empty());
    }

    #[test]
    fn another_compiler_makes_other_instructions_and_the_same_calls() {
        let other = Figures { instructions: Some(9000.0), ..BEFORE };
        assert!(other.worse_than(&BEFORE, false).is_empty());
        assert_eq!(Figures { calls: Some(5.0), ..other }.worse_than(&BEFORE, false).len(), 1);
    }

    #[test]
    fn what_is_accepted_replaces_what_it_is_about_and_nothing_else() {
        let known = |name: &str, calls| Known {
            compiler: "1".to_owned(),
            scenarios: [(name.to_owned(), Figures { calls: Some(calls), ..BEFORE })].into(),
        };
        let all = known("a", 1.0).with(known("b", 2.0)).with(known("a", 3.0));
        assert_eq!((all.scenarios["a"].calls, all.scenarios["b"].calls), (Some(3.0), Some(2.0)));
    }
}
