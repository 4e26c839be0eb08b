//! The task of a turn, and the measurements that come out of it.

use serde::{Deserialize, Serialize};

use crate::work::Work;

/// Task of one contender in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Task of the two ends.
    pub work: Work,
    /// Length of the measurement.
    pub amount: Amount,
}

/// Length of the measurement. The warm-up comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    /// Samples until these milliseconds have passed, and three in any case.
    Ms(u64),
    /// This many samples, after a warm-up that is always the same. It serves to count the cost of each sample.
    Samples(u64),
}

/// Measurements of the client's side of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Durations of samples in nanoseconds, each with the number of samples that took that long.
    pub samples: Vec<(u64, u64)>,
    /// Time from the first sample to the last, in nanoseconds.
    pub elapsed_ns: u64,
    /// Processor time of the client's process meanwhile, in nanoseconds.
    pub cpu_ns: u64,
    /// Allocations of the client's process meanwhile, if the program counts them.
    pub allocations: Option<u64>,
}

impl Outcome {
    /// Number of samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.samples.iter().map(|&(_, count)| count).sum()
    }
}
