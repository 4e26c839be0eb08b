//! Looking again a few times before sleeping: a peer that answers at once is heard several times sooner than it takes to be
//! woken.
//!
//! Between two looks the processor is yielded. That costs a few hundred nanoseconds where nobody else wants it, and where
//! the peer does it is what lets it answer. But where others want it, too, each yield may give them a slice of milliseconds,
//! and whoever sleeps instead is woken when the answer is there: then it is better to sleep.

use std::time::{Duration, Instant};

/// A yield that took longer has given the processor to somebody with work of his own.
const SLICE: Duration = Duration::from_micros(200);

/// How many waits then go without yielding: so many at first, and twice as many each time, up to the most. So what the
/// attempts cost is little beside what they are for.
const RESTS_MIN: u16 = 32;
const RESTS_MAX: u16 = 2048;

/// How many waits go by before the first yield of one is timed again: to look at the clock costs as much as a tenth of a
/// yield, where two processes take turns on one processor and nothing of it is in its cache.
const UNTIMED: u8 = 15;

/// Whether yielding is worth while at present.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// How many waits are still to go without yielding.
    rests: u16,
    /// How many there will be the next time.
    rests_next: u16,
    /// How many waits are still to go without timing their first yield.
    untimed: u8,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct SpinBudget {
    /// How often it may still look again.
    left: u32,
    has_yielded: bool,
    /// When the last yield was over, or the first began, if that is to be timed.
    since: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { rests: 0, rests_next: RESTS_MIN, untimed: 0 }
    }

    /// Begins a wait that looks again so many times at most.
    pub(crate) fn begin(&mut self, spin_limit: u32) -> SpinBudget {
        let left = match self.rests {
            0 => spin_limit,
            _ => 0,
        };
        self.rests = self.rests.saturating_sub(1);
        SpinBudget { left, has_yielded: false, since: None }
    }

    /// Yields the processor before another look, `true`; or it is time to sleep.
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

    /// Yields once, before the first look: a wait of its own.
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

    /// Whether the first yield of a wait is to be timed.
    fn is_timed(&mut self) -> bool {
        let is_timed = self.untimed == 0;
        self.untimed = self.untimed.checked_sub(1).unwrap_or(UNTIMED);
        is_timed
    }

    /// Judges a yield by how long it took.
    fn note(&mut self, budget: &mut SpinBudget, took: Duration) {
        if took > SLICE {
            budget.left = 0;
            self.untimed = 0;
            self.rests = self.rests_next;
            self.rests_next = self.rests_next.saturating_mul(2).min(RESTS_MAX);
        } else if budget.left == 0 {
            // All of them were short.
            self.rests_next = (self.rests_next / 2).max(RESTS_MIN);
        }
    }
}

impl SpinBudget {
    /// Whether it may look again before it sleeps.
    pub(crate) fn are_left(&self) -> bool {
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_nanos(300);
    const LONG: Duration = Duration::from_millis(3);

    /// How many yields there are in each of so many waits, in which nothing comes and each yield takes so long.
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
    fn where_nobody_else_wants_the_processor_each_wait_yields() {
        assert_eq!(waits(&mut Backoff::new(), 1000, SHORT), [40; 1000]);
    }

    #[test]
    fn after_a_long_yield_the_wait_sleeps_and_so_do_those_that_follow() {
        let mut backoff = Backoff::new();
        let spin_limit = waits(&mut backoff, 10_000, LONG);
        let tried: Vec<_> = (0..spin_limit.len()).filter(|&at| spin_limit[at] > 0).collect();
        assert!(spin_limit.iter().all(|&spin_limit| spin_limit <= 1));
        assert_eq!(tried, [0, 33, 98, 227, 484, 997, 2022, 4071, 6120, 8169], "less and less often");
    }

    #[test]
    fn when_yields_are_short_again_every_wait_has_them_before_long() {
        let mut backoff = Backoff::new();
        waits(&mut backoff, 10_000, LONG);
        let spin_limit = waits(&mut backoff, 3000, SHORT);
        assert!(spin_limit[2048..].iter().all(|&spin_limit| spin_limit == 40));
        // And the next long one costs less again.
        assert_eq!(backoff.rests_next, RESTS_MIN);
    }

    #[test]
    fn first_yields_are_timed_now_and_then_and_always_after_a_long_one() {
        let mut backoff = Backoff::new();
        let timed: Vec<_> = (0..40).filter(|_| backoff.is_timed()).collect();
        assert_eq!(timed, [0, 16, 32]);
        waits(&mut backoff, 1, LONG);
        assert!(backoff.is_timed());
    }

    #[test]
    fn who_is_told_not_to_yield_never_does() {
        let mut backoff = Backoff::new();
        let mut budget = backoff.begin(0);
        assert!(!backoff.spin_once(&mut budget));
        backoff.yield_now(0);
        assert!(budget.since.is_none());
    }
}
