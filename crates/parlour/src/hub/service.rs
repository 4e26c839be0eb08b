//! The progress of a hub towards its end.

use crate::wait::Deadline;

/// The progress of a hub towards its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Service {
    /// Clients can connect.
    #[default]
    Open,
    /// Clients can no longer connect, and those that have connected are let in.
    Draining,
    /// All of them are in, and the name is free.
    Released,
    /// All of them are in, and another process has the name. They may stay until this time.
    HandedOver(Deadline),
    /// The name was given up, whether or not a shutdown was requested. The caller decides when the hub ends.
    Ending,
}
