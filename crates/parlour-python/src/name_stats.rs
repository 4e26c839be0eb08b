//! `name_stats`: the counters of a server, as another process reads them.

use std::collections::BTreeMap;

use parlour::{RefusalReason, WaitReason};
use pyo3::prelude::*;

use crate::error::exception;
use crate::options::client_of;
use crate::owner::Owner;
use crate::peer::Origin;

/// The messages of one direction, and their bytes.
#[pyclass(frozen, module = "parlour", eq)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Flow(parlour::Flow);

impl Flow {
    pub(crate) fn new(flow: parlour::Flow) -> Self {
        Self(flow)
    }
}

#[pymethods]
impl Flow {
    /// The number of messages.
    #[getter]
    fn messages(&self) -> u64 {
        self.0.messages
    }

    /// Their bytes, without headers and without the contents of shared memory.
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Flow {} messages, {} bytes>", self.0.messages, self.0.bytes)
    }
}

/// One direction of a connection in which the server waits.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Waiting(parlour::Waiting);

#[pymethods]
impl Waiting {
    /// The reason: "message" (the client is idle), "rest" (the client has sent only a part of a message) or "space"
    /// (the client does not read).
    #[getter]
    fn reason(&self) -> &'static str {
        match self.0.reason {
            WaitReason::Message => "message",
            WaitReason::Rest => "rest",
            WaitReason::Space => "space",
            _ => "unknown",
        }
    }

    /// The time for which it waits, in seconds.
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.time.as_secs_f64()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Waiting {} for {:.3} s>", self.reason(), self.seconds())
    }
}

/// The counters of one client of a server.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct ClientStats(parlour::ClientStats);

impl ClientStats {
    pub(crate) fn new(stats: parlour::ClientStats) -> Self {
        Self(stats)
    }
}

#[pymethods]
impl ClientStats {
    /// The number of the connection: 1 for the first one that the server accepted. It is never reused.
    #[getter]
    fn number(&self) -> u64 {
        self.0.number
    }

    /// The process id, in the PID namespace of the server, or None. Over fifo it is what the client has stated.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    /// The user id, in the user namespace of the server, or None.
    #[getter]
    fn uid(&self) -> Option<u32> {
        self.0.uid
    }

    /// The group id, in the user namespace of the server, or None.
    #[getter]
    fn gid(&self) -> Option<u32> {
        self.0.gid
    }

    /// The transport, or None for one that this version does not know.
    #[getter]
    fn transport(&self) -> Option<String> {
        self.0.transport.map(|transport| transport.to_string())
    }

    /// The time since the server accepted the client, in seconds.
    #[getter]
    fn connected(&self) -> f64 {
        self.0.connected.as_secs_f64()
    }

    /// The messages that the server received from the client.
    #[getter]
    fn received(&self) -> Flow {
        Flow(self.0.received)
    }

    /// The messages that the server sent to the client.
    #[getter]
    fn sent(&self) -> Flow {
        Flow(self.0.sent)
    }

    /// The other host that the client comes from, if a bridge has connected for it, or None. A host of more than 64
    /// bytes and a program of more than 16 are cut, and end with `~`.
    #[getter]
    fn origin(&self) -> Option<Origin> {
        self.0.origin.clone().map(Origin::new)
    }

    /// The number of bytes that a hub holds for the client, because its channel is full.
    #[getter]
    fn held(&self) -> u64 {
        self.0.held
    }

    /// The wait of the direction in which the server receives, or None.
    #[getter]
    fn receiving(&self) -> Option<Waiting> {
        self.0.receiving.map(Waiting)
    }

    /// The wait of the direction in which the server sends, or None.
    #[getter]
    fn sending(&self) -> Option<Waiting> {
        self.0.sending.map(Waiting)
    }

    /// The wait in which the client holds the server up, or None. A client that is merely busy does so for an instant;
    /// a second is a reasonable limit.
    #[getter]
    fn stuck(&self) -> Option<Waiting> {
        self.0.stuck().map(Waiting)
    }

    fn __repr__(&self) -> String {
        let pid = self.0.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
        format!("<parlour.ClientStats {}, pid {pid}>", self.0.number)
    }
}

/// The counters of a server and of its clients, at one time.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct NameStats(parlour::inspect::NameStats);

#[pymethods]
impl NameStats {
    /// The record of the server.
    #[getter]
    fn owner(&self) -> Owner {
        Owner::new(&self.0.owner)
    }

    /// The time since the server began to count, in seconds.
    #[getter]
    fn uptime(&self) -> f64 {
        self.0.uptime.as_secs_f64()
    }

    /// The number of clients that were accepted.
    #[getter]
    fn accepted(&self) -> u64 {
        self.0.accepted
    }

    /// The number of connections that are open.
    #[getter]
    fn open(&self) -> u64 {
        self.0.open
    }

    /// The number of attempts to connect that were refused.
    #[getter]
    fn refused(&self) -> u64 {
        self.0.refused
    }

    /// The number of refusals for each reason that has occurred.
    #[getter]
    fn refused_by(&self) -> BTreeMap<String, u64> {
        let counts = RefusalReason::ALL.iter().map(|reason| (reason.to_string(), self.0.refused_by(*reason)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// True if no connection began or ended while the counters were read. Otherwise `received` and `sent` may count one
    /// that has just ended twice.
    #[getter]
    fn exact(&self) -> bool {
        self.0.is_exact
    }

    /// The messages that the server received, over all connections since it began.
    #[getter]
    fn received(&self) -> Flow {
        Flow(self.0.received)
    }

    /// The messages that the server sent, over all connections since it began.
    #[getter]
    fn sent(&self) -> Flow {
        Flow(self.0.sent)
    }

    /// The clients that are connected, in the order in which they were accepted.
    #[getter]
    fn clients(&self) -> Vec<ClientStats> {
        self.0.clients.iter().cloned().map(ClientStats).collect()
    }

    /// The number of open connections that `clients` does not have.
    #[getter]
    fn unlisted(&self) -> u64 {
        self.0.unlisted
    }

    fn __repr__(&self) -> String {
        format!("<parlour.NameStats {} open, {} accepted, {} refused>", self.0.open, self.0.accepted, self.0.refused)
    }
}

/// Returns the counters of the server of an address. They are read from memory of the server, which does nothing for it
/// and need not be running. Only the user of the server can read them, and root, who names that user with `server_uid`.
#[pyfunction]
#[pyo3(signature = (address, *, server_uid=None))]
pub(crate) fn name_stats(py: Python<'_>, address: &str, server_uid: Option<u32>) -> PyResult<NameStats> {
    let options = client_of(server_uid);
    let stats = py.detach(|| parlour::inspect::stats_with(address, &options)).map_err(|error| exception(py, &error))?;
    Ok(NameStats(stats))
}
