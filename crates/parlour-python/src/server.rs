//! `Server`: takes a name and accepts clients.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use parlour::{ErrorKind, TryRecvError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::connection::Connection;
use crate::error::{closed, exception, system};
use crate::lock::{Lock, Unavailable, Work};
use crate::name_stats::ClientStats;
use crate::options::{bind, server_options};
use crate::refusal::Refusal;
use crate::stats::ServerStats;
use crate::wait::{self, Deadline, Events, Sleepers};

/// Takes a name and accepts clients.
///
/// `address` is a name, with a transport before it if only one is offered ("shm:echo"), or the path of its directory.
/// The options are keywords: `transports`, `mode`, `group`, `allow`, `message_max`, `fds_max`, `connections_max`,
/// `connections_per_uid_max`, `memory_max`, `memory_per_uid_max`, `half_open_max`, `backlog`, `handshake_timeout`,
/// `client_file`, `ring_size`, `peer_ring_max`, `spin_limit`, `take_over`, `hand_over`, `hand_over_grace`, `yields`,
/// `stats` and `tap`. A server is an iterator over its clients, and a context manager that closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Server {
    /// Held for moments only, and never while a client is accepted.
    state: Lock<State>,
}

/// The servers that may be open when the interpreter ends. It does not drop what a daemon thread can reach.
static SERVERS: OnceLock<Lock<Vec<Weak<parlour::Server>>>> = OnceLock::new();

/// Releases the names of all servers, when the interpreter ends.
#[pyfunction]
pub(crate) fn _release_names(py: Python<'_>) {
    // A thread that accepts may need the interpreter for the function `allow` before it gives its lock back.
    py.detach(|| {
        for server in servers() {
            // The files that cannot be removed are those of a dead server then.
            let _ = server.release();
        }
    });
}

/// Returns the servers that may be open.
fn servers() -> Vec<Arc<parlour::Server>> {
    match SERVERS.get().map(Lock::lock) {
        Some(Ok(servers)) => servers.iter().filter_map(Weak::upgrade).collect(),
        Some(Err(_)) | None => Vec::new(),
    }
}

struct State {
    /// `None` once it is closed.
    server: Option<Arc<parlour::Server>>,
    sleepers: Sleepers,
}

impl Server {
    fn wrap(server: parlour::Server) -> Self {
        let server = Arc::new(server);
        if let Ok(mut servers) = SERVERS.get_or_init(|| Lock::new(Vec::new())).lock() {
            servers.retain(|server| server.strong_count() > 0);
            servers.push(Arc::downgrade(&server));
        }
        let state = State { server: Some(server), sleepers: Sleepers::default() };
        Self { state: Lock::new(state) }
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, State>> {
        self.state.lock().map_err(Unavailable::exception)
    }

    fn open(&self) -> PyResult<Arc<parlour::Server>> {
        self.lock()?.server.clone().ok_or_else(|| closed("server"))
    }

    fn accept_within(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Result<Connection, parlour::Error>> {
        let deadline = Deadline::after(timeout)?;
        let mut is_last = deadline.is_over();
        loop {
            let server = self.open()?;
            let accepted = py.detach(|| {
                let _work = Work::begin(&*server)?;
                Ok(match is_last {
                    true => server.accept_timeout(Duration::ZERO).map_err(TryRecvError::Failed),
                    false => server.try_accept(),
                })
            });
            match accepted.map_err(Unavailable::exception)? {
                Ok(connection) => return Ok(Ok(Connection::new(connection))),
                Err(TryRecvError::Failed(error)) => return Ok(Err(error)),
                Err(TryRecvError::Empty) => {}
            }
            let events = Events::new(server.as_fd().as_raw_fd(), libc::POLLIN);
            drop(server);
            let mut sleeper = {
                let mut state = self.lock()?;
                if state.server.is_none() {
                    return Err(closed("server"));
                }
                state.sleepers.join().map_err(|error| system(&error))?
            };
            let slept = wait::sleep(py, Some(&mut sleeper), events, deadline);
            self.lock()?.sleepers.leave(sleeper);
            slept?;
            is_last = deadline.is_over();
        }
    }
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let server_options = server_options("Server", options)?;
        let server = bind(py, options, |take_over| match take_over {
            Some(time) => server_options.clone().take_over(time).bind(address),
            None => server_options.bind(address),
        })?;
        Ok(Self::wrap(server))
    }

    /// Serves on the sockets that a service manager passed to this process. `fd_name` selects those of that name.
    ///
    /// Raises Unsupported if none was passed.
    #[staticmethod]
    #[pyo3(signature = (fd_name = None, **options))]
    fn from_listen_fds(py: Python<'_>, fd_name: Option<&str>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let server_options = server_options("from_listen_fds", options)?;
        let server = bind(py, options, |take_over| match take_over {
            Some(time) => server_options.clone().take_over(time).bind_listen_fds(fd_name),
            None => server_options.bind_listen_fds(fd_name),
        })?;
        Ok(Self::wrap(server))
    }

    /// Accepts a client and returns a Connection. Blocks until a client has connected and was admitted.
    #[pyo3(signature = (timeout = None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Connection> {
        self.accept_within(py, timeout)?.map_err(|error| exception(py, &error))
    }

