//! Where the classic API sleeps: who does, and how they are woken when their handle ends.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_short, pollfd};
use rustix::event::{EventfdFlags, eventfd};

use super::errno::Errno;
use super::signals::Blocked;
use super::table;

/// How many can be woken by the end of their handle, at once. More may sleep; those find out when something else
/// wakes them.
const SLEEPERS_MAX: usize = 1024;

/// Who sleeps on which descriptor. The array never grows, because sleeping in a signal handler must not allocate.
pub(crate) struct Sleepers {
    sleepers: [Option<Sleeper>; SLEEPERS_MAX],
}

#[derive(Clone, Copy)]
struct Sleeper {
    fd: RawFd,
    direction: Direction,
    /// It has begun with a message.
    is_amid: bool,
    /// Wakes it.
    alarm: RawFd,
    /// In a forked child the table has sleepers that are not there.
    process: u32,
}

/// What is slept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Receive,
    Send,
}

/// Why a sleep has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// The descriptor is ready, with these events of poll(2), or the time is over.
    Ready(c_short),
    /// A signal handler has run.
    Interrupted,
}

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self { sleepers: [None; SLEEPERS_MAX] }
    }

    /// Wakes those who sleep on a descriptor that is about to be closed.
    pub(crate) fn wake(&self, fd: RawFd) {
        for sleeper in self.of_this_process().filter(|sleeper| sleeper.fd == fd && sleeper.alarm >= 0) {
            // SAFETY: a sleeper leaves the table before its alarm is closed, so that number is still the alarm's.
            let alarm = unsafe { BorrowedFd::borrow_raw(sleeper.alarm) };
            // It can only fail where it was woken already.
            let _ = rustix::io::write(alarm, &1u64.to_ne_bytes());
        }
    }

    /// Whether somebody sleeps in the middle of a message that is being sent there.
    pub(crate) fn is_amid_sending(&self, fd: RawFd) -> bool {
        self.of_this_process()
            .any(|sleeper| sleeper.fd == fd && sleeper.direction == Direction::Send && sleeper.is_amid)
    }

    fn of_this_process(&self) -> impl Iterator<Item = &Sleeper> {
        let process = std::process::id();
        self.sleepers.iter().flatten().filter(move |sleeper| sleeper.process == process)
    }

    fn enter(&mut self, sleeper: Sleeper) -> Option<usize> {
        let free = |place: &Option<Sleeper>| place.is_none_or(|other| other.process != sleeper.process);
        let number = self.sleepers.iter().position(free)?;
        self.sleepers[number] = Some(sleeper);
        Some(number)
    }

    fn leave(&mut self, number: usize, alarm: RawFd) {
        // In a child that a signal handler has forked the place may be somebody else's by now.
        self.sleepers[number].take_if(|sleeper| sleeper.alarm == alarm && sleeper.process == std::process::id());
    }
}

/// Sleeps until `fd` has one of these events, a handler has run, or the handle was ended.
///
/// `is_there` says whether the descriptor is still what it was. It is asked when this sleeper can be woken, and again
/// when it has left the table, for which it has to wait until whoever has woken it has closed the descriptor.
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

/// A sleeper's entry in the table, and what wakes it. Where there is no room for one of them, nothing does.
struct Alarm<'a> {
    blocked: &'a Blocked,
    event: Option<OwnedFd>,
    number: Option<usize>,
}

impl<'a> Alarm<'a> {
    fn set(blocked: &'a Blocked, fd: RawFd, direction: Direction, is_amid: bool) -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let mut alarm = Self { blocked, event, number: None };
        let sleeper = Sleeper { fd, direction, is_amid, alarm: alarm.fd(), process: std::process::id() };
        alarm.number = table::lock(blocked).sleepers.enter(sleeper);
        alarm
    }

    /// A negative number is one that poll(2) passes over.
    fn fd(&self) -> RawFd {
        self.event.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        // Before the alarm is closed.
        if let Some(number) = self.number {
            table::lock(self.blocked).sleepers.leave(number, self.fd());
        }
    }
}
