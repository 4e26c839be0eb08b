//! Statistics of a transport.

use super::event::Done;

/// The combined measurements of all clients of a transport.
pub(super) struct Stats {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// The sum of the rates of the clients, which run at the same time.
    pub(super) messages_per_second: f64,
}

impl Stats {
    pub(super) fn of(clients: &[Done]) -> Stats {
        let mut round_trips: Vec<u32> = clients.iter().flat_map(|done| done.round_trips_ns.iter().copied()).collect();
        round_trips.sort_unstable();
        Stats {
            messages: clients.iter().map(|done| done.messages).sum(),
            bytes: clients.iter().map(|done| done.bytes).sum(),
            p50_us: percentile(&round_trips, 50) / 1000.0,
            p99_us: percentile(&round_trips, 99) / 1000.0,
            messages_per_second: clients
                .iter()
                .map(|done| done.messages as f64 * 1e9 / (done.elapsed_ns.max(1)) as f64)
                .sum(),
        }
    }
}

/// Returns the percentile of sorted values by the nearest-rank method: `percent` of the values do not exceed it.
fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 50), 50.0);
        assert_eq!(percentile(&values, 99), 99.0);
        assert_eq!(percentile(&[7], 99), 7.0);
        assert_eq!(percentile(&[1, 2, 3], 50), 2.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
