//! The local name of an import, without I/O: this host holds the name while another host exports it, and while no real
//! server of this host wants it.

use std::time::Duration;

/// The time without a local server after which the bridge takes a name again. A server that restarts, or that failed to
/// start for a moment, finds its name free.
pub const QUIET: Duration = Duration::from_secs(1);

/// The driver's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldStep {
    /// Takes the name, and reports [`Hold::took`], [`Hold::in_use`] or [`Hold::failed`].
    Take,
    /// Gives the name up.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// The driver takes the name.
    Taking,
    Held,
    /// A server of this host has the name.
    Local,
    /// No server of this host has the name. The bridge waits until this time.
    Quiet(Duration),
}

/// The relation of this bridge to the name of an import, for its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// No host exports the name.
    Unwanted,
    /// The bridge holds the name.
    Held,
    /// A server of this host has the name.
    Local,
    /// The bridge has not taken the name yet.
    Waiting,
}

/// The relation of this bridge to the name of an import.
#[derive(Clone, Debug)]
pub struct Hold {
    state: State,
    is_wanted: bool,
}

impl Default for Hold {
    fn default() -> Self {
        Self { state: State::Free, is_wanted: false }
    }
}

impl Hold {
    /// Returns true if this bridge holds the name.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Returns the relation of this bridge to the name.
    #[must_use]
    pub fn holding(&self) -> Holding {
        match self.state {
            State::Held => Holding::Held,
            State::Local => Holding::Local,
            State::Free | State::Taking | State::Quiet(_) if self.is_wanted => Holding::Waiting,
            State::Free | State::Taking | State::Quiet(_) => Holding::Unwanted,
        }
    }

    /// Returns the time at which [`tick`](Self::tick) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Quiet(until) => Some(until),
            _ => None,
        }
    }

    /// An exporter of the name is there, or none is.
    pub fn want(&mut self, is_wanted: bool) -> Option<HoldStep> {
        self.is_wanted = is_wanted;
        self.step()
    }

    /// The name was taken.
    pub fn took(&mut self) -> Option<HoldStep> {
        self.state = State::Held;
        self.step()
    }

    /// The name has a server on this host, or a server of this host has taken it over.
    pub fn in_use(&mut self) {
        self.state = State::Local;
    }

    /// The name could not be taken for another reason.
    pub fn failed(&mut self, now: Duration) {
        self.state = State::Quiet(now + QUIET);
    }

    /// The server of this host has gone.
    pub fn local_server_gone(&mut self, now: Duration) {
        if self.state == State::Local {
            self.state = State::Quiet(now + QUIET);
        }
    }

    /// Looks at the clock.
    pub fn tick(&mut self, now: Duration) -> Option<HoldStep> {
        if let State::Quiet(until) = self.state
            && now >= until
        {
            self.state = State::Free;
        }
        self.step()
    }

    fn step(&mut self) -> Option<HoldStep> {
        match (self.state, self.is_wanted) {
            (State::Free, true) => {
                self.state = State::Taking;
                Some(HoldStep::Take)
            }
            (State::Held, false) => {
                self.state = State::Free;
                Some(HoldStep::GiveUp)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(9);

    #[test]
    fn a_name_is_held_while_an_exporter_is_there() {
        let mut hold = Hold::default();
        assert_eq!(hold.want(true), Some(HoldStep::Take));
        assert_eq!((hold.want(true), hold.is_held()), (None, false));
        assert_eq!((hold.took(), hold.is_held()), (None, true));
        assert_eq!((hold.want(false), hold.is_held()), (Some(HoldStep::GiveUp), false));
        assert_eq!(hold.want(true), Some(HoldStep::Take));
    }

    #[test]
    fn an_exporter_that_goes_while_the_name_is_taken_gives_it_up() {
        let mut hold = Hold::default();
        hold.want(true);
        assert_eq!((hold.want(false), hold.took()), (None, Some(HoldStep::GiveUp)));
    }

    #[test]
    fn a_local_server_keeps_its_name_and_a_second_of_quiet_after_it() {
        let mut hold = Hold::default();
        hold.want(true);
        hold.in_use();
        assert_eq!((hold.tick(T0 * 2), hold.deadline()), (None, None));
        hold.local_server_gone(T0);
        assert_eq!(hold.deadline(), Some(T0 + QUIET));
        assert_eq!(hold.tick(T0 + QUIET - Duration::from_millis(1)), None);
        // Another one was faster.
        hold.in_use();
        assert_eq!(hold.tick(T0 + QUIET), None);
        hold.local_server_gone(T0 + QUIET);
        assert_eq!(hold.tick(T0 + QUIET * 2), Some(HoldStep::Take));
        hold.failed(T0 * 2);
        assert_eq!((hold.tick(T0 * 2), hold.tick(T0 * 2 + QUIET)), (None, Some(HoldStep::Take)));
    }

    #[test]
    fn a_server_takes_a_held_name_over() {
        let mut hold = Hold::default();
        hold.want(true);
        hold.took();
        hold.in_use();
        assert_eq!((hold.is_held(), hold.want(false), hold.want(true)), (false, None, None));
    }
}
