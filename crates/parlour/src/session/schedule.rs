//! The times at which a session tries to connect. No clock and no I/O: the caller says what time it is.

use std::time::{Duration, Instant};

use super::reconnect::Reconnect;

/// The pause between the appearance of a name and the attempt. A server creates several files when it starts, and the
/// first of them is seen some hundred microseconds before it listens.
const SETTLE: Duration = Duration::from_millis(1);

/// The least pause after a connection has ended, and the random part that is added. A process that dies closes its
/// sockets one after the other. A client that came back at once would often connect to a socket that is about to go.
const DYING: Duration = Duration::from_millis(5);

/// The bounds of the random pause after the name appeared. With few tries behind it the session is probably alone, and
/// the server is up again at once. A server that has been away for long has many clients waiting.
const SPREAD_MIN: Duration = Duration::from_millis(1);
const SPREAD_MAX: Duration = Duration::from_millis(50);

/// The schedule of a session's attempts.
#[derive(Debug)]
pub(crate) struct Schedule {
    options: Reconnect,
    random: Random,
    /// The failures since the last success, or since the name appeared.
    failures: u32,
    /// The attempts since the last success.
    tries: u32,
    /// The beginning of the present or last attempt.
    begun: Option<Instant>,
    /// A server has asked this client to leave since the last success.
    has_moved: bool,
    /// No attempt begins before: the last one that reached a server began [`Reconnect::delay_min`] earlier.
    floor: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(options: Reconnect, seed: u64) -> Self {
        Self { options, random: Random(seed), failures: 0, tries: 0, begun: None, has_moved: false, floor: None }
    }

    /// Draws other random numbers from now on.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = Random(seed);
    }

    /// Notes that an attempt begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.tries = self.tries.saturating_add(1);
    }

    /// Notes that the attempt has reached a server, whatever came of it.
    pub(crate) fn reached(&mut self) {
        self.floor = self.begun.map(|begun| begun + self.options.delay_min);
    }

    /// Notes that the attempt failed. Returns the time of the next one.
    pub(crate) fn failed(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let pause = self.pause();
        self.not_before_the_floor(now + pause)
    }

    /// Notes the end of a connection that was made after [`reached`](Self::reached). Returns the time of the next
    /// attempt: after 5 to 10 milliseconds if the connection was a success.
    pub(crate) fn ended(&mut self, now: Instant, connected: Instant, has_received: bool) -> Instant {
        if self.note_success(now, connected, has_received) {
            let jitter = self.random.up_to(DYING);
            return self.not_before_the_floor(now + DYING + jitter);
        }
        self.failed(now)
    }

    /// Returns true if a connection was a success: a message was received over it, or it lived long enough. The pauses
    /// then begin at the shortest again.
    fn note_success(&mut self, now: Instant, connected: Instant, has_received: bool) -> bool {
        let is_success = has_received || now.saturating_duration_since(connected) >= self.options.stable_after;
        if is_success {
            self.failures = 0;
            self.tries = 0;
            self.has_moved = false;
        }
        is_success
    }

    /// Notes that a server may have taken the name. Returns the time of the next attempt.
    pub(crate) fn woken(&mut self, now: Instant) -> Instant {
        self.failures = 0;
        let spread = SPREAD_MIN.saturating_mul(1 << self.tries.min(16)).min(SPREAD_MAX);
        let jitter = self.random.up_to(spread);
        self.not_before_the_floor(now + SETTLE + jitter)
    }

    /// Notes that the server has asked its clients to leave, because it has handed its name over or is ending. Returns
    /// the time of the next attempt, which is spread, because all clients come at the same time.
    ///
    /// After a success, the first such connection that was none has no pause either, because the name may be handed
    /// over at any moment. The others are failures.
    pub(crate) fn moved(&mut self, now: Instant, connected: Instant, has_received: bool) -> Instant {
        let is_success = self.note_success(now, connected, has_received);
        if !is_success && std::mem::replace(&mut self.has_moved, true) {
            return self.failed(now);
        }
        self.failures = 0;
        self.tries = 0;
        let jitter = self.random.up_to(DYING);
        self.not_before_the_floor(now + jitter)
    }

    /// Returns the time of the next attempt if it is time to look whether a server has taken the name.
    pub(crate) fn looked(&self, now: Instant) -> Instant {
        self.not_before_the_floor(now)
    }

    /// Returns the pause after this many failures, less a random part of up to one half.
    fn pause(&mut self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        let full = self.options.delay_min.saturating_mul(1 << doublings).min(self.options.delay_max);
        full - self.random.up_to(full / 2)
    }

    fn not_before_the_floor(&self, at: Instant) -> Instant {
        self.floor.map_or(at, |floor| at.max(floor))
    }
}

