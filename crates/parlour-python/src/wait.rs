//! The place where blocking calls sleep: poll(2) without the interpreter, which a signal ends.
//!
//! Each thread has an eventfd(2), which is created when the thread sleeps for the first time. Other threads wake it
//! with that when they close the object that it waits for, or when they have received and so changed what the thread
//! waits for.

use std::cell::Cell;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};

use crate::error;
use crate::fork::Generation;

/// The time until which a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Returns the deadline of a call with this timeout in seconds. `None` and infinity mean never.
    pub(crate) fn after(timeout: Option<f64>) -> PyResult<Self> {
        Ok(Self(duration("timeout", timeout)?.and_then(|timeout| Instant::now().checked_add(timeout))))
    }

    /// Returns the earlier of this deadline and one after `time`.
    pub(crate) fn or_after(self, time: Duration) -> Self {
        let at = Instant::now().checked_add(time);
        Self(self.0.into_iter().chain(at).min())
    }

    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|at| at <= Instant::now())
    }

    /// Returns the time that is left, but at most `most`.
    pub(crate) fn left_within(self, most: Duration) -> Duration {
        self.left().map_or(most, |left| left.min(most))
    }

    fn left(self) -> Option<Duration> {
        Some(self.0?.saturating_duration_since(Instant::now()))
    }
}

/// Converts a number of seconds. Returns `None` for `None` and for infinity, and 0 for a negative number.
pub(crate) fn duration(name: &str, seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err(format!("{name} is not a number"))),
        // Also times that a `Duration` cannot represent are never reached.
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok()),
        None => Ok(None),
    }
}

/// The threads that sleep because of one object. The lock of the object protects the list.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(Vec<Arc<Waker>>);

impl Sleepers {
    /// Adds this thread. It then sleeps, and leaves.
    pub(crate) fn join(&mut self) -> io::Result<Sleeper> {
        let waker = match WAKER.take() {
            Some(waker) if waker.process.is_current() => waker,
            // A forked child shares the eventfd of its parent, so it needs another one. A signal handler that sleeps
            // while the thread is about to sleep must not forget that the thread was woken.
            Some(_) | None => Arc::new(Waker::new()?),
        };
        self.0.push(Arc::clone(&waker));
        Ok(Sleeper { waker, is_ready: false })
    }

    /// Removes this thread, and forgets that it was woken.
    pub(crate) fn leave(&mut self, sleeper: Sleeper) {
        let Sleeper { waker, is_ready } = sleeper;
        if let Some(at) = self.0.iter().position(|other| Arc::ptr_eq(other, &waker)) {
            self.0.swap_remove(at);
        }
        if waker.is_woken.swap(false, Ordering::Relaxed) || is_ready {
            // The only error is that nobody has woken it.
            let _ = rustix::io::read(&waker.event, &mut [0; 8]);
        }
        WAKER.set(Some(waker));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Wakes all. Each of them tries again.
    pub(crate) fn wake(&self) {
        for waker in &self.0 {
            // In a forked child these are the threads of its parent.
            if waker.process.is_current() && !waker.is_woken.swap(true, Ordering::Relaxed) {
                // There is no error for a counter that is 0.
                let _ = rustix::io::write(&waker.event, &1_u64.to_ne_bytes());
            }
        }
    }
}

/// The eventfd of a thread.
#[derive(Debug)]
struct Waker {
    event: OwnedFd,
    /// Written under the lock of the object for which the thread sleeps.
    is_woken: AtomicBool,
    process: Generation,
}

impl Waker {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, is_woken: AtomicBool::new(false), process: Generation::current() })
    }
}

/// A thread that is about to sleep.
#[derive(Debug)]
pub(crate) struct Sleeper {
    waker: Arc<Waker>,
    /// True if poll(2) has reported the eventfd.
    is_ready: bool,
}

thread_local! {
    /// The waker of this thread while it does not sleep.
    static WAKER: Cell<Option<Arc<Waker>>> = const { Cell::new(None) };
}

/// A waker of the library that ends the sleep of one thread.
#[derive(Debug)]
pub(crate) struct ThreadWaker {
    event: OwnedFd,
    process: Generation,
}

