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

    fn __repr__(&self) -> String {
        format!("<parlour.Owner {}>", self.0)
    }
}
