//! `SessionSteps`: a session for a loop of events. No function blocks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use parlour::{Reconnect, TryRecvError, TrySendError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::connection::Connection;
use crate::error::{closed, exception};
use crate::lock::{Lock, Unavailable};
use crate::message::Message;
use crate::options::connect_options;
use crate::payload::Parts;

/// A session of which each step is made by a loop of events, which also logs in. `parlour.aio.Session` is made of it.
#[pyclass(frozen, module = "parlour._parlour")]
pub(crate) struct SessionSteps(Lock<State>);

struct State {
    /// `None` once it is closed.
    session: Option<parlour::Session>,
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

impl SessionSteps {
    fn with<T>(&self, py: Python<'_>, step: impl FnOnce(&mut parlour::Session) -> T) -> PyResult<T> {
        self.0.lock_attached(py)?.session.as_mut().map(step).ok_or_else(|| closed("session"))
    }

    fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&parlour::Connection) -> T) -> PyResult<Option<T>> {
        self.with(py, |session| session.connection().map(look))
    }

    fn try_receive(&self, py: Python<'_>) -> PyResult<Option<parlour::Message>> {
        let received = self.with(py, |session| match session.connection() {
            Some(_) => session.try_recv(),
            None => Err(TryRecvError::Empty),
        })?;
        match received {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Failed(error)) => Err(exception(py, &error)),
        }
    }
}

#[pymethods]
impl SessionSteps {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = connect_options("Session", options)?;
        let session = options.session(address, &Reconnect::new()).map_err(|error| exception(py, &error))?;
        Ok(Self(Lock::new(State { session: Some(session), dialing: None })))
    }

    /// Advances connecting, and returns a new connection, for `welcome`. Returns None while there is none; then wait
    /// until `dial_fileno` is readable. Closes the descriptor of the last `dial_fileno`.
    fn try_dial(&self, py: Python<'_>) -> PyResult<Option<Connection>> {
        let dialed = py.detach(|| {
            let mut state = self.0.lock().map_err(Unavailable::exception)?;
            state.dialing = None;
            state.session.as_mut().map(parlour::Session::try_dial).ok_or_else(|| closed("session"))
        })?;
        Ok(dialed.map_err(|error| exception(py, &error))?.map(Connection::new))
    }

    /// Returns the descriptor to wait for, which is another one after each `try_dial`.
    fn dial_fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let mut state = self.0.lock_attached(py)?;
        let session = state.session.as_ref().ok_or_else(|| closed("session"))?;
        let dialing = session.dial_fd().map_err(|error| exception(py, &error))?;
        let number = dialing.number();
        state.dialing = Some(Box::new(dialing));
        Ok(number)
    }

    /// Uses a connection that `try_dial` has returned.
    fn welcome(&self, py: Python<'_>, connection: &Connection) -> PyResult<()> {
        let connection = connection.take_open(py)?;
        self.with(py, |session| session.welcome(Ok(connection)))?.map_err(|error| exception(py, &error))
    }

    /// Notes that the connection of `try_dial` was closed, and why. The next attempt is made after a pause.
    fn reject(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        let error = io::Error::new(io::ErrorKind::ConnectionReset, reason.to_owned());
        self.with(py, |session| session.welcome(Err(error)))?.map_err(|error| exception(py, &error))
    }

    /// Sends one message. Returns False if the channel is full, or there is no connection, and nothing was sent.
    #[pyo3(signature = (data, *more, fds = None, shared = None))]
    fn try_send<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let parts = Parts::new(data, more, fds, shared)?;
        let view = parts.view();
        let sent = self.with(py, |session| match session.connection() {
            Some(_) => session.try_send(view.payload()).map(|()| true),
            None => Ok(false),
        })?;
        match sent {
            Ok(is_sent) => Ok(is_sent),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Failed(error)) => Err(exception(py, &error)),
        }
    }

    /// Writes what is buffered. Returns True if nothing is left, as when there is no connection.
    fn try_flush(&self, py: Python<'_>) -> PyResult<bool> {
        match self.with(py, |session| session.flush_timeout(std::time::Duration::ZERO))? {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == parlour::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// Receives one message, and returns its bytes, or None if none has arrived or there is no connection.
    fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(self.try_receive(py)?.map(|message| PyBytes::new(py, &message)))
    }

    /// Receives one message as `try_recv` does, with what is attached to it.
    fn try_recv_message(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        Ok(self.try_receive(py)?.map(Message::new))
    }

    /// Returns the descriptor that is readable when something may be received, or None if there is no connection.
    fn fileno(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        self.look(py, |connection| connection.recv_fd().as_raw_fd())
    }

    /// Returns the descriptor that is writable when something may be sent, or None if there is no connection.
    fn send_fileno(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        Ok(self.look(py, |connection| connection.send_fd().map(|fd| fd.as_raw_fd()))?.flatten())
    }

    /// Takes the messages that had arrived when a send has found the end.
    fn take_unreceived<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let messages = self.with(py, parlour::Session::take_unreceived)?;
        Ok(messages.iter().map(|message| PyBytes::new(py, message)).collect())
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

    /// True if there is a connection.
    #[getter]
    fn connected(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.look(py, |_| ())?.is_some())
    }

    /// The transport of the connection, or None.
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.look(py, |connection| connection.transport().to_string())
    }
}
