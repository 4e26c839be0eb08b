//! `Caller`: requests and answers over one connection, for any number of threads, and the parts of that of asyncio.
//!
//! No call blocks inside the library. A thread that waits has its waker registered there, and sleeps on its eventfd.
//! One of the threads that sleep, the leader, sleeps on the connection, too.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::exceptions::PyEOFError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::call_server::sleep_if_ending;
use crate::connect::connect;
use crate::connection::Connection;
use crate::error::{self, timed_out};
use crate::json;
use crate::lock::{Lock, Unavailable};
use crate::options::{CALLER_OPTIONS, caller_options};
use crate::payload::{Parts, View};
use crate::peer::Peer;
use crate::wait::{self, Deadline, Events, Own, ThreadWaker};

/// The number of steps that the event loop makes before it lets tasks run.
const STEPS_MAX: usize = 16;

/// A client that calls a server: it sends requests, and receives the answer to each.
///
/// An answer reaches the call that it belongs to, in whatever order the server answers, and however late. Any number of
/// threads may call at the same time over the one connection. `connection` is one on which nothing was sent, and
/// belongs to the caller from then on. `Caller.connect` connects and calls this. A caller is a context manager that
/// closes it.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Caller(Arc<Shared>);

struct Shared {
    state: Lock<State>,
    crowd: Arc<Crowd>,
    /// That of the crowd.
    waker: Waker,
}

struct State {
    /// `None` once it is closed.
    caller: Option<Arc<parlour::Caller>>,
    /// The calls that are open, by their keys.
    streams: HashMap<u64, parlour::calls::CallStream>,
    last_key: u64,
    sleeping: Vec<Sleeper>,
    /// The thread that sleeps on the connection.
    leader: Option<Arc<ThreadWaker>>,
    /// The last `advance` has changed something, so there may be more that no descriptor shows.
    has_more: bool,
}

/// A thread that sleeps.
struct Sleeper {
    waker: Arc<ThreadWaker>,
    /// The key of the stream that it waits for.
    stream: Option<u64>,
}

/// The threads that wait for a pushed message, or to begin a call.
///
/// The library keeps a waker until it has woken it, also if the thread has given up meanwhile. All these threads are
/// behind one waker, so that nothing is kept for those that have left.
struct Crowd(Lock<Vec<Arc<ThreadWaker>>>);

impl Wake for Crowd {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In a forked child, those who might be woken are threads of its parent.
        if let Ok(threads) = self.0.lock() {
            threads.iter().for_each(Wake::wake_by_ref);
        }
    }
}

/// A thread in a crowd, which leaves it when this is dropped.
struct InCrowd<'a> {
    crowd: &'a Crowd,
    waker: &'a Arc<ThreadWaker>,
}

impl<'a> InCrowd<'a> {
    fn join(crowd: &'a Crowd, waker: &'a Arc<ThreadWaker>) -> Result<Self, Unavailable> {
        crowd.0.lock()?.push(Arc::clone(waker));
        Ok(Self { crowd, waker })
    }
}

impl Drop for InCrowd<'_> {
    fn drop(&mut self) {
        if let Ok(mut threads) = self.crowd.0.lock() {
            if let Some(at) = threads.iter().position(|other| Arc::ptr_eq(other, self.waker)) {
                threads.swap_remove(at);
            }
        }
    }
}

/// The wakers that a call registers.
#[derive(Clone, Copy, PartialEq)]
enum Wakes {
    /// That of its thread.
    This,
    /// That of its thread, for the stream with this key. The library keeps only the last one, so each thread that
    /// leaves wakes another one that waits for this stream.
    Stream(u64),
    /// That of the crowd.
    Crowd,
}

impl Wakes {
    fn stream(self) -> Option<u64> {
        match self {
            Self::Stream(key) => Some(key),
            Self::This | Self::Crowd => None,
        }
    }
}

impl State {
    fn open(&self) -> Result<Arc<parlour::Caller>, Failure> {
        self.caller.clone().ok_or(Failure::Closed)
    }

    fn keep(&mut self, stream: parlour::calls::CallStream) -> u64 {
        self.last_key += 1;
        self.streams.insert(self.last_key, stream);
        self.last_key
    }

