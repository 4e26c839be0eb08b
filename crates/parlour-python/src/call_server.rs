//! `CallServer` and `Call`: requests of all clients in one thread, which any thread answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use parlour::calls::Pusher;
use parlour::{ErrorKind, TryRecvError};
use pyo3::exceptions::{PyException, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::ending::{Ended, end_until, is_late};
use crate::error::{closed, exception, system, timed_out};
use crate::json;
use crate::lock::{Lock, Unavailable, Work};
use crate::log;
use crate::message::Message;
use crate::options::{bind, call_server_options};
use crate::payload::Parts;
use crate::peer::Peer;
use crate::stats::ServerStats;
use crate::wait::{self, Deadline, Events, Own, Sleepers, ThreadWaker};

/// A server of calls: an iterator over the requests of all clients, each of which is a Call to be answered.
///
/// `address` and the options are those of `Server`, and `calls_max` and `request_bytes_max`, which limit the open calls
/// of one client. The server works only while a thread waits for the next call: it admits clients, and sends the
/// answers. It is a context manager that closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct CallServer {
    state: Arc<Lock<State>>,
    pusher: Pusher,
}

struct State {
    /// `None` once it is closed.
    server: Option<parlour::calls::CallServer>,
    sleepers: Sleepers,
}

/// The servers that may be open when the interpreter ends. It does not drop what a daemon thread can reach.
static SERVERS: OnceLock<Lock<Vec<Weak<Lock<State>>>>> = OnceLock::new();

/// The thread that ends the interpreter.
static ENDING_IN: OnceLock<ThreadId> = OnceLock::new();

/// Sleeps for ever if another thread ends the interpreter. A daemon thread must not report that its server has gone.
pub(crate) fn sleep_if_ending(py: Python<'_>) {
    if ENDING_IN.get().is_some_and(|thread| *thread != thread::current().id()) {
        py.detach(|| {
            loop {
                thread::park();
            }
        });
    }
}

/// Ends all servers of calls, when the interpreter ends.
#[pyfunction]
pub(crate) fn _end_call_servers(py: Python<'_>) {
    let _ = ENDING_IN.set(thread::current().id());
    py.detach(|| {
        let Some(Ok(servers)) = SERVERS.get().map(Lock::lock) else { return };
        let open: Vec<_> = servers.iter().filter_map(Weak::upgrade).collect();
        drop(servers);
        for state in open {
            let server = state.lock().map(|mut state| state.server.take());
            drop(server);
        }
    });
}

impl CallServer {
    fn wrap(server: parlour::calls::CallServer) -> Self {
        let pusher = server.pusher();
        let state = State { server: Some(server), sleepers: Sleepers::default() };
        let state = Arc::new(Lock::new(state));
        if let Ok(mut servers) = SERVERS.get_or_init(|| Lock::new(Vec::new())).lock() {
            servers.retain(|server| server.strong_count() > 0);
            servers.push(Arc::downgrade(&state));
        }
        Self { state, pusher }
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut parlour::calls::CallServer) -> T + Send,
    ) -> PyResult<T> {
        let worked = py.detach(|| {
            let mut state = self.state.lock()?;
            let _work = Work::begin(&*self.state)?;
            Ok(state.server.as_mut().map(work))
        });
        worked.map_err(Unavailable::exception)?.ok_or_else(|| closed("server"))
    }

    fn call_within(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Result<Call, parlour::Error>> {
        let deadline = Deadline::after(timeout)?;
        let mut is_last = deadline.is_over();
        loop {
            let step = py.detach(|| {
                let mut state = self.state.lock().map_err(Unavailable::exception)?;
                let _work = Work::begin(&*self.state).map_err(Unavailable::exception)?;
                let State { server, sleepers } = &mut *state;
                let Some(server) = server.as_mut() else { return Ok(Err(None)) };
                let call = match is_last {
                    true => server.next_call_timeout(Duration::ZERO).map_err(TryRecvError::Failed),
                    false => server.try_next_call(),
                };
                Ok::<_, PyErr>(match call {
                    Ok(call) => Ok(Ok(Taken::new(call))),
                    Err(TryRecvError::Failed(error)) => Ok(Err(error)),
                    Err(TryRecvError::Empty) => {
                        let sleeper = sleepers.join().map_err(|error| system(&error))?;
                        Err(Some((sleeper, Events::new(server.as_fd().as_raw_fd(), libc::POLLIN))))
                    }
                })
            })?;
            let (mut sleeper, events) = match step {
                Ok(Ok(taken)) => return taken.call(py).map(Ok),
                Ok(Err(error)) => return Ok(Err(error)),
                Err(Some(waits)) => waits,
                Err(None) => {
                    sleep_if_ending(py);
                    return Err(closed("server"));
                }
            };
            let slept = wait::sleep(py, Some(&mut sleeper), events, deadline);
            self.state.lock_attached(py)?.sleepers.leave(sleeper);
            slept?;
            is_last = deadline.is_over();
        }
    }
}

