//! A rate over the last minute, and its graph.

use std::collections::VecDeque;

/// The seconds that a graph shows.
pub(super) const SECONDS: f64 = 60.0;

/// The levels of a graph, from the lowest rate above zero to the highest one.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The rates of the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

/// A rate between two times, in seconds.
#[derive(Clone, Copy, Debug)]
struct Sample {
    from: f64,
    to: f64,
    rate: f64,
}

impl History {
    /// Adds the rate between two times, and forgets what is older than a minute.
    pub(super) fn add(&mut self, from: f64, to: f64, rate: f64) {
        self.samples.push_back(Sample { from, to, rate });
        while self.samples.front().is_some_and(|sample| sample.to < to - SECONDS) {
            self.samples.pop_front();
        }
    }

    /// Returns the highest of the rates.
    pub(super) fn max(&self) -> f64 {
        self.samples.iter().map(|sample| sample.rate).fold(0.0, f64::max)
    }

    /// Returns a graph of the minute before `now`, of one line. Each of its `width` characters shows the mean of its
    /// time: a space if nothing is known of it, and a dot for zero.
    pub(super) fn graph(&self, now: f64, width: usize) -> String {
        let step = SECONDS / width.max(1) as f64;
        let begin = now - SECONDS;
        let means: Vec<Option<f64>> = (0..width)
            .map(|column| self.mean(begin + column as f64 * step, begin + (column + 1) as f64 * step))
            .collect();
        let max = means.iter().flatten().copied().fold(0.0, f64::max);
        means.into_iter().map(|mean| mean.map_or(' ', |rate| level(rate, max))).collect()
    }

    fn mean(&self, from: f64, to: f64) -> Option<f64> {
        let (mut sum, mut time) = (0.0, 0.0);
        for sample in &self.samples {
            let overlap = sample.to.min(to) - sample.from.max(from);
            if overlap > 0.0 {
                sum += sample.rate * overlap;
                time += overlap;
            }
        }
        // Less than a tenth of the column does not stand for it.
        (time > (to - from) / 10.0).then(|| sum / time)
    }
}

fn level(rate: f64, max: f64) -> char {
    if rate <= 0.0 || max <= 0.0 {
        return '·';
    }
    let index = (rate / max * LEVELS.len() as f64).ceil() as usize;
    LEVELS[index.clamp(1, LEVELS.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_shows_the_mean_of_each_of_its_columns() {
        let mut history = History::default();
        assert_eq!(history.graph(60.0, 6), "      ");
        history.add(20.0, 30.0, 0.0);
        history.add(30.0, 35.0, 0.0);
        history.add(35.0, 40.0, 80.0);
        history.add(40.0, 60.0, 80.0);
        assert_eq!(history.graph(60.0, 6), "  ·▄██");
        assert_eq!(history.max(), 80.0);
        assert_eq!(history.graph(60.0, 0), "");
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut history = History::default();
        for second in 0..1000 {
            history.add(f64::from(second), f64::from(second + 1), 1.0);
        }
        assert!(history.samples.len() <= 62, "{}", history.samples.len());
        assert_eq!(history.graph(1000.0, 10), "█".repeat(10));
    }

    #[test]
    fn a_long_interval_fills_all_of_its_columns() {
        let mut history = History::default();
        history.add(0.0, 30.0, 3.0);
        history.add(30.0, 60.0, 6.0);
        assert_eq!(history.graph(60.0, 60), "▄".repeat(30) + &"█".repeat(30));
    }
}
