//! `FrameReader`: the side that receives frames.
#![allow(unsafe_code, reason = "reading in place is a promise of the program")]

use std::time::Duration;

use parlour::ErrorKind;
use parlour::frames::{FrameLimits, FrameReader as Copying, TrustingReader};
use pyo3::exceptions::{PyEOFError, PyValueError};
use pyo3::prelude::*;

use crate::buffer::Buffer;
use crate::connection::{Connection, Sending};
use crate::error::{closed, exception, of_kind};
use crate::frame::{Received, ReceivedFrame};
use crate::lock::{Lock, Unavailable};
use crate::message::Message;
use crate::wait::Deadline;

/// Receives the frames of a `FramePool` over a connection, whose other end admits it (`FramePool.admit`). An iterator
/// over frames. It must open every frame that arrives, or else their blocks stay with it.
///
/// `frame_max` is the longest frame, and `bytes_max` the largest pool in bytes that this process maps: 256 MiB and 4
/// GiB by default. The frames of a larger pool arrive as copies. `timeout` is for sending, while the channel is full.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct FrameReader {
    connection: Py<Connection>,
    /// `None` once it is closed.
    kind: Lock<Option<Kind>>,
}

enum Kind {
    Copying(Copying),
    Trusting(TrustingReader),
}

impl FrameReader {
    fn open_message(&self, py: Python<'_>, message: parlour::Message) -> PyResult<ReceivedFrame> {
        let opened = py.detach(|| {
            let mut kind = self.kind.lock().map_err(Unavailable::exception)?;
            Ok::<_, PyErr>(match kind.as_mut() {
                Some(Kind::Copying(reader)) => Some(reader.open(message).map(Received::Copied)),
                Some(Kind::Trusting(reader)) => Some(reader.open(message).map(Received::Trusted)),
                None => None,
            })
        })?;
        let opened = opened.ok_or_else(|| closed("reader"))?;
        opened.map(ReceivedFrame::new).map_err(|error| exception(py, &error))
    }
}

#[pymethods]
impl FrameReader {
    #[new]
    #[pyo3(signature = (connection, *, frame_max = None, bytes_max = None, timeout = None))]
    fn new(
        py: Python<'_>,
        connection: Py<Connection>,
        frame_max: Option<u64>,
        bytes_max: Option<u64>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let mut limits = FrameLimits::new();
        if let Some(bytes) = frame_max {
            limits = limits.frame_max(bytes);
        }
        if let Some(bytes) = bytes_max {
            limits = limits.bytes_max(bytes);
        }
        let mut attached = None;
        connection.get().send_for(py, Deadline::after(timeout)?, false, |connection| {
            match Copying::attach(&limits, |payload| connection.send_timeout(payload, Duration::ZERO)) {
                Ok(reader) => {
                    attached = Some(Kind::Copying(reader));
                    Sending::Sent
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => Sending::Full(error),
                Err(error) => Sending::Failed(error),
            }
        })?;
        Ok(Self { connection, kind: Lock::new(attached) })
    }

    /// Trusts the publisher: frames that are opened from now on export their bytes in its memory, without a copy and
    /// without a check. Raises Denied if the publisher runs neither as the user of this process nor as root.
    ///
    /// The program promises that the publisher, and every process that can write to its memory, changes no block before
    /// this reader has released it. The pool of this library keeps to that. If the promise is broken, an array may
    /// change while it is read. Reading never raises a signal.
    fn trust_publisher(&self, py: Python<'_>) -> PyResult<()> {
        let uid = self.connection.get().with(py, |connection| connection.peer().uid())?;
        if uid != Some(rustix::process::geteuid().as_raw()) && uid != Some(0) {
            return Err(of_kind(py, "Denied", "the publisher of the frames is another user; copy its frames"));
        }
        let mut kind = self.kind.lock_attached(py)?;
        *kind = match kind.take() {
            // SAFETY: the program promises what the description of this function says.
            Some(Kind::Copying(reader)) => Some(Kind::Trusting(unsafe { reader.trust_publisher() })),
            other => other,
        };
        Ok(())
    }

    /// Returns true if a message is a frame, to be passed to `open`.
    #[staticmethod]
    fn is_frame(message: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(Copying::is_frame(Buffer::readable(message)?.bytes()))
    }

    /// Makes a frame of a message of the publisher, once. For connections that carry other messages, too.
    ///
    /// Raises Protocol for another message, or if the publisher violated the protocol; close the connection then.
    fn open(&self, py: Python<'_>, message: &Message) -> PyResult<ReceivedFrame> {
        if !Copying::is_frame(message.bytes()) {
            return Err(of_kind(py, "Protocol", "the message is not a frame"));
        }
        let whole = message.take_whole().ok_or_else(|| PyValueError::new_err("the message was opened before"))?;
        self.open_message(py, whole)
    }

    /// Receives the next message, and opens it. Raises EOFError at the end, and Protocol if it is not a frame.
    #[pyo3(signature = (timeout = None))]
    fn recv(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<ReceivedFrame> {
        let mut message = parlour::Message::default();
        match self.connection.get().receive(py, &mut message, timeout, usize::MAX)? {
            true => self.open_message(py, message),
            false => Err(PyEOFError::new_err("the peer has ended the connection")),
        }
    }

    /// Ends the reader. Frames that were opened remain valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.kind.lock_attached(py)?.take());
        Ok(())
    }

    /// True if the reader was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.kind.lock_attached(py)?.is_none())
    }

    fn __repr__(&self) -> &'static str {
        "<parlour.FrameReader>"
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<ReceivedFrame>> {
        match self.recv(py, None) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.is_instance_of::<PyEOFError>(py) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }
}
