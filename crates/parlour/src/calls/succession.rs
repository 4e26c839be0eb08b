//! The connections of a session of calls, one after the other, without I/O: who connects, who waits for that, and what
//! outlives a connection.
//!
//! At most one thread or task connects. It takes the [`Dialer`] and gives it back, whatever ends its work. The others
//! wait. If the one that connects gives up, because its own deadline has passed, it wakes another one, which goes on.

use std::task::Waker;

use super::exchange::{Counts, Legacy, Limits};
use super::followers::Followers;
pub(crate) use super::followers::Place;
use super::options::CallerStats;
use super::queue::Queue;
use crate::error::{Error, ErrorKind, Operation};
use crate::message::Message;
use crate::session::dialer::Dialer;

/// See the [module](self). `L` is a connection with its calls, and `H` the hook after connecting.
pub(crate) struct Succession<L, H> {
    line: Option<Numbered<L>>,
    /// The number of the last connection.
    number: u64,
    /// `None` while a thread or a task connects.
    dialer: Option<Box<Dialer<H>>>,
    waiting: Followers,
    /// The number of attempts that ended with an error for all who waited, and the last of these errors.
    failures: u64,
    failure: Option<Error>,
    limits: Limits,
    /// The pushed messages of the connection that has ended.
    pushes: Queue,
    /// A connection has ended, and this was not reported to those who take pushed messages.
    has_gap: bool,
    /// The counts of the connections that have ended.
    counts: Counts,
}

/// A connection, and its number among those of the session.
#[derive(Clone)]
pub(crate) struct Numbered<L> {
    pub(crate) number: u64,
    pub(crate) line: L,
}

/// The next thing to do for someone who needs a connection.
pub(crate) enum Turn<L, H> {
    Ready(Numbered<L>),
    /// Connect, and then call [`Succession::connected`], [`failed`](Succession::failed) or
    /// [`gave_up`](Succession::gave_up).
    Dial(Box<Dialer<H>>),
    /// Another one connects.
    Wait,
    /// The attempt has failed, for all who waited.
    Failed(Error),
}

/// The next thing for someone who takes pushed messages.
#[derive(Debug)]
pub(crate) enum Earlier {
    Push(Message),
    /// A connection has ended, and pushed messages may have been missed. This is returned once.
    Gap,
}

impl<L: Clone, H> Succession<L, H> {
    pub(crate) fn new(dialer: Box<Dialer<H>>, limits: Limits) -> Self {
        Self {
            line: None,
            number: 0,
            dialer: Some(dialer),
            waiting: Followers::default(),
            failures: 0,
            failure: None,
            limits,
            pushes: Queue::default(),
            has_gap: false,
            counts: Counts::default(),
        }
    }

    /// Returns the dialer, unless a thread or a task connects.
    pub(crate) fn dialer(&mut self) -> Option<&mut Dialer<H>> {
        self.dialer.as_deref_mut()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Returns the present connection with its number.
    #[cfg(feature = "tokio")]
    pub(crate) fn present(&self) -> Option<Numbered<L>> {
        self.line.clone()
    }

    /// Returns the present connection.
    pub(crate) fn line(&self) -> Option<&L> {
        Some(&self.line.as_ref()?.line)
    }

    /// Returns the number of the present connection, if `is_it` returns true for it.
    pub(crate) fn numbered(&self, is_it: impl FnOnce(&L) -> bool) -> Option<u64> {
        self.line.as_ref().filter(|line| is_it(&line.line)).map(|line| line.number)
    }

    /// Returns the counts of all connections. `of_line` returns those of the present one.
    pub(crate) fn stats(&self, of_line: impl FnOnce(&L) -> Option<CallerStats>) -> CallerStats {
        let stats = self.line().and_then(of_line).unwrap_or_default();
        CallerStats {
            late_answers: stats.late_answers + self.counts.late,
            pushes_dropped: stats.pushes_dropped + self.counts.pushes_dropped,
            ..stats
        }
    }

    /// Returns the number to give to [`turn`](Self::turn): failures after this are those of attempts that the caller
    /// has waited for.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    pub(crate) fn turn(&mut self, failures: u64) -> Turn<L, H> {
        if let Some(line) = &self.line {
            return Turn::Ready(line.clone());
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| self.failures != failures) {
            return Turn::Failed(failure.again());
        }
        match self.dialer.take() {
            Some(dialer) => {
                self.waiting.lead();
                Turn::Dial(dialer)
            }
            None => Turn::Wait,
        }
    }

