//! The names on this machine.

use std::path::PathBuf;

use parlour::inspect::NameState;
use pyo3::prelude::*;

use crate::error::{exception, object};
use crate::options::client_of;
use crate::owner::Owner;

/// A name that has a directory on this machine.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct NameStatus(parlour::inspect::NameStatus);

impl NameStatus {
    pub(crate) fn new(status: parlour::inspect::NameStatus) -> Self {
        Self(status)
    }
}

#[pymethods]
impl NameStatus {
    /// The name, without transport and directory.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// The directory of the name.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path.clone()
    }

    /// The base directory that contains it.
    #[getter]
    fn base(&self) -> PathBuf {
        self.0.base.clone()
    }

    /// The state: "live", "dead", "waiting" (a service manager listens), "foreign" (of another user) or "unsafe".
    #[getter]
    pub(crate) fn state(&self) -> &'static str {
        match self.0.state {
            NameState::Live => "live",
            NameState::Dead => "dead",
            NameState::Waiting => "waiting",
            NameState::Unsafe(_) => "unsafe",
            _ => "foreign",
        }
    }

    /// The reason why the name is "unsafe", or None.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.0.state {
            NameState::Unsafe(error) => Some(object(py, error)),
            _ => None,
        }
    }

    /// The transports on offer, best first.
    #[getter]
    fn transports(&self) -> Vec<String> {
        self.0.transports.iter().map(parlour::Transport::to_string).collect()
    }

    /// The record of the holder, or None.
    #[getter]
    fn owner(&self) -> Option<Owner> {
        self.0.owner.as_ref().map(Owner::new)
    }

    fn __repr__(&self) -> String {
        format!("<parlour.NameStatus {:?}, {}>", self.0.name, self.state())
    }
}

/// Returns the names in all base directories of this machine that this user can see. Root sees those of another
/// user with `server_uid`.
#[pyfunction]
#[pyo3(signature = (*, server_uid=None))]
pub(crate) fn names(py: Python<'_>, server_uid: Option<u32>) -> PyResult<Vec<NameStatus>> {
    let options = client_of(server_uid);
    let names = py.detach(|| parlour::inspect::names_with(&options)).map_err(|error| exception(py, &error))?;
    Ok(names.into_iter().map(NameStatus).collect())
}

/// Removes what a dead server has left of a name. Returns True if something was removed.
#[pyfunction]
pub(crate) fn clean(py: Python<'_>, status: &Bound<'_, NameStatus>) -> PyResult<bool> {
    let status = status.get();
    py.detach(|| parlour::inspect::clean(&status.0)).map_err(|error| exception(py, &error))
}
