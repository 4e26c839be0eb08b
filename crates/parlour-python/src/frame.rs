//! The two ends of a block: `Frame`, which the publisher fills, and `ReceivedFrame`.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;
use std::sync::MutexGuard;

use parlour::frames::{Frame as Frozen, FrameMut, ReceivedFrame as Copied, TrustedFrame};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::{Buffer, fill_view, fill_writable_view};
use crate::error::{buffer_too_small, exception, of_kind};
use crate::lock::{Lock, Unavailable};

/// A block with the number of its views. It returns when it is released and the last view is gone.
struct Held<T> {
    /// `None` once it has returned.
    block: Option<T>,
    views: usize,
    is_released: bool,
}

/// A block that is locked for moments and while it is copied, by threads that do not wait for the interpreter
/// meanwhile.
struct Holding<T>(Lock<Held<T>>);

impl<T: Send> Holding<T> {
    fn new(block: T) -> Self {
        Self(Lock::new(Held { block: Some(block), views: 0, is_released: false }))
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, Held<T>>> {
        self.0.lock().map_err(Unavailable::exception)
    }

    fn release(&self) -> PyResult<()> {
        let mut held = self.lock()?;
        held.is_released = true;
        held.settle();
        Ok(())
    }

    fn is_released(&self) -> PyResult<bool> {
        Ok(self.lock()?.is_released)
    }

    fn end_view(&self) {
        // In a forked child in which the lock is lost, the block belongs to the parent.
        if let Ok(mut held) = self.0.lock() {
            held.views = held.views.saturating_sub(1);
            held.settle();
        }
    }
}

impl<T> Held<T> {
    fn settle(&mut self) {
        if self.is_released && self.views == 0 {
            self.block = None;
        }
    }

    /// Returns the block, unless it was released.
    fn block(&mut self) -> PyResult<&mut T> {
        let is_released = self.is_released;
        self.block.as_mut().filter(|_| !is_released).ok_or_else(|| PyValueError::new_err("the frame was released"))
    }
}

/// A frame of a pool: a block that this process fills in place, and then sends to any number of readers.
///
/// It exports its bytes by the buffer protocol: writable until it is sent, for example for `numpy.frombuffer(frame,
/// dtype=...)`, and read-only from then on. It has all bytes of the block at first, with the content of an earlier
/// frame or zeros. Its block returns to the pool when every reader has returned it and the frame was released: at the
/// end of its `with` block, by `release`, or when it is collected. A view keeps it until the view is gone.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Frame(Holding<State>);

enum State {
    Filling(FrameMut),
    Frozen(Frozen),
}

impl Frame {
    pub(crate) fn new(frame: FrameMut) -> Self {
        Self(Holding::new(State::Filling(frame)))
    }

    /// Ends the writing, and returns the frame.
    pub(crate) fn frozen(&self) -> PyResult<Frozen> {
        let mut held = self.0.lock()?;
        if let State::Frozen(frame) = held.block()? {
            return Ok(frame.clone());
        }
        if held.views > 0 {
            return Err(PyBufferError::new_err(
                "a view of the frame exists, with which it could be changed after it is sent; `del` the arrays of it, \
                 or release its memoryviews",
            ));
        }
        match held.block.take() {
            Some(State::Filling(frame)) => {
                let frame = frame.freeze();
                held.block = Some(State::Frozen(frame.clone()));
                Ok(frame)
            }
            other => {
                held.block = other;
                Err(PyValueError::new_err("the frame was released"))
            }
        }
    }
}

#[pymethods]
impl Frame {
    /// Shortens the frame to `length` bytes. Has no effect if it is not longer. Raises BufferError while a view exists,
    /// and ValueError once it was sent.
    fn truncate(&self, length: usize) -> PyResult<()> {
        let mut held = self.0.lock()?;
        if held.views > 0 {
            return Err(PyBufferError::new_err("a view of the frame exists"));
        }
        match held.block()? {
            State::Filling(frame) => {
                frame.truncate(length);
                Ok(())
            }
            State::Frozen(_) => Err(PyValueError::new_err("the frame was sent, and cannot be changed any more")),
        }
    }

    /// Gives the block back, as soon as the last view is gone.
    fn release(&self) -> PyResult<()> {
        self.0.release()
    }

    /// True if the frame was released.
    #[getter]
    fn released(&self) -> PyResult<bool> {
        self.0.is_released()
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(match self.0.lock()?.block()? {
            State::Filling(frame) => frame.len(),
            State::Frozen(frame) => frame.len(),
        })
    }

