//! `Loss`: the account of a connection of a session that has ended.

use pyo3::prelude::*;

/// The account of a connection of a session that has ended. Each number is an upper bound: see docs/sessions.md.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Loss(parlour::Loss);

impl Loss {
    pub(crate) fn new(loss: &parlour::Loss) -> Self {
        Self(*loss)
    }
}

#[pymethods]
impl Loss {
    /// The number of messages that were sent.
    #[getter]
    fn sent(&self) -> u64 {
        self.0.sent()
    }

    /// The number of messages that were received.
    #[getter]
    fn received(&self) -> u64 {
        self.0.received()
    }

    /// The number of messages that were sent since the last one was received.
    #[getter]
    fn sent_since_received(&self) -> u64 {
        self.0.sent_since_received()
    }

    /// True if it is certain that the server did not read all. False proves nothing.
    #[getter]
    fn unread(&self) -> bool {
        self.0.unread()
    }

    /// True if messages were still buffered in this process.
    #[getter]
    fn unwritten(&self) -> bool {
        self.0.unwritten()
    }

    /// The number of messages that had arrived and were not received. `Session.take_unreceived` returns them.
    #[getter]
    fn unreceived(&self) -> u64 {
        self.0.unreceived() as u64
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Loss after {} sent and {} received>", self.0.sent(), self.0.received())
    }
}