#[pymethods]
impl CallServer {
    #[new]
    #[pyo3(signature = (address, **options))]
    fn new(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (call_options, server_options) = call_server_options("CallServer", options)?;
        let server = bind(py, options, |take_over| {
            let server = match take_over {
                Some(time) => server_options.clone().take_over(time).bind(address),
                None => server_options.bind(address),
            }?;
            call_options.apply(parlour::calls::CallServer::new(server)?)
        })?;
        Ok(Self::wrap(server))
    }

    /// Serves on the sockets that a service manager passed to this process. See `Server.from_listen_fds`.
    #[staticmethod]
    #[pyo3(signature = (fd_name = None, **options))]
    fn from_listen_fds(py: Python<'_>, fd_name: Option<&str>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let (call_options, server_options) = call_server_options("from_listen_fds", options)?;
        let server = bind(py, options, |take_over| {
            let server = match take_over {
                Some(time) => server_options.clone().take_over(time).bind_listen_fds(fd_name),
                None => server_options.bind_listen_fds(fd_name),
            }?;
            call_options.apply(parlour::calls::CallServer::new(server)?)
        })?;
        Ok(Self::wrap(server))
    }

    /// Waits for the next request of any client and returns it as a Call. Raises Shutdown at the end.
    #[pyo3(signature = (timeout = None))]
    fn next_call(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Call> {
        self.call_within(py, timeout)?.map_err(|error| exception(py, &error))
    }

    /// Returns the next request without blocking, or None. A loop of events calls it until it returns None, and then
    /// waits for `fileno`.
    fn try_next_call(&self, py: Python<'_>) -> PyResult<Option<Call>> {
        let taken = py.detach(|| {
            let mut state = self.state.lock()?;
            let _work = Work::begin(&*self.state)?;
            let taken = state.server.as_mut().map(parlour::calls::CallServer::try_next_call);
            Ok(taken.map(|taken| taken.map(Taken::new)))
        });
        match taken.map_err(Unavailable::exception)?.ok_or_else(|| closed("server"))? {
            Ok(taken) => taken.call(py).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Failed(error)) => Err(exception(py, &error)),
        }
    }

