//! The calls of the classic API that sleep, and the eventfd of each that wakes it when its handle ends.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

/// The number of sleepers that the end of their handle can wake. A sleeper beyond that number notices the end when
/// another event wakes it.
const SLEEPERS_MAX: usize = 1024;

/// The calls that sleep, with the descriptor of each. The array never grows, because sleeping in a signal handler must
/// not allocate memory.
pub(crate) struct Sleepers {
    sleepers: [Option<Sleeper>; SLEEPERS_MAX],
}

#[derive(Clone, Copy)]
struct Sleeper {
    fd: RawFd,
    direction: Direction,
    /// True if the call has sent or received a part of a message.
    is_amid: bool,
    /// The eventfd that wakes the sleeper.
    alarm: RawFd,
    /// The process of the sleeper. In a forked child the table still has the sleepers of the parent.
    process: u32,
}

/// The purpose of a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Receive,
    Send,
}

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self { sleepers: [None; SLEEPERS_MAX] }
    }

    /// Wakes the sleepers on a descriptor that is about to be closed.
    pub(crate) fn wake(&self, fd: RawFd) {
        for sleeper in self.of_this_process().filter(|sleeper| sleeper.fd == fd && sleeper.alarm >= 0) {
            // SAFETY: a sleeper leaves the table before it closes its eventfd, so the descriptor is open.
            let alarm = unsafe { BorrowedFd::borrow_raw(sleeper.alarm) };
            // The write can fail only if the counter is full, and then the sleeper is awake already.
            let _ = rustix::io::write(alarm, &1u64.to_ne_bytes());
        }
    }

    /// Returns true if a call sleeps on this descriptor after it has sent a part of a message.
    pub(crate) fn is_amid_sending(&self, fd: RawFd) -> bool {
        self.of_this_process()
            .any(|sleeper| sleeper.fd == fd && sleeper.direction == Direction::Send && sleeper.is_amid)
    }

    fn of_this_process(&self) -> impl Iterator<Item = &Sleeper> {
        let process = std::process::id();
        self.sleepers.iter().flatten().filter(move |sleeper| sleeper.process == process)
    }

    /// Adds a sleeper that the eventfd `alarm` wakes, and returns its number. Returns `None` if the array is full.
    pub(crate) fn enter(&mut self, fd: RawFd, direction: Direction, is_amid: bool, alarm: RawFd) -> Option<usize> {
        let sleeper = Sleeper { fd, direction, is_amid, alarm, process: std::process::id() };
        let free = |place: &Option<Sleeper>| place.is_none_or(|other| other.process != sleeper.process);
        let number = self.sleepers.iter().position(free)?;
        self.sleepers[number] = Some(sleeper);
        Some(number)
    }

    /// Removes the sleeper that has this number and this alarm.
    pub(crate) fn leave(&mut self, number: usize, alarm: RawFd) {
        // In a child that a signal handler forked, another sleeper may have taken the place.
        self.sleepers[number].take_if(|sleeper| sleeper.alarm == alarm && sleeper.process == std::process::id());
    }
}
