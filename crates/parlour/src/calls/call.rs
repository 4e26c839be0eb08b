//! A call on the server's side, which the handler answers.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::outbox::{Outbox, Post, Queued, To, Waiter};
use super::park::{park_until, waker_of_this_thread};
use super::served::Ticket;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::payload::Payload;
use crate::peer::Peer;
#[cfg(feature = "serde")]
use crate::typed::codec::{Codec, Encoder};
use crate::wait::Deadline;
use crate::wire::call::{Cause, Kind};

/// A request of a client, which is to be answered.
///
/// Dereferences to the bytes of the request. The handler can answer at once, or move the call to any thread and answer
/// later, in any order:
///
/// - [`reply`](Call::reply) answers with one message.
/// - [`item`](Call::item) answers with one of several messages, and [`end`](Call::end) ends them.
/// - [`fail`](Call::fail) answers with an error.
///
/// A call that is dropped without an answer is answered with an error, so no caller waits forever.
///
/// # Fork
///
/// In a forked child every answer and every wait fails with [`NameLost`](ErrorKind::NameLost), and dropping the call
/// does nothing.
pub struct Call {
    request: Message,
    ticket: Arc<Ticket>,
    outbox: Arc<Outbox>,
    has_items: AtomicBool,
    is_over: bool,
}

impl Call {
    pub(crate) fn new(request: Message, ticket: Arc<Ticket>, outbox: Arc<Outbox>) -> Self {
        Self { request, ticket, outbox, has_items: AtomicBool::new(false), is_over: false }
    }

    /// Returns the request.
    #[must_use]
    pub fn request(&self) -> &Message {
        &self.request
    }

    /// Takes the request out of the call, with its descriptors. An empty one stays.
    #[must_use]
    pub fn take_request(&mut self) -> Message {
        std::mem::take(&mut self.request)
    }

