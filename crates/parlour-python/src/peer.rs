//! `Peer`: the identity of the other side.

use pyo3::prelude::*;

/// The identity of a peer: its process, user and group, each with what vouches for it.
///
/// An unknown id is None. Base decisions on `uid` and `gid`, and only if their provenance is KERNEL or FILE_OWNER. A
/// process id is for people.
#[pyclass(frozen, module = "parlour", eq)]
#[derive(Clone, PartialEq)]
pub(crate) struct Peer(parlour::Peer);

impl Peer {
    pub(crate) fn new(peer: &parlour::Peer) -> Self {
        Self(peer.clone())
    }
}

/// Returns the member of `parlour.Provenance`.
fn member(py: Python<'_>, provenance: parlour::Provenance) -> PyResult<Bound<'_, PyAny>> {
    let name = match provenance {
        parlour::Provenance::Claim => "CLAIM",
        parlour::Provenance::Verified => "VERIFIED",
        parlour::Provenance::FileOwner => "FILE_OWNER",
        parlour::Provenance::Kernel => "KERNEL",
        _ => "UNKNOWN",
    };
    py.import("parlour._provenance")?.getattr("Provenance")?.getattr(name)
}

#[pymethods]
impl Peer {
    /// The process id, or None.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    /// The source that vouches for `pid`.
    #[getter]
    fn pid_provenance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        member(py, self.0.pid_provenance())
    }

    /// The user id, or None.
    #[getter]
    fn uid(&self) -> Option<u32> {
        self.0.uid()
    }

    /// The source that vouches for `uid`.
    #[getter]
    fn uid_provenance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        member(py, self.0.uid_provenance())
    }

    /// The group id, or None.
    #[getter]
    fn gid(&self) -> Option<u32> {
        self.0.gid()
    }

    /// The source that vouches for `gid`.
    #[getter]
    fn gid_provenance<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        member(py, self.0.gid_provenance())
    }

    /// The other host that the client comes from, if the process that has connected is a bridge that this server
    /// believes, or None. The ids of the peer are those of the bridge.
    #[getter]
    fn origin(&self) -> Option<Origin> {
        self.0.origin().cloned().map(Origin)
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Peer {}>", self.0)
    }
}

/// The other host that a client comes from, as the bridge tells it.
///
/// The bridge vouches for `host`. The ids and the program are those on that host, and claims of it.
#[pyclass(frozen, module = "parlour", eq)]
#[derive(Clone, PartialEq)]
pub(crate) struct Origin(parlour::Origin);

impl Origin {
    pub(crate) fn new(origin: parlour::Origin) -> Self {
        Self(origin)
    }
}

#[pymethods]
impl Origin {
    /// The name of the host.
    #[getter]
    fn host(&self) -> &str {
        self.0.host()
    }

    /// The user id on that host, or None.
    #[getter]
    fn uid(&self) -> Option<u32> {
        self.0.uid()
    }

    /// The process id on that host, or None.
    #[getter]
    fn pid(&self) -> Option<u32> {
        self.0.pid()
    }

    /// The program on that host, or None.
    #[getter]
    fn program(&self) -> Option<&str> {
        self.0.program()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Origin {}>", self.0)
    }
}