impl ThreadWaker {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, process: Generation::current() })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Forgets that the thread was woken. It then looks for what has woken it.
    pub(crate) fn clear(&self) {
        // The only error is that nobody has woken it.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In a forked child this may be a thread of the parent. The write fails only if the counter is full.
        if self.process.is_current() {
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// The waker of this thread, which goes back to the thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Own(Arc<ThreadWaker>);

impl Own {
    /// Takes the waker of this thread. A signal handler that waits while the thread does gets another one.
    pub(crate) fn take() -> io::Result<Self> {
        match THREAD_WAKER.take() {
            Some(waker) if waker.process.is_current() => Ok(Self(waker)),
            Some(_) | None => ThreadWaker::new().map(Arc::new).map(Self),
        }
    }
}

impl Deref for Own {
    type Target = Arc<ThreadWaker>;

    fn deref(&self) -> &Arc<ThreadWaker> {
        &self.0
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // At the end of a thread there is no place for it.
        let _ = THREAD_WAKER.try_with(|place| place.set(Some(Arc::clone(&self.0))));
    }
}

thread_local! {
    static THREAD_WAKER: Cell<Option<Arc<ThreadWaker>>> = const { Cell::new(None) };
}

/// The greatest number of events that a call waits for, with that of its waker.
const EVENTS_MAX: usize = 4;

/// The events that a call waits for: descriptors with the flags of poll(2).
#[derive(Clone, Copy)]
pub(crate) struct Events {
    entries: [libc::pollfd; EVENTS_MAX],
    count: usize,
}

impl Events {
    pub(crate) fn new(fd: RawFd, flags: i16) -> Self {
        // poll(2) ignores negative descriptors.
        let none = libc::pollfd { fd: -1, events: 0, revents: 0 };
        Self { entries: [none; EVENTS_MAX], count: 0 }.and(fd, flags)
    }

    /// Returns true if the last sleep has seen an event of this descriptor.
    pub(crate) fn has_seen(&self, fd: RawFd) -> bool {
        self.entries[..self.count].iter().any(|entry| entry.fd == fd && entry.revents != 0)
    }

    /// Adds an event. There is place for three.
    pub(crate) fn and(mut self, fd: RawFd, flags: i16) -> Self {
        if let Some(entry) = self.entries.get_mut(self.count) {
            *entry = libc::pollfd { fd, events: flags, revents: 0 };
            self.count += 1;
        }
        self
    }
}

/// Sleeps without the interpreter until an event happens, another thread wakes this one, or the deadline has passed.
/// May return earlier.
///
/// # Errors
///
/// That of a signal handler that raises, or of poll(2).
pub(crate) fn sleep(
    py: Python<'_>,
    sleeper: Option<&mut Sleeper>,
    mut events: Events,
    deadline: Deadline,
) -> PyResult<()> {
    // The attempt before may have slept inside the library, which goes on after a signal.
    py.check_signals()?;
    match py.detach(|| sleep_detached(sleeper, &mut events, deadline)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => py.check_signals(),
        Err(error) => Err(error::system(&error)),
    }
}

/// The longest sleep of the main thread, which calls the signal handlers. A signal that arrives just before poll(2), or
/// in another thread, does not end its sleep.
const SIGNAL_SLICE: Duration = Duration::from_secs(1);

/// Returns true in the main thread of the process.
fn is_main_thread() -> bool {
    thread_local! {
        // The thread that forks is the main thread of the child.
        static IS_MAIN: Cell<Option<(Generation, bool)>> = const { Cell::new(None) };
    }
    match IS_MAIN.get() {
        Some((process, is_main)) if process.is_current() => is_main,
        Some(_) | None => {
            let is_main = rustix::thread::gettid() == rustix::process::getpid();
            IS_MAIN.set(Some((Generation::current(), is_main)));
            is_main
        }
    }
}

/// Sleeps like [`sleep`], in a thread that is not attached to the interpreter.
///
/// # Errors
///
/// Those of poll(2). After [`Interrupted`](io::ErrorKind::Interrupted) signal handlers are to be called. The main
/// thread also returns this from time to time.
pub(crate) fn sleep_detached(sleeper: Option<&mut Sleeper>, events: &mut Events, deadline: Deadline) -> io::Result<()> {
    if let Some(sleeper) = &sleeper {
        *events = events.and(sleeper.waker.event.as_raw_fd(), libc::POLLIN);
    }
    let left = deadline.left();
    let slice = left.is_none_or(|left| left > SIGNAL_SLICE) && is_main_thread();
    let count = poll(&mut events.entries[..events.count], if slice { Some(SIGNAL_SLICE) } else { left })?;
    if count == 0 && slice {
        return Err(io::ErrorKind::Interrupted.into());
    }
    if let Some(sleeper) = sleeper {
        sleeper.is_ready = events.has_seen(sleeper.waker.event.as_raw_fd());
    }
    Ok(())
}

#[allow(unsafe_code, reason = "the descriptors are numbers, which another thread may close meanwhile")]
fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map(|left| libc::timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = entries.len() as libc::nfds_t;
    // SAFETY: the pointers are to `count` entries and to a time or null, all alive during the call. If a descriptor
    // was closed, and perhaps opened as another file, the call waits for the wrong file until the thread that has
    // closed it wakes this one.
    let result = unsafe { libc::ppoll(entries.as_mut_ptr(), count, timeout, std::ptr::null()) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
