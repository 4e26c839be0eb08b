//! The end of servers and hubs: in slices, between which signal handlers run.

use std::time::Duration;

use parlour::ErrorKind;
use pyo3::prelude::*;

use crate::wait::Deadline;

/// The longest time for which one slice works inside the library, where no signal ends it.
const SLICE: Duration = Duration::from_millis(50);

/// The results of an end.
pub(crate) struct Ended {
    /// That of releasing the name.
    pub(crate) released: parlour::Result<()>,
    /// That of writing what is buffered.
    pub(crate) written: parlour::Result<()>,
}

/// Returns true if the deadline has passed before the end was complete.
pub(crate) fn is_late(error: &parlour::Error) -> bool {
    error.kind() == ErrorKind::TimedOut
}

/// Ends until the deadline with `end`, which gets the time of a slice. The first one releases the name.
///
/// # Errors
///
/// That of a signal handler that raises.
pub(crate) fn end_until(
    py: Python<'_>,
    deadline: Deadline,
    mut end: impl FnMut(Duration) -> parlour::Result<()> + Send,
) -> PyResult<Ended> {
    let released = match py.detach(|| end(Duration::ZERO)) {
        Err(error) if !is_late(&error) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    loop {
        match py.detach(|| end(deadline.left_within(SLICE))) {
            Err(error) if is_late(&error) && !deadline.is_over() => py.check_signals()?,
            written => return Ok(Ended { released, written }),
        }
    }
}
