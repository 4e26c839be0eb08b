//! The messages of a batch, in the memory of this process.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// Received messages, one behind the other. A thread that is not attached to the interpreter collects them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// The end of each message in `bytes`.
    ends: Vec<usize>,
}

impl Messages {
    /// Receives all messages of a batch.
    pub(crate) fn of(mut batch: parlour::Batch<'_>) -> Self {
        let mut messages = Self::default();
        while let Some(message) = batch.next_message() {
            messages.push(message);
        }
        messages
    }

    pub(crate) fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len());
    }

    /// Returns a list of their bytes.
    pub(crate) fn into_list(self, py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        let list = PyList::empty(py);
        let mut begin = 0;
        for end in self.ends {
            list.append(PyBytes::new(py, self.bytes.get(begin..end).unwrap_or_default()))?;
            begin = end;
        }
        Ok(list)
    }
}
