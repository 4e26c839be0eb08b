//! The sleep of a call on a descriptor of its handle. The end of the handle wakes the call.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::{c_short, pollfd};
use rustix::event::{EventfdFlags, eventfd};

use super::errno::Errno;
use super::signals::Blocked;
use super::sleepers::Direction;
use super::table;

/// The reason why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor has these events of poll(2), or the timeout has passed.
    Ready(c_short),
    /// A signal handler has run.
    Interrupted,
}

/// Sleeps until `fd` has one of these events, a handler has run, or the handle was ended. Fails with `EBADF` if it was
/// ended.
///
/// `is_there` returns true if the descriptor still belongs to the handle. It is called when the sleeper is in the
/// table and can be woken, and again after the sleeper has left the table: the call that wakes a sleeper holds the
/// lock of the table until it has closed the descriptor.
pub(crate) fn sleep(
    blocked: &Blocked,
    fd: RawFd,
    direction: Direction,
    is_amid: bool,
    events: c_short,
    timeout_ms: Option<u32>,
    is_there: impl Fn() -> bool,
) -> Result<Woken, Errno> {
    let alarm = Alarm::set(blocked, fd, direction, is_amid);
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
    match slept {
        Ok(_) => Ok(Woken::Ready(fds[0].revents)),
        Err(Errno(libc::EINTR)) => Ok(Woken::Interrupted),
        Err(errno) => Err(errno),
    }
}

/// The entry of a sleeper in the table, and the eventfd that wakes it. If either cannot be had, the end of the handle
/// does not wake the sleeper.
struct Alarm<'a> {
    blocked: &'a Blocked,
    event: Option<OwnedFd>,
    number: Option<usize>,
}

impl<'a> Alarm<'a> {
    fn set(blocked: &'a Blocked, fd: RawFd, direction: Direction, is_amid: bool) -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let mut alarm = Self { blocked, event, number: None };
        alarm.number = table::lock(blocked).sleepers.enter(fd, direction, is_amid, alarm.fd());
        alarm
    }

    /// Returns the eventfd, or -1, which poll(2) ignores.
    fn fd(&self) -> RawFd {
        self.event.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        // The sleeper leaves the table before the eventfd is closed.
        if let Some(number) = self.number {
            table::lock(self.blocked).sleepers.leave(number, self.fd());
        }
    }
}
