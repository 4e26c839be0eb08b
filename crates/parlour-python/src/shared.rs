//! `SharedBytes`: large data that many processes read without a copy.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::buffer::{Buffer, fill_view};
use crate::error;

/// A block of shared memory that nobody can change any more. It exports its bytes by the buffer protocol, read-only.
///
/// `SharedBytes(data)` copies `data` into it, once. Send it to any number of peers with `shared=[block]`; they map the
/// same memory. The kernel frees the memory when the last process has dropped it, however the processes end.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct SharedBytes(parlour::SharedBytes);

impl SharedBytes {
    pub(crate) fn block(&self) -> &parlour::SharedBytes {
        &self.0
    }

    pub(crate) fn from_owned(py: Python<'_>, fd: OwnedFd) -> PyResult<Self> {
        parlour::SharedBytes::try_from(fd).map(Self).map_err(|error| error::exception(py, &error))
    }
}

#[pymethods]
impl SharedBytes {
    #[new]
    fn new(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = Buffer::readable(data)?;
        let block = py.detach(|| parlour::SharedBytes::new(buffer.bytes()));
        block.map(Self).map_err(|error| error::exception(py, &error))
    }

    /// Copies the bytes of an object with the buffer protocol into a new block.
    #[classmethod]
    fn from_buffer(_class: &Bound<'_, PyType>, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(py, data)
    }

    /// Returns the descriptor of the memory. The block owns it.
    fn fileno(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.SharedBytes of {} bytes>", self.0.len())
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let block = slf.get();
        // SAFETY: the interpreter passes a view, and the memory is sealed and mapped as long as the object lives.
        unsafe { fill_view(slf.as_any(), &block.0, view, flags) }
    }
}
