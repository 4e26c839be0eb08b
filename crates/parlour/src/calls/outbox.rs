//! The messages of handlers and other threads, until the thread or the tasks that serve take them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::thread::{self, ThreadId};

use super::served::{ClientInfo, Ticket};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::message::message_len;
use crate::payload::Payload;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::{ForkMutex, Guard};
use crate::wire::call::{Cause, HEADER_LEN, Header, Kind};

const ANSWER: Operation = Operation::Answer;

/// A message that is to be sent, with its header.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) to: To,
    pub(crate) bytes: Vec<u8>,
}

/// The recipient of a message.
#[derive(Debug)]
pub(crate) enum To {
    /// The caller of a call.
    Caller {
        ticket: Arc<Ticket>,
        /// The message is an item, or follows items.
        is_of_stream: bool,
        /// The handler does not hold the call any more.
        is_last: bool,
    },
    /// A client, for which the message is not an answer.
    Client(u64),
    All,
    /// The one client of this outbox. The sender has looked for room.
    #[cfg(feature = "tokio")]
    This,
}

/// The messages of all handlers and threads.
pub(crate) struct Outbox {
    /// The server's name in quotes, for error texts.
    display_name: Arc<str>,
    message_max: usize,
    /// The bytes of items that may be queued for a client before a handler that sends more has to wait.
    queued_max: usize,
    process: Process,
    state: ForkMutex<State>,
}

#[derive(Default)]
struct State {
    posts: VecDeque<Post>,
    /// The bytes of those that answer no call.
    pushed: usize,
    /// The server will look before it sleeps.
    is_told: bool,
    /// The thread that must not wait for itself.
    server: Option<ThreadId>,
    /// Wakes the server.
    waker: Option<Waker>,
    /// Those who wait for room.
    waiting: Vec<Waker>,
    has_ended: bool,
}

/// The way in which the one who sends an item waits for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// Its thread does nothing else, so it must not be the one that serves.
    Blocks,
    /// It goes on, and is woken.
    Polls,
}

/// The result of an attempt to queue a message.
pub(crate) enum Queued {
    Yes,
    /// The client takes its messages too slowly. The waker was registered.
    Full,
}

impl Outbox {
    pub(crate) fn new(display_name: Arc<str>, message_max: usize, queued_max: usize) -> Self {
        let state = ForkMutex::default();
        Self { display_name, message_max, queued_max, process: Process::current(), state }
    }

    /// Sets the waker of the server.
    pub(crate) fn set_waker(&self, waker: Waker) {
        if let Some(mut state) = self.state.lock() {
            state.waker = Some(waker);
        }
    }

    /// Sets the thread that serves.
    pub(crate) fn set_server(&self, server: ThreadId) {
        if let Some(mut state) = self.state.lock() {
            state.server = Some(server);
        }
    }

