//! The calls of the classic API that send or receive: one at a time works on a direction of a handle. A call that
//! sleeps has an eventfd that wakes it when its handle ends.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

/// The number of calls at the same time that the table has places for. A call beyond that number does not exclude
/// others, and notices the end of its handle when another event wakes it.
const SLEEPERS_MAX: usize = 1024;

/// The calls, with the descriptor of each. The array never grows, because a call in a signal handler must not allocate
/// memory.
pub(crate) struct Sleepers {
    sleepers: [Option<Sleeper>; SLEEPERS_MAX],
    /// The number of places, from the first one on, that were ever used.
    used: usize,
    last_serial: u64,
}

#[derive(Clone, Copy)]
struct Sleeper {
    serial: u64,
    fd: RawFd,
    direction: Direction,
    progress: Progress,
    /// The eventfd that wakes the sleeper, or -1.
    alarm: RawFd,
    /// The process of the call. In a forked child the table still has the calls of the parent.
    process: u32,
}

/// The direction of a handle that a call uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Receive,
    Send,
}

/// The state of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The call sleeps and has transferred nothing. Another call may precede it.
    Waiting,
    /// The call makes system calls that do not block. Another call can wait for that.
    Working,
    /// The call has transferred a part of a message, and sleeps or has slept. That may take as long as the peer likes.
    Amid,
}

/// The place of a call in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    number: usize,
    serial: u64,
}

/// The reason why a call may not use its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excluded {
    /// Another call works, for a short time.
    ForAMoment,
    /// Another call is in the middle of a message.
    ByAMessage,
}

impl Sleepers {
    pub(crate) const fn new() -> Self {
        Self { sleepers: [None; SLEEPERS_MAX], used: 0, last_serial: 0 }
    }

    /// Wakes the sleepers on a descriptor that is about to be closed.
    pub(crate) fn wake(&self, fd: RawFd) {
        for sleeper in self.of_this_process().filter(|sleeper| sleeper.fd == fd && sleeper.alarm >= 0) {
            // SAFETY: a sleeper withdraws its eventfd before it closes it, so the descriptor is open.
            let alarm = unsafe { BorrowedFd::borrow_raw(sleeper.alarm) };
            // The write can fail only if the counter is full, and then the sleeper is awake already.
            let _ = rustix::io::write(alarm, &1u64.to_ne_bytes());
        }
    }

    fn of_this_process(&self) -> impl Iterator<Item = &Sleeper> {
        let process = std::process::id();
        self.sleepers[..self.used].iter().flatten().filter(move |sleeper| sleeper.process == process)
    }

    /// Begins a call that works on a direction of a descriptor. Returns `None` if the table is full.
    pub(crate) fn begin(&mut self, fd: RawFd, direction: Direction) -> Result<Option<Place>, Excluded> {
        self.check(fd, direction, None)?;
        let process = std::process::id();
        let free = |place: &Option<Sleeper>| place.is_none_or(|other| other.process != process);
        let Some(number) = self.sleepers.iter().position(free) else { return Ok(None) };
        self.used = self.used.max(number + 1);
        self.last_serial += 1;
        let serial = self.last_serial;
        self.sleepers[number] =
            Some(Sleeper { serial, fd, direction, progress: Progress::Working, alarm: -1, process });
        Ok(Some(Place { number, serial }))
    }

    /// Notes that a call sleeps, and the eventfd that wakes it.
    pub(crate) fn sleep(&mut self, place: Place, is_amid: bool, alarm: RawFd) {
        if let Some(sleeper) = self.at(place) {
            sleeper.progress = if is_amid { Progress::Amid } else { Progress::Waiting };
            sleeper.alarm = alarm;
        }
    }

    /// Notes that a call is awake: its eventfd is about to be closed.
    pub(crate) fn awake(&mut self, place: Place) {
        if let Some(sleeper) = self.at(place) {
            sleeper.alarm = -1;
        }
    }

    /// Lets a call that has slept work again.
    pub(crate) fn resume(&mut self, place: Place) -> Result<(), Excluded> {
        let Some(&mut Sleeper { fd, direction, progress: Progress::Waiting, serial, .. }) = self.at(place) else {
            return Ok(());
        };
        self.check(fd, direction, Some(serial))?;
        if let Some(sleeper) = self.at(place) {
            sleeper.progress = Progress::Working;
        }
        Ok(())
    }

    /// Ends a call.
    pub(crate) fn end(&mut self, place: Place) {
        if self.at(place).is_some() {
            self.sleepers[place.number] = None;
        }
    }

    /// Returns the call at this place. In a child that a signal handler forked, the call belongs to the parent, and
    /// another one may have taken its place.
    fn at(&mut self, place: Place) -> Option<&mut Sleeper> {
        let process = std::process::id();
        let is_it = |sleeper: &&mut Sleeper| sleeper.serial == place.serial && sleeper.process == process;
        self.sleepers.get_mut(place.number)?.as_mut().filter(is_it)
    }

    /// Fails if another call than `own` excludes calls of this direction.
    fn check(&self, fd: RawFd, direction: Direction, own: Option<u64>) -> Result<(), Excluded> {
        let is_other = |call: &&Sleeper| call.fd == fd && call.direction == direction && own != Some(call.serial);
        match self.of_this_process().filter(is_other).find(|call| call.progress != Progress::Waiting) {
            Some(Sleeper { progress: Progress::Amid, .. }) => Err(Excluded::ByAMessage),
            Some(_) => Err(Excluded::ForAMoment),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_at_a_time_works_on_a_direction_of_a_handle() {
        let mut calls = Sleepers::new();
        let first = calls.begin(5, Direction::Send).unwrap().unwrap();
        assert_eq!(calls.begin(5, Direction::Send).unwrap_err(), Excluded::ForAMoment);
        let other = calls.begin(5, Direction::Receive).unwrap().unwrap();
        calls.sleep(first, false, -1);
        let second = calls.begin(5, Direction::Send).unwrap().unwrap();
        calls.awake(first);
        assert_eq!(calls.resume(first), Err(Excluded::ForAMoment));
        calls.sleep(second, true, -1);
        calls.awake(second);
        assert_eq!(calls.resume(first), Err(Excluded::ByAMessage));
        assert_eq!(calls.begin(5, Direction::Send).unwrap_err(), Excluded::ByAMessage);
        assert!(calls.begin(6, Direction::Send).is_ok());
        assert_eq!(calls.resume(second), Ok(()));
        calls.end(second);
        assert_eq!(calls.resume(first), Ok(()));
        calls.end(other);
        calls.end(first);
        assert!(calls.begin(5, Direction::Send).is_ok());
    }
}
