//! A bounded queue of received messages.

use std::collections::VecDeque;

use crate::message::Message;

/// The bytes that a queued message counts beyond its length: about what its record and its allocation take.
const MESSAGE_EXTRA: usize = 64;

/// Messages that wait to be taken. An empty queue accepts every message.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Queue {
    pub(super) fn has_room(&self, message: &Message, bytes_max: usize) -> bool {
        self.messages.is_empty() || self.bytes.saturating_add(size(message)) <= bytes_max
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes = self.bytes.saturating_add(size(&message));
        self.messages.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size(&message));
        Some(message)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn size(message: &Message) -> usize {
    message.len().saturating_add(MESSAGE_EXTRA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_accepts_every_message_and_a_full_one_none() {
        let message = |length| Message { bytes: vec![0; length], ..Message::default() };
        let mut queue = Queue::default();
        assert!(queue.has_room(&message(1000), 10));
        queue.push(message(1000));
        assert!(!queue.has_room(&message(0), 1000));
        assert!(queue.has_room(&message(0), 1000 + 2 * MESSAGE_EXTRA));
        assert_eq!(queue.pop().map(|message| message.len()), Some(1000));
        assert_eq!((queue.bytes(), queue.pop()), (0, None));
    }
}
