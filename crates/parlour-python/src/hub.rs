//! `Hub`: a server and all its clients in one thread.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parlour::hub::DisconnectReason;
use parlour::{ErrorKind, TryRecvError};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::capabilities::Capabilities;
use crate::ending::{Ended, end_until};
use crate::error::{closed, exception, system};
use crate::json;
use crate::lock::{Lock, Unavailable, Work};
use crate::message::Message;
use crate::options::{bind, hub_options};
use crate::payload::Parts;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::stats::ServerStats;
use crate::wait::{self, Deadline, Events, Sleepers};

/// A server and all its clients, for one thread: an iterator over events.
///
/// `address` and the options are those of `Server`, and `write_buffer_max`, `blocks_max`, `kept_values_max`,
/// `kept_bytes_max`, `subscriptions_max` and `slow_client`, which is "disconnect" or "refuse". Nothing is sent to or
/// received from clients while no thread waits for events. Other threads may send meanwhile. A hub is a context manager
/// that closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Hub {
    state: Arc<Lock<State>>,
}

/// The hubs that may be open when the interpreter ends. It does not drop what a daemon thread can reach.
static HUBS: OnceLock<Lock<Vec<Weak<Lock<State>>>>> = OnceLock::new();

/// Ends all hubs, when the interpreter ends.
#[pyfunction]
pub(crate) fn _end_hubs(py: Python<'_>) {
    // A thread that waits for events may need the interpreter for the function `allow` before it gives its lock back.
    py.detach(|| {
        for state in hubs() {
            let hub = state.lock().map(|mut state| state.hub.take());
            drop(hub);
        }
    });
}

/// Returns the states of the hubs that may be open.
fn hubs() -> Vec<Arc<Lock<State>>> {
    match HUBS.get().map(Lock::lock) {
        Some(Ok(hubs)) => hubs.iter().filter_map(Weak::upgrade).collect(),
        Some(Err(_)) | None => Vec::new(),
    }
}

struct State {
    /// `None` once it is closed.
    hub: Option<parlour::Hub>,
    sleepers: Sleepers,
}

/// A client of a hub.
#[pyclass(frozen, eq, hash, ord, from_py_object, module = "parlour")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Client(parlour::hub::Client);

impl Client {
    pub(crate) fn client(self) -> parlour::hub::Client {
        self.0
    }
}

#[pymethods]
impl Client {
    /// The number of the client, which is unique within the hub.
    #[getter]
    fn number(&self) -> u64 {
        self.0.number()
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Client {}>", self.0)
    }
}

/// An event of a hub. Each client that was admitted causes one "joined", then its messages, and one "left".
#[pyclass(frozen, module = "parlour")]
pub(crate) struct Event {
    kind: &'static str,
    client: Option<Client>,
    peer: Option<Py<Peer>>,
    message: Option<Py<Message>>,
    refusal: Option<Py<Refusal>>,
    reason: Option<&'static str>,
    error: Option<Py<PyAny>>,
}

#[pymethods]
impl Event {
    /// The kind: "joined", "message", "finished" (the client sends no more), "left", "refused", "woken" or "missed".
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind
    }

    /// The client, or None with "refused" and "woken".
    #[getter]
    fn client(&self) -> Option<Client> {
        self.client
    }

    /// The identity of the client, with "joined", or None.
    #[getter]
    fn peer(&self, py: Python<'_>) -> Option<Py<Peer>> {
        self.peer.as_ref().map(|peer| peer.clone_ref(py))
    }

    /// The message, with "message", or None.
    #[getter]
    fn message(&self, py: Python<'_>) -> Option<Py<Message>> {
        self.message.as_ref().map(|message| message.clone_ref(py))
    }

    /// The bytes of the message, or no bytes.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.message.as_ref().map_or_else(|| PyBytes::new(py, b""), |message| message.get().to_bytes(py))
    }

    /// Returns the value of the message, which is JSON. Raises Encoding if it is none, or there is no message.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.data(py))
    }

    /// The refusal, with "refused", or None.
    #[getter]
    fn refusal(&self, py: Python<'_>) -> Option<Py<Refusal>> {
        self.refusal.as_ref().map(|refusal| refusal.clone_ref(py))
    }

    /// The reason, with "left": "closed", "disconnected", "slow" or "failed". Otherwise None.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// The error of a client that has "left" because it "failed", or None.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.error.as_ref().map(|error| error.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        match self.client {
            Some(client) => format!("<parlour.Event {} of client {}>", self.kind, client.0),
            None => format!("<parlour.Event {}>", self.kind),
        }
    }
}

