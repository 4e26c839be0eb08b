//! The task of a turn, and its measurements.

use serde::{Deserialize, Serialize};

use crate::work::Work;

/// The task of one contender in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The work of the two ends.
    pub work: Work,
    /// The length of the measurement.
    pub amount: Amount,
}

/// The length of a measurement, without its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    /// Samples until this many milliseconds have passed, and at least three samples.
    Ms(u64),
    /// This many samples, after a warm-up of a fixed number of operations. Serves to count the cost of a sample.
    Samples(u64),
}

/// The measurements of the client's side of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The durations of the samples in nanoseconds, each with the number of samples that took that long.
    pub samples: Vec<(u64, u64)>,
    /// The time from the beginning of the first sample to the end of the last, in nanoseconds.
    pub elapsed_ns: u64,
    /// The processor time of the client's process during that time, in nanoseconds.
    pub cpu_ns: u64,
    /// The number of allocations of the client's process during that time, if the program counts them.
    pub allocations: Option<u64>,
}

impl Outcome {
    /// Returns the number of samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.samples.iter().map(|&(_, count)| count).sum()
    }
}
