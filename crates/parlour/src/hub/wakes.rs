//! The wakes of a hub that were not reported yet, without I/O.
//!
//! A wake is reported after the messages that were queued before it. Further wakes move the last report, and not the
//! first one, so a thread that sends and wakes without pause does not keep the hub from reporting.

/// For the first and for the last wake, the number of messages that are delivered before it is reported.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    first: Option<usize>,
    last: Option<usize>,
}

impl Wakes {
    /// Notes a wake behind this number of messages.
    pub(super) fn note(&mut self, messages: usize) {
        if self.first.is_none() {
            self.first = Some(messages);
        } else {
            self.last = Some(messages);
        }
    }

    /// Notes that messages were delivered.
    pub(super) fn delivered(&mut self, count: usize) {
        for wake in [&mut self.first, &mut self.last].into_iter().flatten() {
            *wake = wake.saturating_sub(count);
        }
    }

    /// Removes the first wake if no message precedes it.
    pub(super) fn pop(&mut self) -> bool {
        let is_due = self.first == Some(0);
        if is_due {
            self.first = self.last.take();
            // One event reports both.
            self.first.take_if(|messages| *messages == 0);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_reported_once_the_messages_before_it_are_delivered() {
        let mut wakes = Wakes::default();
        assert!(!wakes.pop());
        wakes.note(3);
        wakes.delivered(2);
        assert!(!wakes.pop());
        wakes.delivered(1);
        assert!(wakes.pop() && !wakes.pop());
        wakes.note(0);
        assert!(wakes.pop() && !wakes.pop());
    }

    #[test]
    fn a_later_wake_neither_delays_the_first_nor_is_lost() {
        let mut wakes = Wakes::default();
        wakes.note(1);
        wakes.note(5);
        wakes.note(8);
        wakes.delivered(1);
        assert!(wakes.pop() && !wakes.pop());
        wakes.delivered(6);
        assert!(!wakes.pop());
        wakes.delivered(1);
        assert!(wakes.pop() && !wakes.pop());
    }

    #[test]
    fn wakes_that_are_due_together_are_one_event() {
        let mut wakes = Wakes::default();
        wakes.note(0);
        wakes.note(0);
        assert!(wakes.pop() && !wakes.pop());
    }
}