    /// Registers someone who waits while another one connects.
    pub(crate) fn wait(&mut self, waker: Waker) -> Place {
        self.waiting.follow(waker)
    }

    /// Removes someone who has woken up.
    pub(crate) fn end_wait(&mut self, place: Place) {
        self.waiting.unfollow(place);
    }

    /// Returns the waker of the one to connect next, for someone who leaves.
    pub(crate) fn successor(&mut self) -> Option<Waker> {
        if self.line.is_some() { None } else { self.waiting.successor() }
    }

    /// Sets the next connection. Adds those who waited for it to `woken`.
    pub(crate) fn connected(&mut self, mut dialer: Box<Dialer<H>>, line: L, woken: &mut Vec<Waker>) -> Numbered<L> {
        dialer.connected();
        self.number += 1;
        let line = Numbered { number: self.number, line };
        self.line = Some(line.clone());
        self.failure = None;
        self.take_back(dialer);
        self.wake_all(woken);
        line
    }

    /// Notes that the attempt has failed, for all who wait.
    pub(crate) fn failed(&mut self, dialer: Box<Dialer<H>>, error: &Error, woken: &mut Vec<Waker>) {
        self.failures += 1;
        self.failure = Some(error.again());
        self.take_back(dialer);
        self.wake_all(woken);
    }

    /// Notes that the one that connects does not go on. Another one does.
    pub(crate) fn gave_up(&mut self, dialer: Box<Dialer<H>>, woken: &mut Vec<Waker>) {
        self.take_back(dialer);
        woken.extend(self.waiting.successor());
    }

    fn take_back(&mut self, dialer: Box<Dialer<H>>) {
        self.dialer = Some(dialer);
        self.waiting.resign();
    }

    fn wake_all(&mut self, woken: &mut Vec<Waker>) {
        woken.extend(std::iter::from_fn(|| self.waiting.successor()));
    }

    /// Ends the use of a connection for further calls. Does nothing if another thread or task has done so. `legacy`
    /// returns what outlives it.
    pub(crate) fn retire(&mut self, number: u64, legacy: impl FnOnce() -> Legacy) {
        if self.line.as_ref().is_none_or(|line| line.number != number) {
            return;
        }
        self.line = None;
        let Legacy { mut pushes, counts, has_received, was_asked_to_leave } = legacy();
        self.counts.late += counts.late;
        self.counts.pushes_dropped += counts.pushes_dropped;
        if self.has_gap {
            // Nobody has taken what came before the gap. The order is kept, and the memory is bounded.
            self.counts.pushes_dropped += std::iter::from_fn(|| pushes.pop()).count() as u64;
        } else {
            self.pushes = pushes;
            self.has_gap = true;
        }
        if let Some(dialer) = &mut self.dialer {
            dialer.ended(has_received, was_asked_to_leave);
        }
    }

    /// Returns what comes before the pushed messages of the present connection.
    pub(crate) fn earlier(&mut self) -> Option<Earlier> {
        match self.pushes.pop() {
            Some(message) => Some(Earlier::Push(message)),
            None => std::mem::take(&mut self.has_gap).then_some(Earlier::Gap),
        }
    }
}

/// Returns the error that reports an [`Earlier::Gap`]. `object` is the name in quotes.
#[cold]
pub(crate) fn gap(object: &str) -> Error {
    let detail = "the connection to the server has ended, and pushed messages may have been missed";
    Error::new(ErrorKind::Lost, Operation::Receive, object, detail).next("the next call connects again")
}