    /// Notes that a thread sleeps. Returns true if it leads.
    fn begin_sleep(&mut self, waker: &Arc<ThreadWaker>, stream: Option<u64>) -> bool {
        self.sleeping.push(Sleeper { waker: Arc::clone(waker), stream });
        let leads = self.leader.is_none();
        if leads {
            self.leader = Some(Arc::clone(waker));
        }
        leads
    }

    fn end_sleep(&mut self, waker: &Arc<ThreadWaker>) {
        if let Some(at) = self.sleeping.iter().position(|other| Arc::ptr_eq(&other.waker, waker)) {
            self.sleeping.swap_remove(at);
        }
        self.leader.take_if(|leader| Arc::ptr_eq(leader, waker));
    }

    /// Sends and receives some of what is possible. Returns true if something has changed: then this is to be called
    /// again before anybody sleeps.
    fn advance(&mut self, caller: &parlour::Caller) -> Result<bool, Failure> {
        self.has_more = caller.advance()?;
        Ok(self.has_more)
    }

    /// Lets another thread go on, when one leaves that has waited for this stream.
    fn leave(&self, stream: Option<u64>) {
        if let Some(key) = stream {
            self.waiting_for(key).take(1).for_each(Wake::wake_by_ref);
        }
        match &self.leader {
            // It sleeps on a descriptor, which does not show what this thread has left.
            Some(leader) if self.has_more => leader.wake_by_ref(),
            Some(_) => {}
            None => self.sleeping.first().into_iter().for_each(|sleeper| sleeper.waker.wake_by_ref()),
        }
    }

    /// Returns the threads that sleep until this stream has an answer.
    fn waiting_for(&self, key: u64) -> impl Iterator<Item = &Arc<ThreadWaker>> {
        self.sleeping.iter().filter(move |sleeper| sleeper.stream == Some(key)).map(|sleeper| &sleeper.waker)
    }
}

enum Failure {
    Closed,
    /// The stream has ended before.
    Ended,
    Library(parlour::Error),
    System(io::Error),
    Unavailable(Unavailable),
    TimedOut,
}

impl From<parlour::Error> for Failure {
    fn from(error: parlour::Error) -> Self {
        Self::Library(error)
    }
}

/// The result of a wait.
enum Step<T> {
    Done(T),
    /// A signal has ended the sleep.
    Interrupted,
}

impl Shared {
    /// Repeats `attempt` until it returns a value, and sleeps in between. `late` describes the end of the time.
    fn repeat<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        late: &str,
        wakes: Wakes,
        mut attempt: impl FnMut(&mut State, &parlour::Caller, &mut Context<'_>) -> Poll<Result<T, Failure>> + Send,
    ) -> PyResult<T> {
        let own = Own::take().map_err(|error| error::system(&error))?;
        let place = (wakes == Wakes::Crowd).then(|| InCrowd::join(&self.crowd, &own)).transpose();
        let _place = place.map_err(Unavailable::exception)?;
        let waker = match wakes {
            Wakes::This | Wakes::Stream(_) => Waker::from(Arc::clone(&own)),
            Wakes::Crowd => self.waker.clone(),
        };
        loop {
            let step =
                py.detach(|| self.step(deadline, &own, wakes.stream(), &mut Context::from_waker(&waker), &mut attempt));
            match step {
                Ok(Step::Done(value)) => return Ok(value),
                Ok(Step::Interrupted) => py.check_signals()?,
                Err(Failure::TimedOut) => return Err(timed_out(py, "call", late)),
                Err(failure) => {
                    sleep_if_ending(py);
                    return Err(failure.exception(py));
                }
            }
        }
    }

