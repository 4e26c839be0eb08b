//! `Refusal`: a client that was refused.

use std::time::UNIX_EPOCH;

use pyo3::prelude::*;

use crate::peer::Peer;

/// A client that a server has refused.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Refusal(parlour::Refusal);

impl Refusal {
    pub(crate) fn new(refusal: parlour::Refusal) -> Self {
        Self(refusal)
    }
}

#[pymethods]
impl Refusal {
    /// The reason, in words.
    #[getter]
    fn reason(&self) -> String {
        self.0.reason.to_string()
    }

    /// The details, for people.
    #[getter]
    fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The identity of the client as far as it was known, or None.
    #[getter]
    fn peer(&self) -> Option<Peer> {
        self.0.peer.as_ref().map(Peer::new)
    }

    /// The transport.
    #[getter]
    fn transport(&self) -> String {
        self.0.transport.to_string()
    }

    /// The time, in seconds since 1970.
    #[getter]
    fn at(&self) -> f64 {
        self.0.at.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Refusal {}>", self.0)
    }
}
