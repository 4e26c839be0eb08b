//! The lines about clients that the server refuses or disconnects. This module uses no descriptor and no clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parlour::RefusalReason;

/// The time between two lines about the same kind of refusal. Without it, a flood of clients would be a flood of lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The refusals by kind. At most one line of each kind is due per [`LINE_INTERVAL`].
#[derive(Default)]
pub(super) struct Refusals {
    kinds: HashMap<RefusalReason, Kind>,
}

/// The refusals of one kind.
#[derive(Default)]
struct Kind {
    /// The text of the last refusal, if no line has told of it.
    last: Option<String>,
    /// The number of refusals of which the lines so far have told.
    told: u64,
    /// The earliest time of the next line; `None` before the first.
    next_line: Option<Instant>,
}

impl Kind {
    fn is_due(&self, now: Instant) -> bool {
        self.next_line.is_none_or(|at| at <= now)
    }
}

impl Refusals {
    /// Adds the text of a refusal, which is told of when a line of its kind is due.
    pub(super) fn add(&mut self, reason: RefusalReason, text: String) {
        self.kinds.entry(reason).or_default().last = Some(text);
    }

    /// Returns the time of the next line that is not due yet, or `None` if there is none.
    pub(super) fn next_line(&self) -> Option<Instant> {
        self.kinds.values().filter(|kind| kind.last.is_some()).filter_map(|kind| kind.next_line).min()
    }

    /// Returns true if a line is due at `now`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.kinds.values().any(|kind| kind.last.is_some() && kind.is_due(now))
    }

    /// Puts the lines that are due off, as if they had been returned.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.kinds
            .values_mut()
            .filter(|kind| kind.is_due(now))
            .for_each(|kind| kind.next_line = Some(now + LINE_INTERVAL));
    }

    /// Returns the lines that are due at `now`. `count` returns the number of refusals of a kind since the start of the
    /// server, including those that were not added.
    pub(super) fn due(&mut self, now: Instant, count: impl Fn(RefusalReason) -> u64) -> Vec<String> {
        self.lines(now, |kind| kind.is_due(now), count)
    }

    /// Returns the lines about everything that no line has told of.
    pub(super) fn rest(&mut self, now: Instant, count: impl Fn(RefusalReason) -> u64) -> Vec<String> {
        self.lines(now, |_| true, count)
    }

    fn lines(
        &mut self,
        now: Instant,
        is_due: impl Fn(&Kind) -> bool,
        count: impl Fn(RefusalReason) -> u64,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for (&reason, kind) in self.kinds.iter_mut().filter(|(_, kind)| is_due(kind)) {
            let Some(text) = kind.last.take() else { continue };
            let more = count(reason).saturating_sub(kind.told + 1);
            kind.told += more + 1;
            kind.next_line = Some(now + LINE_INTERVAL);
            let line = format!("client refused ({reason}): {text}");
            lines.push(if more == 0 { line } else { format!("{line} (and {more} more)") });
        }
        lines
    }
}

/// The maximum number of lines about clients that were disconnected in each [`LINE_INTERVAL`].
const LINES_MAX: u32 = 10;

/// The lines about clients that were disconnected, at most [`LINES_MAX`] per [`LINE_INTERVAL`].
#[derive(Default)]
pub(super) struct Quiet {
    /// The end of the interval, and the number of lines that may still be printed in it.
    interval: Option<(Instant, u32)>,
    /// The number of lines since the last one that was printed.
    dropped: u64,
}

impl Quiet {
    /// Returns the line to print for this text, or `None` if it is dropped.
    pub(super) fn line(&mut self, now: Instant, text: String) -> Option<String> {
        let (end, left) = self.interval.filter(|(end, _)| *end > now).unwrap_or((now + LINE_INTERVAL, LINES_MAX));
        self.interval = Some((end, left.saturating_sub(1)));
        if left == 0 {
            self.dropped += 1;
            return None;
        }
        Some(match std::mem::take(&mut self.dropped) {
            0 => text,
            dropped => format!("{text} (and {dropped} more before)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_ten_lines_a_second_with_the_number_of_the_others() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        let mut line = |ms| quiet.line(start + Duration::from_millis(ms), format!("line {ms}"));
        let lines: Vec<_> = (0..2000).step_by(10).filter_map(&mut line).collect();
        assert_eq!(lines.len(), 20);
        assert_eq!(lines[9..12], ["line 90", "line 1000 (and 90 more before)", "line 1010"]);
    }

    #[test]
    fn a_flood_of_one_kind_is_one_line_a_second_with_the_number_of_the_others() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        let mut lines = Vec::new();
        for count in 1..=3000 {
            let now = start + Duration::from_millis(count);
            refusals.add(RefusalReason::Limit, format!("client {count}"));
            // The queue of the server drops refusals, so that its count is higher.
            lines.extend(refusals.due(now, |_| count * 2));
        }
        assert_eq!(
            lines,
            [
                "client refused (limit): client 1 (and 1 more)",
                "client refused (limit): client 1001 (and 1999 more)",
                "client refused (limit): client 2001 (and 1999 more)"
            ]
        );
        assert_eq!(refusals.next_line(), Some(start + Duration::from_millis(3001)));
        assert_eq!(refusals.rest(start, |_| 6000), ["client refused (limit): client 3000 (and 1997 more)"]);
        assert_eq!(refusals.next_line(), None);
    }

    #[test]
    fn lines_that_are_put_off_are_due_later_with_the_number_of_all() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        assert!(!refusals.is_due(now));
        refusals.add(RefusalReason::Limit, "one".to_owned());
        assert!(refusals.is_due(now));
        refusals.postpone(now);
        refusals.add(RefusalReason::Limit, "two".to_owned());
        assert!(!refusals.is_due(now) && refusals.due(now, |_| 2).is_empty());
        assert_eq!(refusals.next_line(), Some(now + LINE_INTERVAL));
        assert_eq!(refusals.due(now + LINE_INTERVAL, |_| 2), ["client refused (limit): two (and 1 more)"]);
    }

    #[test]
    fn a_flood_of_one_kind_does_not_delay_another_kind() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.add(RefusalReason::Limit, "one".to_owned());
        assert_eq!(refusals.due(now, |_| 1), ["client refused (limit): one"]);
        refusals.add(RefusalReason::Limit, "two".to_owned());
        refusals.add(RefusalReason::Policy, "three".to_owned());
        let count = |reason| if reason == RefusalReason::Limit { 2 } else { 1 };
        assert_eq!(refusals.due(now, count), ["client refused (policy): three"]);
        assert_eq!(refusals.next_line(), Some(now + LINE_INTERVAL));
        assert_eq!(refusals.due(now + LINE_INTERVAL, count), ["client refused (limit): two"]);
        assert!(refusals.due(now + LINE_INTERVAL * 2, count).is_empty());
    }
}
