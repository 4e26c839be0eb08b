//! `watch` and `Watches`: the changes of names.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error::{closed, exception, system, timed_out};
use crate::lock::{Lock, Unavailable};
use crate::options::client_of;
use crate::resolution::Resolution;
use crate::wait::{self, Deadline, Events, Sleeper, Sleepers};

/// A watch of the library, and the threads that wait for it.
struct Shared<T>(Lock<State<T>>);

struct State<T> {
    /// `None` once it is closed.
    watch: Option<T>,
    sleepers: Sleepers,
}

/// The result of a look at a watch.
enum Look<R> {
    Found(R),
    Closed,
    /// The deadline has passed.
    Over,
    Sleep(Sleeper, RawFd),
}

/// The reason why a look has failed.
enum Failure {
    Library(parlour::Error),
    System(io::Error),
    Unavailable(Unavailable),
}

impl Failure {
    fn exception(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Library(error) => exception(py, &error),
            Self::System(error) => system(&error),
            Self::Unavailable(reason) => reason.exception(),
        }
    }
}

impl<T: AsFd + Send> Shared<T> {
    fn new(watch: T) -> Self {
        Self(Lock::new(State { watch: Some(watch), sleepers: Sleepers::default() }))
    }

    /// Calls `look` with the watch.
    fn with<R: Send>(&self, py: Python<'_>, look: impl FnOnce(&mut T) -> parlour::Result<R> + Send) -> PyResult<R> {
        let looked = py.detach(|| {
            let mut state = self.0.lock().map_err(Failure::Unavailable)?;
            state.watch.as_mut().map(look).transpose().map_err(Failure::Library)
        });
        looked.map_err(|failure| failure.exception(py))?.ok_or_else(|| closed("watch"))
    }

    /// Waits until `look` finds something, or returns `None` at the deadline.
    fn wait<R: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut look: impl FnMut(&mut T) -> parlour::Result<Option<R>> + Send,
    ) -> PyResult<Option<R>> {
        loop {
            let is_last = deadline.is_over();
            let looked = py.detach(|| {
                let mut state = self.0.lock().map_err(Failure::Unavailable)?;
                let State { watch: Some(watch), sleepers } = &mut *state else { return Ok(Look::Closed) };
                match look(watch).map_err(Failure::Library)? {
                    Some(found) => Ok(Look::Found(found)),
                    None if is_last => Ok(Look::Over),
                    None => {
                        let fd = watch.as_fd().as_raw_fd();
                        Ok(Look::Sleep(sleepers.join().map_err(Failure::System)?, fd))
                    }
                }
            });
            let (mut sleeper, fd) = match looked.map_err(|failure: Failure| failure.exception(py))? {
                Look::Found(found) => return Ok(Some(found)),
                Look::Closed => return Err(closed("watch")),
                Look::Over => return Ok(None),
                Look::Sleep(sleeper, fd) => (sleeper, fd),
            };
            let slept = wait::sleep(py, Some(&mut sleeper), Events::new(fd, libc::POLLIN), deadline);
            self.0.lock_attached(py)?.sleepers.leave(sleeper);
            slept?;
        }
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.0.lock_attached(py)?;
        state.sleepers.wake();
        state.watch = None;
        Ok(())
    }

    fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.lock_attached(py)?.watch.is_none())
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |watch| Ok(watch.as_fd().as_raw_fd()))
    }
}

fn nothing_has_changed(py: Python<'_>) -> PyErr {
    timed_out(py, "find", "nothing has changed before the deadline")
}

/// The watch on one name, and the looks that were asked for.
struct Name {
    watch: parlour::inspect::Watch,
    /// True once somebody has looked at the name.
    has_looked: bool,
}

impl AsFd for Name {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// A watch on one name, which `parlour.watch` returns.
///
/// A watch is an iterator over the Resolution of the name: the present one at first, and another one after each change.
/// It is a context manager that closes it. Threads may share a watch: each change goes to one of them. After a fork,
/// one of the processes may use it. A watch has three descriptors.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Watch {
    address: String,
    server_uid: Option<u32>,
    name: Shared<Name>,
}

#[pymethods]
impl Watch {
    /// The address, as it was given.
    #[getter]
    fn address(&self) -> &str {
        &self.address
    }

    /// Returns True if one should look at the name again, because of a change since the last call. Does not block.
    fn changed(&self, py: Python<'_>) -> PyResult<bool> {
        self.name.with(py, |name| name.watch.changed())
    }

