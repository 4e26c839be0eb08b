//! Figures computed from samples.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::turn::Measured;

/// The duration of one operation, from all samples of several turns. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The lowest of the turns' medians.
    pub best: f64,
    /// The median of all samples.
    pub median: f64,
    /// The 99th percentile of all samples.
    pub p99: f64,
    /// The number of samples.
    pub samples: u64,
}

impl Summary {
    /// Summarises turns, of which there must be at least one.
    #[must_use]
    pub fn of(turns: &[Measured]) -> Self {
        let mut all: Vec<(u64, u64)> = turns.iter().flat_map(|turn| turn.client.samples.iter().copied()).collect();
        all.sort_unstable();
        let each = turns.first().map_or(1, |turn| turn.operations_each.max(1)) as f64;
        Self {
            best: turns.iter().map(|turn| turn.median_ns()).fold(f64::INFINITY, f64::min),
            median: quantile(&all, 0.5) / each,
            p99: quantile(&all, 0.99) / each,
            samples: all.iter().map(|&(_, count)| count).sum(),
        }
    }
}

impl Measured {
    /// Returns the median time of one operation of this turn, in nanoseconds.
    #[must_use]
    pub fn median_ns(&self) -> f64 {
        let mut samples = self.client.samples.clone();
        samples.sort_unstable();
        quantile(&samples, 0.5) / self.operations_each.max(1) as f64
    }

    /// Returns the processor time of both processes for one operation, in nanoseconds.
    #[must_use]
    pub fn cpu_ns_each(&self) -> f64 {
        (self.client.cpu_ns + self.server_cpu_ns) as f64 / self.operations().max(1) as f64
    }
}

/// Returns a quantile of values that are sorted and have counts: the least value that at least the fraction `part` of
/// all values do not exceed.
fn quantile(sorted: &[(u64, u64)], part: f64) -> f64 {
    let total: u64 = sorted.iter().map(|&(_, count)| count).sum();
    let rank = ((total as f64 * part).ceil() as u64).max(1);
    let mut seen = 0;
    for &(value, count) in sorted {
        seen += count;
        if seen >= rank {
            return value as f64;
        }
    }
    f64::NAN
}

/// Returns the middle value, or the mean of the two middle values, or NaN if there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let len = sorted.len();
    match len {
        0 => f64::NAN,
        _ if len % 2 == 1 => sorted[len / 2],
        _ => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// Returns the median of the ratios within rounds. Each value is paired with the baseline's value of the same round.
#[must_use]
pub fn ratio(values: &[(u32, f64)], baseline: &[(u32, f64)]) -> f64 {
    let ratios: Vec<f64> = values
        .iter()
        .filter_map(|&(round, value)| {
            let (_, base) = baseline.iter().find(|&&(other, _)| other == round)?;
            Some(value / base)
        })
        .collect();
    median(&ratios)
}

/// Measures the time that one reading of the clock takes on this machine, in nanoseconds.
#[must_use]
pub fn clock_cost_ns() -> f64 {
    const LOOKS: u32 = 100_000;
    let begin = Instant::now();
    let mut last = begin;
    for _ in 0..LOOKS {
        last = std::hint::black_box(Instant::now());
    }
    (last - begin).as_nanos() as f64 / f64::from(LOOKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    fn turn(samples: &[(u64, u64)], operations_each: u64) -> Measured {
        let client = Outcome { samples: samples.to_vec(), cpu_ns: 600, ..Outcome::default() };
        Measured { client, operations_each, server_cpu_ns: 400, server_allocations: None }
    }

    #[test]
    fn a_quantile_takes_the_counts_of_values_into_account() {
        let values = [(1, 1), (2, 97), (50, 1), (1000, 1)];
        assert_eq!([0.0, 0.01, 0.5, 0.98, 0.99, 1.0].map(|part| quantile(&values, part)), [1., 1., 2., 2., 50., 1000.]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_summary_merges_all_turns_and_its_best_is_the_lowest_median_of_a_turn() {
        let summary = Summary::of(&[turn(&[(100, 3), (900, 1)], 1), turn(&[(200, 5)], 1)]);
        assert_eq!(summary, Summary { best: 100., median: 200., p99: 900., samples: 9 });
    }

    #[test]
    fn a_sample_of_many_operations_is_divided_among_them() {
        let turn = turn(&[(1000, 2)], 10);
        assert_eq!((turn.median_ns(), turn.operations(), turn.cpu_ns_each()), (100., 20, 50.));
        assert_eq!(Summary::of(&[turn]).p99, 100.);
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[3., 1., 2.]), 2.);
        assert_eq!(median(&[4., 1., 2., 3.]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_a_slow_round_does_not_change_them() {
        // The machine is ten times slower in round 2, for both.
        let (fast, base) = ([(1, 10.), (2, 100.), (3, 12.)], [(3, 24.), (1, 20.), (2, 200.)]);
        assert_eq!(ratio(&fast, &base), 0.5);
        // A value without a baseline in its round is left out.
        assert_eq!(ratio(&[(1, 10.), (9, 1.)], &base), 0.5);
        assert!(ratio(&[(9, 1.)], &base).is_nan());
    }
}