impl Event {
    fn new(py: Python<'_>, event: parlour::hub::Event) -> PyResult<Self> {
        use parlour::hub::Event as E;
        let of = |kind, client: Option<parlour::hub::Client>| Self {
            kind,
            client: client.map(Client),
            peer: None,
            message: None,
            refusal: None,
            reason: None,
            error: None,
        };
        Ok(match event {
            E::Joined(client, peer) => {
                Self { peer: Some(Py::new(py, Peer::new(&peer))?), ..of("joined", Some(client)) }
            }
            E::Message(client, message) => {
                Self { message: Some(Py::new(py, Message::new(message))?), ..of("message", Some(client)) }
            }
            E::Finished(client) => of("finished", Some(client)),
            E::Left(client, reason) => {
                let (reason, error) = match reason {
                    DisconnectReason::Closed => ("closed", None),
                    DisconnectReason::Disconnected => ("disconnected", None),
                    DisconnectReason::Slow => ("slow", None),
                    DisconnectReason::Failed(error) => {
                        ("failed", Some(exception(py, &error).into_value(py).into_any()))
                    }
                    _ => ("failed", None),
                };
                Self { reason: Some(reason), error, ..of("left", Some(client)) }
            }
            E::Refused(refusal) => Self { refusal: Some(Py::new(py, Refusal::new(refusal))?), ..of("refused", None) },
            E::Missed(client) => of("missed", Some(client)),
            _ => of("woken", None),
        })
    }
}

impl Hub {
    fn wrap(hub: parlour::Hub) -> Self {
        let state = Arc::new(Lock::new(State { hub: Some(hub), sleepers: Sleepers::default() }));
        if let Ok(mut hubs) = HUBS.get_or_init(|| Lock::new(Vec::new())).lock() {
            hubs.retain(|hub| hub.strong_count() > 0);
            hubs.push(Arc::downgrade(&state));
        }
        Self { state }
    }

    /// Calls `work` with the hub, without the interpreter.
    pub(crate) fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut parlour::Hub) -> T + Send,
    ) -> PyResult<T> {
        let worked = py.detach(|| {
            let mut state = self.state.lock()?;
            let _work = Work::begin(&*self.state)?;
            let worked = state.hub.as_mut().map(work);
            // The change may be for a thread that waits for events.
            state.sleepers.wake();
            Ok(worked)
        });
        worked.map_err(Unavailable::exception)?.ok_or_else(|| closed("hub"))
    }

    fn checked<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut parlour::Hub) -> parlour::Result<T> + Send,
    ) -> PyResult<T> {
        self.with(py, work)?.map_err(|error| exception(py, &error))
    }

    fn event_within(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Result<Event, parlour::Error>> {
        let deadline = Deadline::after(timeout)?;
        let mut is_last = deadline.is_over();
        loop {
            let step = py.detach(|| {
                let mut state = self.state.lock().map_err(Unavailable::exception)?;
                let _work = Work::begin(&*self.state).map_err(Unavailable::exception)?;
                let State { hub, sleepers } = &mut *state;
                let hub = hub.as_mut().ok_or_else(|| closed("hub"))?;
                let event = match is_last {
                    true => hub.next_event_timeout(Duration::ZERO).map_err(TryRecvError::Failed),
                    false => hub.try_next_event(),
                };
                Ok::<_, PyErr>(match event {
                    Ok(event) => Ok(Ok(event)),
                    Err(TryRecvError::Failed(error)) => Ok(Err(error)),
                    Err(TryRecvError::Empty) => {
                        let sleeper = sleepers.join().map_err(|error| system(&error))?;
                        Err((sleeper, Events::new(hub.as_fd().as_raw_fd(), libc::POLLIN)))
                    }
                })
            })?;
            let (mut sleeper, events) = match step {
                Ok(Ok(event)) => return Event::new(py, event).map(Ok),
                Ok(Err(error)) => return Ok(Err(error)),
                Err(waits) => waits,
            };
            let slept = wait::sleep(py, Some(&mut sleeper), events, deadline);
            self.state.lock_attached(py)?.sleepers.leave(sleeper);
            slept?;
            is_last = deadline.is_over();
        }
    }
}

