//! The hand-over of a server's name while its program waits for one client.
//!
//! A thread that sleeps in `recv` or `send` watches the sockets of the hand-over besides the descriptor of its
//! connection. A thread that is never asleep, because its client is fast, looks at them once in a while.

use std::io;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::poller::ControlPoller;
use crate::sys::blocked_signals::BlockedSignals;
use crate::sys::fork::Process;
use crate::wait::{Deadline, look, wait};

/// The time after which a thread looks again that has found another one at work.
const PAUSE: Duration = Duration::from_millis(5);

/// The number of messages between two looks of a thread that is not asleep: at first, and at most. It adapts so that
/// there are a few looks in a second. A look costs as much as a receive.
const TURNS: u16 = 16;
const TURNS_MAX: u16 = 1024;

/// The factor by which the number of messages grows. A connection that is fast has one look in its first hundred
/// messages.
const GROWTH: u16 = 8;

/// The least and the greatest time between two looks that do not change the number of messages, in milliseconds.
const OFTEN: u32 = 40;
const SELDOM: u32 = OFTEN * GROWTH as u32;

/// The number of messages for which several count that were read at once. They cost too little to be counted.
const READ_AT_ONCE: u16 = 8;

/// The number of messages between two looks while a hand-over is in progress.
const TURNS_IN_PROGRESS: u16 = 8;

/// The state of a hand-over after a thread has worked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Everything that had arrived was answered.
    Done,
    /// Another thread works on it.
    Elsewhere,
    /// This process hands nothing over any more: it does not have the name, or is about to give it up.
    Over,
}

/// The place of the work on a hand-over, which exists only once the server does.
///
/// It is set once, before the server has a connection, and reading it never waits, also not in a forked child.
#[derive(Default)]
pub(crate) struct StandbySlot(OnceLock<Standby>);

impl StandbySlot {
    /// Fills an empty place.
    pub(crate) fn fill(&self, standby: Standby) {
        // A server fills the place of its own admission, and nobody else does.
        let _ = self.0.set(standby);
    }

    /// Returns the work, if the server hands its name over.
    pub(crate) fn standby(&self) -> Option<&Standby> {
        self.0.get()
    }
}

/// The work on a hand-over of one server.
pub(crate) struct Standby {
    poller: ControlPoller,
    /// Answers what has arrived. Does not wait.
    serve: Box<dyn Fn() -> Served + Send + Sync>,
    is_over: AtomicBool,
    /// The looks are timed from here.
    since: Instant,
    process: Process,
}

/// The time of the looks of threads that are not asleep, for one connection. Both halves count, without a lock: a count
/// that is lost delays a look by one message.
#[derive(Debug)]
pub(crate) struct Turns {
    /// The number of messages until the next look.
    left: AtomicU16,
    /// The number of messages between two looks.
    period: AtomicU16,
    /// The time of the last look in milliseconds, or 0 before the first one.
    looked_at: AtomicU32,
    /// A message was read together with another one since the last count.
    has_more: AtomicBool,
}

impl Turns {
    pub(crate) const fn new() -> Self {
        Self {
            left: AtomicU16::new(TURNS),
            period: AtomicU16::new(TURNS),
            looked_at: AtomicU32::new(0),
            has_more: AtomicBool::new(false),
        }
    }

    /// Notes a message that was read together with the one before.
    #[inline]
    pub(crate) fn note_buffered(&self) {
        self.has_more.store(true, Ordering::Relaxed);
    }

    /// Counts a message, and those that were noted before it. Returns true if the thread shall look.
    #[inline]
    pub(crate) fn is_up_after_noted(&self) -> bool {
        if self.has_more.load(Ordering::Relaxed) {
            self.has_more.store(false, Ordering::Relaxed);
            let left = self.left.load(Ordering::Relaxed);
            self.left.store(left.saturating_sub(READ_AT_ONCE), Ordering::Relaxed);
        }
        self.is_up()
    }

    /// Counts a message. Returns true if the thread shall look.
    #[inline]
    pub(crate) fn is_up(&self) -> bool {
        match self.left.load(Ordering::Relaxed).checked_sub(1) {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                false
            }
            None => true,
        }
    }

    /// Begins anew, for a connection whose server hands nothing over.
    pub(crate) fn rest(&self) {
        self.left.store(u16::MAX, Ordering::Relaxed);
    }

    /// Begins anew after a look at this time.
    fn looked(&self, now: u32) {
        let now = now.max(1);
        let period = self.period.load(Ordering::Relaxed);
        let before = self.looked_at.swap(now, Ordering::Relaxed);
        let period = match if before == 0 { 0 } else { now.wrapping_sub(before) } {
            ..OFTEN => period.saturating_mul(GROWTH).min(TURNS_MAX),
            OFTEN..=SELDOM => period,
            _ => (period / 4).max(1),
        };
        self.period.store(period, Ordering::Relaxed);
        self.left.store(period, Ordering::Relaxed);
    }
}