    /// Wakes the server.
    pub(crate) fn wake_server(&self) {
        let waker = self.state.lock().and_then(|state| state.waker.clone());
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns the server's name in quotes.
    pub(crate) fn server(&self) -> &str {
        &self.display_name
    }

    /// Takes all messages. If there are some, the server looks again before it sleeps. Otherwise it is told of the next
    /// one.
    pub(crate) fn take(&self, posts: &mut VecDeque<Post>) {
        if let Some(mut state) = self.state.lock() {
            std::mem::swap(&mut state.posts, posts);
            state.pushed = 0;
            state.is_told = !posts.is_empty();
        }
    }

    /// Wakes those who wait for room, or for a call that has ended.
    pub(crate) fn wake_waiting(&self) {
        let Some(mut state) = self.state.lock() else { return };
        if state.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting {
            waker.wake();
        }
    }

    /// Notes that nothing is sent any more.
    pub(crate) fn end(&self) {
        if let Some(mut state) = self.state.lock() {
            state.has_ended = true;
            state.posts.clear();
        }
        self.wake_waiting();
    }

    /// Returns the longest payload of a message, in bytes.
    #[cfg(feature = "serde")]
    pub(crate) fn payload_max(&self) -> usize {
        self.message_max.saturating_sub(HEADER_LEN)
    }

    /// Returns a message to the caller of a call, if it may be sent.
    pub(crate) fn message(&self, kind: Kind, id: u32, payload: &Payload<'_>) -> Result<Vec<u8>> {
        if payload.attached().count() > 0 {
            let detail = "an answer carries neither descriptors nor shared memory";
            return Err(self.error(ErrorKind::Unsupported, detail).next("send bytes"));
        }
        let length = HEADER_LEN + message_len(payload.parts());
        if length > self.message_max {
            let detail = format!("the message has {length} bytes with its header and {} are allowed", self.message_max);
            return Err(Error::new(ErrorKind::MessageTooLong, ANSWER, self.object(), detail)
                .next("answer with several items, or raise message_max on both sides"));
        }
        Ok(frame(kind, id, payload.parts(), length))
    }

    /// Returns the message that tells a caller about a failure. A text that is too long is cut.
    pub(crate) fn failure(&self, id: u32, cause: Cause, text: &str) -> Vec<u8> {
        let text = text.as_bytes();
        let text = text.get(..text.len().min(self.message_max.saturating_sub(HEADER_LEN + 1))).unwrap_or_default();
        let parts = [IoSlice::new(&[cause.number()]), IoSlice::new(text)].map(|part| part.to_vec());
        let parts = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
        frame(Kind::Error, id, &parts, HEADER_LEN + message_len(&parts))
    }

    /// Queues a message, whatever is queued.
    pub(crate) fn post(&self, post: Post) -> Result<()> {
        self.push(post, None).map(drop)
    }

    /// Queues a message for a client, unless too much is queued for it. Then `waker` is woken when it may be tried
    /// again.
    pub(crate) fn try_post(
        &self,
        post: &mut Option<Post>,
        client: &ClientInfo,
        waiter: Waiter,
        waker: &Waker,
    ) -> Result<Queued> {
        let Some(taken) = post.take() else { return Ok(Queued::Yes) };
        match self.push(taken, Some((client, waiter, waker)))? {
            None => Ok(Queued::Yes),
            returned => {
                *post = returned;
                Ok(Queued::Full)
            }
        }
    }

    fn push(&self, post: Post, bounded: Option<(&ClientInfo, Waiter, &Waker)>) -> Result<Option<Post>> {
        let mut state = self.open()?;
        if let Some((client, waiter, waker)) = bounded {
            let queued = client.queued.load(Ordering::Relaxed);
            if queued > 0 && queued + post.bytes.len() > self.queued_max {
                if waiter == Waiter::Blocks && state.server == Some(thread::current().id()) {
                    let detail = "the client takes the items too slowly, and this is the thread that serves";
                    return Err(self.error(ErrorKind::Busy, detail).next("send many items from another thread"));
                }
                if !state.waiting.iter().any(|known| known.will_wake(waker)) {
                    state.waiting.push(waker.clone());
                }
                return Ok(Some(post));
            }
        }
        match &post.to {
            To::Caller { ticket, is_of_stream: true, .. } => {
                ticket.client.queued.fetch_add(post.bytes.len(), Ordering::Relaxed);
            }
            To::Caller { .. } => {}
            #[cfg(feature = "tokio")]
            To::This => state.pushed += post.bytes.len(),
            To::Client(_) | To::All => {
                if state.pushed > 0 && state.pushed + post.bytes.len() > self.queued_max {
                    let detail = "the server does not keep up with the messages that are pushed";
                    return Err(self.error(ErrorKind::Busy, detail).next("push again later"));
                }
                state.pushed += post.bytes.len();
            }
        }
        state.posts.push_back(post);
        // The thread that serves looks when the handler returns.
        if state.is_told || state.server == Some(thread::current().id()) {
            return Ok(None);
        }
        state.is_told = true;
        let waker = state.waker.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(None)
    }

    /// Locks the state, if the server has not ended.
    fn open(&self) -> Result<Guard<'_, State>> {
        self.check_process()?;
        let state = self.state.lock().ok_or_else(|| self.forked())?;
        match state.has_ended {
            true => Err(self.error(ErrorKind::Shutdown, "the server has ended")),
            false => Ok(state),
        }
    }

    #[cfg(feature = "tokio")]
    pub(super) fn check_open(&self) -> Result<()> {
        self.open().map(drop)
    }

    /// Returns true if a message of this length may be pushed.
    #[cfg(feature = "tokio")]
    pub(super) fn has_room_for_push(&self, length: usize) -> bool {
        self.state.lock().is_none_or(|state| state.pushed == 0 || state.pushed + length <= self.queued_max)
    }

    /// Returns true in the thread that serves.
    pub(crate) fn is_in_server(&self) -> bool {
        self.state.lock().is_some_and(|state| state.server == Some(thread::current().id()))
    }

    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_forked() { Err(self.forked()) } else { Ok(()) }
    }

    /// Returns true in a forked child, in which nothing must be sent.
    pub(crate) fn is_forked(&self) -> bool {
        self.process.is_before_fork()
    }

    fn forked(&self) -> Error {
        self.error(ErrorKind::NameLost, "this is a forked child, and the server belongs to the parent")
            .next("answer in the parent")
    }

    pub(crate) fn error(&self, kind: ErrorKind, detail: &'static str) -> Error {
        Error::new(kind, ANSWER, self.object(), detail)
    }

    pub(crate) fn object(&self) -> String {
        format!("a caller of {}", self.display_name)
    }
}

fn frame(kind: Kind, id: u32, parts: &[IoSlice<'_>], length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&Header::Message { kind, id }.encode());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}
