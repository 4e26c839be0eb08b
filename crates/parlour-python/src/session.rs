//! `Session`: a client that outlives its servers.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use parlour::{ErrorKind, Reconnect, Transport, TryRecvError, TrySendError};
use pyo3::exceptions::{PyConnectionError, PyEOFError, PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::connection::Connection;
use crate::error::{closed, exception, system};
use crate::json;
use crate::lock::{self, Lock, Unavailable, Work};
use crate::log;
use crate::message::Message;
use crate::options::connect_options;
use crate::payload::Parts;
use crate::wait::{self, Deadline, Events, Sleeper, Sleepers};

/// The longest time for which a call connects inside the library, where no signal ends it.
const CONNECT_SLICE: Duration = Duration::from_millis(50);

/// The time for which a thread that connects lets the others work.
const YIELD: Duration = Duration::from_millis(1);

/// A client that outlives its servers: it connects again, and tells what may have been lost.
///
/// The end of a connection is reported once, by the call that finds it, with Lost, whose `loss` has the account. The
/// call after that connects again. `address` and the options are those of `parlour.connect`, without `wait`: a session
/// waits for a server as long as the timeouts of its calls allow. `on_connect` is called with each new Connection
/// before anything else is sent, to log in or to subscribe. If it raises EOFError, ConnectionError or TimeoutError, the
/// session tries again later; any other exception is raised by the call that has connected.
///
/// A session is a context manager that closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Session {
    /// Held while the session connects.
    state: Lock<State>,
    /// The number of threads that wait for the state.
    waiting: AtomicUsize,
    /// The last exception of `on_connect` that ends the call.
    raised: Arc<Mutex<Option<PyErr>>>,
}

struct State {
    /// `None` once it is closed.
    session: Option<parlour::Session>,
    sleepers: Sleepers,
    /// The channel has taken a message in part.
    has_rest: bool,
}

/// The result of an attempt.
enum Attempt<T> {
    Done(T),
    /// The call waits for these events.
    Wait(Events),
    /// There is no connection yet.
    Connecting,
}

/// The result of an attempt, with the place of a thread that sleeps.
enum Step<T> {
    Done(T),
    Wait(Sleeper, Events),
    Again,
}

impl Session {
    /// Repeats `attempt` until it is done. Connects and sleeps in between. `last` is the attempt at the deadline.
    fn repeat<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut parlour::Session, &mut bool, bool) -> parlour::Result<Attempt<T>> + Send,
    ) -> PyResult<T> {
        loop {
            let is_last = deadline.is_over();
            let step = py.detach(|| {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                let locked = self.state.lock_within(lock::SLICE);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                let Some(mut state) = locked.map_err(Unavailable::exception)? else { return Ok(Ok(Step::Again)) };
                let _work = Work::begin(&self.state).map_err(Unavailable::exception)?;
                let State { session, sleepers, has_rest } = &mut *state;
                let session = session.as_mut().ok_or_else(|| closed("session"))?;
                let attempted = attempt(session, has_rest, is_last);
                if !matches!(attempted, Ok(Attempt::Wait(_) | Attempt::Connecting)) {
                    // One read takes several messages, or the end, which the descriptor does not show again.
                    sleepers.wake();
                }
                Ok::<_, PyErr>(match attempted {
                    Err(error) => Err(error),
                    Ok(Attempt::Done(value)) => Ok(Step::Done(value)),
                    Ok(Attempt::Wait(events)) => {
                        Ok(Step::Wait(sleepers.join().map_err(|error| system(&error))?, events))
                    }
                    Ok(Attempt::Connecting) => match session.connect_timeout(deadline.left_within(CONNECT_SLICE)) {
                        Err(error) if error.kind() != ErrorKind::TimedOut || is_last => Err(error),
                        Ok(_) | Err(_) => Ok(Step::Again),
                    },
                })
            })?;
            match step {
                Ok(Step::Done(value)) => return Ok(value),
                Ok(Step::Again) => {
                    py.check_signals()?;
                    if self.waiting.load(Ordering::Relaxed) > 0 {
                        // The lock is not fair.
                        py.detach(|| thread::sleep(YIELD));
                    }
                }
                Ok(Step::Wait(mut sleeper, events)) => {
                    let slept = wait::sleep(py, Some(&mut sleeper), events, deadline);
                    self.state.lock_attached(py)?.sleepers.leave(sleeper);
                    slept?;
                }
                Err(error) => {
                    let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return Err(raised.unwrap_or_else(|| exception(py, &error)));
                }
            }
        }
    }

    fn receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<parlour::Message> {
        self.repeat(py, Deadline::after(timeout)?, |session, has_rest, is_last| {
            let received = match is_last {
                true => session.recv_timeout(Duration::ZERO).map_err(TryRecvError::Failed),
                false => session.try_recv(),
            };
            match received {
                Ok(message) => Ok(Attempt::Done(message)),
                Err(TryRecvError::Failed(error)) => Err(error),
                Err(TryRecvError::Empty) => {
                    // The server may wait for the rest of a message.
                    if *has_rest {
                        match session.flush_timeout(Duration::ZERO) {
                            Ok(()) => *has_rest = false,
                            Err(error) if error.kind() == ErrorKind::TimedOut => {}
                            Err(error) => {
                                *has_rest = false;
                                return Err(error);
                            }
                        }
                    }
                    Ok(session.connection().map_or(Attempt::Connecting, |connection| {
                        let events = Events::new(connection.recv_fd().as_raw_fd(), libc::POLLIN);
                        Attempt::Wait(match connection.send_fd() {
                            Some(fd) if *has_rest => events.and(fd.as_raw_fd(), libc::POLLOUT),
                            _ => events,
                        })
                    }))
                }
            }
        })
    }

    /// Calls `look` with the connection, if there is one.
    fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&parlour::Connection) -> T) -> PyResult<Option<T>> {
        let state = self.state.lock_checking(py)?;
        let session = state.session.as_ref().ok_or_else(|| closed("session"))?;
        Ok(session.connection().map(look))
    }
}

