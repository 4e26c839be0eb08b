//! A descriptor kept back for the moment when there are none left.
//!
//! With a full table `accept` fails and the client stays in the queue, so that the listener is ready again at once, for
//! ever. Giving up the reserve makes room to take the client in and send it away.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// How long a listener rests when the table is full. It bounds both the work of turning clients away and the delay
/// after there is room again.
pub(super) const REST: Duration = Duration::from_millis(100);

/// How many clients are turned away between two rests.
const TURNED_AWAY_MAX: u32 = 64;

#[derive(Debug)]
pub(super) struct Reserve {
    descriptor: Option<OwnedFd>,
    turned_away: u32,
    rest_until: Option<Instant>,
}

impl Reserve {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { descriptor: Some(make()?), turned_away: 0, rest_until: None })
    }

    /// Whether this error means that the table is full.
    pub(super) fn is_for(errno: Errno) -> bool {
        matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    }

    /// Runs `turn_away` with one descriptor to spare. `false`: there was none, or enough were turned away for now, and
    /// the listener must rest.
    pub(super) fn spend(&mut self, now: Instant, turn_away: impl FnOnce()) -> bool {
        let spare = self.descriptor.take();
        let had_one = spare.is_some();
        drop(spare);
        if had_one {
            turn_away();
            self.turned_away += 1;
        }
        self.descriptor = make().ok();
        let go_on = self.descriptor.is_some() && self.turned_away < TURNED_AWAY_MAX;
        if !go_on {
            self.rest(now);
        }
        go_on
    }

    /// Begins a rest.
    pub(super) fn rest(&mut self, now: Instant) {
        self.turned_away = 0;
        self.rest_until = Some(now + REST);
    }

    /// When the rest ends, while there is one.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Ends the rest, if its time has come; says whether there was one.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        if self.rest_until.is_none_or(|until| until > now) {
            return false;
        }
        if self.descriptor.is_none() {
            self.descriptor = make().ok();
        }
        self.rest_until = None;
        true
    }
}

/// Why a client is turned away then, and what helps.
pub(super) fn out_of_descriptors(errno: Errno) -> String {
    format!("this process is out of descriptors ({errno}); raise its limit (ulimit -n)")
}

/// What went wrong with a client, and what helps where that is known.
pub(super) fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno @ (Errno::MFILE | Errno::NFILE)) => out_of_descriptors(errno),
        Some(errno @ Errno::TOOMANYREFS) => {
            format!("this user is out of descriptors that may be on their way ({errno}); raise its limit (ulimit -n)")
        }
        _ => error.to_string(),
    }
}

/// The cheapest descriptor there is.
fn make() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC)
}