    /// Waits until one should look at the name again. Raises TimedOut at the deadline.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let changed = self.name.wait(py, Deadline::after(timeout)?, |name| Ok(name.watch.changed()?.then_some(())))?;
        changed.ok_or_else(|| nothing_has_changed(py))
    }

    /// Looks at the name, as `parlour.resolve` does.
    fn look(&self, py: Python<'_>) -> PyResult<Resolution> {
        self.name.with(py, |name| {
            name.has_looked = true;
            Ok(())
        })?;
        Resolution::of(py, &self.address, self.server_uid)
    }

    /// Returns the descriptor that is readable when `changed` may return True. The watch owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.name.fileno(py)
    }

    /// Ends the watch. Threads that wait get ValueError. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.name.close(py)
    }

    /// True if the watch was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.name.is_closed(py)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Resolution> {
        self.name.wait(py, Deadline::after(None)?, |name| {
            let is_first = !std::mem::replace(&mut name.has_looked, true);
            Ok((is_first || name.watch.changed()?).then_some(()))
        })?;
        Resolution::of(py, &self.address, self.server_uid)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Watch of {:?}>", self.address)
    }
}

/// Watches a name: a server that takes it, ends, is killed, or hands it over is a change. A report may come without a
/// change of the state. `server_uid` is that of `connect`.
#[pyfunction]
#[pyo3(signature = (address, *, server_uid=None))]
pub(crate) fn watch(py: Python<'_>, address: &str, server_uid: Option<u32>) -> PyResult<Watch> {
    let options = client_of(server_uid);
    let watch = py.detach(|| parlour::inspect::watch_with(address, &options)).map_err(|error| exception(py, &error))?;
    Ok(Watch { address: address.to_owned(), server_uid, name: Shared::new(Name { watch, has_looked: false }) })
}

/// The watch on many names.
struct Names {
    watches: parlour::inspect::Watches,
    /// The names that have changed, and that the iterator has not returned yet.
    changed: VecDeque<String>,
}

impl Names {
    /// Takes the names that have changed.
    fn look(&mut self) -> parlour::Result<()> {
        for address in self.watches.changed()? {
            let address = address.to_string();
            if !self.changed.contains(&address) {
                self.changed.push_back(address);
            }
        }
        Ok(())
    }
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watches.as_fd()
    }
}

/// A watch on any number of names, for three descriptors.
///
/// `Watches(["red", "green"])` watches these names, and `add` another one. It is an iterator over the addresses of the
/// names at which one should look again, and a context manager that closes it. Threads may share it: each change goes
/// to one of them. After a fork, one of the processes may use it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Watches(Shared<Names>);

#[pymethods]
impl Watches {
    #[new]
    #[pyo3(signature = (addresses = None))]
    fn new(py: Python<'_>, addresses: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let watches = parlour::inspect::Watches::new().map_err(|error| exception(py, &error))?;
        let made = Self(Shared::new(Names { watches, changed: VecDeque::new() }));
        for address in addresses.map(|addresses| addresses.try_iter()).transpose()?.into_iter().flatten() {
            made.add(py, &address?.extract::<String>()?)?;
        }
        Ok(made)
    }

    /// Begins to watch a name. Does nothing if it is watched. Look at the name after that, so that no change is missed.
    fn add(&self, py: Python<'_>, address: &str) -> PyResult<()> {
        self.0.with(py, |names| names.watches.add(address))
    }

    /// Ends the watch on a name. Returns False if it is not watched.
    fn remove(&self, py: Python<'_>, address: &str) -> PyResult<bool> {
        self.0.with(py, |names| {
            names.changed.retain(|changed| changed != address);
            Ok(names.watches.remove(address))
        })
    }

    /// Returns the addresses at which one should look again, because of a change since the last call. Does not block.
    fn changed(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.0.with(py, |names| {
            names.look()?;
            Ok(names.changed.drain(..).collect())
        })
    }

    /// Waits until one should look at names again, and returns their addresses. Raises TimedOut at the deadline.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Vec<String>> {
        let changed = self.0.wait(py, Deadline::after(timeout)?, |names| {
            names.look()?;
            let changed: Vec<_> = names.changed.drain(..).collect();
            Ok(Some(changed).filter(|changed| !changed.is_empty()))
        })?;
        changed.ok_or_else(|| nothing_has_changed(py))
    }

    /// Returns the descriptor that is readable when `changed` may return a name. The watch owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.0.fileno(py)
    }

    /// Ends the watch. Threads that wait get ValueError. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)
    }

    /// True if the watch was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.is_closed(py)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.0.wait(py, Deadline::after(None)?, |names| {
            if names.changed.is_empty() {
                names.look()?;
            }
            Ok(names.changed.pop_front())
        })
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match self.0.is_closed(py)? {
            true => "<parlour.Watches closed>".to_owned(),
            false => "<parlour.Watches>".to_owned(),
        })
    }
}