    fn __repr__(&self) -> String {
        match self.__len__() {
            Ok(len) => format!("<parlour.Frame of {len} bytes>"),
            Err(_) => "<parlour.Frame, released>".to_owned(),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.release()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut held = slf.get().0.lock()?;
        match held.block()? {
            // SAFETY: the interpreter passes a view. The block stays with the frame while the view is counted.
            State::Filling(frame) => unsafe { fill_writable_view(slf.as_any(), frame, view, flags) }?,
            // SAFETY: as above, and nothing changes a frame that was sent.
            State::Frozen(frame) => unsafe { fill_view(slf.as_any(), frame, view, flags) }?,
        }
        held.views += 1;
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.0.end_view();
    }
}

/// A frame that was received. Its block returns to the publisher when it is released: at the end of its `with` block,
/// by `release`, or when it is collected. A view keeps it until the view is gone.
///
/// `copy` and `copy_into` copy it, and check that the publisher did not change it meanwhile. If the publisher is
/// trusted (`FrameReader.trust_publisher`), it exports its bytes by the buffer protocol, read-only, in the memory of
/// the publisher: `numpy.frombuffer(frame, dtype=...)` copies nothing.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct ReceivedFrame {
    holding: Holding<Received>,
    len: usize,
    note: Vec<u8>,
    is_lent: bool,
}

pub(crate) enum Received {
    Copied(Copied),
    Trusted(TrustedFrame),
}

impl ReceivedFrame {
    pub(crate) fn new(frame: Received) -> Self {
        let (len, note, is_lent) = match &frame {
            Received::Copied(frame) => (frame.len(), frame.note().to_vec(), frame.is_lent()),
            Received::Trusted(frame) => (frame.len(), frame.note().to_vec(), frame.is_lent()),
        };
        Self { holding: Holding::new(frame), len, note, is_lent }
    }

    fn copy_to(&self, bytes: &mut [u8]) -> PyResult<Result<(), CopyError>> {
        let mut held = self.holding.lock()?;
        Ok(match held.block()? {
            Received::Copied(frame) => frame.copy_to_slice(bytes).map(drop).map_err(CopyError::Library),
            Received::Trusted(frame) => {
                // It is empty in a forked child.
                let Some(from) = frame.get(..bytes.len()) else { return Ok(Err(CopyError::InChild)) };
                bytes.copy_from_slice(from);
                Ok(())
            }
        })
    }
}

/// The reason why a frame was not copied.
enum CopyError {
    Library(parlour::Error),
    /// The block belongs to the parent.
    InChild,
}

impl CopyError {
    fn exception(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Library(error) => exception(py, error),
            Self::InChild => {
                let text = "cannot copy a frame: this is a forked child, and the frame belongs to the parent; copy it \
                            before the fork";
                of_kind(py, "Unsupported", text)
            }
        }
    }
}

#[pymethods]
impl ReceivedFrame {
    /// The bytes that were sent with the frame.
    #[getter]
    fn note<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.note)
    }

    /// True if the frame is in the memory of the publisher, and False if it arrived as a copy.
    #[getter]
    fn lent(&self) -> bool {
        self.is_lent
    }

    /// Returns a copy of the bytes. Raises Protocol if the publisher changed the block meanwhile.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        PyBytes::new_with(py, self.len, |bytes| py.detach(|| self.copy_to(bytes))?.map_err(|error| error.exception(py)))
    }

    /// Copies the bytes into a writable buffer, and returns their number. Raises BufferTooSmall if they do not fit, and
    /// Protocol if the publisher changed the block meanwhile.
    fn copy_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut buffer = Buffer::writable(buffer)?;
        let copied = py.detach(|| match buffer.bytes_mut().get_mut(..self.len) {
            Some(bytes) => self.copy_to(bytes).map(Some),
            None => Ok(None),
        })?;
        match copied {
            Some(copied) => copied.map(|()| self.len).map_err(|error| error.exception(py)),
            None => Err(buffer_too_small(py, self.len)),
        }
    }

    /// Gives the block back, as soon as the last view is gone.
    fn release(&self) -> PyResult<()> {
        self.holding.release()
    }

    /// True if the frame was released.
    #[getter]
    fn released(&self) -> PyResult<bool> {
        self.holding.is_released()
    }

    fn __len__(&self) -> usize {
        self.len
    }

    fn __repr__(&self) -> String {
        format!("<parlour.ReceivedFrame of {} bytes>", self.len)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) -> PyResult<()> {
        self.holding.release()
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut held = slf.get().holding.lock()?;
        match held.block()? {
            // SAFETY: the interpreter passes a view. The block stays with the frame while the view is counted, and the
            // program has promised that nobody changes it.
            Received::Trusted(frame) => unsafe { fill_view(slf.as_any(), frame, view, flags) }?,
            Received::Copied(_) => {
                return Err(PyBufferError::new_err(
                    "the publisher is not trusted: copy the frame, or call `trust_publisher` of the reader",
                ));
            }
        }
        held.views += 1;
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.holding.end_view();
    }
}
