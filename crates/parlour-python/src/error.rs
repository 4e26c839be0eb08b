//! Errors of the library as Python exceptions.

use std::error::Error as _;
use std::io;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::loss::Loss;
use crate::owner::Owner;

/// The module that defines the exceptions.
const MODULE: &str = "parlour._errors";

static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Returns the exception for an error of the library: an instance of the class of its kind.
pub(crate) fn exception(py: Python<'_>, error: &parlour::Error) -> PyErr {
    try_exception(py, error).unwrap_or_else(|failure| failure)
}

/// Returns the exception for an error that is a part of a result.
pub(crate) fn object(py: Python<'_>, error: &parlour::Error) -> Py<PyAny> {
    exception(py, error).into_value(py).into_any()
}

fn try_exception(py: Python<'_>, error: &parlour::Error) -> PyResult<PyErr> {
    let kind = format!("{:?}", error.kind());
    let exception = class(py, &kind)?.call1((error.to_string(),))?;
    exception.setattr("operation", error.operation().to_string())?;
    exception.setattr("object", error.object())?;
    exception.setattr("failure", error.failure())?;
    if let Some(holder) = error.holder() {
        exception.setattr("holder", Owner::new(holder))?;
    }
    if let Some(loss) = error.loss() {
        exception.setattr("loss", Loss::new(loss))?;
    }
    if let Some(errno) = error.source().and_then(errno_of) {
        exception.setattr("errno", errno)?;
    }
    Ok(PyErr::from_value(exception))
}

/// Returns the exception for a message that does not fit into the buffer of the caller.
pub(crate) fn buffer_too_small(py: Python<'_>, needed: usize) -> PyErr {
    let text = format!("the message has {needed} bytes, more than the buffer; it is kept for the next call");
    let make = || {
        let exception = class(py, "BufferTooSmall")?.call1((text,))?;
        exception.setattr("needed", needed)?;
        Ok(PyErr::from_value(exception))
    };
    make().unwrap_or_else(|failure: PyErr| failure)
}

/// Returns the exception of this kind for a failure that this package has found.
pub(crate) fn of_kind(py: Python<'_>, kind: &str, text: &str) -> PyErr {
    let make = || Ok(PyErr::from_value(class(py, kind)?.call1((text,))?));
    make().unwrap_or_else(|failure: PyErr| failure)
}

/// Returns the exception for an operation that this package has given up at its deadline.
pub(crate) fn timed_out(py: Python<'_>, operation: &str, detail: &str) -> PyErr {
    let make = || {
        let exception = class(py, "TimedOut")?.call1((format!("cannot {operation}: {detail}"),))?;
        exception.setattr("operation", operation)?;
        Ok(PyErr::from_value(exception))
    };
    make().unwrap_or_else(|failure: PyErr| failure)
}

/// Returns the exception for a call on an object that was closed before.
pub(crate) fn closed(what: &str) -> PyErr {
    PyValueError::new_err(format!("this {what} was closed"))
}

/// Returns the exception for a failed system call.
pub(crate) fn system(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => PyOSError::new_err((errno, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let module = CLASSES.get_or_try_init(py, || py.import(MODULE).map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}
