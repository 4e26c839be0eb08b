//! The handle with which other threads wake a hub and send through it.
//!
//! Implementation notes: the hub watches an eventfd(2) together with its connections. The counter of the eventfd counts
//! the wakes in its upper half, and in its lower half how often the queue was filled. One read returns both and resets
//! them, so that a wake is a single system call without a lock, and no wake is lost between the read and the next wait.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::check::Check;
use super::event::Client;
use super::parcel::Parcel;
use super::queue::{NotQueued, Post, Queue, QueueLimits, Recipients};
use super::wakes::Wakes;
use crate::error::{Error, ErrorKind, Operation, TrySendError};
use crate::payload::Payload;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::ForkMutex;

/// One wake, in the counter of the eventfd.
const WAKE: u64 = 1 << 32;

/// One filling of the queue, in the counter of the eventfd.
const FILLED: u64 = 1;

/// Wakes a [`Hub`](super::Hub) and sends through it, from any thread.
///
/// A handle is small, can be cloned, and can be used by several threads at a time. It keeps one eventfd(2) open, also
/// after the hub has ended. [`Hub::handle`](super::Hub::handle) returns it.
///
/// # Sending
///
/// [`send`](HubHandle::send), [`broadcast`](HubHandle::broadcast), [`broadcast_except`](HubHandle::broadcast_except),
/// [`send_to`](HubHandle::send_to) and [`publish`](HubHandle::publish) copy the message into a queue and never block.
/// The thread of the hub takes the messages out of the queue while it waits for an event, and sends them as
/// [`Hub::send`](super::Hub::send) does, with the same limits and the same policy for slow clients. Messages of one
/// thread to one client arrive in the order in which they were sent. There is no order between messages of two
/// threads.
///
/// The queue has limits for the hub as a whole, [`handle_queue_max`](super::HubOptions::handle_queue_max) and
/// [`blocks_max`](super::HubOptions::blocks_max). A message that does not fit is returned
/// ([`TrySendError::Full`]). The queue fills while the thread of the hub does something else, or waits for a slow
/// client.
///
/// With [`SlowClientPolicy::Refuse`](super::SlowClientPolicy::Refuse), a message for a client whose write buffer is
/// full is discarded when the hub delivers it. The same happens to a block of shared memory for a client that cannot
/// receive it. [`Event::Missed`](super::Event::Missed) reports that.
///
/// # The end of the hub
///
/// Messages that were queued before [`Hub::close`](super::Hub::close) are delivered by it. Afterwards the
/// functions that send return an error of the kind [`Shutdown`](ErrorKind::Shutdown), and `wake` does nothing.
///
/// # Fork
///
/// In a forked child the functions that send fail with [`NameLost`](ErrorKind::NameLost), and never wait for a lock
/// that another thread of the parent held. `wake` wakes the hub of the parent.
///
/// # Examples
///
/// A thread that measures, and a hub that sends each measurement to all clients:
///
/// ```
/// use std::thread;
///
/// use parlour::hub::{Event, Hub};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/sensor", base.path().display());
/// let mut hub = Hub::bind(&name)?;
/// let mut client = parlour::Connection::connect(&name)?;
/// assert!(matches!(hub.next_event()?, Event::Joined(..)));
///
/// let handle = hub.handle()?;
/// let measuring = thread::spawn(move || {
///     for celsius in 20..23 {
///         handle.broadcast(&format!("{celsius} degrees")).unwrap();
///     }
///     handle.wake();
/// });
/// assert!(matches!(hub.next_event()?, Event::Woken));
/// // The hub would write at the next wait.
/// hub.flush()?;
/// assert_eq!(client.recv()?.unwrap(), b"20 degrees");
/// # measuring.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct HubHandle(Arc<Mailbox>);

/// The state that a hub shares with its handles.
struct Mailbox {
    check: Check,
    queue: ForkMutex<Queue>,
    limits: QueueLimits,
    /// Readable if the hub was woken or messages are queued.
    event: OwnedFd,
    process: Process,
}

impl HubHandle {
    /// Makes [`Hub::next_event`](super::Hub::next_event) return [`Event::Woken`](super::Event::Woken), also if it is
    /// called later. Several wakes before the hub returns the event cause one event. No wake is lost: the hub returns
    /// `Woken` after the last one.
    ///
    /// The hub has sent the messages that this thread has queued before when it returns the event.
    ///
    /// Writes to an eventfd, so it is async-signal-safe. In a forked child it wakes the hub of the parent. It does
    /// nothing if the hub has ended.
    pub fn wake(&self) {
        self.0.tell(WAKE);
    }

    /// Queues one message for a client. Does not block.
    ///
    /// `Ok` means that the message was queued. As with [`Hub::send`](super::Hub::send), a client that has left or is
    /// about to leave misses it.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload: the queue is full. Try again later. [`TrySendError::Failed`]:
    ///
    /// - [`ErrorKind::Shutdown`]: the hub has ended.
    /// - [`ErrorKind::MessageTooLong`]: the message is longer than the limit.
    /// - [`ErrorKind::Unsupported`]: the payload has descriptors.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn send<'a>(&self, client: Client, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        self.0.post(Recipients::One(client), payload.into())
    }

    /// Queues one message for every client that has joined when the hub delivers it. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`send`](HubHandle::send).
    pub fn broadcast<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        self.0.post(Recipients::All, payload.into())
    }

    /// Queues one message for every client that has joined when the hub delivers it, except this one. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`send`](HubHandle::send).
    pub fn broadcast_except<'a>(
        &self,
        client: Client,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), TrySendError<Payload<'a>>> {
        self.0.post(Recipients::AllBut(client), payload.into())
    }

    /// Queues one message for these clients, for each as often as it occurs. Does not block. The message is in the
    /// queue once; each client counts 16 bytes in addition.
    ///
    /// # Errors
    ///
    /// Those of [`send`](HubHandle::send).
    pub fn send_to<'a>(
        &self,
        clients: impl IntoIterator<Item = Client>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), TrySendError<Payload<'a>>> {
        self.0.post(Recipients::Some(clients.into_iter().collect()), payload.into())
    }

    /// Queues one message for the clients that are subscribed to a prefix of `topic` when the hub delivers it. Does not
    /// block. The message becomes the last value of the topic, as with [`Hub::publish`](super::Hub::publish).
    ///
    /// # Errors
    ///
    /// Those of [`send`](HubHandle::send).
    pub fn publish<'a>(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), TrySendError<Payload<'a>>> {
        self.0.post(Recipients::Topic(topic.into()), payload.into())
    }
}