    /// Calls `handler` with each call, in this thread, until a shutdown or a hand-over.
    ///
    /// If the handler returns bytes, they are the answer. If it returns None, it has answered by itself, or somebody
    /// else will; a call that nobody keeps fails at its caller. An exception of the handler fails its call and is
    /// logged.
    fn serve(&self, py: Python<'_>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        loop {
            let call = match self.call_within(py, None)? {
                Ok(call) => Bound::new(py, call)?,
                Err(error) if matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver) => return Ok(()),
                Err(error) => return Err(exception(py, &error)),
            };
            let handled = handler.call1((&call,)).and_then(|answer| match answer.is_none() {
                true => Ok(()),
                false => call.get().reply(py, &answer, &PyTuple::empty(py)),
            });
            match handled {
                Ok(()) => {}
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                // Nobody waits for the answer any more.
                Err(_) if call.get().is_cancelled() => {}
                Err(error) => {
                    log::error(py, "the handler of a call has failed", &error)?;
                    if let Ok(open) = call.get().take() {
                        // An error means that nobody waits for the answer any more.
                        let _ = open.fail("the server has failed");
                    }
                }
            }
        }
    }

    /// Sends one message that answers no call to the client with this number (`Call.client`), or to all. Does not
    /// block. Raises Busy if too many wait for the thread that serves.
    #[pyo3(signature = (data, *more, client = None))]
    fn push<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        client: Option<u64>,
    ) -> PyResult<()> {
        let parts = Parts::new(data, more, None, None)?;
        let view = parts.view();
        let pushed = py.detach(|| match client {
            Some(client) => self.pusher.push(client, view.payload()),
            None => self.pusher.push_all(view.payload()),
        });
        pushed.map_err(|error| exception(py, &error))
    }

    /// Sends a value as JSON as `push` does. Raises Encoding if it is none.
    #[pyo3(signature = (value, client = None))]
    fn push_json(&self, py: Python<'_>, value: &Bound<'_, PyAny>, client: Option<u64>) -> PyResult<()> {
        self.push(py, &json::encode(py, value)?, &PyTuple::empty(py), client)
    }

    /// Requests the end: iterating ends, and `next_call` raises Shutdown. Requests that arrive later are refused.
    fn shutdown(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |server| server.shutdown_handle().shutdown())
    }

    /// Ends the server: waits for the calls that other threads hold, writes their answers, and ends all connections,
    /// for at most `timeout` seconds together, also if a signal handler raises meanwhile. Calls that are open after
    /// that fail at their callers. Does nothing if it is closed. Raises TimedOut if some clients did not read all.
    #[pyo3(signature = (timeout = 5.0))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let deadline = Deadline::after(timeout)?;
        let server = {
            let mut state = self.state.lock_attached(py)?;
            state.sleepers.wake();
            state.server.take()
        };
        let Some(mut server) = server else { return Ok(()) };
        let ended = end_until(py, deadline, |time| server.end_timeout(time));
        let (released, written) = match ended {
            // The calls that are open do not count.
            Ok(Ended { released, written: Err(error) }) if is_late(&error) => {
                (released, py.detach(|| server.close_timeout(Duration::ZERO)))
            }
            Ok(Ended { released, written }) => {
                py.detach(|| drop(server));
                (released, written)
            }
            Err(raised) => {
                py.detach(|| drop(server));
                return Err(raised);
            }
        };
        released.and(written).map_err(|error| exception(py, &error))
    }

    /// Does what `close` does as far as it needs no waiting. Returns true if nothing is left to do. Otherwise `fileno`
    /// is readable when there is more.
    fn _try_end(&self, py: Python<'_>) -> PyResult<bool> {
        match self.with(py, |server| server.end_timeout(Duration::ZERO))? {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// True if the server was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock_attached(py)?.server.is_none())
    }

    /// The name, without transport and directory.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |server| server.name().to_owned())
    }

    /// The directory of the name.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        self.with(py, |server| server.path().to_owned())
    }

    /// Returns the counts of clients.
    fn stats(&self, py: Python<'_>) -> PyResult<ServerStats> {
        self.with(py, |server| ServerStats::new(server.stats()))
    }

    /// Returns the descriptor that is readable when the server has something to do. The server owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |server| server.as_fd().as_raw_fd())
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Call>> {
        match self.call_within(py, None)? {
            Ok(call) => Ok(Some(call)),
            Err(error) if matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver) => Ok(None),
            Err(error) => Err(exception(py, &error)),
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the server. After an exception it does not wait, and answers may be lost.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        if exception.get_item(0).is_ok_and(|kind| !kind.is_none()) {
            return match self.close(py, Some(0.0)) {
                Err(error) if error.is_instance_of::<PyTimeoutError>(py) => Ok(()),
                closed => closed,
            };
        }
        self.close(py, Some(5.0))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.state.lock_attached(py)?.server {
            Some(server) => format!("<parlour.CallServer {:?}>", server.name()),
            None => "<parlour.CallServer closed>".to_owned(),
        })
    }
}

/// A request of a client, which is to be answered, by any thread: with `reply`, with `item` and `end`, or with `fail`.
///
/// A call that is dropped without an answer fails at its caller. `reply`, `item`, `end` and `fail` raise Disconnected
/// if nobody waits for the answer any more.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Call {
    message: Py<Message>,
    slot: Arc<Slot>,
    peer: Peer,
    client: u64,
}

/// A call until it is answered.
struct Slot(Mutex<Place>);

#[derive(Default)]
struct Place {
    call: Option<parlour::calls::Call>,
    /// The threads that wait until something happens to the call.
    waiting: Vec<Arc<ThreadWaker>>,
    /// The answer was given when nobody waited for it any more.
    was_late: bool,
}

impl Slot {
    /// Locks the place. Nobody who holds the lock waits for the interpreter.
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call before it is an object of Python.
struct Taken {
    message: parlour::Message,
    slot: Arc<Slot>,
    peer: Peer,
    client: u64,
}

impl Taken {
    fn new(mut call: parlour::calls::Call) -> Self {
        let message = call.take_request();
        let (peer, client) = (Peer::new(call.peer()), call.client());
        let slot = Arc::new(Slot(Mutex::new(Place { call: Some(call), ..Place::default() })));
        Self { message, slot, peer, client }
    }

