//! Spinning: a blocking call polls a few times before it sleeps. A peer that answers immediately is heard several times
//! sooner than a sleeping thread is woken.
//!
//! The processor is yielded between two polls. A yield costs a few hundred nanoseconds if no other thread is runnable,
//! and if the peer is, the yield lets it answer. But if other threads compete for the processor, each yield may give
//! them a time slice of milliseconds, while a sleeping thread is woken when the answer arrives. In that case it is
//! better to sleep.

use std::time::{Duration, Instant};

/// A yield that took longer gave the processor to an unrelated thread.
const SLICE: Duration = Duration::from_micros(200);

/// The number of waits that do not yield after such a yield. It begins with the minimum and doubles each time, up to
/// the maximum, so the cost of trying again is small in comparison.
const RESTS_MIN: u16 = 32;
const RESTS_MAX: u16 = 2048;

/// The number of waits between two timings of a first yield. Reading the clock costs up to a tenth of a yield when two
/// processes take turns on one processor and its code and data are not in the cache.
const UNTIMED: u8 = 15;

/// A decision whether yielding pays at present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The number of waits that remain without yielding.
    rests: u16,
    /// The number of waits without yielding after the next long yield.
    rests_next: u16,
    /// The number of waits that remain without timing the first yield.
    untimed: u8,
}

/// The state of one wait. By default no poll remains.
#[derive(Debug, Default)]
pub(crate) struct SpinBudget {
    /// The number of polls that remain.
    left: u32,
    has_yielded: bool,
    /// The end of the last yield, or the start of the first if it is timed.
    since: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { rests: 0, rests_next: RESTS_MIN, untimed: 0 }
    }

    /// Begins a wait of at most `spin_limit` polls.
    pub(crate) fn begin(&mut self, spin_limit: u32) -> SpinBudget {
        let left = match self.rests {
            0 => spin_limit,
            _ => 0,
        };
        self.rests = self.rests.saturating_sub(1);
        SpinBudget { left, has_yielded: false, since: None }
    }

    /// Yields the processor and returns true if the caller shall poll again. Returns false if it shall sleep.
    pub(crate) fn spin_once(&mut self, budget: &mut SpinBudget) -> bool {
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        if budget.has_yielded || self.is_timed() {
            let before = budget.since.unwrap_or_else(Instant::now);
            std::thread::yield_now();
            let after = Instant::now();
            budget.since = Some(after);
            self.note(budget, after.saturating_duration_since(before));
        } else {
            std::thread::yield_now();
        }
        budget.has_yielded = true;
        true
    }

    /// Yields once before the first poll. This counts as a wait of its own.
    #[inline]
    pub(crate) fn yield_now(&mut self, spin_limit: u32) {
        if spin_limit == 0 {
            return;
        }
        if self.rests == 0 && self.untimed > 0 {
            self.untimed -= 1;
            std::thread::yield_now();
        } else {
            self.yield_timed();
        }
    }

    #[cold]
    fn yield_timed(&mut self) {
        let mut budget = self.begin(1);
        self.spin_once(&mut budget);
    }

    /// Returns true if the first yield of a wait is to be timed.
    fn is_timed(&mut self) -> bool {
        let is_timed = self.untimed == 0;
        self.untimed = self.untimed.checked_sub(1).unwrap_or(UNTIMED);
        is_timed
    }

    /// Adapts to the duration of a yield.
    fn note(&mut self, budget: &mut SpinBudget, took: Duration) {
        if took > SLICE {
            budget.left = 0;
            self.untimed = 0;
            self.rests = self.rests_next;
            self.rests_next = self.rests_next.saturating_mul(2).min(RESTS_MAX);
        } else if budget.left == 0 {
            // All yields of the wait were short.
            self.rests_next = (self.rests_next / 2).max(RESTS_MIN);
        }
    }
}

impl SpinBudget {
    /// Returns true if polls remain before the caller has to sleep.
    pub(crate) fn has_polls_left(&self) -> bool {
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_nanos(300);
    const LONG: Duration = Duration::from_millis(3);

    /// Simulates `count` waits in which no message arrives and each yield takes `took`. Returns the number of yields in
    /// each.
    fn waits(backoff: &mut Backoff, count: usize, took: Duration) -> Vec<u32> {
        let wait = |_| {
            let mut budget = backoff.begin(40);
            let mut spin_limit = 0;
            while budget.left > 0 {
                budget.left -= 1;
                spin_limit += 1;
                backoff.note(&mut budget, took);
            }
            spin_limit
        };
        (0..count).map(wait).collect()
    }

    #[test]
    fn every_wait_yields_while_yields_are_short() {
        assert_eq!(waits(&mut Backoff::new(), 1000, SHORT), [40; 1000]);
    }

    #[test]
    fn after_a_long_yield_the_wait_sleeps_and_so_do_those_that_follow() {
        let mut backoff = Backoff::new();
        let spin_limit = waits(&mut backoff, 10_000, LONG);
        let tried: Vec<_> = (0..spin_limit.len()).filter(|&at| spin_limit[at] > 0).collect();
        assert!(spin_limit.iter().all(|&spin_limit| spin_limit <= 1));
        assert_eq!(tried, [0, 33, 98, 227, 484, 997, 2022, 4071, 6120, 8169], "the intervals double");
    }

    #[test]
    fn every_wait_yields_again_once_yields_are_short() {
        let mut backoff = Backoff::new();
        waits(&mut backoff, 10_000, LONG);
        let spin_limit = waits(&mut backoff, 3000, SHORT);
        assert!(spin_limit[2048..].iter().all(|&spin_limit| spin_limit == 40));
        // The number of waits without yielding has fallen back to the minimum.
        assert_eq!(backoff.rests_next, RESTS_MIN);
    }

    #[test]
    fn first_yields_are_timed_periodically_and_after_a_long_one() {
        let mut backoff = Backoff::new();
        let timed: Vec<_> = (0..40).filter(|_| backoff.is_timed()).collect();
        assert_eq!(timed, [0, 16, 32]);
        waits(&mut backoff, 1, LONG);
        assert!(backoff.is_timed());
    }

    #[test]
    fn a_spin_limit_of_zero_never_yields() {
        let mut backoff = Backoff::new();
        let mut budget = backoff.begin(0);
        assert!(!backoff.spin_once(&mut budget));
        backoff.yield_now(0);
        assert!(budget.since.is_none());
    }
}
