//! `Message`: one received message with what is attached to it.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::buffer::fill_view;
use crate::shared::SharedBytes;

/// One received message. It exports its bytes by the buffer protocol, read-only and without a copy.
///
/// Descriptors that were not taken are closed with the message.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Message {
    bytes: Vec<u8>,
    fds: Mutex<Vec<OwnedFd>>,
    /// It was opened as a frame, which a message can be once.
    is_opened: AtomicBool,
}

impl Message {
    pub(crate) fn new(mut message: parlour::Message) -> Self {
        let fds = message.take_fds();
        Self { bytes: message.into_vec(), fds: Mutex::new(fds), is_opened: AtomicBool::new(false) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the message with its descriptors, for an object that opens it. The second time this is `None`.
    pub(crate) fn take_whole(&self) -> Option<parlour::Message> {
        let is_first = !self.is_opened.swap(true, Ordering::Relaxed);
        is_first.then(|| parlour::Message::new(self.bytes.clone(), std::mem::take(&mut *self.fds())))
    }

    pub(crate) fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.bytes)
    }

    fn fds(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Message {
    /// The number of descriptors and blocks of shared memory that were not taken.
    #[getter]
    fn fd_count(&self) -> usize {
        self.fds().len()
    }

    /// Takes the descriptors out of the message, in the order in which they were sent. The caller closes them.
    fn take_fds(&self) -> Vec<RawFd> {
        std::mem::take(&mut *self.fds()).into_iter().map(IntoRawFd::into_raw_fd).collect()
    }

    /// Takes the blocks of shared memory out of the message. Raises an exception if one of the descriptors is no block;
    /// all descriptors are then closed.
    fn take_shared(&self, py: Python<'_>) -> PyResult<Vec<SharedBytes>> {
        let fds = std::mem::take(&mut *self.fds());
        fds.into_iter().map(|fd| SharedBytes::from_owned(py, fd)).collect()
    }

    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.to_bytes(py)
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Message of {} bytes, {} descriptors>", self.bytes.len(), self.fd_count())
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let message = slf.get();
        // SAFETY: the interpreter passes a view, and the bytes never change and live as long as the object.
        unsafe { fill_view(slf.as_any(), &message.bytes, view, flags) }
    }
}