    fn call(self, py: Python<'_>) -> PyResult<Call> {
        let Self { message, slot, peer, client } = self;
        Ok(Call { message: Py::new(py, Message::new(message))?, slot, peer, client })
    }
}

impl Call {
    /// Returns true if the call is open, and nobody waits for the answer any more, or if the answer was too late.
    fn is_cancelled(&self) -> bool {
        let place = self.slot.lock();
        place.call.as_ref().map_or(place.was_late, parlour::calls::Call::is_cancelled)
    }

    /// Takes the call to answer it. Threads that wait for something else find that it was answered.
    fn take(&self) -> PyResult<parlour::calls::Call> {
        let mut place = self.slot.lock();
        let call = place.call.take().ok_or_else(answered)?;
        place.waiting.drain(..).for_each(Wake::wake);
        Ok(call)
    }

    /// Answers with `answer`. The call has ended then.
    fn finish(
        &self,
        py: Python<'_>,
        answer: impl FnOnce(parlour::calls::Call) -> parlour::Result<()> + Send,
    ) -> PyResult<()> {
        let call = self.take()?;
        py.detach(|| answer(call)).map_err(|error| {
            self.slot.lock().was_late = error.kind() == ErrorKind::Disconnected;
            exception(py, &error)
        })
    }

    /// Makes an attempt while no other thread answers. Returns `None` if the call was answered.
    fn attempt<T: Send>(&self, py: Python<'_>, attempt: impl FnOnce(&parlour::calls::Call) -> T + Send) -> Option<T> {
        py.detach(|| self.slot.lock().call.as_ref().map(attempt))
    }

    /// Repeats `attempt` until it is ready, and sleeps in between. `blocking` is the same of the library with a timeout
    /// of 0, which fails in the thread that serves, because that must not sleep. Returns false if the call was
    /// answered.
    fn repeat(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        late: &str,
        attempt: impl Fn(&parlour::calls::Call, &mut Context<'_>) -> Poll<parlour::Result<()>> + Send + Sync,
        blocking: impl Fn(&parlour::calls::Call) -> parlour::Result<()> + Send + Sync,
    ) -> PyResult<bool> {
        let deadline = Deadline::after(timeout)?;
        let own = Own::take().map_err(|error| system(&error))?;
        let waker = Waker::from(Arc::clone(&own));
        loop {
            let slept = py.detach(|| {
                own.clear();
                let mut place = self.slot.lock();
                place.waiting.retain(|other| !Arc::ptr_eq(other, &own));
                let Some(call) = &place.call else { return Err(Some(Ok(false))) };
                match attempt(call, &mut Context::from_waker(&waker)) {
                    Poll::Ready(result) => return Err(Some(result.map(|()| true))),
                    Poll::Pending if deadline.is_over() => return Err(None),
                    Poll::Pending => {}
                }
                match blocking(call) {
                    Err(error) if error.kind() == ErrorKind::TimedOut => {}
                    result => return Err(Some(result.map(|()| true))),
                }
                place.waiting.push(Arc::clone(&own));
                drop(place);
                Ok(wait::sleep_detached(None, &mut Events::new(own.fd(), libc::POLLIN), deadline))
            });
            match slept {
                Err(Some(result)) => return result.map_err(|error| exception(py, &error)),
                Err(None) => return Err(timed_out(py, "answer", late)),
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
                Ok(Err(error)) => return Err(system(&error)),
            }
        }
    }
}

/// The parts of a server of calls that `parlour.aio` uses: attempts of its calls that do not wait, and the notes that
/// they may be tried again.
#[pyclass(frozen, module = "parlour._parlour")]
#[derive(Default)]
pub(crate) struct Answers {
    room: Arc<Note>,
    cancelled: Arc<Note>,
}

/// A waker that notes that it was woken.
#[derive(Default)]
struct Note(AtomicBool);

impl Note {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[pymethods]
impl Answers {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Answers with one of several messages. Returns false, and makes a note when there may be room, if there is none.
    #[pyo3(signature = (call, data, *more))]
    fn item<'py>(
        &self,
        py: Python<'py>,
        call: &Call,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
    ) -> PyResult<bool> {
        let parts = Parts::new(data, more, None, None)?;
        let view = parts.view();
        let waker = Waker::from(Arc::clone(&self.room));
        let sent = call.attempt(py, |call| call.poll_item(view.payload(), &mut Context::from_waker(&waker)));
        match sent.ok_or_else(answered)? {
            Poll::Ready(result) => result.map(|()| true).map_err(|error| exception(py, &error)),
            Poll::Pending => Ok(false),
        }
    }

