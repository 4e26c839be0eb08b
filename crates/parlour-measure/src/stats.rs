//! From samples to figures.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::turn::Measured;

/// How long one operation took: each figure in nanoseconds, of all samples of several turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The lowest of the turns' medians.
    pub best: f64,
    /// Half of all samples took at most this.
    pub median: f64,
    /// 99 % of all samples took at most this.
    pub p99: f64,
    /// How many samples there were.
    pub samples: u64,
}

impl Summary {
    /// Of these turns, of which there must be one at least.
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
    /// The median time of one operation of this turn, in nanoseconds.
    #[must_use]
    pub fn median_ns(&self) -> f64 {
        let mut samples = self.client.samples.clone();
        samples.sort_unstable();
        quantile(&samples, 0.5) / self.operations_each.max(1) as f64
    }

    /// Processor time of both processes for one operation, in nanoseconds.
    #[must_use]
    pub fn cpu_ns_each(&self) -> f64 {
        (self.client.cpu_ns + self.server_cpu_ns) as f64 / self.operations().max(1) as f64
    }
}

/// The least value that this part of all is not above, of values in order with their counts.
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

/// The middle one, or the mean of the two in the middle; not a number if there is none.
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

/// The median of the ratios within rounds. Each value is paired with that of the same round.
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

/// What one look at the clock costs here, in nanoseconds.
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
    fn quantiles_are_those_of_the_values_one_by_one() {
        let values = [(1, 1), (2, 97), (50, 1), (1000, 1)];
        assert_eq!([0.0, 0.01, 0.5, 0.98, 0.99, 1.0].map(|part| quantile(&values, part)), [1., 1., 2., 2., 50., 1000.]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_summary_is_of_all_turns_together_and_its_best_is_a_turns_median() {
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
    fn ratios_are_taken_within_a_round_and_a_slow_round_does_not_show() {
        // The machine is ten times slower in round 2, for both.
        let (fast, base) = ([(1, 10.), (2, 100.), (3, 12.)], [(3, 24.), (1, 20.), (2, 200.)]);
        assert_eq!(ratio(&fast, &base), 0.5);
        // What has no partner has no ratio.
        assert_eq!(ratio(&[(1, 10.), (9, 1.)], &base), 0.5);
        assert!(ratio(&[(9, 1.)], &base).is_nan());
    }
}
