//! `resolve` and `bases`: where servers and clients look for a name.

use std::path::PathBuf;

use parlour::inspect::BaseState;
use pyo3::prelude::*;

use crate::error::{exception, object};
use crate::inspect::NameStatus;
use crate::options::client_of;

/// A directory that may contain names.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Base(parlour::inspect::Base);

#[pymethods]
impl Base {
    /// The path of the directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path.clone()
    }

    /// The reason why the directory is searched, for people.
    #[getter]
    fn origin(&self) -> String {
        self.0.origin.to_string()
    }

    /// The state: "usable", "missing" (the first server creates it), "unavailable" (its parent does not exist) or
    /// "unsafe".
    #[getter]
    fn state(&self) -> &'static str {
        match self.0.state {
            BaseState::Usable => "usable",
            BaseState::Missing => "missing",
            BaseState::Unavailable(_) => "unavailable",
            _ => "unsafe",
        }
    }

    /// The reason why the directory is "unavailable" or "unsafe", or None.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &self.0.state {
            BaseState::Unavailable(error) | BaseState::Unsafe(error) => Some(object(py, error)),
            _ => None,
        }
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Base {:?}, {}>", self.0.path, self.state())
    }
}

/// One base in the resolution of an address.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Candidate {
    base: Py<Base>,
    name: Option<Py<NameStatus>>,
}

#[pymethods]
impl Candidate {
    /// The base.
    #[getter]
    fn base(&self, py: Python<'_>) -> Py<Base> {
        self.base.clone_ref(py)
    }

    /// The name in this base, or None if it does not exist there.
    #[getter]
    fn name(&self, py: Python<'_>) -> Option<Py<NameStatus>> {
        self.name.as_ref().map(|name| name.clone_ref(py))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let name = self.name.as_ref().map_or("without the name", |name| name.get().state());
        format!("<parlour.Candidate {:?}, {name}>", self.base.bind(py).get().0.path)
    }
}

/// The resolution of an address: the directories that a server and a client of this user would use.
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Resolution {
    address: String,
    candidates: Vec<Py<Candidate>>,
    server: Result<PathBuf, Py<PyAny>>,
    client: Result<PathBuf, Py<PyAny>>,
    found: Option<Py<NameStatus>>,
}

impl Resolution {
    /// Resolves an address.
    ///
    /// # Errors
    ///
    /// Those of [`parlour::inspect::resolve`].
    pub(crate) fn of(py: Python<'_>, address: &str, server_uid: Option<u32>) -> PyResult<Self> {
        let options = client_of(server_uid);
        let resolved = py.detach(|| parlour::inspect::resolve_with(address, &options));
        let resolved = resolved.map_err(|error| exception(py, &error))?;
        let mut found = None;
        let mut candidates = Vec::new();
        for candidate in resolved.candidates {
            let name = candidate.name.map(|name| {
                let is_found = resolved.client.as_ref().is_ok_and(|path| *path == name.path);
                Py::new(py, NameStatus::new(name)).map(|name| (name, is_found))
            });
            let name = name.transpose()?;
            if let Some((name, true)) = &name {
                found = Some(name.clone_ref(py));
            }
            let base = Py::new(py, Base(candidate.base))?;
            candidates.push(Py::new(py, Candidate { base, name: name.map(|(name, _)| name) })?);
        }
        let [server, client] = [resolved.server, resolved.client].map(|path| path.map_err(|error| object(py, &error)));
        Ok(Self { address: resolved.address.to_string(), candidates, server, client, found })
    }
}

#[pymethods]
impl Resolution {
    /// The address.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// The bases that are searched, in order, with the name in each.
    #[getter]
    fn candidates(&self, py: Python<'_>) -> Vec<Py<Candidate>> {
        self.candidates.iter().map(|candidate| candidate.clone_ref(py)).collect()
    }

    /// The directory through which a client of this user would connect, or None: then `client_error` has the reason.
    #[getter]
    fn client(&self) -> Option<PathBuf> {
        self.client.as_ref().ok().cloned()
    }

    /// The reason why there is no directory for a client, or None: NoServer, or Io if it is not known.
    #[getter]
    fn client_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.client.as_ref().err().map(|error| error.clone_ref(py))
    }

    /// The directory that a server of this user would take, or None: then `server_error` has the reason.
    #[getter]
    fn server(&self) -> Option<PathBuf> {
        self.server.as_ref().ok().cloned()
    }

    /// The reason why there is no directory for a server, or None.
    #[getter]
    fn server_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.server.as_ref().err().map(|error| error.clone_ref(py))
    }

    /// The name through which a client of this user would connect, with its holder, or None.
    #[getter]
    fn found(&self, py: Python<'_>) -> Option<Py<NameStatus>> {
        self.found.as_ref().map(|name| name.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        let found = self.found.as_ref().map_or("not found", |name| name.get().state());
        format!("<parlour.Resolution of {}, {found}>", self.address)
    }
}

/// Looks an address up as a server and a client of this user do, and returns every directory that was searched. The
/// absence of a server is no exception, but in `client_error`. `server_uid` is that of `connect`.
#[pyfunction]
#[pyo3(signature = (address, *, server_uid=None))]
pub(crate) fn resolve(py: Python<'_>, address: &str, server_uid: Option<u32>) -> PyResult<Resolution> {
    Resolution::of(py, address, server_uid)
}

/// Returns the directories that may contain names, in the order in which clients search them. `server_uid` is that of
/// `connect`.
#[pyfunction]
#[pyo3(signature = (*, server_uid=None))]
pub(crate) fn bases(py: Python<'_>, server_uid: Option<u32>) -> PyResult<Vec<Base>> {
    let options = client_of(server_uid);
    let bases = py.detach(|| parlour::inspect::bases_with(&options)).map_err(|error| exception(py, &error))?;
    Ok(bases.into_iter().map(Base).collect())
}
