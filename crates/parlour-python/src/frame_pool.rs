//! `FramePool`: memory that this process fills again and again, and that its readers read without a copy.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use parlour::frames::{AtShare, FramePoolOptions, ReaderId};
use parlour::{ErrorKind, Payload};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::buffer::Buffer;
use crate::connection::{Connection, Progress, Sending};
use crate::error::{closed, exception, system, timed_out};
use crate::frame::Frame;
use crate::hub::{Client, Hub};
use crate::lock::{Lock, Unavailable};
use crate::message::Message;
use crate::wait::{self, Deadline, Events, Sleepers};

const AT_SHARE: &str = "the reader held its share of blocks until the deadline";
const ALL_HELD: &str = "every block of the pool was held until the deadline";

/// A pool of blocks in shared memory, for frames of at most `frame_len_max` bytes. This process fills blocks, and its
/// readers read them without a copy (`FrameReader`). The memory is allocated once.
///
/// `readers` can hold blocks at the same time, `share` blocks each; further ones get copies. `own_blocks` are for the
/// frames that this process keeps, with the one that it fills. `at_share` is for a reader that holds its share:
/// "by_value" copies the frame into the message, up to `by_value_max` bytes, "wait" waits until a block returns, and
/// "refuse" raises Busy. At most `leases_max` readers are admitted, those of other users only with `any_user`. Whoever
/// is admitted can read the whole pool.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct FramePool {
    state: Arc<Lock<State>>,
    blocks: usize,
    frame_len_max: usize,
}

struct State {
    /// `None` once it is closed.
    pool: Option<parlour::frames::FramePool>,
    sleepers: Sleepers,
    /// The connections of the sends that may wait for a reader. They sleep as calls of these.
    sending: Vec<Py<Connection>>,
}

impl State {
    /// Sends a frame with `send`, if that need not wait for the reader.
    fn send(
        &mut self,
        reader: ReaderId,
        frame: &parlour::frames::Frame,
        note: &[u8],
        send: impl FnOnce(Payload<'_>) -> parlour::Result<()>,
    ) -> Sending {
        let Some(pool) = self.pool.as_mut() else { return Sending::Exception(closed("pool")) };
        match pool.has_place(reader, frame) {
            Ok(true) => {}
            Ok(false) => return Sending::NotYet(pool.as_fd().as_raw_fd(), AT_SHARE),
            Err(error) => return Sending::Failed(error),
        }
        match pool.send_timeout(reader, frame, note, Duration::ZERO, send) {
            Ok(()) => Sending::Sent,
            // The reader has a place, so this is the channel.
            Err(error) if error.kind() == ErrorKind::TimedOut => Sending::Full(error),
            Err(error) => Sending::Failed(error),
        }
    }
}

/// A reader that a pool has admitted.
#[pyclass(frozen, weakref, module = "parlour")]
pub(crate) struct AdmittedReader {
    id: ReaderId,
    target: Target,
    pool: Arc<Lock<State>>,
}

/// The way to a reader.
enum Target {
    Connection(Py<Connection>),
    Client(Py<Hub>, Client),
}

#[pymethods]
impl AdmittedReader {
    /// The number of blocks that the reader holds: 0 after its end.
    #[getter]
    fn held(&self, py: Python<'_>) -> PyResult<usize> {
        let held = py.detach(|| Ok(self.pool.lock()?.pool.as_mut().map_or(0, |pool| pool.held_by(self.id))));
        held.map_err(Unavailable::exception)
    }

