//! `ServerStats`: counts of clients.

use std::collections::BTreeMap;

use parlour::RefusalReason;
use pyo3::prelude::*;

use crate::name_stats::Flow;
use crate::refusal::Refusal;

/// The counts of clients of a server.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct ServerStats(parlour::ServerStats);

impl ServerStats {
    pub(crate) fn new(stats: parlour::ServerStats) -> Self {
        Self(stats)
    }
}

#[pymethods]
impl ServerStats {
    /// The number of clients that were accepted.
    #[getter]
    fn accepted(&self) -> u64 {
        self.0.accepted
    }

    /// The number of clients that were refused.
    #[getter]
    fn refused(&self) -> u64 {
        self.0.refused
    }

    /// The number of connections that are open.
    #[getter]
    fn open(&self) -> usize {
        self.0.open
    }

    /// The messages that the server received, over all connections since it began.
    #[getter]
    fn received(&self) -> Flow {
        Flow::new(self.0.received)
    }

    /// The messages that the server sent, over all connections since it began.
    #[getter]
    fn sent(&self) -> Flow {
        Flow::new(self.0.sent)
    }

    /// The memory that clients take in this process, in bytes.
    #[getter]
    fn memory(&self) -> usize {
        self.0.memory
    }

    /// The limit on the memory that clients take, in bytes.
    #[getter]
    fn memory_max(&self) -> usize {
        self.0.memory_max
    }

    /// The limit on the memory that the clients of one user take, in bytes.
    #[getter]
    fn memory_per_uid_max(&self) -> usize {
        self.0.memory_per_uid_max
    }

    /// The limit on concurrent connections of one user.
    #[getter]
    fn connections_per_uid_max(&self) -> usize {
        self.0.connections_per_uid_max
    }

    /// The limit on concurrent connections.
    #[getter]
    fn connections_max(&self) -> usize {
        self.0.connections_max
    }

    /// The number of refused clients for each reason that has occurred.
    #[getter]
    fn refused_by(&self) -> BTreeMap<String, u64> {
        let counts = RefusalReason::ALL.iter().map(|reason| (reason.to_string(), self.0.refused_by(*reason)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// The client that was refused last, or None.
    #[getter]
    fn last_refusal(&self) -> Option<Refusal> {
        self.0.last_refusal.clone().map(Refusal::new)
    }

    fn __repr__(&self) -> String {
        format!("<parlour.ServerStats {} accepted, {} refused, {} open>", self.0.accepted, self.0.refused, self.0.open)
    }
}
