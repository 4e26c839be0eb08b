//! `CallSteps`: a session of calls for a loop that connects and logs in by itself. No function blocks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use parlour::Reconnect;
use parlour::calls::CallerOptions;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::caller::Caller;
use crate::error::{closed, exception};
use crate::lock::{Lock, Unavailable};
use crate::options::{CALLER_OPTIONS, caller_options, connect_options};

/// A session of calls of which each step is made by the program. `parlour.CallSession` and that of `parlour.aio` are
/// made of it.
#[pyclass(frozen, module = "parlour._parlour")]
pub(crate) struct CallSteps(Lock<State>);

struct State {
    /// `None` once it is closed.
    session: Option<parlour::CallSession>,
    /// The descriptor of the last `dial_fileno`.
    dialing: Option<Box<dyn Descriptor>>,
}

trait Descriptor: Send {
    fn number(&self) -> RawFd;
}

impl<T: AsFd + Send> Descriptor for T {
    fn number(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl CallSteps {
    fn with<T: Send>(&self, py: Python<'_>, step: impl FnOnce(&mut State) -> parlour::Result<T> + Send) -> PyResult<T> {
        let outcome = py.detach(|| {
            let mut state = self.0.lock().map_err(Unavailable::exception)?;
            if state.session.is_none() {
                return Err(closed("session"));
            }
            Ok(step(&mut state))
        })?;
        outcome.map_err(|error| exception(py, &error))
    }

    fn with_session<T: Send + Default>(
        &self,
        py: Python<'_>,
        step: impl FnOnce(&parlour::CallSession) -> parlour::Result<T> + Send,
    ) -> PyResult<T> {
        self.with(py, |state| state.session.as_ref().map_or_else(|| Ok(T::default()), step))
    }

    /// Calls `step` with a caller, and returns the default value if that was closed.
    fn with_caller<T: Send + Default>(
        &self,
        py: Python<'_>,
        caller: &Caller,
        step: impl FnOnce(&parlour::CallSession, &parlour::Caller) -> parlour::Result<T> + Send,
    ) -> PyResult<T> {
        let Some(caller) = caller.inner(py)? else { return Ok(T::default()) };
        self.with_session(py, |session| step(session, &caller))
    }
}

#[pymethods]
impl CallSteps {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let own = PyDict::new(py);
        let others = options.map_or_else(|| Ok(PyDict::new(py)), |options| options.copy())?;
        for name in CALLER_OPTIONS {
            if let Some(value) = others.get_item(name)? {
                own.set_item(name, value)?;
                others.del_item(name)?;
            }
        }
        let limits: CallerOptions = caller_options("CallSession", Some(&own))?;
        let session = connect_options("CallSession", Some(&others))?
            .call_session(address, &Reconnect::new())
            .map_err(|error| exception(py, &error))?
            .options(&limits);
        Ok(Self(Lock::new(State { session: Some(session), dialing: None })))
    }

    /// Advances connecting, and returns a new caller, for `welcome`. Returns None while there is none; then wait until
    /// `dial_fileno` is readable. Closes the descriptor of the last `dial_fileno`.
    fn try_dial(&self, py: Python<'_>) -> PyResult<Option<Caller>> {
        let dialed = self.with(py, |state| {
            state.dialing = None;
            state.session.as_ref().map_or(Ok(None), parlour::CallSession::try_dial)
        })?;
        Ok(dialed.map(Caller::of))
    }

    /// Returns the descriptor to wait for, which is another one after each `try_dial`.
    fn dial_fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |state| {
            let Some(session) = &state.session else { return Ok(-1) };
            let dialing = session.dial_fd()?;
            let number = dialing.number();
            state.dialing = Some(Box::new(dialing));
            Ok(number)
        })
    }

    /// Uses a caller that `try_dial` has returned. Returns False if it was closed.
    fn welcome(&self, py: Python<'_>, caller: &Caller) -> PyResult<bool> {
        self.with_caller(py, caller, |session, caller| session.welcome(Ok(caller)).map(|()| true))
    }

    /// Notes that the caller of `try_dial` was closed, and why. The next attempt is made after a pause.
    fn reject(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let error = io::Error::new(io::ErrorKind::ConnectionReset, reason.to_owned());
        self.with_session(py, |session| session.welcome(Err(error)))
    }

    /// Returns True if the next call belongs to this caller. Receives nothing.
    fn is_present(&self, py: Python<'_>, caller: &Caller) -> PyResult<bool> {
        self.with_caller(py, caller, parlour::CallSession::is_present)
    }

    /// Ends the use of a caller for further calls.
    fn leave(&self, py: Python<'_>, caller: &Caller) -> PyResult<()> {
        self.with_caller(py, caller, parlour::CallSession::leave)
    }

    /// Returns the next pushed message of a connection that has ended, or None. Raises Lost once after the last.
    fn earlier_push<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let message = self.with_session(py, parlour::CallSession::earlier_push)?;
        Ok(message.map(|message| PyBytes::new(py, &message)))
    }

    /// Closes the session.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = {
            let mut state = self.0.lock_attached(py)?;
            (state.dialing.take(), state.session.take())
        };
        py.detach(|| drop(closed));
        Ok(())
    }

    /// True if the session was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.lock_attached(py)?.session.is_none())
    }
}