impl fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubHandle").field("server", &self.0.check.display_name).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Adds to the counter of the eventfd.
    fn tell(&self, what: u64) {
        // The write fails only if the counter is full, and then the hub has been told before.
        let _ = rustix::io::write(&self.event, &what.to_ne_bytes());
    }

    fn post<'a>(&self, to: Recipients, payload: Payload<'a>) -> Result<(), TrySendError<Payload<'a>>> {
        let in_forked_child = || TrySendError::Failed(self.check.in_forked_child(Operation::Send));
        if self.process.is_before_fork() {
            return Err(in_forked_child());
        }
        self.check.message(&payload)?;
        // The copy is made before the lock is taken.
        let post = Post::new(to, Parcel::new(&payload));
        let pushed = self.queue.lock().ok_or_else(in_forked_child)?.push(post, self.limits);
        match pushed {
            Ok(true) => self.tell(FILLED),
            Ok(false) => {}
            Err(NotQueued::Full) => return Err(TrySendError::Full(payload)),
            Err(NotQueued::Ended) => return Err(self.ended().into()),
        }
        Ok(())
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Shutdown, Operation::Send, &*self.check.display_name, "the hub has ended")
    }
}

/// The hub's side of its handles.
pub(super) struct Mail {
    mailbox: Arc<Mailbox>,
    /// Messages that were taken out of the queue and are not delivered yet.
    pub(super) batch: VecDeque<Post>,
    wakes: Wakes,
}

impl Mail {
    pub(super) fn new(check: Check, limits: QueueLimits) -> Result<Self, Errno> {
        let mailbox = Mailbox {
            check,
            queue: ForkMutex::default(),
            limits,
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            process: Process::current(),
        };
        Ok(Self { mailbox: Arc::new(mailbox), batch: VecDeque::new(), wakes: Wakes::default() })
    }

    pub(super) fn handle(&self) -> HubHandle {
        HubHandle(Arc::clone(&self.mailbox))
    }

    /// Resets the descriptor. Notes whether the hub was woken since the last call.
    pub(super) fn take_wakes(&mut self) {
        let mut counter = [0; 8];
        // The read fails only if the counter is 0.
        let _ = rustix::io::read(&self.mailbox.event, &mut counter);
        if u64::from_ne_bytes(counter) >= WAKE {
            let queued = self.mailbox.queue.lock().map_or(0, |queue| queue.len());
            self.wakes.note(self.batch.len() + queued);
        }
    }

    /// Returns true if a wake is to be reported now. Then notes that it was.
    pub(super) fn pop_wake(&mut self) -> bool {
        self.wakes.pop()
    }

    /// Takes the queued messages, if all that were taken before are delivered.
    pub(super) fn take_messages(&mut self) {
        if self.batch.is_empty() {
            if let Some(mut queue) = self.mailbox.queue.lock() {
                queue.take(&mut self.batch);
            }
        }
    }

    /// Makes room for further messages. If messages are left, makes the descriptor readable again.
    ///
    /// A message that was queued while the batch had others told the hub, but the descriptor has been reset since.
    pub(super) fn delivered(&mut self, count: usize, cost: usize, blocks: usize) {
        self.wakes.delivered(count);
        let mut is_left = !self.batch.is_empty();
        if let Some(mut queue) = self.mailbox.queue.lock() {
            queue.delivered(cost, blocks);
            is_left |= queue.len() > 0;
        }
        if is_left {
            self.mailbox.tell(FILLED);
        }
    }

    /// Lets the handles send no further message.
    pub(super) fn end(&self) {
        if let Some(mut queue) = self.mailbox.queue.lock() {
            queue.end();
        }
    }
}

impl AsFd for Mail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::PollFlags;

    use super::*;
    use crate::wait::poll_now;

    #[test]
    fn a_message_that_is_queued_while_a_batch_is_delivered_is_reported() {
        let check = Check { display_name: "'room'".into(), message_max: 100 };
        let mut mail = Mail::new(check, QueueLimits { bytes_max: 1000, blocks_max: 1 }).unwrap();
        let handle = mail.handle();
        let is_reported = |mail: &Mail| !poll_now(mail.as_fd(), PollFlags::IN).is_empty();
        handle.broadcast("first").unwrap();
        mail.take_wakes();
        mail.take_messages();
        handle.broadcast("second").unwrap();
        // The hub goes on with the batch, and the descriptor is reset.
        mail.take_wakes();
        mail.take_messages();
        let post = mail.batch.pop_front().unwrap();
        assert!(mail.batch.is_empty() && !is_reported(&mail));
        mail.delivered(1, post.cost(), 0);
        assert!(is_reported(&mail), "the second message waits");
    }
}
