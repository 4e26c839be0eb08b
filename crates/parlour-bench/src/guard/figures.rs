//! The accepted and the counted costs of scenarios.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

// The tolerances cover changes that no change of the source causes: another state of the memory allocator, a table that
// grows at another moment. The instructions of one build vary by a few in ten thousand.
const CALLS_MORE: f64 = 0.01;
const ALLOCATIONS_MORE: f64 = 0.01;
const INSTRUCTIONS_MORE: f64 = 0.03;

/// The cost of one step of a scenario, for both ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) allocations: f64,
    /// `None` if system calls cannot be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<f64>,
}

/// All accepted costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// The compiler of the counted build, on which the number of instructions depends.
    pub(super) compiler: String,
    pub(super) scenarios: BTreeMap<String, Figures>,
}

impl Baseline {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} does not contain accepted figures", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Replaces the figures of all scenarios in `newer`, and the compiler.
    pub(super) fn with(mut self, newer: Self) -> Self {
        self.compiler = newer.compiler;
        self.scenarios.extend(newer.scenarios);
        self
    }
}

impl Figures {
    /// Returns the reasons why these figures are worse than `before`; none if they are not.
    pub(super) fn worse_than(&self, before: &Self, same_compiler: bool) -> Vec<String> {
        let more = |what: &str, now: Option<f64>, before: Option<f64>, tolerance: f64| {
            let (now, before) = now.zip(before)?;
            // A hundredth per step is one for all 100 steps together, which does not count.
            (now > before * (1.0 + tolerance) + 0.01).then(|| format!("{what}: {now:.2} counted, {before:.2} accepted"))
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

    /// Returns true if the accepted figures could be lowered to these.
    pub(super) fn better_than(&self, before: &Self) -> bool {
        !before.worse_than(self, true).is_empty()
    }

    /// Describes the change of the number of instructions.
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
    fn more_calls_or_allocations_or_many_more_instructions_are_worse() {
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
    fn a_few_more_instructions_are_not_worse_and_missing_counts_are_not_compared() {
        assert!(Figures { instructions: Some(1020.0), ..BEFORE }.worse_than(&BEFORE, true).is_empty());
        let uncounted = Figures { calls: None, instructions: None, ..BEFORE };
        assert!(uncounted.worse_than(&BEFORE, true).is_empty() && BEFORE.worse_than(&uncounted, true).is_empty());
    }

    #[test]
    fn with_another_compiler_calls_are_compared_and_instructions_are_not() {
        let other = Figures { instructions: Some(9000.0), ..BEFORE };
        assert!(other.worse_than(&BEFORE, false).is_empty());
        assert_eq!(Figures { calls: Some(5.0), ..other }.worse_than(&BEFORE, false).len(), 1);
    }

    #[test]
    fn accepting_replaces_the_counted_scenarios_and_keeps_the_others() {
        let baseline = |name: &str, calls| Baseline {
            compiler: "1".to_owned(),
            scenarios: [(name.to_owned(), Figures { calls: Some(calls), ..BEFORE })].into(),
        };
        let all = baseline("a", 1.0).with(baseline("b", 2.0)).with(baseline("a", 3.0));
        assert_eq!((all.scenarios["a"].calls, all.scenarios["b"].calls), (Some(3.0), Some(2.0)));
    }
}