    /// Sends it no further frames. The blocks that it keeps return when it releases them or dies.
    fn remove(&self, py: Python<'_>) -> PyResult<()> {
        let removed = py.detach(|| {
            let mut state = self.pool.lock()?;
            if let Some(pool) = state.pool.as_mut() {
                pool.remove(self.id);
            }
            // A send to this reader that waits fails.
            state.sleepers.wake();
            Ok(())
        });
        removed.map_err(Unavailable::exception)?;
        match &self.target {
            Target::Connection(connection) => connection.get().wake(py),
            Target::Client(..) => Ok(()),
        }
    }
}

impl FramePool {
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut parlour::frames::FramePool) -> parlour::Result<T> + Send,
    ) -> PyResult<T> {
        let worked = py.detach(|| Ok(self.state.lock()?.pool.as_mut().map(work)));
        let worked = worked.map_err(Unavailable::exception)?.ok_or_else(|| closed("pool"))?;
        worked.map_err(|error| exception(py, &error))
    }

    /// Sends a frame, or attempts it once.
    fn send_frame(
        &self,
        py: Python<'_>,
        reader: &AdmittedReader,
        frame: &Frame,
        note: Option<&Bound<'_, PyAny>>,
        deadline: Deadline,
        is_one_attempt: bool,
    ) -> PyResult<Progress> {
        if !Arc::ptr_eq(&reader.pool, &self.state) {
            return Err(PyValueError::new_err("the reader was admitted by another pool"));
        }
        let note = note.map(Buffer::readable).transpose()?;
        let note = note.as_ref().map_or(&[][..], Buffer::bytes);
        let frame = frame.frozen()?;
        let (hub, client) = match &reader.target {
            Target::Connection(target) => {
                if !is_one_attempt {
                    self.state.lock_attached(py)?.sending.push(target.clone_ref(py));
                }
                let sent = target.get().send_for(py, deadline, is_one_attempt, |connection| match self.state.lock() {
                    Ok(mut state) => {
                        state.send(reader.id, &frame, note, |payload| connection.send_timeout(payload, Duration::ZERO))
                    }
                    Err(unavailable) => Sending::Exception(unavailable.exception()),
                });
                if !is_one_attempt {
                    let mut state = self.state.lock_attached(py)?;
                    let at = state.sending.iter().position(|other| other.is(target));
                    let ended = at.map(|at| state.sending.swap_remove(at));
                    drop((state, ended));
                }
                return sent;
            }
            Target::Client(hub, client) => (hub.get(), client.client()),
        };
        loop {
            let sent = hub.with(py, |hub| {
                let mut state = self.state.lock()?;
                let sent = state.send(reader.id, &frame, note, |payload| hub.send(client, payload));
                // Under the lock, so that a close wakes this call.
                let sleeps = matches!(sent, Sending::NotYet(..)) && !is_one_attempt && !deadline.is_over();
                Ok((sent, sleeps.then(|| state.sleepers.join())))
            })?;
            let (sent, sleeper) = sent.map_err(Unavailable::exception)?;
            let sleeper = sleeper.transpose().map_err(|error| system(&error))?;
            match sent {
                Sending::Sent => return Ok(Progress::Done),
                Sending::NotYet(..) if is_one_attempt => return Ok(Progress::NotYet),
                Sending::NotYet(fd, detail) => {
                    let Some(mut sleeper) = sleeper else { return Err(timed_out(py, "send", detail)) };
                    let slept = wait::sleep(py, Some(&mut sleeper), Events::new(fd, libc::POLLIN), deadline);
                    self.state.lock_attached(py)?.sleepers.leave(sleeper);
                    slept?;
                }
                Sending::Full(error) | Sending::Failed(error) => return Err(exception(py, &error)),
                Sending::Exception(raised) => return Err(raised),
            }
        }
    }
}

