//! Something that comes and goes, and the lines about it.

use std::time::Duration;

/// The maximum number of lines about something that never stays.
const LINES_MAX: u32 = 16;

/// The time after which something has stayed. The next lines about it are logged again.
const STAY: Duration = Duration::from_secs(60);

/// The lines about one thing. One that comes and goes in a loop does not fill the log.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    lines: u32,
    since: Option<Duration>,
}

impl Flaps {
    /// It is there. Returns the end of the line, if there is to be one.
    pub(super) fn came(&mut self, now: Duration) -> Option<&'static str> {
        self.since = Some(now);
        self.line()
    }

    /// It has gone, or could not come. Returns the end of the line, if there is to be one.
    pub(super) fn went(&mut self, now: Duration) -> Option<&'static str> {
        if self.since.take().is_some_and(|since| now >= since + STAY) {
            self.lines = 0;
        }
        self.line()
    }

    fn line(&mut self) -> Option<&'static str> {
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..LINES_MAX => Some(""),
            LINES_MAX => Some("; this is not logged any more until it has stayed for a minute"),
            _ => None,
        }
    }
}

/// A condition that is logged when it begins. It has ended once it was absent for as long as something has to stay.
#[derive(Debug, Default)]
pub(super) struct Spell {
    last: Option<Duration>,
}

impl Spell {
    /// The condition is there. Returns true if it has begun now.
    pub(super) fn is_new(&mut self, now: Duration) -> bool {
        self.last.replace(now).is_none_or(|last| now >= last + STAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_never_stays_has_a_few_lines_until_it_has_stayed_for_a_minute() {
        let (mut flaps, mut now) = (Flaps::default(), Duration::ZERO);
        let mut lines = Vec::new();
        for _ in 0..1000 {
            lines.extend(flaps.came(now));
            now += STAY - Duration::from_millis(1);
            lines.extend(flaps.went(now));
        }
        assert_eq!(lines.len(), LINES_MAX as usize);
        assert!(lines.pop().unwrap().contains("not logged any more") && lines.iter().all(|end| end.is_empty()));
        // Tries that fail are no stay.
        now += STAY;
        assert_eq!((flaps.went(now), flaps.came(now)), (None, None));
        assert_eq!((flaps.went(now + STAY), flaps.came(now + STAY)), (Some(""), Some("")));
    }

    #[test]
    fn a_condition_that_comes_and_goes_is_new_once_until_it_was_absent_for_a_minute() {
        let (mut spell, mut now) = (Spell::default(), Duration::ZERO);
        assert!(spell.is_new(now));
        for _ in 0..1000 {
            now += STAY - Duration::from_millis(1);
            assert!(!spell.is_new(now));
        }
        assert!(spell.is_new(now + STAY));
    }
}
