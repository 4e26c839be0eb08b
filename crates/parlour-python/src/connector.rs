//! `Connector`: connects to one name again and again.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connect::{Pending, finish};
use crate::connection::Connection;
use crate::error::exception;
use crate::options::connect_options;

/// Connects to one name many times, which takes about half of the system calls of `connect`.
///
/// `Connector(address)` takes the arguments of `connect`, and makes no connection yet. It keeps what the checks of the
/// path to the server have found, until the kernel reports a change. The connections and the exceptions are those of
/// `connect` at that moment. Threads may share a connector. From the first connection on, it has up to five
/// descriptors, which are closed when the object is collected.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Connector(parlour::Connector);

#[pymethods]
impl Connector {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = connect_options("Connector", options)?;
        options.connector(address).map(Self).map_err(|error| exception(py, &error))
    }

    /// Connects to the server, and returns a Connection. Signal handlers run meanwhile.
    fn connect(&self, py: Python<'_>) -> PyResult<Connection> {
        finish(py, || self.0.begin())
    }

    /// Begins to connect, for loops of events.
    fn begin(&self, py: Python<'_>) -> PyResult<Pending> {
        py.detach(|| self.0.begin()).map(Pending::new).map_err(|error| exception(py, &error))
    }

    /// The address of the server.
    #[getter]
    fn address(&self) -> String {
        self.0.address().to_string()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Connector to {}>", self.0.address())
    }
}
