//! `tap`: the messages of a server, as another process sees them pass.

use std::time::UNIX_EPOCH;

use parlour::ErrorKind;
use parlour::inspect::TapDirection;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::error::{closed, exception, timed_out};
use crate::lock::{Lock, SLICE, Unavailable};
use crate::options::client_of;
use crate::owner::Owner;
use crate::wait::Deadline;

/// A message that passed a server.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct TapMessage {
    message: parlour::inspect::TapMessage,
    data: Py<PyBytes>,
}

impl TapMessage {
    fn new(py: Python<'_>, mut message: parlour::inspect::TapMessage) -> Self {
        let data = PyBytes::new(py, &std::mem::take(&mut message.bytes)).unbind();
        Self { message, data }
    }
}

#[pymethods]
impl TapMessage {
    /// The time at which the server had received the message, or began to send it, in seconds since 1970.
    #[getter]
    fn at(&self) -> f64 {
        self.message.at.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
    }

    /// The number of the client, as in ClientStats. 0 if it has no counters.
    #[getter]
    fn client(&self) -> u64 {
        self.message.client
    }

    /// The process id of the client, or None.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.message.pid
    }

    /// The direction, as the server sees it: "in", "out" (recorded before it was sent), or "not-sent" (the server
    /// could not send the last message to this client; there are no bytes).
    #[getter]
    fn direction(&self) -> &'static str {
        match self.message.direction {
            TapDirection::In => "in",
            TapDirection::Out => "out",
            TapDirection::OutFailed => "not-sent",
            _ => "unknown",
        }
    }

    /// The length of the message in bytes.
    #[getter]
    fn length(&self) -> u64 {
        self.message.length
    }

    /// Its first bytes. A server records at most 1 MiB of a message.
    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyBytes> {
        self.data.clone_ref(py)
    }

    /// The number of descriptors and blocks of shared memory that are attached to the message.
    #[getter]
    fn descriptors(&self) -> u16 {
        self.message.descriptors
    }

    /// The number of messages that were missed before this one, because this process was too slow, or because two
    /// threads of the server had messages at once.
    #[getter]
    fn lost(&self) -> u64 {
        self.message.lost
    }

    fn __repr__(&self) -> String {
        let Self { message, .. } = self;
        format!("<parlour.TapMessage {} of client {}, {} bytes>", self.direction(), message.client, message.length)
    }
}

/// A tap of a server, which `parlour.tap` begins.
///
/// A tap is an iterator over the messages, which ends with the server, and a context manager that closes it. If nothing
/// is received for two seconds, the server may stop recording until the next call. Threads may share a tap: each
/// message goes to one of them.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Tap {
    /// No thread holds this lock for longer than a slice. `None` once it is closed.
    tap: Lock<Option<parlour::inspect::Tap>>,
}

impl Tap {
    /// Receives one message, or returns `None` at the deadline.
    fn receive(&self, py: Python<'_>, deadline: Deadline) -> PyResult<Result<Option<TapMessage>, parlour::Error>> {
        loop {
            let received = py.detach(|| {
                let Some(mut tap) = self.tap.lock_within(SLICE)? else { return Ok(None) };
                // A thread that has waited for the lock until its deadline looks once.
                let slice = deadline.left_within(SLICE);
                Ok(Some(tap.as_mut().map(|tap| tap.recv_timeout(slice))))
            });
            match received.map_err(Unavailable::exception)? {
                None => {}
                Some(None) => return Err(closed("tap")),
                Some(Some(Ok(Some(message)))) => return Ok(Ok(Some(TapMessage::new(py, message)))),
                Some(Some(Ok(None))) if deadline.is_over() => return Ok(Ok(None)),
                Some(Some(Ok(None))) => {}
                Some(Some(Err(error))) => return Ok(Err(error)),
            }
            py.check_signals()?;
        }
    }
}

#[pymethods]
impl Tap {
    /// Receives one message. Blocks until one passes the server.
    ///
    /// Raises NoServer once the server has ended and all messages were received, and TimedOut at the deadline.
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<TapMessage> {
        let received = self.receive(py, Deadline::after(timeout)?)?.map_err(|error| exception(py, &error))?;
        received.ok_or_else(|| timed_out(py, "inspect", "no message has passed the server before the deadline"))
    }

    /// Receives one message without blocking. Returns None if none has passed.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<TapMessage>> {
        self.receive(py, Deadline::after(Some(0.0))?)?.map_err(|error| exception(py, &error))
    }

    /// The record of the server that is tapped.
    #[getter]
    fn owner(&self, py: Python<'_>) -> PyResult<Owner> {
        let tap = self.tap.lock_attached(py)?;
        tap.as_ref().map(|tap| Owner::new(tap.owner())).ok_or_else(|| closed("tap"))
    }

    /// Ends the tap. Threads that wait for a message get ValueError. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.tap.lock_attached(py)?.take());
        Ok(())
    }

    /// True if the tap was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.tap.lock_attached(py)?.is_none())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<TapMessage>> {
        match self.receive(py, Deadline::after(None)?)? {
            Err(error) if error.kind() == ErrorKind::NoServer => Ok(None),
            received => received.map_err(|error| exception(py, &error)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &*self.tap.lock_attached(py)? {
            Some(tap) => format!("<parlour.Tap of {}>", tap.owner()),
            None => "<parlour.Tap closed>".to_owned(),
        })
    }
}

/// Taps the server of an address: returns a Tap, an iterator over the messages that the server receives and sends from
/// now on.
///
/// A process that taps cannot hold the server up, or change a conversation. Only the user of the server can tap it, and
/// root, who names that user with `server_uid`. Blocks for up to a second, where `/proc` does not lead to the server.
#[pyfunction]
#[pyo3(signature = (address, *, server_uid=None))]
pub(crate) fn tap(py: Python<'_>, address: &str, server_uid: Option<u32>) -> PyResult<Tap> {
    let options = client_of(server_uid);
    let tap = py.detach(|| parlour::inspect::tap_with(address, &options)).map_err(|error| exception(py, &error))?;
    Ok(Tap { tap: Lock::new(Some(tap)) })
}