/// The generator splitmix64, which needs no more state than its seed. It spreads clients in time, and protects nothing.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Returns a time from 0 to `limit`.
    fn up_to(&mut self, limit: Duration) -> Duration {
        // The upper half of the word, as a fraction of its range.
        limit.mul_f64((self.next() >> 32) as f64 / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn schedule(seed: u64) -> Schedule {
        Schedule::new(Reconnect::new().delay_min(50 * MS).delay_max(1000 * MS), seed)
    }

    /// Lets the next attempt begin at `now` and fail at once. Returns the pause after it.
    fn fail(schedule: &mut Schedule, now: Instant, reaches: bool) -> Duration {
        schedule.begin(now);
        if reaches {
            schedule.reached();
        }
        schedule.failed(now) - now
    }

    #[test]
    fn pauses_double_up_to_the_longest_less_a_random_half() {
        for seed in 0..1000 {
            let mut schedule = schedule(seed);
            let now = Instant::now();
            for full in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
                let pause = fail(&mut schedule, now, false);
                assert!((full * MS / 2..=full * MS).contains(&pause), "seed {seed}: {pause:?} of {full} ms");
            }
        }
        // No overflow, after any number of failures.
        let mut schedule = schedule(1);
        schedule.failures = u32::MAX;
        assert!(fail(&mut schedule, Instant::now(), true) <= 1000 * MS);
    }

    #[test]
    fn the_pauses_of_sessions_differ() {
        let now = Instant::now();
        let mut pauses: Vec<_> = (0..100).map(|seed| fail(&mut schedule(seed), now, false).as_millis()).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 15, "{pauses:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_pauses() {
        let now = Instant::now();
        let pauses = |seed| {
            let mut schedule = schedule(seed);
            [(); 5].map(|()| fail(&mut schedule, now, false))
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }

    #[test]
    fn the_jitter_after_the_name_appears_grows_with_the_tries_to_50_milliseconds() {
        let now = Instant::now();
        for (tries, limit) in [(0, 1), (1, 2), (3, 8), (6, 50), (100, 50), (u32::MAX, 50)] {
            let mut longest = Duration::ZERO;
            for seed in 0..200 {
                let mut schedule = schedule(seed);
                schedule.tries = tries;
                let jitter = schedule.woken(now) - now - SETTLE;
                assert!(jitter <= limit * MS, "{tries} tries, seed {seed}: {jitter:?}");
                longest = longest.max(jitter);
            }
            assert!(longest > limit * MS * 9 / 10, "{tries} tries: {longest:?}");
        }
    }

    #[test]
    fn attempts_that_reach_a_server_are_at_least_the_shortest_pause_apart() {
        for seed in 0..1000 {
            let mut schedule = schedule(seed);
            let mut now = Instant::now();
            for number in 0..100_u32 {
                schedule.begin(now);
                schedule.reached();
                // Whatever happens, and however soon after the beginning.
                let next = match number % 5 {
                    0 => schedule.woken(now),
                    1 => schedule.ended(now, now, true),
                    2 => schedule.ended(now, now, false),
                    3 => schedule.moved(now, now, number % 2 == 0),
                    _ => schedule.failed(now),
                };
                assert!(next >= now + 50 * MS, "seed {seed}, attempt {number}");
                now = next;
            }
        }
    }

    #[test]
    fn a_name_without_a_server_is_tried_at_once_when_it_appears() {
        let mut schedule = schedule(1);
        let now = Instant::now();
        fail(&mut schedule, now, false);
        assert!(schedule.woken(now) - now <= SETTLE + 2 * MS);
    }

    #[test]
    fn a_server_that_accepts_and_closes_at_once_sees_the_pauses_grow() {
        let mut schedule = schedule(1);
        let mut now = Instant::now();
        let mut attempts = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            schedule.begin(now);
            schedule.reached();
            now = schedule.ended(now + MS, now, false);
            attempts += 1;
        }
        assert!((60..130).contains(&attempts), "{attempts} attempts in 60 seconds with pauses of 0.5 to 1 second");
    }

    #[test]
    fn a_server_that_asks_every_new_client_to_leave_sees_the_pauses_grow() {
        let mut schedule = schedule(1);
        let mut now = Instant::now();
        let mut attempts = 0;
        let end = now + Duration::from_secs(60);
        while now < end {
            schedule.begin(now);
            schedule.reached();
            // Some connections end without the request.
            now = match attempts % 3 {
                2 => schedule.ended(now + MS, now, false),
                _ => schedule.moved(now + MS, now, false),
            };
            attempts += 1;
        }
        assert!((60..130).contains(&attempts), "{attempts} attempts in 60 seconds with pauses of 0.5 to 1 second");
    }

    #[test]
    fn a_move_has_no_pause_if_it_is_the_first_one_since_a_success() {
        let long = Reconnect::default().stable_after;
        for (life, has_received) in [(MS, true), (long, false)] {
            let mut schedule = schedule(1);
            let mut now = Instant::now();
            for _ in 0..3 {
                // The first connection is used, and the one to the next server is not.
                for (life, has_received, is_soon) in [(life, has_received, true), (MS, false, true), (MS, false, false)]
                {
                    schedule.begin(now);
                    schedule.reached();
                    let end = now + life.max(50 * MS);
                    let next = if has_received || life == long {
                        schedule.moved(end, now, has_received)
                    } else {
                        schedule.moved(end, end - life, false)
                    };
                    assert_eq!(next - end <= DYING, is_soon, "{:?} after {life:?}", next - end);
                    now = next;
                }
            }
        }
    }

    #[test]
    fn a_message_or_a_long_life_resets_the_pauses() {
        let long = Reconnect::default().stable_after;
        for (life, has_received) in [(MS, true), (long, false)] {
            let mut schedule = schedule(1);
            let mut now = Instant::now();
            for _ in 0..10 {
                now += fail(&mut schedule, now, true);
            }
            schedule.begin(now);
            schedule.reached();
            let end = now + life.max(50 * MS);
            let pause = schedule.ended(end, now, has_received) - end;
            assert!((DYING..=2 * DYING).contains(&pause), "the first attempt comes soon: {pause:?}");
            assert!(fail(&mut schedule, end, false) <= 50 * MS);
        }
        let mut schedule = schedule(1);
        let now = Instant::now();
        for _ in 0..10 {
            fail(&mut schedule, now, true);
        }
        let end = now + long - MS;
        assert!(schedule.ended(end, now, false) - end >= 500 * MS, "it lived shorter and received nothing");
    }
}
