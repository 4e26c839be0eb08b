//! `Connection`: a private two-way channel of messages.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::time::Duration;

use parlour::{ErrorKind, TryRecvError, TrySendError};
use pyo3::exceptions::PyEOFError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::batch::Messages;
use crate::buffer::Buffer;
use crate::capabilities::Capabilities;
use crate::error::{self, buffer_too_small};
use crate::json;
use crate::lock::{Lock, Unavailable};
use crate::message::Message;
use crate::payload::{Parts, View};
use crate::peer::Peer;
use crate::spare::Spare;
use crate::wait::{self, Deadline, Events, Sleeper, Sleepers};

/// The longest time for which a call that sends sleeps inside the library, where no signal ends it: a fixed part, and
/// one for each mebibyte of the message, which a peer that reads takes in this time.
const SLICE: Duration = Duration::from_micros(500);
const SLICE_PER_MIB: Duration = Duration::from_millis(4);

/// The time after which a thread looks again for a hand-over on which another one works.
const PAUSE: Duration = Duration::from_millis(5);

/// A private two-way channel of messages with one peer.
///
/// Messages arrive whole, in order and at most once. Any number of threads may send and receive at the same time.
/// `parlour.connect` and `Server.accept` return connections. A connection is an iterator over the messages that it
/// receives, and a context manager that closes it.
///
/// Timeouts are in seconds. `None` waits for ever, and 0 does not wait. A call that gives up raises `TimedOut`. A
/// signal handler runs while a call waits, and if it raises, the call ends with that exception.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct Connection {
    /// No thread sleeps for long while it holds this lock.
    state: Lock<State>,
}

struct State {
    /// `None` once it is closed.
    connection: Option<parlour::Connection>,
    /// A message that did not fit into the buffer of the caller.
    kept: Option<parlour::Message>,
    /// The number of messages that were sent or buffered.
    taken: u64,
    sleepers: Sleepers,
}

impl State {
    /// Hands a message out that has at most `max` bytes, and keeps a longer one before all that follow.
    fn hand_out(&mut self, message: &mut parlour::Message, max: usize) -> Result<Attempt<bool>, Failure> {
        let needed = message.len();
        if needed > max {
            self.kept = Some(std::mem::take(message));
            return Err(Failure::TooSmall(needed));
        }
        Ok(Attempt::Done(true))
    }
}

/// The result of an attempt that does not wait for long.
enum Attempt<T> {
    Done(T),
    /// The call waits for these events and tries again.
    Wait(Events),
}

/// The result of a sleep and the attempt after it.
enum Step<T> {
    Done(T),
    Wait(Sleeper, Events),
    /// A signal has ended the sleep.
    Interrupted,
}

/// The place of an attempt in a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Again,
    /// The deadline has passed. The attempt must not return [`Attempt::Wait`].
    Last,
}

/// The result of an attempt of another object to send over a connection.
pub(crate) enum Sending {
    Sent,
    /// The channel has no room: this is the error at the deadline.
    Full(parlour::Error),
    /// This descriptor is readable when the object may send. The text is for the error at the deadline.
    NotYet(RawFd, &'static str),
    Failed(parlour::Error),
    Exception(PyErr),
}

/// The state of a call that sends for another object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Done = 0,
    /// The object is to be waited for.
    NotYet = 1,
    /// The channel has no room.
    Full = 2,
}

/// The reason why an attempt has failed.
enum Failure {
    Closed,
    Exception(PyErr),
    TimedOut(&'static str),
    Library(parlour::Error),
    System(io::Error),
    /// The message has so many bytes, more than the buffer of the caller.
    TooSmall(usize),
    Unavailable(Unavailable),
}

impl From<parlour::Error> for Failure {
    fn from(error: parlour::Error) -> Self {
        Self::Library(error)
    }
}

impl Failure {
    fn exception(self, py: Python<'_>) -> PyErr {
        match self {
            Self::Closed => error::closed("connection"),
            Self::Exception(exception) => exception,
            Self::TimedOut(detail) => error::timed_out(py, "send", detail),
            Self::Library(error) => error::exception(py, &error),
            Self::System(error) => error::system(&error),
            Self::TooSmall(needed) => buffer_too_small(py, needed),
            Self::Unavailable(reason) => reason.exception(),
        }
    }
}

impl Connection {
    pub(crate) fn new(connection: parlour::Connection) -> Self {
        let state = State { connection: Some(connection), kept: None, taken: 0, sleepers: Sleepers::default() };
        Self { state: Lock::new(state) }
    }

