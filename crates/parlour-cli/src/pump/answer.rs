//! The time that a peer has to answer.

use std::time::{Duration, Instant};

use crate::exit::{self, Failure};

/// Watches how long the peer stays silent while it owes something.
///
/// The peer owes an answer after a message was sent to it, until it sends one. It owes the end of its direction after
/// this side has ended, and it owes a read while the channel is full. The time begins again with each progress: a
/// message in either direction, and space in a channel that was full.
#[derive(Debug)]
pub(super) struct Answer {
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    seen: Progress,
}

/// The progress of a pump, and the events that it waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of messages that were sent, and of times that a full channel had space again.
    pub(super) sent: u64,
    /// The number of messages that were received.
    pub(super) received: u64,
    /// True if the peer owes something else than an answer: its end, or a read.
    pub(super) owed: bool,
    /// True if this side does not receive at present, because its own reader is slow.
    pub(super) paused: bool,
}

impl Answer {
    pub(super) fn new(timeout: Option<Duration>) -> Answer {
        Answer { timeout, deadline: None, seen: Progress::default() }
    }

    /// Takes note of what has changed since the last call.
    pub(super) fn note(&mut self, now: Progress) {
        let Some(timeout) = self.timeout else { return };
        if now.received != self.seen.received {
            self.deadline = None;
        }
        let begins = now.sent != self.seen.sent || (now.owed && self.deadline.is_none());
        if begins || (now.paused && self.deadline.is_some()) {
            // A timeout beyond the range of the clock means no deadline.
            self.deadline = Instant::now().checked_add(timeout);
        }
        self.seen = now;
    }

    /// Returns the time that the peer has left.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Returns an error if the peer has no time left. The caller has found that nothing has arrived since.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match (self.time_left(), self.timeout) {
            (Some(Duration::ZERO), Some(timeout)) => Err(no_answer(timeout)),
            _ => Ok(()),
        }
    }
}

/// Returns the error for a peer that has not answered.
fn no_answer(timeout: Duration) -> Failure {
    Failure::new(exit::TIMED_OUT, format!("no answer within {}", humantime::format_duration(timeout)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn is_running(answer: &Answer) -> bool {
        answer.time_left().is_some()
    }

    #[test]
    fn the_time_runs_from_a_message_to_its_answer() {
        let mut answer = Answer::new(Some(LONG));
        answer.note(Progress::default());
        assert!(!is_running(&answer), "nothing was asked");
        answer.note(Progress { sent: 1, ..Progress::default() });
        assert!(is_running(&answer));
        answer.note(Progress { sent: 1, ..Progress::default() });
        assert!(is_running(&answer));
        answer.note(Progress { sent: 1, received: 1, ..Progress::default() });
        assert!(!is_running(&answer), "it was answered");
        answer.note(Progress { sent: 2, received: 2, ..Progress::default() });
        assert!(is_running(&answer), "the next message was sent after the answer");
    }

    #[test]
    fn the_time_runs_while_an_end_or_a_read_is_owed() {
        let mut answer = Answer::new(Some(LONG));
        answer.note(Progress { owed: true, ..Progress::default() });
        assert!(is_running(&answer));
        answer.note(Progress { owed: true, received: 1, ..Progress::default() });
        assert!(is_running(&answer), "the end is still owed");
    }

    #[test]
    fn the_time_is_over_unless_the_reader_of_this_side_is_slow() {
        let mut answer = Answer::new(Some(Duration::ZERO));
        answer.note(Progress { sent: 1, ..Progress::default() });
        assert_eq!(exit::code(&answer.check().unwrap_err().into()), exit::TIMED_OUT);
        let mut answer = Answer::new(Some(LONG));
        answer.deadline = Some(Instant::now());
        answer.note(Progress { paused: true, ..Progress::default() });
        assert!(is_running(&answer) && answer.check().is_ok());
    }

    #[test]
    fn without_a_timeout_or_with_an_endless_one_the_time_never_runs() {
        for timeout in [None, Some(Duration::MAX)] {
            let mut answer = Answer::new(timeout);
            answer.note(Progress { sent: 1, owed: true, ..Progress::default() });
            assert!(!is_running(&answer), "{timeout:?}");
        }
    }
}