    /// Makes attempts and sleeps until one is done, or a signal arrives.
    fn step<T>(
        &self,
        deadline: Deadline,
        own: &Arc<ThreadWaker>,
        stream: Option<u64>,
        cx: &mut Context<'_>,
        attempt: &mut impl FnMut(&mut State, &parlour::Caller, &mut Context<'_>) -> Poll<Result<T, Failure>>,
    ) -> Result<Step<T>, Failure> {
        let mut slept: io::Result<()> = Ok(());
        loop {
            own.clear();
            let mut state = self.state.lock().map_err(Failure::Unavailable)?;
            state.end_sleep(own);
            let outcome = match slept {
                Ok(()) => attempt_until(&mut state, deadline, cx, attempt),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(Step::Interrupted)),
                Err(error) => Err(Failure::System(error)),
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(step)) => {
                    state.leave(stream);
                    return Ok(step);
                }
                Err(failure) => {
                    state.leave(stream);
                    return Err(failure);
                }
            }
            let caller = state.open()?;
            let leads = state.begin_sleep(own, stream);
            // Held while it is polled.
            let writable = caller.send_fd();
            let mut events = Events::new(own.fd(), libc::POLLIN);
            if leads {
                events = events.and(caller.recv_fd().as_raw_fd(), libc::POLLIN);
            }
            if let Some(fd) = &writable {
                events = events.and(fd.as_fd().as_raw_fd(), libc::POLLOUT);
            }
            drop(state);
            slept = wait::sleep_detached(None, &mut events, deadline);
        }
    }

    /// Sends a request, and returns the key of the call.
    fn begin(&self, py: Python<'_>, view: &View<'_>, is_stream: bool, deadline: Deadline) -> PyResult<u64> {
        let late = "the channel was full, or the server did not greet, until the deadline; no request was sent; \
                    call again, or allow more time";
        self.repeat(py, deadline, late, Wakes::Crowd, |state, caller, cx| {
            let begun = begin(caller, view, is_stream, cx);
            begun.map(|begun| Ok(state.keep(begun?)))
        })
    }

    /// Returns the next answer, or `None` at the end.
    fn next(&self, py: Python<'_>, key: u64, deadline: Deadline) -> PyResult<Option<parlour::Message>> {
        let late = "no answer arrived before the deadline; the server may have executed the call; allow more time";
        self.repeat(py, deadline, late, Wakes::Stream(key), |state, _, cx| next(state, key, cx))
    }

    /// Writes the rest of a request that the channel has taken in part. At the deadline it stays buffered, because the
    /// request cannot be taken back.
    fn flush(&self, py: Python<'_>, deadline: Deadline) -> PyResult<()> {
        self.repeat(py, deadline, "", Wakes::This, |state, caller, _| {
            // An error is that of the next call.
            let is_written = state.advance(caller).is_err() || caller.send_fd().is_none();
            if is_written || deadline.is_over() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    }

    /// Ends a call. The server is told if it is open. The threads that wait for it find that it has ended.
    fn forget(&self, key: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        let Some(stream) = state.streams.remove(&key) else { return };
        state.waiting_for(key).for_each(Wake::wake_by_ref);
        drop(state);
        drop(stream);
        let Ok(mut state) = self.state.lock() else { return };
        // Without a thread that sleeps, what arrives is left to an event loop, which watches the descriptor.
        if let Some(caller) = state.caller.clone().filter(|_| !state.sleeping.is_empty()) {
            // The thread that sleeps on the connection writes the rest of the cancellation.
            state.has_more = state.advance(&caller).is_ok_and(|has_more| has_more || caller.send_fd().is_some());
            state.leave(None);
        }
    }
}

/// Attempts until there is nothing to receive, or the deadline has passed.
fn attempt_until<T>(
    state: &mut State,
    deadline: Deadline,
    cx: &mut Context<'_>,
    attempt: &mut impl FnMut(&mut State, &parlour::Caller, &mut Context<'_>) -> Poll<Result<T, Failure>>,
) -> Result<Option<Step<T>>, Failure> {
    let caller = state.open()?;
    loop {
        if let Poll::Ready(value) = attempt(state, &caller, cx) {
            return value.map(Step::Done).map(Some);
        }
        let has_changed = state.advance(&caller)?;
        if deadline.is_over() {
            return match attempt(state, &caller, cx) {
                Poll::Ready(value) => value.map(Step::Done).map(Some),
                Poll::Pending => Err(Failure::TimedOut),
            };
        }
        if !has_changed {
            return Ok(None);
        }
    }
}

fn begin(
    caller: &parlour::Caller,
    view: &View<'_>,
    is_stream: bool,
    cx: &mut Context<'_>,
) -> Poll<parlour::Result<parlour::calls::CallStream>> {
    match is_stream {
        true => caller.poll_call_stream(view.payload(), cx),
        false => caller.poll_call(view.payload(), cx),
    }
}

fn next(state: &mut State, key: u64, cx: &mut Context<'_>) -> Poll<Result<Option<parlour::Message>, Failure>> {
    let Some(stream) = state.streams.get_mut(&key) else { return Poll::Ready(Err(Failure::Ended)) };
    stream.poll_next(cx).map(|item| item.transpose().map_err(Failure::Library))
}

impl Failure {
    fn exception(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Closed => error::closed("caller"),
            Self::Ended => end(),
            Self::Library(error) => error::exception(py, &error),
            Self::System(error) => error::system(&error),
            Self::Unavailable(reason) => reason.exception(),
            Self::TimedOut => timed_out(py, "call", "the deadline has passed"),
        }
    }
}

fn end() -> PyErr {
    PyEOFError::new_err("there are no more messages")
}

/// A waker that notes which task of the event loop is to be woken.
struct TaskWaker {
    token: u64,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.token);
    }
}