    /// Calls `look` with the connection.
    pub(crate) fn with<T>(&self, py: Python<'_>, look: impl FnOnce(&mut parlour::Connection) -> T) -> PyResult<T> {
        self.state.lock_attached(py)?.connection.as_mut().map(look).ok_or_else(|| error::closed("connection"))
    }

    /// Repeats `attempt` until it is done, and sleeps in between.
    fn repeat<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut attempt: impl FnMut(&mut State, Turn) -> Result<Attempt<T>, Failure> + Send,
    ) -> PyResult<T> {
        let mut turn = if deadline.is_over() { Turn::Last } else { Turn::First };
        let mut wait = None;
        // A server hands its name over while it waits for a client.
        let (mut hand_over_fd, mut is_asked, mut is_served_elsewhere) = (None, false, false);
        loop {
            let step = py.detach(|| {
                let (slept, sleeper) = match wait.take() {
                    Some((mut sleeper, mut events)) => {
                        let until = if is_served_elsewhere { deadline.or_after(PAUSE) } else { deadline };
                        let slept = wait::sleep_detached(Some(&mut sleeper), &mut events, until);
                        turn = if deadline.is_over() { Turn::Last } else { Turn::Again };
                        is_asked = slept.is_ok() && hand_over_fd.is_some_and(|fd| events.has_seen(fd));
                        (slept, Some(sleeper))
                    }
                    None => (Ok(()), None),
                };
                let mut state = self.state.lock().map_err(Failure::Unavailable)?;
                if let Some(sleeper) = sleeper {
                    state.sleepers.leave(sleeper);
                }
                match slept {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Step::Interrupted),
                    Err(error) => return Err(Failure::System(error)),
                }
                let asking = state.connection.as_ref().filter(|_| std::mem::take(&mut is_asked));
                is_served_elsewhere = asking.is_some_and(|connection| !connection.serve_hand_over());
                match attempt(&mut state, turn)? {
                    Attempt::Done(value) => Ok(Step::Done(value)),
                    Attempt::Wait(mut events) => {
                        let connection = state.connection.as_ref().filter(|_| !is_served_elsewhere);
                        hand_over_fd = connection.and_then(|open| open.hand_over_fd()).map(|fd| fd.as_raw_fd());
                        if let Some(fd) = hand_over_fd {
                            events = events.and(fd, libc::POLLIN);
                        }
                        Ok(Step::Wait(state.sleepers.join().map_err(Failure::System)?, events))
                    }
                }
            });
            match step.map_err(|failure: Failure| failure.exception(py))? {
                Step::Done(value) => return Ok(value),
                Step::Interrupted => py.check_signals()?,
                // The attempt may have slept inside the library, which goes on after a signal.
                Step::Wait(sleeper, events) => match py.check_signals() {
                    Ok(()) => wait = Some((sleeper, events)),
                    Err(exception) => {
                        self.state.lock_attached(py)?.sleepers.leave(sleeper);
                        return Err(exception);
                    }
                },
            }
        }
    }

    /// Receives one message over an old one, and returns false at the end. Keeps a message of more than `max` bytes for
    /// the next call.
    pub(crate) fn receive(
        &self,
        py: Python<'_>,
        message: &mut parlour::Message,
        timeout: Option<f64>,
        max: usize,
    ) -> PyResult<bool> {
        self.repeat(py, Deadline::after(timeout)?, |state, turn| {
            if let Some(kept) = state.kept.take() {
                *message = kept;
                return state.hand_out(message, max);
            }
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            let received = match turn {
                Turn::First => connection.spin_recv_over(message),
                Turn::Again => connection.try_recv_over(message),
                Turn::Last => last_recv(connection, message),
            };
            match received {
                Ok(is_message) => {
                    // The others wait for what this thread has just taken out of the descriptor.
                    state.sleepers.wake();
                    if is_message { state.hand_out(message, max) } else { Ok(Attempt::Done(false)) }
                }
                Err(TryRecvError::Failed(error)) => {
                    // The descriptor need not show a final error again.
                    state.sleepers.wake();
                    Err(error.into())
                }
                Err(TryRecvError::Empty) => Ok(wait_to_receive(connection)),
            }
        })
    }

    /// Receives the messages that one read brings, or `None` at the end.
    fn receive_batch(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Messages>> {
        self.repeat(py, Deadline::after(timeout)?, |state, turn| {
            if let Some(kept) = state.kept.take() {
                let mut messages = Messages::default();
                messages.push(&kept);
                return Ok(Attempt::Done(Some(messages)));
            }
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            let received = match turn {
                Turn::Last => connection.recv_batch_timeout(Duration::ZERO).map_err(TryRecvError::Failed),
                Turn::First | Turn::Again => connection.try_recv_batch(),
            };
            match received.map(|batch| batch.map(Messages::of)) {
                Ok(messages) => {
                    state.sleepers.wake();
                    Ok(Attempt::Done(messages))
                }
                Err(TryRecvError::Failed(error)) => {
                    state.sleepers.wake();
                    Err(error.into())
                }
                Err(TryRecvError::Empty) => Ok(wait_to_receive(connection)),
            }
        })
    }

    /// Receives one message over an old one without waiting. Returns false if none has arrived.
    fn try_receive(&self, py: Python<'_>, message: &mut parlour::Message) -> PyResult<bool> {
        let received = self.repeat(py, Deadline::after(Some(0.0))?, |state, _| {
            if let Some(kept) = state.kept.take() {
                *message = kept;
                return Ok(Attempt::Done(Some(true)));
            }
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            match connection.try_recv_over(message) {
                Ok(is_message) => {
                    state.sleepers.wake();
                    Ok(Attempt::Done(Some(is_message)))
                }
                Err(TryRecvError::Empty) => Ok(Attempt::Done(None)),
                Err(TryRecvError::Failed(error)) => {
                    state.sleepers.wake();
                    Err(error.into())
                }
            }
        })?;
        match received {
            Some(true) => Ok(true),
            Some(false) => Err(end()),
            None => Ok(false),
        }
    }

    /// Receives the bytes of one message, or `None` at the end.
    fn receive_bytes<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut message = Spare::take();
        Ok(self.receive(py, &mut message, timeout, usize::MAX)?.then(|| PyBytes::new(py, &message)))
    }

    /// Sends or buffers one message with `send`, which gives up after a time. If `flushes`, waits until all of it was
    /// written, or until the deadline.
    fn transmit(
        &self,
        py: Python<'_>,
        view: &View<'_>,
        timeout: Option<f64>,
        flushes: bool,
        send: impl Fn(&mut parlour::Connection, &View<'_>, Duration) -> parlour::Result<()> + Send + Sync,
    ) -> PyResult<()> {
        let deadline = Deadline::after(timeout)?;
        let slice = SLICE.saturating_add(SLICE_PER_MIB.saturating_mul((view.len() >> 20) as u32));
        let mut is_taken = false;
        self.repeat(py, deadline, |state, turn| {
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            let is_new = !is_taken;
            if is_new {
                match send(connection, view, deadline.left_within(slice)) {
                    Ok(()) => {
                        is_taken = true;
                        state.taken += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::TimedOut && turn != Turn::Last => {
                        return Ok(wait_to_send(connection));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !flushes && state.sleepers.is_empty() {
                return Ok(Attempt::Done(()));
            }
            let flushed = connection.try_flush();
            if is_new && matches!(flushed, Err(TrySendError::Full(()))) {
                // A thread that waits for the answer saw nothing buffered when it went to sleep. It writes the rest.
                state.sleepers.wake();
            }
            match flushed {
                _ if !flushes => Ok(Attempt::Done(())),
                Err(TrySendError::Full(())) if turn != Turn::Last => Ok(wait_to_send(connection)),
                Err(TrySendError::Failed(error)) => Err(error.into()),
                // At the deadline the rest stays buffered, because the message cannot be taken back.
                Ok(()) | Err(TrySendError::Full(())) => Ok(Attempt::Done(())),
            }
        })
    }

    /// Has the calls that wait try again.
    pub(crate) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        self.state.lock_attached(py)?.sleepers.wake();
        Ok(())
    }

    /// Sends one message for another object, with `attempt`, which does not wait. Waits until all of it was written, or
    /// until the deadline. With `is_one_attempt` it attempts once, and does not raise what the caller waits for.
    pub(crate) fn send_for(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        is_one_attempt: bool,
        mut attempt: impl FnMut(&mut parlour::Connection) -> Sending + Send,
    ) -> PyResult<Progress> {
        let mut is_taken = false;
        self.repeat(py, deadline, |state, turn| {
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            let is_last = turn == Turn::Last;
            if !is_taken {
                match attempt(connection) {
                    Sending::Sent => {
                        is_taken = true;
                        state.taken += 1;
                    }
                    Sending::Full(_) if is_one_attempt => return Ok(Attempt::Done(Progress::Full)),
                    Sending::NotYet(..) if is_one_attempt => return Ok(Attempt::Done(Progress::NotYet)),
                    Sending::Full(error) if is_last => return Err(error.into()),
                    Sending::NotYet(_, detail) if is_last => return Err(Failure::TimedOut(detail)),
                    Sending::Full(_) => return Ok(wait_to_send(connection)),
                    Sending::NotYet(fd, _) => return Ok(Attempt::Wait(Events::new(fd, libc::POLLIN))),
                    Sending::Failed(error) => return Err(error.into()),
                    Sending::Exception(exception) => return Err(Failure::Exception(exception)),
                }
                // See `transmit`.
                if !state.sleepers.is_empty() {
                    state.sleepers.wake();
                }
            }
            match connection.try_flush() {
                Err(TrySendError::Full(())) if !is_last && !is_one_attempt => Ok(wait_to_send(connection)),
                Err(TrySendError::Failed(error)) => Err(error.into()),
                Ok(()) | Err(TrySendError::Full(())) => Ok(Attempt::Done(Progress::Done)),
            }
        })
    }

    /// Repeats a call without a message that is given a time to write what is buffered.
    fn write_out(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        write: impl Fn(&mut parlour::Connection) -> parlour::Result<()> + Send + Sync,
    ) -> PyResult<()> {
        self.repeat(py, Deadline::after(timeout)?, |state, turn| {
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            match write(connection) {
                Err(error) if error.kind() == ErrorKind::TimedOut && turn != Turn::Last => Ok(wait_to_send(connection)),
                Err(error) => Err(error.into()),
                Ok(()) => Ok(Attempt::Done(())),
            }
        })
    }

    /// Takes the connection out for another object, after which this one is closed.
    pub(crate) fn take_open(&self, py: Python<'_>) -> PyResult<parlour::Connection> {
        self.take(py)?.ok_or_else(|| error::closed("connection"))
    }

    /// Takes the connection out, and wakes all threads that wait for it.
    fn take(&self, py: Python<'_>) -> PyResult<Option<parlour::Connection>> {
        let mut state = self.state.lock_attached(py)?;
        let connection = state.connection.take();
        state.kept = None;
        state.sleepers.wake();
        Ok(connection)
    }
}

/// Receives at the deadline, for the error that tells of it.
fn last_recv(connection: &mut parlour::Connection, message: &mut parlour::Message) -> Result<bool, TryRecvError> {
    match connection.try_recv_over(message) {
        Err(TryRecvError::Empty) => {}
        received => return received,
    }
    match connection.recv_timeout(Duration::ZERO)? {
        Some(received) => {
            *message = received;
            Ok(true)
        }
        None => Ok(false),
    }
}

fn wait_to_receive<T>(connection: &mut parlour::Connection) -> Attempt<T> {
    let mut events = Events::new(connection.recv_fd().as_raw_fd(), libc::POLLIN);
    // The peer may wait for what is buffered. An error of sending is reported by the next send.
    if connection.try_flush().is_err_and(|error| error.is_full()) {
        if let Some(fd) = connection.send_fd() {
            events = events.and(fd.as_raw_fd(), libc::POLLOUT);
        }
    }
    Attempt::Wait(events)
}

fn wait_to_send<T>(connection: &parlour::Connection) -> Attempt<T> {
    let fd = connection.send_fd().unwrap_or(connection.recv_fd());
    Attempt::Wait(Events::new(fd.as_raw_fd(), libc::POLLOUT))
}

fn end() -> PyErr {
    PyEOFError::new_err("the peer has ended the connection")
}

#[pymethods]
impl Connection {
    /// Sends one message: `data`, and `more` behind it, anything with the buffer protocol.
    ///
    /// Blocks while the channel is full. `fds` are open descriptors, as numbers or as objects with `fileno`, of which
    /// the peer gets copies. `shared` are blocks of shared memory. After an exception other than that of a signal
    /// handler the peer does not get the message. If the deadline passes or a signal handler raises when a part was
    /// sent, the rest is buffered and is sent before the next message; `messages_taken` counts the message then.
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
        self.transmit(py, &parts.view(), timeout, true, |connection, view, time| {
            connection.send_timeout(view.payload(), time)
        })
    }

    /// Sends one message without blocking. Returns False if the channel is full and nothing was sent.
    ///
    /// If the channel takes a part of the message only, the rest is buffered as by `send`.
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
        self.repeat(py, Deadline::after(Some(0.0))?, |state, _| {
            let connection = state.connection.as_mut().ok_or(Failure::Closed)?;
            match connection.try_send(view.payload()) {
                Ok(()) => {
                    state.taken += 1;
                    // See `transmit`.
                    if !state.sleepers.is_empty() && connection.try_flush().is_err_and(|error| error.is_full()) {
                        state.sleepers.wake();
                    }
                    Ok(Attempt::Done(true))
                }
                Err(TrySendError::Full(_)) => Ok(Attempt::Done(false)),
                Err(TrySendError::Failed(error)) => Err(error.into()),
            }
        })
    }

    /// Buffers one message, to be written together with the next ones.
    ///
    /// The buffer is written by the next `send`, `flush`, `finish` or `close`, and while `recv` waits. It has 64 KiB. A
    /// message that does not fit is sent at once, which may block.
    #[pyo3(signature = (data, *more, timeout = None))]
    fn feed<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        more: &Bound<'py, PyTuple>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let parts = Parts::new(data, more, None, None)?;
        self.transmit(py, &parts.view(), timeout, false, |connection, view, time| {
            connection.feed_timeout(view.payload(), time)
        })
    }

    /// Writes all buffered messages. Blocks while the channel is full.
    #[pyo3(signature = (timeout = None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.write_out(py, timeout, |connection| connection.flush_timeout(Duration::ZERO))
    }

    /// Writes buffered messages without blocking. Returns True if none are left.
    fn try_flush(&self, py: Python<'_>) -> PyResult<bool> {
        match self.with(py, parlour::Connection::try_flush)? {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(())) => Ok(false),
            Err(TrySendError::Failed(error)) => Err(error::exception(py, &error)),
        }
    }

    /// Receives one message and returns its bytes. Blocks until a whole message has arrived.
    ///
    /// Raises EOFError at the end: the peer has ended sending, and all its messages were received. Descriptors of the
    /// message are closed; `recv_message` keeps them. Writes buffered messages while it waits.
    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyBytes>> {
        self.receive_bytes(py, timeout)?.ok_or_else(end)
    }

    /// Receives one message without blocking, and returns its bytes. Returns None if no whole message has arrived.
    ///
    /// Raises EOFError at the end.
    fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut message = Spare::take();
        Ok(self.try_receive(py, &mut message)?.then(|| PyBytes::new(py, &message)))
    }

    /// Receives one message as `recv` does, with what is attached to it.
    #[pyo3(signature = (timeout = None))]
    fn recv_message(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Message> {
        let mut message = parlour::Message::default();
        match self.receive(py, &mut message, timeout, usize::MAX)? {
            true => Ok(Message::new(message)),
            false => Err(end()),
        }
    }

    /// Receives one message as `try_recv` does, with what is attached to it.
    fn try_recv_message(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        let mut message = parlour::Message::default();
        Ok(self.try_receive(py, &mut message)?.then(|| Message::new(message)))
    }

    /// Receives the messages that one read brings, and returns a list of their bytes. Blocks until there is one.
    ///
    /// For many small messages that the peer sends together. Each is copied into an object of its own. Raises EOFError
    /// at the end. Descriptors of the messages are closed.
    #[pyo3(signature = (timeout = None))]
    fn recv_batch<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.receive_batch(py, timeout)?.ok_or_else(end)?.into_list(py)
    }

    /// Receives one message into a writable buffer, and returns its length in bytes.
    ///
    /// Raises BufferTooSmall if the message is longer than the buffer. The message is then kept for the next call.
    /// Raises EOFError at the end.
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<usize> {
        let mut buffer = Buffer::writable(buffer)?;
        let max = buffer.bytes().len();
        let mut message = Spare::take();
        if !self.receive(py, &mut message, timeout, max)? {
            return Err(end());
        }
        let place = buffer.bytes_mut().get_mut(..message.len()).ok_or_else(|| buffer_too_small(py, message.len()))?;
        place.copy_from_slice(&message);
        Ok(message.len())
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

    /// Ends sending, after all buffered messages were written. Receiving goes on, and the peer sees the end.
    #[pyo3(signature = (timeout = None))]
    fn finish(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.write_out(py, timeout, |connection| connection.finish_timeout(Duration::ZERO))
    }

    /// Writes all buffered messages and closes the connection. It is closed in any case, also after an exception.
    ///
    /// Threads that wait for the connection get ValueError. Does nothing if it is closed.
    #[pyo3(signature = (timeout = None))]
    fn close(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        if self.state.lock_attached(py)?.connection.is_none() {
            return Ok(());
        }
        let flushed = self.flush(py, timeout);
        drop(self.take(py)?);
        flushed
    }

    /// Ends the connection with an error for the peer, which shows it that something is missing: Truncated or
    /// Disconnected instead of the end. Does not block. Buffered messages are discarded.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(connection) = self.take(py)? {
            connection.abort();
        }
        Ok(())
    }

    /// Waits until the peer has closed the connection. Receives nothing.
    #[pyo3(signature = (timeout = None))]
    fn wait_peer_closed(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        self.repeat(py, Deadline::after(timeout)?, |state, turn| {
            let connection = state.connection.as_ref().ok_or(Failure::Closed)?;
            match connection.closed_fd() {
                None => Ok(Attempt::Done(())),
                Some(fd) if turn != Turn::Last => Ok(Attempt::Wait(Events::new(fd.as_raw_fd(), 0))),
                Some(_) => Ok(Attempt::Done(connection.wait_closed_timeout(Duration::ZERO)?)),
            }
        })
    }

    /// True if the peer has closed the connection: it neither sends nor receives any more.
    #[getter]
    fn peer_closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |connection| connection.is_closed())
    }

    /// True if this side has closed the connection.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock_attached(py)?.connection.is_none())
    }

    /// Returns True if `recv` would not wait, in cases that the descriptor need not show: a message, the end or an
    /// error is here already. A loop of events looks before it waits.
    fn has_message(&self, py: Python<'_>) -> PyResult<bool> {
        let mut state = self.state.lock_attached(py)?;
        let is_kept = state.kept.is_some();
        state.connection.as_mut().map(|open| is_kept || open.has_message()).ok_or_else(|| error::closed("connection"))
    }

    /// Returns the descriptor that is readable when something may be received, for `select` and `selectors`. The
    /// connection owns it.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |connection| connection.recv_fd().as_raw_fd())
    }

    /// Returns the descriptor that is writable when something may be sent, or None after `finish`. The connection owns
    /// it.
    fn send_fileno(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        self.with(py, |connection| connection.send_fd().map(|fd| fd.as_raw_fd()))
    }

    /// Returns the descriptor that is in error or hung up when the peer has closed the connection, or None if it has.
    /// Poll it with no events, and then call this again. The connection owns it.
    fn closed_fileno(&self, py: Python<'_>) -> PyResult<Option<RawFd>> {
        self.with(py, |connection| connection.closed_fd().map(|fd| fd.as_raw_fd()))
    }

    /// The number of messages that `send`, `try_send` and `feed` have taken, also those whose call was ended by a
    /// signal handler or a cancellation.
    #[getter]
    fn messages_taken(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.state.lock_attached(py)?.taken)
    }

    /// The identity of the peer, with what vouches for each part of it.
    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<Peer> {
        self.with(py, |connection| Peer::new(connection.peer()))
    }

    /// Returns a new pidfd of the peer's process, which the caller closes. Raises OSError where the kernel or the
    /// transport has none.
    fn peer_pidfd(&self, py: Python<'_>) -> PyResult<RawFd> {
        let fd = self.with(py, |connection| connection.peer_pidfd())?;
        fd.map(IntoRawFd::into_raw_fd).map_err(|error| error::system(&error))
    }

    /// The transport: "shm", "packet", "unix" or "fifo".
    #[getter]
    fn transport(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |connection| connection.transport().to_string())
    }

    /// The capabilities of the connection.
    #[getter]
    fn capabilities(&self, py: Python<'_>) -> PyResult<Capabilities> {
        self.with(py, |connection| Capabilities::new(connection.capabilities()))
    }

    /// The length of the longest message in bytes.
    #[getter]
    fn message_max(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |connection| connection.capabilities().message_max)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.receive_bytes(py, None)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the connection. After an exception it does not wait for a full channel.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        match exception.get_item(0) {
            Ok(kind) if !kind.is_none() => {
                drop(self.take(py)?);
                Ok(())
            }
            _ => self.close(py, None),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(match &self.state.lock_attached(py)?.connection {
            Some(open) => format!("<parlour.Connection {} to {}>", open.transport(), open.peer()),
            None => "<parlour.Connection closed>".to_owned(),
        })
    }
}
