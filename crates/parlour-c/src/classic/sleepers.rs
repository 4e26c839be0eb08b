//! The calls of the classic API that sleep, and how each is woken when its handle ends.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

/// Sleepers that the end of their handle can wake at one time. A sleeper beyond them notices the end when something
/// else wakes it.
const SLEEPERS_MAX: usize = 1024;

/// Table of the calls that sleep, with the descriptor of each. The array never grows, because sleeping in a signal handler must not allocate.
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

/// Purpose of a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Receive,
    Send,
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

    /// Says whether a call sleeps in the middle of a message that it sends on this descriptor.
    pub(crate) fn is_amid_sending(&self, fd: RawFd) -> bool {
        self.of_this_process()
            .any(|sleeper| sleeper.fd == fd && sleeper.direction == Direction::Send && sleeper.is_amid)
    }

    fn of_this_process(&self) -> impl Iterator<Item = &Sleeper> {
        let process = std::process::id();
        self.sleepers.iter().flatten().filter(move |sleeper| sleeper.process == process)
    }

    /// Adds a sleeper that `alarm` wakes, and gives its number. `None`: the array is full.
    pub(crate) fn enter(&mut self, fd: RawFd, direction: Direction, is_amid: bool, alarm: RawFd) -> Option<usize> {
        let sleeper = Sleeper { fd, direction, is_amid, alarm, process: std::process::id() };
        let free = |place: &Option<Sleeper>| place.is_none_or(|other| other.process != sleeper.process);
        let number = self.sleepers.iter().position(free)?;
        self.sleepers[number] = Some(sleeper);
        Some(number)
    }

    /// Removes the sleeper that has this number and this alarm.
    pub(crate) fn leave(&mut self, number: usize, alarm: RawFd) {
        // In a child that a signal handler has forked the place may be somebody else's by now.
        self.sleepers[number].take_if(|sleeper| sleeper.alarm == alarm && sleeper.process == std::process::id());
    }
}