#[pymethods]
impl FramePool {
    #[new]
    #[pyo3(signature = (
        frame_len_max, *, readers = 4, share = 2, own_blocks = 1, at_share = "by_value", by_value_max = 16 << 20,
        leases_max = 64, any_user = false
    ))]
    #[allow(clippy::too_many_arguments, reason = "they are passed by keyword")]
    fn new(
        py: Python<'_>,
        frame_len_max: usize,
        readers: usize,
        share: usize,
        own_blocks: usize,
        at_share: &str,
        by_value_max: usize,
        leases_max: usize,
        any_user: bool,
    ) -> PyResult<Self> {
        let at_share = match at_share {
            "by_value" => AtShare::ByValue,
            "wait" => AtShare::Wait,
            "refuse" => AtShare::Refuse,
            other => {
                let text = format!("at_share is {other:?}; it is \"by_value\", \"wait\" or \"refuse\"");
                return Err(PyValueError::new_err(text));
            }
        };
        let options = FramePoolOptions::new(frame_len_max).readers(readers).share(share).own_blocks(own_blocks);
        let options = options.at_share(at_share).by_value_max(by_value_max).leases_max(leases_max).any_user(any_user);
        let pool = py.detach(|| options.create()).map_err(|error| exception(py, &error))?;
        let (blocks, frame_len_max) = (pool.blocks(), pool.frame_len_max());
        let state = State { pool: Some(pool), sleepers: Sleepers::default(), sending: Vec::new() };
        Ok(Self { state: Arc::new(Lock::new(state)), blocks, frame_len_max })
    }

    /// Returns true if a message is one of a reader that asks to be admitted.
    #[staticmethod]
    fn is_attach(message: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(parlour::frames::FramePool::is_attach(Buffer::readable(message)?.bytes()))
    }

    /// Admits a reader, whose message arrived over this connection, or from this client of a hub. The connection must
    /// allow two descriptors (`fds_max=2`).
    ///
    /// Raises Denied for a reader of another user, Busy if there are as many as the options allow, and Protocol for
    /// another message. The connection can still be used.
    #[pyo3(signature = (message, source, client = None))]
    fn admit(
        &self,
        py: Python<'_>,
        message: &Message,
        source: &Bound<'_, PyAny>,
        client: Option<Client>,
    ) -> PyResult<AdmittedReader> {
        let (peer, target) = match (source.cast::<Connection>(), source.cast::<Hub>(), client) {
            (Ok(connection), _, None) => {
                let peer = connection.get().with(py, |connection| connection.peer().clone())?;
                (Some(peer), Target::Connection(connection.clone().unbind()))
            }
            (_, Ok(hub), Some(client)) => {
                let peer = hub.get().with(py, |hub| hub.peer(client.client()).cloned())?;
                (peer, Target::Client(hub.clone().unbind(), client))
            }
            _ => return Err(PyTypeError::new_err("a reader comes over a Connection, or is a client of a Hub")),
        };
        let Some(peer) = peer else { return Err(PyValueError::new_err("the client has left")) };
        let whole = message.take_whole().ok_or_else(|| PyValueError::new_err("the message was opened before"))?;
        let id = self.with(py, |pool| pool.admit(whole, &peer))?;
        Ok(AdmittedReader { id, target, pool: Arc::clone(&self.state) })
    }

    /// Lends a block to be filled: the next one in turn among those that nobody holds. Waits while every block is held.
    #[pyo3(signature = (timeout = None))]
    fn loan(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        let deadline = Deadline::after(timeout)?;
        let mut is_last = deadline.is_over();
        loop {
            let step = py.detach(|| {
                let mut state = self.state.lock().map_err(Unavailable::exception)?;
                let State { pool, sleepers, .. } = &mut *state;
                let pool = pool.as_mut().ok_or_else(|| closed("pool"))?;
                Ok::<_, PyErr>(match pool.try_loan() {
                    Ok(Some(frame)) => Ok(Ok(frame)),
                    Ok(None) if is_last => Ok(Err(None)),
                    Ok(None) => {
                        let sleeper = sleepers.join().map_err(|error| system(&error))?;
                        Err((sleeper, Events::new(pool.as_fd().as_raw_fd(), libc::POLLIN)))
                    }
                    Err(error) => Ok(Err(Some(error))),
                })
            })?;
            let (mut sleeper, events) = match step {
                Ok(Ok(frame)) => return Ok(Frame::new(frame)),
                Ok(Err(Some(error))) => return Err(exception(py, &error)),
                Ok(Err(None)) => return Err(timed_out(py, "loan", ALL_HELD)),
                Err(waits) => waits,
            };
            let slept = wait::sleep(py, Some(&mut sleeper), events, deadline);
            self.state.lock_attached(py)?.sleepers.leave(sleeper);
            slept?;
            is_last = deadline.is_over();
        }
    }

    /// Lends a block as `loan` does, or returns None if every block is held. Then `fileno` is readable when one may
    /// have returned.
    fn try_loan(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        Ok(self.with(py, parlour::frames::FramePool::try_loan)?.map(Frame::new))
    }

    /// Sends a frame to a reader, with a note: bytes that arrive with it. The first send ends the writing, so it raises
    /// BufferError while a view of the frame exists: `del` arrays of it before. The frame is not copied, may be sent to
    /// further readers, and stays with the reader until it releases it.
    ///
    /// Raises Busy if the reader holds its share and `at_share` is "refuse", or if the frame would have to be copied
    /// and is longer than `by_value_max`. Raises Disconnected if the reader has ended. The frame was not sent then.
    #[pyo3(signature = (reader, frame, note = None, timeout = None))]
    fn send(
        &self,
        py: Python<'_>,
        reader: &AdmittedReader,
        frame: &Frame,
        note: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.send_frame(py, reader, frame, note, Deadline::after(timeout)?, false).map(drop)
    }

    /// For `parlour.aio`. Returns 0 if the frame was sent, and 1 or 2 if the pool or the channel is to be waited for.
    fn _try_send(
        &self,
        py: Python<'_>,
        reader: &AdmittedReader,
        frame: &Frame,
        note: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<u8> {
        let progress = self.send_frame(py, reader, frame, note, Deadline::after(Some(0.0))?, true)?;
        Ok(progress as u8)
    }

    /// The number of blocks.
    #[getter]
    fn blocks(&self) -> usize {
        self.blocks
    }

    /// The length in bytes of the longest frame.
    #[getter]
    fn frame_len_max(&self) -> usize {
        self.frame_len_max
    }

    /// Returns a descriptor that is readable when a block may have returned, after `try_loan` returned None.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.with(py, |pool| Ok(pool.as_fd().as_raw_fd()))
    }

    /// True if the pool was closed.
    #[getter]
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.state.lock_attached(py)?.pool.is_none())
    }

    /// Closes the pool. Frames that were sent remain readable.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.state.lock_attached(py)?;
        drop(state.pool.take());
        state.sleepers.wake();
        let sending: Vec<_> = state.sending.iter().map(|connection| connection.clone_ref(py)).collect();
        // A send holds the lock of its connection when it takes this one.
        drop(state);
        sending.iter().try_for_each(|connection| connection.get().wake(py))
    }

    fn __repr__(&self) -> String {
        format!("<parlour.FramePool of {} blocks of {} bytes>", self.blocks, self.frame_len_max)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }
}
