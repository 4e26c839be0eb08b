//! Connecting to a server, and connections without one.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use parlour::PendingConnection;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::Connection;
use crate::error::{closed, exception};
use crate::options::{connect_options, transport};
use crate::wait::{self, Deadline, Events};

/// Connects to the server of this name, and returns a Connection.
///
/// `address` is a name, with a transport before it if one is demanded ("shm:echo"), or the path of its directory.
/// `wait` is how long to wait for a server that does not exist yet, by default not at all. `timeout` is for a server
/// that exists, by default 5 seconds. Signal handlers run meanwhile.
#[pyfunction]
#[pyo3(signature = (address, **options))]
pub(crate) fn connect(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Connection> {
    let options = connect_options("connect", options)?;
    finish(py, || options.begin(address))
}

/// Begins an attempt to connect, and waits for its end.
pub(crate) fn finish(
    py: Python<'_>,
    begin: impl FnOnce() -> parlour::Result<PendingConnection> + Send,
) -> PyResult<Connection> {
    let mut pending = py.detach(begin).map_err(|error| exception(py, &error))?;
    loop {
        let connection = py.detach(|| pending.try_finish()).map_err(|error| exception(py, &error))?;
        if let Some(connection) = connection {
            return Ok(Connection::new(connection));
        }
        // The descriptor covers the deadlines.
        let events = Events::new(pending.as_fd().as_raw_fd(), libc::POLLIN);
        wait::sleep(py, None, events, Deadline::after(None)?)?;
    }
}

/// A connection attempt that never blocks, for loops of events.
#[pyclass(frozen, module = "parlour._parlour")]
pub(crate) struct Pending(Mutex<Option<PendingConnection>>);

impl Pending {
    pub(crate) fn new(pending: PendingConnection) -> Self {
        Self(Mutex::new(Some(pending)))
    }
}

#[pymethods]
impl Pending {
    /// Advances the attempt. Returns None while the connection is not established; then wait until `fileno`, which is
    /// another one after each call, is readable.
    fn try_finish(&self, py: Python<'_>) -> PyResult<Option<Connection>> {
        let finished = py.detach(|| {
            let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let finished = pending.as_mut().map(PendingConnection::try_finish);
            if !matches!(finished, Some(Ok(None))) {
                *pending = None;
            }
            finished
        });
        let connection = finished.ok_or_else(|| closed("attempt"))?.map_err(|error| exception(py, &error))?;
        Ok(connection.map(Connection::new))
    }

    /// Returns the descriptor to wait for.
    fn fileno(&self) -> PyResult<RawFd> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_ref().map(|pending| pending.as_fd().as_raw_fd()).ok_or_else(|| closed("attempt"))
    }

    /// Ends the attempt.
    fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Begins to connect, for loops of events. Takes the arguments of `connect`.
#[pyfunction]
#[pyo3(signature = (address, **options))]
pub(crate) fn begin(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Pending> {
    let options = connect_options("connect", options)?;
    options.begin(address).map(Pending::new).map_err(|error| exception(py, &error))
}

/// Returns both ends of a connection, without a server. Takes the options of `connect` that concern a connection.
#[pyfunction]
#[pyo3(signature = (transport = "unix", **options))]
pub(crate) fn pair(
    py: Python<'_>,
    transport: &str,
    options: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Connection, Connection)> {
    let transport = self::transport(transport)?;
    let options = connect_options("pair", options)?;
    let (one, other) = options.pair(transport).map_err(|error| exception(py, &error))?;
    Ok((Connection::new(one), Connection::new(other)))
}

/// Takes the connection that the parent of this process passed to it (`$PARLOUR_FD`).
#[pyfunction]
#[pyo3(signature = (**options))]
pub(crate) fn from_env(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Connection> {
    let options = connect_options("from_env", options)?;
    options.from_env().map(Connection::new).map_err(|error| exception(py, &error))
}