    /// Returns true if nobody waits for the answer any more, or the call was answered. Otherwise makes a note when that
    /// may have changed.
    fn cancelled(&self, py: Python<'_>, call: &Call) -> PyResult<bool> {
        let waker = Waker::from(Arc::clone(&self.cancelled));
        let polled = call.attempt(py, |call| call.poll_cancelled(&mut Context::from_waker(&waker)));
        match polled.unwrap_or(Poll::Ready(Ok(()))) {
            Poll::Ready(result) => result.map(|()| true).map_err(|error| exception(py, &error)),
            Poll::Pending => Ok(false),
        }
    }

    /// Takes the notes: true if there may be room, and true if a call was cancelled.
    fn woken(&self) -> (bool, bool) {
        (self.room.take(), self.cancelled.take())
    }
}

fn answered() -> PyErr {
    PyValueError::new_err("this call was answered")
}

#[pymethods]
impl Call {
    /// The bytes of the request.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.message.get().to_bytes(py)
    }

    /// Returns the value of the request, which is JSON. Raises Encoding if it is none; the call is still open.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.data(py))
    }

    /// The request, with what is attached to it.
    #[getter]
    fn message(&self, py: Python<'_>) -> Py<Message> {
        self.message.clone_ref(py)
    }

    /// The identity of the client.
    #[getter]
    fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// The number of the client, which is unique within the server. `CallServer.push` takes it.
    #[getter]
    fn client(&self) -> u64 {
        self.client
    }

    /// True if nobody waits for the answer any more, or the call was answered.
    #[getter]
    fn cancelled(&self) -> bool {
        self.slot.lock().call.as_ref().is_none_or(parlour::calls::Call::is_cancelled)
    }

    /// Blocks until nobody waits for the answer any more, or another thread has answered. Another thread serves
    /// meanwhile: raises Busy in the thread that serves, which would not learn of it.
    #[pyo3(signature = (timeout = None))]
    fn wait_cancelled(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let late = "the caller still waits for the answer";
        let blocking = |call: &parlour::calls::Call| call.wait_cancelled_timeout(Duration::ZERO);
        self.repeat(py, timeout, late, |call, cx| call.poll_cancelled(cx), blocking).map(drop)
    }

    /// Answers with one message. Does not block: the message is queued.
    ///
    /// Raises MessageTooLong if the answer, with its header of 8 bytes, is longer than the limit; the caller gets an
    /// error then.
    #[pyo3(signature = (data, *more))]
    fn reply<'py>(&self, py: Python<'py>, data: &Bound<'py, PyAny>, more: &Bound<'py, PyTuple>) -> PyResult<()> {
        let parts = Parts::new(data, more, None, None)?;
        let view = parts.view();
        self.finish(py, |call| call.reply(view.payload()))
    }

    /// Answers with a value as JSON as `reply` does. Raises Encoding if it is none; the call is still open then.
    fn reply_json(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.reply(py, &json::encode(py, value)?, &PyTuple::empty(py))
    }

    /// Answers with one of several values as JSON as `item` does. Raises Encoding if it is none.
    #[pyo3(signature = (value, timeout = None))]
    fn item_json(&self, py: Python<'_>, value: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        self.item(py, &json::encode(py, value)?, &PyTuple::empty(py), timeout)
    }

    /// Answers with one of several messages, which `end` ends. If too many bytes are queued for the client, blocks
    /// until it has taken some, while another thread serves. After TimedOut the message was not sent. Raises Busy
    /// instead of blocking in the thread that serves: send many items from another thread.
    #[pyo3(signature = (data, *more, timeout = None))]
    fn item<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let parts = Parts::new(data, more, None, None)?;
        let view = parts.view();
        let late = "the client takes the items too slowly, and this one was not sent; send it again, or end the call";
        let blocking = |call: &parlour::calls::Call| call.item_timeout(view.payload(), Duration::ZERO);
        match self.repeat(py, timeout, late, |call, cx| call.poll_item(view.payload(), cx), blocking)? {
            true => Ok(()),
            false => Err(answered()),
        }
    }

    /// Ends the answers that `item` has sent. Does not block.
    fn end(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py, parlour::calls::Call::end)
    }

    /// Answers with an error. The caller gets CallFailed, with this text as its `failure`. Does not block.
    fn fail(&self, py: Python<'_>, text: &str) -> PyResult<()> {
        self.finish(py, |call| call.fail(text))
    }

    fn __repr__(&self) -> String {
        format!("<parlour.Call of client {}>", self.client)
    }
}
