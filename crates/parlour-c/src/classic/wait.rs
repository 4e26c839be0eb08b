//! A call that sends or receives: its exclusive use of a direction of its handle, and its sleep on the descriptor. The
//! end of the handle wakes the call.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::{c_short, pollfd};
use rustix::event::{EventfdFlags, eventfd};

use super::errno::Errno;
use super::signals::Blocked;
use super::sleepers::{Direction, Excluded, Place};
use super::table;

/// The reason why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor has these events of poll(2), or the timeout has passed.
    Ready(c_short),
    /// A signal handler has run.
    Interrupted,
}

/// A call that uses a direction of a handle. No other call uses it at the same time.
pub(crate) struct Call<'a> {
    blocked: &'a Blocked,
    fd: RawFd,
    /// `None` if the table was full.
    place: Option<Place>,
}

impl<'a> Call<'a> {
    /// Begins a call. Waits while another call works on this direction, and fails with `EBUSY` if another call is in
    /// the middle of a message.
    pub(crate) fn begin(blocked: &'a Blocked, fd: RawFd, direction: Direction) -> Result<Self, Errno> {
        let place = when_free(|| table::lock(blocked).sleepers.begin(fd, direction))?;
        Ok(Self { blocked, fd, place })
    }

    /// Returns the descriptor that the call uses.
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    /// Lets the call work again after it has slept. Waits and fails as [`begin`](Self::begin) does.
    fn resume(&self) -> Result<(), Errno> {
        let Some(place) = self.place else { return Ok(()) };
        when_free(|| table::lock(self.blocked).sleepers.resume(place))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            table::lock(self.blocked).sleepers.end(place);
        }
    }
}

/// Waits while another thread works with the handle. Signals are blocked during that work, so no handler gets here that
/// has interrupted it, and the work does not block.
fn when_free<T>(mut try_once: impl FnMut() -> Result<T, Excluded>) -> Result<T, Errno> {
    loop {
        match try_once() {
            Ok(done) => return Ok(done),
            Err(Excluded::ForAMoment) => std::thread::yield_now(),
            Err(Excluded::ByAMessage) => return Err(Errno(libc::EBUSY)),
        }
    }
}

/// Sleeps until the descriptor of the call has one of these events, a handler has run, or the handle was ended. Fails
/// with `EBADF` if it was ended, and with `EBUSY` if another call is in the middle of a message by then.
///
/// `is_there` returns true if the descriptor still belongs to the handle. It is called when the sleeper can be woken,
/// and again when it can no longer be woken: the call that wakes a sleeper holds the lock of the table until it has
/// closed the descriptor.
pub(crate) fn sleep(
    call: &Call<'_>,
    is_amid: bool,
    events: c_short,
    timeout_ms: Option<u32>,
    is_there: impl Fn() -> bool,
) -> Result<Woken, Errno> {
    let Call { blocked, fd, .. } = *call;
    let alarm = Alarm::set(call, is_amid);
    if !is_there() {
        return Err(Errno(libc::EBADF));
    }
    let alarm_fd = alarm.fd();
    let mut fds = [pollfd { fd, events, revents: 0 }, pollfd { fd: alarm_fd, events: libc::POLLIN, revents: 0 }];
    let slept = blocked.poll(&mut fds, timeout_ms);
    drop(alarm);
    if !is_there() {
        return Err(Errno(libc::EBADF));
    }
    call.resume()?;
    match slept {
        Ok(_) => Ok(Woken::Ready(fds[0].revents)),
        Err(Errno(libc::EINTR)) => Ok(Woken::Interrupted),
        Err(errno) => Err(errno),
    }
}

/// The eventfd that wakes a call, in its entry of the table. If either cannot be had, the end of the handle does not
/// wake the sleeper.
struct Alarm<'a> {
    call: &'a Call<'a>,
    event: Option<OwnedFd>,
}

impl<'a> Alarm<'a> {
    fn set(call: &'a Call<'a>, is_amid: bool) -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let alarm = Self { call, event };
        if let Some(place) = call.place {
            table::lock(call.blocked).sleepers.sleep(place, is_amid, alarm.fd());
        }
        alarm
    }

    /// Returns the eventfd, or -1, which poll(2) ignores.
    fn fd(&self) -> RawFd {
        self.event.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        // The eventfd leaves the table before it is closed.
        if let Some(place) = self.call.place {
            table::lock(self.call.blocked).sleepers.awake(place);
        }
    }
}
