//! The limits of a bridge, and the rate at which conversations may begin.

use std::time::Duration;

/// The limits of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of conversations in each role, as importer and as exporter. Default: 4096.
    pub conversations: usize,
    /// The maximum number of conversations with one host. Default: 1024.
    pub conversations_per_host: usize,
    /// The number of conversations that one host may begin each second, and at once after a second without any.
    /// Default: 500.
    pub opens_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { conversations: 4096, conversations_per_host: 1024, opens_per_second: 500 }
    }
}

/// A bucket of tokens, which holds those of one second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    per_second: u32,
    /// In billionths of a token.
    tokens: u128,
    at: Duration,
}

/// One token.
const TOKEN: u128 = 1_000_000_000;

impl Rate {
    pub(crate) fn new(per_second: u32, now: Duration) -> Self {
        Self { per_second, tokens: u128::from(per_second) * TOKEN, at: now }
    }

    /// Takes a token. Returns false if there is none.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let gained = now.saturating_sub(self.at).as_nanos() * u128::from(self.per_second);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + gained).min(u128::from(self.per_second) * TOKEN);
        let taken = self.tokens.checked_sub(TOKEN);
        self.tokens = taken.unwrap_or(self.tokens);
        taken.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_on_average_and_a_burst_of_a_second_is_let_through() {
        let mut rate = Rate::new(500, Duration::ZERO);
        let mut take = |ms: u64, tries: usize| (0..tries).filter(|_| rate.take(Duration::from_millis(ms))).count();
        assert_eq!(take(0, 1000), 500);
        assert_eq!(take(1, 1000), 0);
        assert_eq!(take(2, 1000), 1);
        assert_eq!(take(102, 1000), 50);
        assert_eq!(take(60_000, 1000), 500);
        assert_eq!(take(59_000, 1000), 0, "a clock that goes back gives nothing");
    }
}
