//! A reserved descriptor, for the case that the descriptor table is full.
//!
//! With a full table accept(2) fails and the client stays in the queue, so the listener would be ready again
//! immediately and spin. Closing the reserve frees a slot, in which the client is accepted and then refused.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// The time that a listener rests when the table is full. It bounds both the work of refusing clients and the delay
/// after descriptors are available again.
pub(super) const REST: Duration = Duration::from_millis(100);

/// The maximum number of clients that are refused between two rests.
const REFUSED_MAX: u32 = 64;

/// The reserved descriptor of a listener, and its rest.
#[derive(Debug)]
pub(super) struct Reserve {
    descriptor: Option<OwnedFd>,
    refused: u32,
    rest_until: Option<Instant>,
}

impl Reserve {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { descriptor: Some(make()?), refused: 0, rest_until: None })
    }

    /// Returns true if this error means that the process, the system or the memory for descriptors is exhausted.
    pub(super) fn is_for(errno: Errno) -> bool {
        matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    }

    /// Runs `refuse` with one descriptor to spare, if the reserve exists. Returns false if the listener must rest,
    /// because the reserve could not be restored or enough clients were refused for now.
    pub(super) fn spend(&mut self, now: Instant, refuse: impl FnOnce()) -> bool {
        let spare = self.descriptor.take();
        let had_one = spare.is_some();
        drop(spare);
        if had_one {
            refuse();
            self.refused += 1;
        }
        self.descriptor = make().ok();
        let go_on = self.descriptor.is_some() && self.refused < REFUSED_MAX;
        if !go_on {
            self.rest(now);
        }
        go_on
    }

    /// Begins a rest.
    pub(super) fn rest(&mut self, now: Instant) {
        self.refused = 0;
        self.rest_until = Some(now + REST);
    }

    /// Returns the end of the current rest.
    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Ends the rest if its time has passed, and returns true if it did.
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

/// Returns the reason of a refusal when the table is full, with the next step.
pub(super) fn out_of_descriptors(errno: Errno) -> String {
    format!("this process is out of descriptors ({errno}); raise the limit (ulimit -n)")
}

/// Describes an error that affected a client, with the next step if one is known.
pub(super) fn explain(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno @ (Errno::MFILE | Errno::NFILE)) => out_of_descriptors(errno),
        Some(errno @ Errno::TOOMANYREFS) => {
            format!("too many descriptors of this user are in flight ({errno}); raise the limit (ulimit -n)")
        }
        _ => error.to_string(),
    }
}

/// Creates the reserve: an eventfd, the cheapest descriptor.
fn make() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC)
}
