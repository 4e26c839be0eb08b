//! Values as JSON, by the module `json` of Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

const MODULE: &str = "parlour._json";

/// Returns the value as JSON.
///
/// # Errors
///
/// Encoding.
pub(crate) fn encode<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    py.import(MODULE)?.call_method1("encode", (value,))
}

/// Returns the value of a message.
///
/// # Errors
///
/// Encoding.
pub(crate) fn decode<'py>(py: Python<'py>, message: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    py.import(MODULE)?.call_method1("decode", (message,))
}
