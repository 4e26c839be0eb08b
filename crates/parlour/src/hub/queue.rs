//! The queue of the messages that other threads send through a hub, without I/O.

use std::collections::VecDeque;

use super::event::Client;
use super::parcel::Parcel;

/// The number of bytes that a message counts in addition to its length: the memory of its entry and of its allocation.
const OVERHEAD: usize = 64;

/// A message for clients of a hub.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) to: Recipients,
    pub(super) parcel: Parcel,
    /// The number of bytes that the message counts. It does not change when some recipients have the message.
    cost: usize,
}

/// The clients that a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipients {
    One(Client),
    /// All clients that have joined when the message is delivered.
    All,
    /// All of them except this one.
    AllBut(Client),
    Some(Vec<Client>),
    /// The subscribers of a topic.
    Topic(String),
}

impl Post {
    pub(super) fn new(to: Recipients, parcel: Parcel) -> Self {
        let recipients = match &to {
            Recipients::Some(clients) => clients.len().saturating_mul(size_of::<Client>()),
            Recipients::Topic(topic) => topic.len(),
            Recipients::One(_) | Recipients::All | Recipients::AllBut(_) => 0,
        };
        let cost = parcel.bytes.len().saturating_add(OVERHEAD).saturating_add(recipients);
        Self { to, parcel, cost }
    }

    /// Returns the number of bytes that the message counts.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

/// The reason why a message was not queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    Full,
    /// The hub has ended.
    Ended,
}

/// The limits of a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) bytes_max: usize,
    pub(super) blocks_max: usize,
}

/// Messages that wait for the thread of the hub.
#[derive(Debug, Default)]
pub(super) struct Queue {
    posts: VecDeque<Post>,
    /// The number of bytes that the messages count that are queued, and those that were taken and not delivered yet.
    bytes: usize,
    /// The number of blocks of the same messages.
    blocks: usize,
    has_ended: bool,
}

impl Queue {
    /// Appends a message. Returns true if the queue was empty, so that the hub has to be told.
    ///
    /// A message that finds nothing before it is always accepted, so every message up to the length limit can be sent.
    /// The same holds for the first message with blocks.
    pub(super) fn push(&mut self, post: Post, limits: QueueLimits) -> Result<bool, NotQueued> {
        let QueueLimits { bytes_max, blocks_max } = limits;
        let bytes = self.bytes.saturating_add(post.cost());
        let new_blocks = post.parcel.blocks.len();
        let blocks = self.blocks.saturating_add(new_blocks);
        if self.has_ended {
            return Err(NotQueued::Ended);
        }
        if self.bytes > 0 && bytes > bytes_max || self.blocks > 0 && new_blocks > 0 && blocks > blocks_max {
            return Err(NotQueued::Full);
        }
        let was_empty = self.posts.is_empty();
        (self.bytes, self.blocks) = (bytes, blocks);
        self.posts.push_back(post);
        Ok(was_empty)
    }

    /// Returns the number of messages that are queued.
    pub(super) fn len(&self) -> usize {
        self.posts.len()
    }

    /// Moves all messages into `batch`, which is empty. They count until they are [`delivered`](Self::delivered).
    pub(super) fn take(&mut self, batch: &mut VecDeque<Post>) {
        std::mem::swap(&mut self.posts, batch);
    }

    /// Notes that messages that were taken do not count any more.
    pub(super) fn delivered(&mut self, cost: usize, blocks: usize) {
        self.bytes = self.bytes.saturating_sub(cost);
        self.blocks = self.blocks.saturating_sub(blocks);
    }

    /// Accepts no further message.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_bytes::SharedBytes;

    const MAX: QueueLimits = QueueLimits { bytes_max: 1000, blocks_max: 2 };

    fn post(length: usize) -> Post {
        Post::new(Recipients::All, Parcel { bytes: vec![0; length], ..Parcel::default() })
    }

    fn with_blocks(count: usize) -> Post {
        let blocks = vec![SharedBytes::new(b"block").unwrap(); count];
        Post::new(Recipients::All, Parcel { blocks, ..Parcel::default() })
    }

    #[test]
    fn the_queue_holds_exactly_its_limit() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(post(100), MAX), Ok(true));
        let left = MAX.bytes_max - 100 - 2 * OVERHEAD;
        assert_eq!(queue.push(post(left + 1), MAX), Err(NotQueued::Full));
        assert_eq!(queue.push(post(left), MAX), Ok(false));
        assert_eq!(queue.push(post(0), MAX), Err(NotQueued::Full));
    }

    #[test]
    fn the_number_of_blocks_is_limited_unless_none_waits() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(post(0), MAX), Ok(true));
        assert_eq!(queue.push(with_blocks(3), MAX), Ok(false));
        assert_eq!(queue.push(with_blocks(1), MAX), Err(NotQueued::Full));
        assert_eq!(queue.push(post(0), MAX), Ok(false), "a message without blocks is limited by its bytes alone");
        queue.take(&mut VecDeque::new());
        queue.delivered(2 * OVERHEAD, 2);
        assert_eq!(queue.push(with_blocks(1), MAX), Ok(true));
        assert_eq!(queue.push(with_blocks(1), MAX), Err(NotQueued::Full));
    }

    #[test]
    fn a_message_that_finds_nothing_before_it_is_accepted_whatever_its_length() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(post(5000), MAX), Ok(true));
        assert_eq!(queue.push(post(0), MAX), Err(NotQueued::Full));
    }

    #[test]
    fn messages_that_were_taken_count_until_they_are_delivered() {
        let mut queue = Queue::default();
        queue.push(post(800), MAX).unwrap();
        queue.push(post(0), MAX).unwrap();
        let mut batch = VecDeque::new();
        queue.take(&mut batch);
        assert_eq!(batch.len(), 2);
        assert_eq!(queue.push(post(100), MAX), Err(NotQueued::Full));
        queue.delivered(post(800).cost(), 0);
        assert_eq!(queue.push(post(100), MAX), Ok(true), "the hub has to be told of the next message");
    }

    #[test]
    fn a_queue_that_has_ended_accepts_nothing_and_loses_nothing() {
        let mut queue = Queue::default();
        queue.push(post(1), MAX).unwrap();
        queue.end();
        assert_eq!(queue.push(post(0), MAX), Err(NotQueued::Ended));
        let mut batch = VecDeque::new();
        queue.take(&mut batch);
        assert_eq!(batch.len(), 1);
    }
}
