//! The logger `parlour` of Python's `logging`, for exceptions that no call can raise.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Logs an exception with its traceback, as an error.
pub(crate) fn error(py: Python<'_>, text: &str, exception: &PyErr) -> PyResult<()> {
    let about = PyDict::new(py);
    about.set_item("exc_info", exception.clone_ref(py))?;
    logger(py)?.call_method("error", (text,), Some(&about)).map(drop)
}

/// Logs what a program may want to know when it looks for a reason.
pub(crate) fn info(py: Python<'_>, text: &str, exception: &PyErr) -> PyResult<()> {
    logger(py)?.call_method1("info", (text, exception.value(py).repr()?)).map(drop)
}

fn logger(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("logging")?.call_method1("getLogger", ("parlour",))
}