impl Caller {
    pub(crate) fn of(caller: parlour::Caller) -> Self {
        let state = State {
            caller: Some(Arc::new(caller)),
            streams: HashMap::new(),
            last_key: PUSH,
            sleeping: Vec::new(),
            leader: None,
            has_more: false,
        };
        let crowd = Arc::new(Crowd(Lock::new(Vec::new())));
        let waker = Waker::from(Arc::clone(&crowd));
        Self(Arc::new(Shared { state: Lock::new(state), crowd, waker }))
    }

    /// Returns the caller of the library, or `None` once this one is closed.
    pub(crate) fn inner(&self, py: Python<'_>) -> PyResult<Option<Arc<parlour::Caller>>> {
        Ok(self.0.state.lock_attached(py)?.caller.clone())
    }

    fn attempt<T: Send>(
        &self,
        py: Python<'_>,
        attempt: impl FnOnce(&mut State, &parlour::Caller) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        let attempted = py.detach(|| {
            let mut state = self.0.state.lock().map_err(Failure::Unavailable)?;
            let caller = state.open()?;
            attempt(&mut state, &caller)
        });
        attempted.map_err(|failure| failure.exception(py))
    }
}

#[pymethods]
impl Caller {
    #[new]
    #[pyo3(signature = (connection, **options))]
    fn new(py: Python<'_>, connection: &Connection, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = caller_options("Caller", options)?;
        let connection = connection.take_open(py)?;
        let caller = options.caller(connection).map_err(|error| error::exception(py, &error))?;
        Ok(Self::of(caller))
    }

    /// Connects to the server of this name, and returns a Caller. Takes the options of `parlour.connect` and of
    /// `Caller`.
    #[staticmethod]
    #[pyo3(signature = (address, **options))]
    fn connect(py: Python<'_>, address: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let own = PyDict::new(py);
        let others = options.map_or_else(|| Ok(PyDict::new(py)), |options| options.copy())?;
        for name in CALLER_OPTIONS {
            if let Some(value) = others.get_item(name)? {
                own.set_item(name, value)?;
                others.del_item(name)?;
            }
        }
        let connection = connect(py, address, Some(&others))?;
        Self::new(py, &connection, Some(&own))
    }