fn wait_to_send<T>(session: &parlour::Session) -> Attempt<T> {
    session.connection().map_or(Attempt::Connecting, |connection| {
        let fd = connection.send_fd().unwrap_or(connection.recv_fd());
        Attempt::Wait(Events::new(fd.as_raw_fd(), libc::POLLOUT))
    })
}

/// Calls a function of Python with a connection, which is an object of Python meanwhile.
fn call_hook(hook: &Py<PyAny>, connection: &mut parlour::Connection, raised: &Mutex<Option<PyErr>>) -> io::Result<()> {
    // Takes its place.
    let (place, _other) = parlour::Connection::pair(Transport::Unix).map_err(io::Error::other)?;
    let lent = std::mem::replace(connection, place);
    Python::try_attach(|py| {
        let called = Bound::new(py, Connection::new(lent)).and_then(|lent| {
            let called = hook.call1(py, (&lent,));
            // A hook may have closed it.
            if let Ok(back) = lent.get().take_open(py) {
                *connection = back;
                return called.map(drop);
            }
            called.and_then(|_| Err(PyValueError::new_err("on_connect has closed the connection")))
        });
        called.map_err(|error| {
            let kind = if error.is_instance_of::<PyEOFError>(py) {
                io::ErrorKind::BrokenPipe
            } else if error.is_instance_of::<PyConnectionError>(py) {
                io::ErrorKind::ConnectionReset
            } else if error.is_instance_of::<PyTimeoutError>(py) {
                io::ErrorKind::TimedOut
            } else {
                *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return io::Error::other("the function on_connect has raised an exception");
            };
            let _ = log::info(py, "on_connect has failed, and the session tries again: %s", &error);
            io::Error::new(kind, error.to_string())
        })
    })
    .unwrap_or_else(|| Err(io::Error::other("the interpreter ends")))
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (address, on_connect = None, **options))]
    fn new(
        py: Python<'_>,
        address: &str,
        on_connect: Option<Py<PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let options = connect_options("Session", options)?;
        let mut session = options.session(address, &Reconnect::new()).map_err(|error| exception(py, &error))?;
        let raised = Arc::new(Mutex::new(None));
        if let Some(hook) = on_connect {
            if !hook.bind(py).is_callable() {
                return Err(PyTypeError::new_err("on_connect is a function that takes a Connection"));
            }
            let raised = Arc::clone(&raised);
            session = session.on_connect(move |connection| call_hook(&hook, connection, &raised));
        }
        let state = State { session: Some(session), sleepers: Sleepers::default(), has_rest: false };
        Ok(Self { state: Lock::new(state), waiting: AtomicUsize::new(0), raised })
    }

    /// Connects if there is no connection. The other calls do this by themselves.
    #[pyo3(signature = (timeout = None))]
    fn connect(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.repeat(py, Deadline::after(timeout)?, |session, _, is_last| match session.connection() {
            Some(_) => Ok(Attempt::Done(())),
            None if is_last => session.connect_timeout(Duration::ZERO).map(|_| Attempt::Done(())),
            None => Ok(Attempt::Connecting),
        })
    }

    /// Sends one message. See `Connection.send` for the arguments. After an exception of the library the server does
    /// not receive the message; after TimedOut nothing of it was sent.
    #[pyo3(signature = (data, *more, fds = None, shared = None, timeout = None))]
    fn send<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let parts = Parts::new(data, more, fds, shared)?;
        let view = parts.view();
        let mut is_taken = false;
        self.repeat(py, Deadline::after(timeout)?, |session, has_rest, is_last| {
            if !is_taken {
                let sent = match is_last {
                    true => session.send_timeout(view.payload(), Duration::ZERO).map_err(TrySendError::Failed),
                    false => session.try_send(view.payload()),
                };
                match sent {
                    Ok(()) => (is_taken, *has_rest) = (true, true),
                    Err(TrySendError::Full(_)) => return Ok(wait_to_send(session)),
                    Err(TrySendError::Failed(error)) => return Err(error),
                }
            }
            // The rest of a message that the channel has taken in part.
            match session.flush_timeout(Duration::ZERO) {
                Ok(()) => {
                    *has_rest = false;
                    Ok(Attempt::Done(()))
                }
                // At the deadline the rest stays buffered, because the message cannot be taken back.
                Err(error) if error.kind() == ErrorKind::TimedOut && is_last => Ok(Attempt::Done(())),
                Err(error) if error.kind() == ErrorKind::TimedOut => Ok(wait_to_send(session)),
                Err(error) => Err(error),
            }
        })
    }

    /// Receives one message and returns its bytes. Never returns a message of an earlier connection. Raises Lost when
    /// the connection has ended, after all messages that had arrived.
    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.receive(py, timeout)?))
    }

    /// Receives one message as `recv` does, with what is attached to it.
    #[pyo3(signature = (timeout = None))]
    fn recv_message(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        self.receive(py, timeout).map(Message::new)
    }

    /// Sends one value as JSON, in UTF-8. Raises Encoding if it is none; nothing was sent then.
    #[pyo3(signature = (value, timeout = None))]
    fn send_json<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        self.send(py, &json::encode(py, value)?, &PyTuple::empty(py), None, None, timeout)
    }

    /// Receives one message as `recv` does, and returns the value that it is in JSON. Raises Encoding if it is none.
    /// The message was taken then, and the connection can be used further.
    #[pyo3(signature = (timeout = None))]
    fn recv_json<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.recv(py, timeout)?)
    }

    /// Takes the messages of the server that had arrived when a send has found the end, until the session connects
    /// again. `recv` does not return them.
    fn take_unreceived<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let mut state = self.state.lock_checking(py)?;
        let session = state.session.as_mut().ok_or_else(|| closed("session"))?;
        Ok(session.take_unreceived().iter().map(|message| PyBytes::new(py, message)).collect())
    }

    /// Closes the session. A message that the channel has not taken is lost. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let session = {
            let mut state = self.state.lock_checking(py)?;
            state.sleepers.wake();
            state.session.take()
        };
        py.detach(|| drop(session));
        Ok(())
    }

    /// True if the session was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock_checking(py)?.session.is_none())
    }

    /// True if there is a connection. Its server may have gone.
    #[getter]
    fn connected(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.look(py, |_| ())?.is_some())
    }

    /// The transport of the connection, or None.
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.look(py, |connection| connection.transport().to_string())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(match &self.state.lock_checking(py)?.session {
            Some(_) => "<parlour.Session>",
            None => "<parlour.Session closed>",
        })
    }
}
