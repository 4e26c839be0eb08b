//! The options of reconnecting.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation, Result};

/// The longest pause that can be set.
const DELAY_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Options of a session's attempts to connect. Each setter states its default and its unit.
///
/// The pauses between attempts grow from [`delay_min`](Reconnect::delay_min) to [`delay_max`](Reconnect::delay_max).
/// Each is twice as long as the one before, and a random part of up to one half is taken off, so that the clients of
/// one server do not come back all at once. A pause ends early when a server takes the name; see
/// [`Session`](crate::Session#reconnecting).
///
/// ```
/// use std::time::Duration;
/// use parlour::{ConnectOptions, Reconnect};
///
/// let reconnect = Reconnect::new().delay_max(Duration::from_secs(30));
/// let session = ConnectOptions::new().session("notes", &reconnect)?;
/// # drop(session);
/// # Ok::<(), parlour::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reconnect {
    pub(crate) delay_min: Duration,
    pub(crate) delay_max: Duration,
    pub(crate) stable_after: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(50),
            delay_max: Duration::from_secs(5),
            stable_after: Duration::from_secs(1),
        }
    }
}

impl Reconnect {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the first pause after a failure. Default 50 milliseconds; 1 millisecond to 24 hours.
    ///
    /// No two attempts that reach a server begin within this time, whatever the server does. With the default, a server
    /// that accepts and closes at once sees a session at most 20 times per second.
    #[must_use]
    pub fn delay_min(mut self, delay: Duration) -> Self {
        self.delay_min = delay;
        self
    }

    /// Sets the longest pause. Default 5 seconds; from [`delay_min`](Self::delay_min) to 24 hours.
    #[must_use]
    pub fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = delay;
        self
    }

    /// Sets how long a connection must live to count as a success if no message is received over it. Default 1 second;
    /// with 0 each connection is a success.
    ///
    /// After a success the pauses begin at the minimum again, and the first attempt is made after 5 to 10 milliseconds.
    /// A connection that ended earlier counts as a failure.
    #[must_use]
    pub fn stable_after(mut self, lifetime: Duration) -> Self {
        self.stable_after = lifetime;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let check = |option: &str, is_valid: bool, rule: &'static str| match is_valid {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidOption, Operation::SetOption, option, rule)),
        };
        let limits = Duration::from_millis(1)..=DELAY_LIMIT;
        check("delay_min", limits.contains(&self.delay_min), "it must be from 1 millisecond to 24 hours")?;
        let limits = self.delay_min..=DELAY_LIMIT;
        check("delay_max", limits.contains(&self.delay_max), "it must be from delay_min to 24 hours")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_outside_their_ranges_are_refused() {
        let (zero, day) = (Duration::ZERO, DELAY_LIMIT);
        assert!(Reconnect::new().check().is_ok());
        assert!(Reconnect::new().delay_min(day).delay_max(day).stable_after(zero).check().is_ok());
        for (wrong, option) in [
            (Reconnect::new().delay_min(zero), "delay_min"),
            (Reconnect::new().delay_min(day * 2).delay_max(day * 2), "delay_min"),
            (Reconnect::new().delay_max(Duration::from_millis(49)), "delay_max"),
            (Reconnect::new().delay_max(Duration::MAX), "delay_max"),
        ] {
            let error = wrong.check().unwrap_err();
            assert_eq!((error.kind(), error.object()), (ErrorKind::InvalidOption, option));
        }
    }
}