    /// Sends a request and returns the bytes of the answer. See `Connection.send` for the arguments.
    ///
    /// Raises CallFailed if the server answered with an error, whose text is `failure`; Busy if it did not begin the
    /// call; Disconnected if it has gone, and may have executed the call; Protocol if it does not answer calls. After
    /// TimedOut, and after an exception of a signal handler, the server is told that the answer is not wanted, and a
    /// late answer is dropped.
    #[pyo3(signature = (data, *more, fds = None, shared = None, timeout = None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let parts = Parts::new(data, more, fds, shared)?;
        let deadline = Deadline::after(timeout)?;
        let key = self.0.begin(py, &parts.view(), false, deadline)?;
        let answer = self.0.next(py, key, deadline);
        self.0.forget(key);
        Ok(PyBytes::new(py, &answer?.ok_or_else(end)?))
    }

    /// Sends a request and returns a CallStream, an iterator over the answers. `timeout` is for sending.
    #[pyo3(signature = (data, *more, fds = None, shared = None, timeout = None))]
    fn call_stream<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<CallStream> {
        let parts = Parts::new(data, more, fds, shared)?;
        let deadline = Deadline::after(timeout)?;
        let key = self.0.begin(py, &parts.view(), true, deadline)?;
        let stream = CallStream { shared: Arc::clone(&self.0), key };
        // Nobody may wait for an answer soon.
        self.0.flush(py, deadline)?;
        Ok(stream)
    }

    /// Sends a value as JSON as `call` does, and returns the value of the answer. Raises Encoding if either is none;
    /// if the request is, nothing was sent.
    #[pyo3(signature = (value, timeout = None))]
    fn call_json<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let request = json::encode(py, value)?;
        json::decode(py, &self.call(py, &request, &PyTuple::empty(py), None, None, timeout)?)
    }

    /// Sends a value as JSON as `call_stream` does. `CallStream.recv_json` returns the values of the answers.
    #[pyo3(signature = (value, timeout = None))]
    fn call_stream_json<'py>(
        &self,
        py: Python<'py>,
        value: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<CallStream> {
        self.call_stream(py, &json::encode(py, value)?, &PyTuple::empty(py), None, None, timeout)
    }

    /// Returns the next message that the server has pushed, which answers no call. Raises EOFError at the end. Messages
    /// that arrive during calls are kept, up to `push_buffer_max` bytes.
    #[pyo3(signature = (timeout = None))]
    fn next_push<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        let late = "no pushed message arrived before the deadline; allow more time";
        let deadline = Deadline::after(timeout)?;
        let push = self
            .0
            .repeat(py, deadline, late, Wakes::Crowd, |_, caller, cx| caller.poll_push(cx).map_err(Failure::Library))?;
        Ok(PyBytes::new(py, &push.ok_or_else(end)?))
    }

    /// Returns the value of the next pushed message, which is JSON. Raises Encoding if it is none; it was taken then.
    #[pyo3(signature = (timeout = None))]
    fn next_push_json<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.next_push(py, timeout)?)
    }

    /// Closes the connection. Calls and streams of other threads get ValueError. Does nothing if it is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = {
            let mut state = self.0.state.lock_attached(py)?;
            state.sleeping.iter().for_each(|sleeper| sleeper.waker.wake_by_ref());
            (state.caller.take(), std::mem::take(&mut state.streams))
        };
        py.detach(|| drop(closed));
        Ok(())
    }

    /// True if the caller was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.state.lock_attached(py)?.caller.is_none())
    }

    /// The identity of the server, with what vouches for each part of it.
    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<Peer> {
        self.attempt(py, |_, caller| Ok(Peer::new(caller.peer())))
    }

    /// The transport: "shm", "packet", "unix" or "fifo".
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<String> {
        self.attempt(py, |_, caller| Ok(caller.transport().to_string()))
    }

    /// The number of answers that arrived when nobody waited for them any more.
    #[getter]
    fn late_answers(&self, py: Python<'_>) -> PyResult<u64> {
        self.attempt(py, |_, caller| Ok(caller.stats().late_answers))
    }

    /// The number of pushed messages that were dropped because too many were kept.
    #[getter]
    fn pushes_dropped(&self, py: Python<'_>) -> PyResult<u64> {
        self.attempt(py, |_, caller| Ok(caller.stats().pushes_dropped))
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.0.state.lock_attached(py)?.caller {
            Some(caller) => format!("<parlour.Caller over {}>", caller.transport()),
            None => "<parlour.Caller closed>".to_owned(),
        })
    }
}

/// The answers of a server to one request: an iterator that ends after the last one, and a context manager.
///
/// Closing it before its end tells the server that no more answers are wanted. Several threads may receive from it:
/// each answer reaches one of them, and the end all of them.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct CallStream {
    shared: Arc<Shared>,
    key: u64,
}

impl CallStream {
    fn answer<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let next = self.shared.next(py, self.key, Deadline::after(timeout)?);
        Ok(next?.map(|message| PyBytes::new(py, &message)))
    }
}

#[pymethods]
impl CallStream {
    /// Returns the next answer. Raises EOFError after the last one, and TimedOut if none arrives in time; the stream
    /// goes on after that. Raises Busy if more answers have arrived than are kept (`stream_buffer_max`).
    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        self.answer(py, timeout)?.ok_or_else(end)
    }

    /// Returns the value of the next answer, which is JSON. Raises Encoding if it is none; it was taken then.
    #[pyo3(signature = (timeout = None))]
    fn recv_json<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        json::decode(py, &self.recv(py, timeout)?)
    }

    /// Ends the call. The server is told if it has not ended. Calls of other threads get EOFError.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.shared.forget(self.key));
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match self.answer(py, None) {
            Err(error) if error.is_instance_of::<PyEOFError>(py) => Ok(None),
            answer => answer,
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        self.shared.forget(self.key);
    }
}