impl Standby {
    pub(crate) fn new(poller: ControlPoller, serve: impl Fn() -> Served + Send + Sync + 'static) -> Self {
        let process = Process::current();
        Self { poller, serve: Box::new(serve), is_over: AtomicBool::new(false), since: Instant::now(), process }
    }

    /// Returns true if this process may have to hand the name over. A forked child has the connections of its parent,
    /// and not the name.
    pub(crate) fn is_needed(&self) -> bool {
        // Relaxed: a thread that reads an older value looks once more.
        !self.process.is_before_fork() && !self.is_over.load(Ordering::Relaxed)
    }

    /// Returns the descriptors of the hand-over.
    pub(crate) fn poller(&self) -> &ControlPoller {
        &self.poller
    }

    /// Returns the entry of the hand-over, for the end of the list of [`wait`](Self::wait).
    pub(crate) fn entry(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.poller.as_fd(), PollFlags::IN)
    }

    /// Sleeps like [`wait`] for all of `fds` but the last, which is the [`entry`](Self::entry), and works on the
    /// hand-over meanwhile.
    pub(crate) fn wait(&self, fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
        let count = fds.len().saturating_sub(1);
        loop {
            if !wait(fds, deadline)? {
                return Ok(false);
            }
            if fds[..count].iter().any(|fd| !fd.revents().is_empty()) {
                return Ok(true);
            }
            match self.serve() {
                Served::Done => {}
                Served::Elsewhere => {
                    if wait(&mut fds[..count], deadline.or_after(PAUSE))? {
                        return Ok(true);
                    }
                }
                Served::Over => return wait(&mut fds[..count], deadline),
            }
        }
    }

    /// Returns true if something has arrived at the sockets of the hand-over, or if that is unknown.
    pub(crate) fn has_work(&self) -> bool {
        look(&mut [self.entry()]).unwrap_or(true)
    }

    /// Works on the hand-over without sleeping.
    pub(crate) fn look(&self, turns: &Turns) {
        turns.looked(self.since.elapsed().as_millis() as u32);
        if self.has_work() {
            self.serve();
            let left = turns.left.load(Ordering::Relaxed);
            turns.left.store(TURNS_IN_PROGRESS.min(left), Ordering::Relaxed);
        }
    }

    /// Answers what has arrived at the sockets of the hand-over. Does not wait.
    ///
    /// Signals are blocked meanwhile: a handler may release the server, which takes the lock under which this works.
    pub(crate) fn serve(&self) -> Served {
        let Ok(_signals) = BlockedSignals::begin() else { return Served::Elsewhere };
        let served = (self.serve)();
        if served == Served::Over {
            self.is_over.store(true, Ordering::Relaxed);
        }
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the messages of a thread that takes this time for each, and returns the times of the first looks.
    fn looks(milliseconds: f64, count: usize) -> Vec<f64> {
        let turns = Turns::new();
        let (mut now, mut looks) = (0.0, Vec::new());
        while looks.len() < count {
            now += milliseconds;
            if turns.is_up() {
                turns.looked(now as u32);
                looks.push(now);
            }
        }
        looks
    }

    #[test]
    fn a_thread_looks_a_few_times_in_a_second_however_long_its_messages_take() {
        for milliseconds in [0.05, 0.3, 1.0, 7.0, 30.0] {
            let looks = looks(milliseconds, 30);
            for pair in looks[6..].windows(2) {
                assert!((20.0..400.0).contains(&(pair[1] - pair[0])), "{milliseconds} ms: {looks:?}");
            }
        }
    }

    #[test]
    fn a_thread_that_is_fast_looks_after_a_thousand_messages() {
        let looks = looks(0.001, 30);
        assert!(looks[29] - looks[28] > 1.0, "{looks:?}");
    }

    #[test]
    fn a_thread_that_is_very_slow_looks_each_time() {
        let looks = looks(1000.0, 20);
        assert!(looks[19] - looks[18] <= 2000.0, "{looks:?}");
    }
}
