//! `child_end`: a connection to a program that the module `subprocess` starts.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::connection::Connection;
use crate::error::{closed, exception};
use crate::lock::Lock;
use crate::options::{connect_options, transport};

/// The end of a connection that a program inherits, which calls `from_env`.
///
/// Start the program with `pass_fds=[end.fileno()]` and with `env` in its environment, and close this object then: the
/// connection does not end with the program before that. It is a context manager that closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct ChildEnd {
    /// `None` once it is closed.
    end: Lock<Option<parlour::ChildEnd>>,
    env: BTreeMap<&'static str, String>,
}

#[pymethods]
impl ChildEnd {
    /// The variables that announce the descriptor to the program, with their values.
    #[getter]
    fn env(&self) -> BTreeMap<&'static str, String> {
        self.env.clone()
    }

    /// Returns the descriptor, which the program inherits under the same number. The object owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let end = self.end.lock_attached(py)?;
        end.as_ref().map(|end| end.as_fd().as_raw_fd()).ok_or_else(|| closed("end of a child"))
    }

    /// Closes the descriptor in this process. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.end.lock_attached(py)?.take());
        Ok(())
    }

    /// True if the descriptor was closed in this process.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.end.lock_attached(py)?.is_none())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &*self.end.lock_attached(py)? {
            Some(end) => format!("<parlour.ChildEnd {}>", end.as_fd().as_raw_fd()),
            None => "<parlour.ChildEnd closed>".to_owned(),
        })
    }
}

/// Returns a connection to a program that is about to be started, and the end that the program inherits. No name is
/// involved, and no other process can connect. Takes the options of `connect` that concern a connection, for this side.
#[pyfunction]
#[pyo3(signature = (transport = "unix", **options))]
pub(crate) fn child_end(
    py: Python<'_>,
    transport: &str,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Connection, ChildEnd)> {
    let transport = self::transport(transport)?;
    let options = connect_options("child_end", options)?;
    let (connection, end) = options.child_end(transport).map_err(|error| exception(py, &error))?;
    let env = end.env().map(|(name, value)| (name, value.to_owned())).collect();
    Ok((Connection::new(connection), ChildEnd { end: Lock::new(Some(end)), env }))
}
