//! `Owner`: the record of the holder of a name.

use std::time::UNIX_EPOCH;

use pyo3::prelude::*;

/// The record that the holder of a name wrote when it took the name. It is information for people.
#[pyclass(frozen, module = "parlour", eq)]
#[derive(Clone, PartialEq)]
pub(crate) struct Owner(parlour::Owner);

impl Owner {
    pub(crate) fn new(owner: &parlour::Owner) -> Self {
        Self(owner.clone())
    }
}

#[pymethods]
impl Owner {
    /// The process id, in the PID namespace of the holder.
    #[getter]
    fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The effective user id.
    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    /// The path of the executable of the holder.
    #[getter]
    fn program(&self) -> String {
        self.0.program.display().to_string()
    }

    /// The time at which the name was taken, in seconds since 1970.
    #[getter]
    fn since(&self) -> f64 {
        self.0.since.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    /// The transports on offer, best first.
    #[getter]
    fn transports(&self) -> Vec<String> {
        self.0.transports.iter().map(parlour::Transport::to_string).collect()
    }

    /// The length of the longest message that the holder receives, in bytes, or None.
    #[getter]
    fn message_max(&self) -> Option<usize> {
        self.0.message_max
    }

    /// The version of the protocol that the holder speaks.
    #[getter]
    fn protocol(&self) -> u32 {
        self.0.protocol
    }

    /// True if the holder yields the name to any other server of its user (the option `yields`).
    #[getter]
    fn yields(&self) -> bool {
        self.0.yields
    }

    /// The start time of the process in clock ticks since the boot, or 0. Together with `pid` and `boot_id` it
    /// identifies one process for ever.
    #[getter]
    fn start_time(&self) -> u64 {
        self.0.start_time
    }

    /// The id of the boot that `start_time` counts from, or an empty text.
    #[getter]
    fn boot_id(&self) -> &str {
        &self.0.boot_id
    }

    /// Looks whether the process is stopped, by a signal or a debugger. Returns None if that is not known: `/proc` does
    /// not show the process. A stopped server keeps its name, and clients wait for it.
    fn is_stopped(&self) -> Option<bool> {
        self.0.is_stopped()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Owner {}>", self.0)
    }
}