#[pymethods]
impl Hub {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (hub_options, server) = hub_options("Hub", options)?;
        let hub = bind(py, options, |take_over| match take_over {
            Some(time) => hub_options.clone().server(server.clone().take_over(time)).bind(address),
            None => hub_options.clone().server(server.clone()).bind(address),
        })?;
        Ok(Self::wrap(hub))
    }

    /// Serves on the sockets that a service manager passed to this process. See `Server.from_listen_fds`.
    #[staticmethod]
    #[pyo3(signature = (fd_name = None, **options))]
    fn from_listen_fds(py: Python<'_>, fd_name: Option<&str>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (hub_options, server) = hub_options("from_listen_fds", options)?;
        let hub = bind(py, options, |take_over| match take_over {
            Some(time) => hub_options.clone().server(server.clone().take_over(time)).bind_listen_fds(fd_name),
            None => hub_options.clone().server(server.clone()).bind_listen_fds(fd_name),
        })?;
        Ok(Self::wrap(hub))
    }

    /// Waits for the next event and returns it. Raises Shutdown at the end.
    #[pyo3(signature = (timeout = None))]
    fn next_event(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Event> {
        self.event_within(py, timeout)?.map_err(|error| exception(py, &error))
    }

    /// Returns the next event without blocking, or None. A loop of events calls it until it returns None, and then
    /// waits for `fileno`.
    fn try_next_event(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        match self.with(py, parlour::Hub::try_next_event)? {
            Ok(event) => Event::new(py, event).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Failed(error)) => Err(exception(py, &error)),
        }
    }

    /// Sends one message to a client, without blocking. See `Connection.send` for the arguments.
    ///
    /// Buffers the part that the channel does not take, up to `write_buffer_max`. Raises Busy if more would be, and the
    /// policy is "refuse".
    #[pyo3(signature = (client, data, *more, fds = None, shared = None))]
    fn send<'py>(
        &self,
        py: Python<'py>,
        client: Client,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let parts = Parts::new(data, more, fds, shared)?;
        let view = parts.view();
        self.checked(py, |hub| hub.send(client.0, view.payload()))
    }

    /// Sends one message to all clients, or to all but `exclude`. Returns the clients that miss it.
    #[pyo3(signature = (data, *more, shared = None, exclude = None))]
    fn broadcast<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        shared: Option<&Bound<'py, PyAny>>,
        exclude: Option<Client>,
    ) -> PyResult<Vec<Client>> {
        let parts = Parts::new(data, more, None, shared)?;
        let view = parts.view();
        let missed = self.checked(py, |hub| match exclude {
            Some(client) => hub.broadcast_except(client.0, view.payload()),
            None => hub.broadcast(view.payload()),
        })?;
        Ok(missed.into_iter().map(Client).collect())
    }

    /// Sends a value as JSON to a client as `send` does. Raises Encoding if it is none.
    fn send_json(&self, py: Python<'_>, client: Client, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.send(py, client, &json::encode(py, value)?, &PyTuple::empty(py), None, None)
    }

    /// Sends a value as JSON to all clients as `broadcast` does. Raises Encoding if it is none.
    #[pyo3(signature = (value, exclude = None))]
    fn broadcast_json(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        exclude: Option<Client>,
    ) -> PyResult<Vec<Client>> {
        self.broadcast(py, &json::encode(py, value)?, &PyTuple::empty(py), None, exclude)
    }

    /// Sends a value as JSON to the subscribers of a topic as `publish` does. Raises Encoding if it is none.
    fn publish_json(&self, py: Python<'_>, topic: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Client>> {
        self.publish(py, topic, &json::encode(py, value)?, &PyTuple::empty(py), None)
    }

    /// Subscribes a client to the topics that begin with `prefix`.
    fn subscribe(&self, py: Python<'_>, client: Client, prefix: &str) -> PyResult<()> {
        self.checked(py, |hub| hub.subscribe(client.0, prefix))
    }

    /// Ends a subscription.
    fn unsubscribe(&self, py: Python<'_>, client: Client, prefix: &str) -> PyResult<()> {
        self.checked(py, |hub| hub.unsubscribe(client.0, prefix))
    }

    /// Sends one message to the clients that have subscribed to the topic. Returns the clients that miss it.
    #[pyo3(signature = (topic, data, *more, shared = None))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        shared: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Vec<Client>> {
        let parts = Parts::new(data, more, None, shared)?;
        let view = parts.view();
        let missed = self.checked(py, |hub| hub.publish(topic, view.payload()))?;
        Ok(missed.into_iter().map(Client).collect())
    }

    /// Forgets the last value of a topic (`kept_values_max`), so that no new subscriber gets it. Returns true if there
    /// was one.
    fn forget(&self, py: Python<'_>, topic: &str) -> PyResult<bool> {
        self.checked(py, |hub| hub.forget(topic))
    }

    /// Ends sending to a client, after what is buffered for it.
    fn finish(&self, py: Python<'_>, client: Client) -> PyResult<()> {
        self.checked(py, |hub| hub.finish(client.0))
    }

    /// Ends the connection of a client.
    fn disconnect(&self, py: Python<'_>, client: Client) -> PyResult<()> {
        self.checked(py, |hub| hub.disconnect(client.0))
    }

    /// Ends the connection of a client with an error for it. See `Connection.abort`.
    fn abort(&self, py: Python<'_>, client: Client) -> PyResult<()> {
        self.checked(py, |hub| hub.abort(client.0))
    }

    /// Returns the clients that are connected.
    fn clients(&self, py: Python<'_>) -> PyResult<Vec<Client>> {
        self.with(py, |hub| hub.clients().map(Client).collect())
    }

    /// Returns the identity of a client, or None if it has left.
    fn peer(&self, py: Python<'_>, client: Client) -> PyResult<Option<Peer>> {
        self.with(py, |hub| hub.peer(client.0).map(Peer::new))
    }

    /// Returns the capabilities of the connection of a client, or None if it has left.
    fn capabilities(&self, py: Python<'_>, client: Client) -> PyResult<Option<Capabilities>> {
        self.with(py, |hub| hub.capabilities(client.0).map(Capabilities::new))
    }

    /// Returns the transport of a client, or None if it has left.
    fn transport(&self, py: Python<'_>, client: Client) -> PyResult<Option<String>> {
        self.with(py, |hub| hub.transport(client.0).map(|transport| transport.to_string()))
    }

    /// Returns the number of bytes that are buffered for a client.
    fn write_buffer_len(&self, py: Python<'_>, client: Client) -> PyResult<usize> {
        self.with(py, |hub| hub.write_buffer_len(client.0))
    }

    /// Requests the end: iterating ends, and `next_event` raises Shutdown.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |hub| hub.shutdown_handle().shutdown())
    }

    /// Sends what is buffered, for at most `timeout` seconds, and ends all connections and the name, also if a signal
    /// handler raises meanwhile. Does nothing if it is closed. Raises TimedOut if some clients did not read all.
    #[pyo3(signature = (timeout = 0.0))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let deadline = Deadline::after(timeout)?;
        let hub = {
            let mut state = self.state.lock_attached(py)?;
            state.sleepers.wake();
            state.hub.take()
        };
        let Some(mut hub) = hub else { return Ok(()) };
        let Ended { released, written } = end_until(py, deadline, |time| hub.end_timeout(time))?;
        released.and(written).map_err(|error| exception(py, &error))
    }

    /// True if the hub was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock_attached(py)?.hub.is_none())
    }

    /// The name, without transport and directory.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |hub| hub.name().to_owned())
    }

    /// The directory of the name.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.with(py, |hub| hub.path().to_owned())
    }

    /// The transports on offer, best first.
    #[getter]
    fn transports(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |hub| hub.transports().iter().map(parlour::Transport::to_string).collect())
    }

    /// Returns the counts of clients.
    fn stats(&self, py: Python<'_>) -> PyResult<ServerStats> {
        self.with(py, |hub| ServerStats::new(hub.stats()))
    }

    /// Returns the descriptor that is readable when the hub has something to do. The hub owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |hub| hub.as_fd().as_raw_fd())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.state.lock_attached(py)?.hub {
            Some(hub) => format!("<parlour.Hub {:?}>", hub.name()),
            None => "<parlour.Hub closed>".to_owned(),
        })
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Event>> {
        match self.event_within(py, None)? {
            Ok(event) => Ok(Some(event)),
            Err(error) if matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver) => Ok(None),
            Err(error) => Err(exception(py, &error)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the hub without waiting for clients that do not read.
    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        match self.close(py, Some(0.0)) {
            Err(error) if error.is_instance_of::<PyTimeoutError>(py) => Ok(()),
            closed => closed,
        }
    }
}