    /// Accepts a client without blocking. Returns None if no client is ready.
    ///
    /// Also advances handshakes, so a loop of events calls it whenever `fileno` is readable.
    fn try_accept(&self, py: Python<'_>) -> PyResult<Option<Connection>> {
        let server = self.open()?;
        let accepted = py.detach(|| {
            let _work = Work::begin(&*server)?;
            Ok(server.try_accept())
        });
        match accepted.map_err(Unavailable::exception)? {
            Ok(connection) => Ok(Some(Connection::new(connection))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Failed(error)) => Err(exception(py, &error)),
        }
    }

    /// Requests the end: clients that have connected are still accepted, then `accept` raises Shutdown and iterating
    /// ends.
    fn shutdown(&self) -> PyResult<()> {
        self.open()?.shutdown_handle().shutdown();
        Ok(())
    }

    /// Releases the name and removes its files. Connections go on. Threads that accept get ValueError. Does nothing if
    /// it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let server = {
            let mut state = self.lock()?;
            if let Some(server) = &state.server {
                Work::check(&**server).map_err(Unavailable::exception)?;
            }
            state.sleepers.wake();
            state.server.take()
        };
        let Some(server) = server else { return Ok(()) };
        py.detach(|| match Arc::try_unwrap(server) {
            Ok(server) => server.close(),
            // Another thread is about to accept and drops the server when it has done so. The name is free before.
            Err(server) => {
                let _ = server.release();
                Ok(())
            }
        })
        .map_err(|error| exception(py, &error))
    }

    /// True if the server was closed.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.lock()?.server.is_none())
    }

    /// The name, without transport and directory.
    #[getter]
    fn name(&self) -> PyResult<String> {
        Ok(self.open()?.name().to_owned())
    }

    /// The directory of the name, in which clients find the server.
    #[getter]
    fn path(&self) -> PyResult<PathBuf> {
        Ok(self.open()?.path().to_owned())
    }

    /// The transports on offer, best first.
    #[getter]
    fn transports(&self) -> PyResult<Vec<String>> {
        Ok(self.open()?.transports().iter().map(parlour::Transport::to_string).collect())
    }

    /// Returns the counts of clients.
    fn stats(&self) -> PyResult<ServerStats> {
        Ok(ServerStats::new(self.open()?.stats()))
    }

    /// Returns the counters of each client that is connected, in the order in which they were accepted, as `name_stats`
    /// has them. Empty with `stats=False`.
    fn client_stats(&self, py: Python<'_>) -> PyResult<Vec<ClientStats>> {
        let server = self.open()?;
        let stats = py.detach(|| server.client_stats());
        Ok(stats.into_iter().map(ClientStats::new).collect())
    }

    /// Returns the oldest refusal that no earlier call returned, or None. Refusals are kept from the first call on, up
    /// to 256. Call it once before accepting.
    fn next_refusal(&self) -> PyResult<Option<Refusal>> {
        Ok(self.open()?.next_refusal().map(Refusal::new))
    }

    /// Returns the descriptor that is readable when the server has something to do. The server owns it.
    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.open()?.as_fd().as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Connection>> {
        match self.accept_within(py, None)? {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver) => Ok(None),
            Err(error) => Err(exception(py, &error)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(match &self.lock()?.server {
            Some(server) => format!("<parlour.Server {:?}>", server.name()),
            None => "<parlour.Server closed>".to_owned(),
        })
    }
}
