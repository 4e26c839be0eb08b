//! The memory of Python objects, by the buffer protocol.
#![allow(unsafe_code, reason = "the buffer protocol is a C interface")]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The bytes of an object, exported by it until this value is dropped.
pub(crate) struct Buffer(Box<ffi::Py_buffer>);

// SAFETY: an exported buffer belongs to the whole process; it stays valid until it is released.
unsafe impl Send for Buffer {}
// SAFETY: as above. Nothing is written through a shared reference.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Returns the bytes of an object for reading.
    ///
    /// # Errors
    ///
    /// `TypeError` without the buffer protocol, `BufferError` if the memory is not contiguous.
    pub(crate) fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::export(object, ffi::PyBUF_SIMPLE)
    }

    /// Returns the bytes of an object for writing.
    ///
    /// # Errors
    ///
    /// Those of [`readable`](Self::readable), and `BufferError` for memory that is read-only.
    pub(crate) fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::export(object, ffi::PyBUF_WRITABLE)
    }

    fn export(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: `object` is alive, and `view` is memory for a view.
        let result = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) };
        if result != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: the call has succeeded, so it has filled the view.
        let view = unsafe { view.assume_init() };
        if view.buf.is_null() && view.len > 0 {
            return Err(PyBufferError::new_err("the object exports no memory"));
        }
        Ok(Self(view))
    }

    /// Returns the bytes. As with all buffers, another thread of the program must not change them meanwhile.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len <= 0 {
            return &[];
        }
        // SAFETY: the object exports so many contiguous bytes, until the view is released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.0.len as usize) }
    }

    /// Returns the bytes of a buffer that is writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.len <= 0 || self.0.readonly != 0 {
            return &mut [];
        }
        // SAFETY: the object exports so many contiguous writable bytes, until the view is released.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.0.len as usize) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let view: *mut ffi::Py_buffer = &mut *self.0;
        Python::attach(|_| {
            // SAFETY: the view was filled by PyObject_GetBuffer, and this thread is attached to the interpreter.
            unsafe { ffi::PyBuffer_Release(view) }
        });
    }
}

/// Fills the view of an object that exports `bytes` for writing.
///
/// # Safety
///
/// `view` is a view that the interpreter wants to have filled, and `bytes` lives as long as `owner`.
pub(crate) unsafe fn fill_writable_view(
    owner: &Bound<'_, PyAny>,
    bytes: &mut [u8],
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let start = bytes.as_mut_ptr().cast();
    // SAFETY: by the contract of this function. The call takes a reference to `owner`.
    let result =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, bytes.len() as ffi::Py_ssize_t, 0, flags) };
    if result != 0 {
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}

/// Fills the view of an object that exports `bytes` for reading.
///
/// # Safety
///
/// `view` is a view that the interpreter wants to have filled, and `bytes` lives and does not change as long as
/// `owner`.
pub(crate) unsafe fn fill_view(
    owner: &Bound<'_, PyAny>,
    bytes: &[u8],
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let start = bytes.as_ptr().cast_mut().cast();
    // SAFETY: by the contract of this function. The call takes a reference to `owner`.
    let result =
        unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, bytes.len() as ffi::Py_ssize_t, 1, flags) };
    if result != 0 {
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}