    /// Returns the identity of the client.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.ticket.client.peer
    }

    /// Returns the number of the client, which is unique within the server. [`Pusher::push`](super::Pusher::push) takes
    /// it.
    #[must_use]
    pub fn client(&self) -> u64 {
        self.ticket.client.number
    }

    /// Returns true if nobody waits for the answer any more: the call has timed out or was dropped, or the client has
    /// gone. A handler that works long looks from time to time.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.ticket.is_cancelled()
    }

    /// Blocks until nobody waits for the answer any more, as [`is_cancelled`](Call::is_cancelled) tells. For a thread
    /// that has nothing to do but to end the work of another one, or of a child process, when the caller gives up.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Busy`]: the call was made in the thread that serves all clients, which would not learn of it.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use std::sync::Arc;
    /// use std::thread;
    ///
    /// # fn build(call: parlour::calls::Call) -> std::io::Result<()> {
    /// let mut compiler = Command::new("make").spawn()?;
    /// thread::spawn(move || {
    ///     let _ = call.wait_cancelled();
    ///     let _ = compiler.kill();
    ///     let _ = compiler.wait();
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_cancelled(&self) -> Result<()> {
        self.cancelled_until(Deadline::NEVER)
    }

    /// Blocks as [`wait_cancelled`](Call::wait_cancelled) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`wait_cancelled`](Call::wait_cancelled), and [`ErrorKind::TimedOut`]: the caller still waits.
    pub fn wait_cancelled_timeout(&self, timeout: Duration) -> Result<()> {
        self.cancelled_until(Deadline::after(timeout))
    }

    fn cancelled_until(&self, deadline: Deadline) -> Result<()> {
        let waker = waker_of_this_thread();
        loop {
            if self.note_cancelled(&waker)? {
                return Ok(());
            }
            if self.outbox.is_in_server() {
                let detail = "this is the thread that serves, and it would not learn that a caller gives up";
                return Err(self.outbox.error(ErrorKind::Busy, detail).next("wait in another thread"));
            }
            if deadline.is_over() {
                let detail = "the caller still waits for the answer";
                return Err(self.outbox.error(ErrorKind::TimedOut, detail));
            }
            park_until(deadline);
        }
    }

    /// Returns true if nobody waits for the answer any more, or registers the waker.
    pub(crate) fn note_cancelled(&self, waker: &Waker) -> Result<bool> {
        self.outbox.check_process()?;
        Ok(self.ticket.poll_cancelled(waker))
    }

    /// Answers with one message. Does not block: the message is queued.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`]: nobody waits for the answer any more, as after
    ///   [`is_cancelled`](Call::is_cancelled).
    /// - [`ErrorKind::MessageTooLong`]: the answer, with its header of 8 bytes, is longer than the limit. The caller
    ///   gets an error.
    /// - [`ErrorKind::Unsupported`]: the payload has descriptors or shared memory. The caller gets an error.
    /// - [`ErrorKind::Shutdown`]: the server has ended.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn reply<'a>(mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.check()?;
        let message = self.outbox.message(Kind::Reply, self.ticket.id, &payload.into());
        self.finish_or_fail(message)
    }

    /// Answers with one value.
    #[cfg(feature = "serde")]
    pub(crate) fn reply_value<S: serde::Serialize + ?Sized>(mut self, codec: Codec, answer: &S) -> Result<()> {
        self.check()?;
        let message = self.encode(codec, answer);
        let message = message.and_then(|bytes| self.outbox.message(Kind::Reply, self.ticket.id, &Payload::new(&bytes)));
        self.finish_or_fail(message)
    }

    /// Answers with a message, or tells the caller why there is none.
    fn finish_or_fail(&mut self, message: Result<Vec<u8>>) -> Result<()> {
        let error = match message {
            Ok(bytes) => return self.finish(bytes),
            Err(error) => error,
        };
        let text = match error.kind() {
            ErrorKind::MessageTooLong => "the answer is longer than a message of the server may be",
            ErrorKind::Encoding => "the answer of the server cannot be encoded",
            _ => "the server gave an answer that it cannot send",
        };
        // The handler gets the first error.
        let _ = self.finish(self.outbox.failure(self.ticket.id, Cause::Handler, text));
        Err(error)
    }

    /// Answers with one of several messages. If too many bytes are queued for the client, blocks until it has taken
    /// some.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Call::reply). After `MessageTooLong` and `Unsupported` the call is still open, and:
    ///
    /// - [`ErrorKind::Busy`]: too many bytes are queued for the client, and the call was made in the thread that serves
    ///   all clients, which must not wait for one. Send many items from another thread.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn list(call: parlour::calls::Call) -> parlour::Result<()> {
    /// for note in ["buy milk", "call home"] {
    ///     call.item(note)?;
    /// }
    /// call.end()
    /// # }
    /// ```
    pub fn item<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.item_until(&payload.into(), Deadline::NEVER)
    }

    /// Answers with one of several messages as [`item`](Call::item) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`item`](Call::item), and [`ErrorKind::TimedOut`]: the client has not taken enough of what is queued
    /// for it. The message was not sent, and the call is still open.
    pub fn item_timeout<'a>(&self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.item_until(&payload.into(), Deadline::after(timeout))
    }

    fn item_until(&self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        let mut post = Some(self.item_post(payload)?);
        let waker = waker_of_this_thread();
        loop {
            match self.try_post(&mut post, Waiter::Blocks, &waker)? {
                Queued::Yes => return Ok(()),
                Queued::Full if deadline.is_over() => {
                    let detail = "the client takes the items too slowly, and this one was not sent before the deadline";
                    return Err(self.outbox.error(ErrorKind::TimedOut, detail).next("send it again, or end the call"));
                }
                Queued::Full => park_until(deadline),
            }
        }
    }

    /// Encodes a value as the payload of an answer.
    #[cfg(feature = "serde")]
    pub(crate) fn encode<S: serde::Serialize + ?Sized>(&self, codec: Codec, answer: &S) -> Result<Vec<u8>> {
        let mut encoder = Encoder::new(codec);
        Ok(encoder.encode(answer, self.outbox.payload_max(), || self.outbox.object())?.to_vec())
    }

    /// Queues an item, or registers the waker.
    pub(crate) fn try_post(&self, post: &mut Option<Post>, waiter: Waiter, waker: &Waker) -> Result<Queued> {
        self.check()?;
        let queued = self.outbox.try_post(post, &self.ticket.client, waiter, waker)?;
        if matches!(queued, Queued::Full) {
            // A call that ends from now on wakes the waker. One that has ended since the first check did not.
            self.check()?;
        }
        Ok(queued)
    }

    pub(crate) fn item_post(&self, payload: &Payload<'_>) -> Result<Post> {
        let bytes = self.outbox.message(Kind::Item, self.ticket.id, payload)?;
        self.has_items.store(true, Ordering::Relaxed);
        Ok(Post { to: To::Caller { ticket: Arc::clone(&self.ticket), is_of_stream: true, is_last: false }, bytes })
    }

    /// Ends the answers that [`item`](Call::item) has sent. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Call::reply).
    pub fn end(mut self) -> Result<()> {
        self.check()?;
        let bytes = self.outbox.message(Kind::End, self.ticket.id, &Payload::new(&[]))?;
        self.finish(bytes)
    }

    /// Answers with an error. The caller gets it as [`CallFailed`](ErrorKind::CallFailed) with this text. A text that
    /// is longer than a message may be is cut. Does not block.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Call::reply).
    pub fn fail(mut self, text: impl AsRef<str>) -> Result<()> {
        self.check()?;
        let bytes = self.outbox.failure(self.ticket.id, Cause::Handler, text.as_ref());
        self.finish(bytes)
    }

    fn finish(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.is_over = true;
        let is_of_stream = self.has_items.load(Ordering::Relaxed);
        self.outbox
            .post(Post { to: To::Caller { ticket: Arc::clone(&self.ticket), is_of_stream, is_last: true }, bytes })
    }

    fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(self.cancelled()) } else { Ok(()) }
    }

    #[cold]
    fn cancelled(&self) -> Error {
        let detail = "the caller does not wait for the answer any more";
        self.outbox.error(ErrorKind::Disconnected, detail).next("drop the call")
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_over || self.outbox.is_forked() {
            return;
        }
        // A cancelled call is counted until it is dropped. Its answer is not sent.
        let bytes = self.outbox.failure(self.ticket.id, Cause::Unanswered, "");
        // An error means that the server has ended, and the caller sees the end of the connection.
        let _ = self.finish(bytes);
    }
}

impl Deref for Call {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.request
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("client", &self.ticket.client.number)
            .field("request", &self.request)
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