/// Returns the error of a session in a forked child.
#[cold]
pub(crate) fn forked(object: &str) -> Error {
    let detail = "this is a forked child, and the session belongs to the parent";
    Error::new(ErrorKind::NameLost, Operation::Call, object, detail).next("create a session in the child")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::ConnectOptions;
    use crate::session::reconnect::Reconnect;
    use crate::session::reconnecting::Reconnecting;

    fn succession() -> Succession<u8, ()> {
        let reconnecting = Reconnecting::new("notes", &ConnectOptions::new(), &Reconnect::new()).unwrap();
        Succession::new(Box::new(Dialer::new(reconnecting)), Limits { items: 1000, pushes: 1000 })
    }

    fn dial(lines: &mut Succession<u8, ()>) -> Box<Dialer<()>> {
        let failures = lines.failures();
        match lines.turn(failures) {
            Turn::Dial(dialer) => dialer,
            Turn::Ready(_) | Turn::Wait | Turn::Failed(_) => panic!("somebody else connects"),
        }
    }

    fn legacy(pushes: &[&[u8]]) -> Legacy {
        let mut legacy = Legacy::default();
        for bytes in pushes {
            legacy.pushes.push(Message { bytes: bytes.to_vec(), ..Message::default() });
        }
        legacy
    }

    #[test]
    fn one_connects_and_all_get_the_connection() {
        let mut lines = succession();
        let dialer = dial(&mut lines);
        for _ in 0..3 {
            assert!(matches!(lines.turn(0), Turn::Wait));
            lines.wait(Waker::noop().clone());
        }
        let mut woken = Vec::new();
        lines.connected(dialer, 7, &mut woken);
        assert_eq!(woken.len(), 3);
        assert!(matches!(lines.turn(0), Turn::Ready(Numbered { number: 1, line: 7 })));
        assert!(lines.successor().is_none());
    }

    #[test]
    fn one_that_gives_up_wakes_another_that_goes_on() {
        let mut lines = succession();
        let dialer = dial(&mut lines);
        let place = lines.wait(Waker::noop().clone());
        lines.wait(Waker::noop().clone());
        let mut woken = Vec::new();
        lines.gave_up(dialer, &mut woken);
        assert_eq!(woken.len(), 1);
        // It leaves instead, and wakes the other one.
        lines.end_wait(place);
        assert!(lines.successor().is_some());
        dial(&mut lines);
    }

    #[test]
    fn a_failure_is_for_those_who_have_waited_and_for_nobody_later() {
        let mut lines = succession();
        let before = lines.failures();
        let dialer = dial(&mut lines);
        lines.wait(Waker::noop().clone());
        let mut woken = Vec::new();
        lines.failed(dialer, &Error::new(ErrorKind::Denied, Operation::Connect, "notes", "no"), &mut woken);
        assert_eq!(woken.len(), 1);
        assert!(matches!(lines.turn(before), Turn::Failed(error) if error.kind() == ErrorKind::Denied));
        dial(&mut lines);
    }

    #[test]
    fn a_connection_is_retired_once() {
        let mut lines = succession();
        let dialer = dial(&mut lines);
        let first = lines.connected(dialer, 1, &mut Vec::new()).number;
        lines.retire(first, || legacy(&[b"a push"]));
        let dialer = dial(&mut lines);
        let second = lines.connected(dialer, 2, &mut Vec::new()).number;
        // A thread that was late.
        lines.retire(first, || panic!("it was retired before"));
        assert_eq!(lines.line(), Some(&2));
        assert!(matches!(lines.earlier(), Some(Earlier::Push(message)) if *message == *b"a push"));
        assert!(matches!(lines.earlier(), Some(Earlier::Gap)));
        assert!(lines.earlier().is_none());
        lines.retire(second, || legacy(&[]));
        assert!(matches!(lines.earlier(), Some(Earlier::Gap)));
    }

    #[test]
    fn a_gap_that_was_not_reported_swallows_what_comes_before_the_next_one() {
        let mut lines = succession();
        for push in [&[b"first".as_slice()][..], &[b"second", b"third"], &[b"fourth"]] {
            let dialer = dial(&mut lines);
            let number = lines.connected(dialer, 0, &mut Vec::new()).number;
            lines.retire(number, || legacy(push));
        }
        assert!(matches!(lines.earlier(), Some(Earlier::Push(message)) if *message == *b"first"));
        assert!(matches!(lines.earlier(), Some(Earlier::Gap)));
        assert!(lines.earlier().is_none());
        assert_eq!(lines.stats(|_| None).pushes_dropped, 3);
    }
}