/// The token of the tasks that begin a call, and that of those that wait for a pushed message. Each other token is the
/// key of a call.
const BEGIN: u64 = 0;
const PUSH: u64 = 1;

/// The parts of a caller that `parlour.aio` uses: attempts that do not wait, and the tokens of the tasks that try
/// again.
///
/// Tasks that wait for the same have the same token and the same waker, which the library keeps until it has woken it.
/// So nothing is kept for tasks that were cancelled.
#[pyclass(frozen, module = "parlour._parlour")]
pub(crate) struct Attempts {
    caller: Py<Caller>,
    woken: Arc<Mutex<Vec<u64>>>,
    begin: Waker,
    push: Waker,
}

impl Attempts {
    fn woken(&self) -> MutexGuard<'_, Vec<u64>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Attempts {
    #[classattr]
    const BEGIN: u64 = BEGIN;

    #[classattr]
    const PUSH: u64 = PUSH;

    #[new]
    fn new(caller: Py<Caller>) -> Self {
        let woken = Arc::default();
        let waker = |token| Waker::from(Arc::new(TaskWaker { token, woken: Arc::clone(&woken) }));
        let (begin, push) = (waker(BEGIN), waker(PUSH));
        Self { caller, woken, begin, push }
    }

    /// Returns the token of a call.
    #[staticmethod]
    fn token(stream: &CallStream) -> u64 {
        stream.key
    }

    /// Sends a request, or returns None.
    #[pyo3(signature = (is_stream, data, *more, fds = None, shared = None))]
    fn begin<'py>(
        &self,
        py: Python<'py>,
        is_stream: bool,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        fds: Option<&Bound<'py, PyAny>>,
        shared: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<CallStream>> {
        let parts = Parts::new(data, more, fds, shared)?;
        let view = parts.view();
        let caller = self.caller.get();
        let key = caller.attempt(py, |state, caller| {
            match begin(caller, &view, is_stream, &mut Context::from_waker(&self.begin)) {
                Poll::Ready(begun) => Ok(Some(state.keep(begun?))),
                Poll::Pending => Ok(None),
            }
        })?;
        Ok(key.map(|key| CallStream { shared: Arc::clone(&caller.0), key }))
    }

    /// Returns the next answer of a stream, or None. Raises EOFError at the end.
    fn next<'py>(&self, py: Python<'py>, stream: &CallStream) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let waker = Waker::from(Arc::new(TaskWaker { token: stream.key, woken: Arc::clone(&self.woken) }));
        let answer = self.caller.get().attempt(py, |state, _| {
            match next(state, stream.key, &mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => answer?.ok_or(Failure::Ended).map(Some),
                Poll::Pending => Ok(None),
            }
        })?;
        Ok(answer.map(|message| PyBytes::new(py, &message)))
    }

    /// Returns the next pushed message, or None. Raises EOFError at the end.
    fn push<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let push = self.caller.get().attempt(py, |_, caller| {
            match caller.poll_push(&mut Context::from_waker(&self.push)) {
                Poll::Ready(push) => push?.ok_or(Failure::Ended).map(Some),
                Poll::Pending => Ok(None),
            }
        })?;
        Ok(push.map(|message| PyBytes::new(py, &message)))
    }

    /// Sends and receives what is possible without waiting. Returns the tokens of those that can go on, true if there
    /// is more to do, and the descriptor that is writable when there is.
    fn advance(&self, py: Python<'_>) -> PyResult<(Vec<u64>, bool, Option<RawFd>)> {
        let advanced = self.caller.get().attempt(py, |state, caller| {
            for _ in 0..STEPS_MAX {
                // Those who were woken take their messages before more have to be kept.
                if !state.advance(caller)? || !self.woken().is_empty() {
                    break;
                }
            }
            state.leave(None);
            Ok((state.has_more, caller.send_fd().map(|fd| fd.as_fd().as_raw_fd())))
        });
        let woken = std::mem::take(&mut *self.woken());
        let (has_more, fd) = advanced?;
        Ok((woken, has_more, fd))
    }

    /// Returns the descriptor that is readable when something has arrived.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.caller.get().attempt(py, |_, caller| Ok(caller.recv_fd().as_raw_fd()))
    }
}
