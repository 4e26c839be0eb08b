//! The task of one client of a server of calls.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::serve::Stopping;
use crate::calls::Call;
use crate::calls::outbox::{Outbox, Post, To};
use crate::calls::outboxes::Outboxes;
use crate::calls::served::{CallLimits, ENDING, Served as Calls, Step};
use crate::error::{ErrorKind, Result};
use crate::message::{Message, Received};
use crate::sys::fork_mutex::ForkMutex;
use crate::wire::call::{BadCall, Cause, Header, Kind, Side, VERSION};

/// The number of bytes of items, and of pushed messages, that may wait for one client.
pub(super) const QUEUED_MAX: usize = 1024 * 1024;

/// Items are buffered up to here, so that there is room for other answers and this side goes on receiving.
const ITEMS_BUFFERED_MAX: usize = 48 * 1024;

/// Tells the tasks of clients that no further request is begun, or that another process has the name.
#[derive(Default)]
pub(super) struct Stop {
    is_stopped: AtomicBool,
    is_handed_over: AtomicBool,
    /// The tasks, by the number of the client.
    wakers: ForkMutex<BTreeMap<u64, Waker>>,
}

impl Stop {
    pub(super) fn stop(&self, reason: Stopping) {
        match reason {
            Stopping::Shutdown => self.is_stopped.store(true, Ordering::SeqCst),
            Stopping::HandedOver => self.is_handed_over.store(true, Ordering::SeqCst),
        }
        let wakers: Vec<Waker> = self.wakers.lock().iter().flat_map(|wakers| wakers.values().cloned()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn is_handed_over(&self) -> bool {
        self.is_handed_over.load(Ordering::SeqCst)
    }

    fn register(&self, number: u64, waker: &Waker) {
        if let Some(mut wakers) = self.wakers.lock() {
            wakers.insert(number, waker.clone());
        }
    }

    fn unregister(&self, number: u64) {
        if let Some(mut wakers) = self.wakers.lock() {
            wakers.remove(&number);
        }
    }
}

/// The task of one client.
pub(super) struct ClientTask {
    connection: Connection,
    calls: Calls,
    outbox: Arc<Outbox>,
    outboxes: Arc<Outboxes>,
    stop: Arc<Stop>,
    posts: VecDeque<Post>,
    /// The items that wait because the client takes them slowly.
    items: VecDeque<Post>,
    /// The client has ended sending.
    has_finished: bool,
    /// Another process has the name, and the client was told.
    was_told_to_leave: bool,
}

impl ClientTask {
    pub(super) fn new(
        connection: Connection,
        number: u64,
        display_name: Arc<str>,
        limits: CallLimits,
        stop: Arc<Stop>,
        outboxes: Arc<Outboxes>,
    ) -> Self {
        let common = connection.shared_common();
        let outbox = Arc::new(Outbox::new(display_name, common.message_max, QUEUED_MAX));
        let calls = Calls::new(number, common.peer.clone(), limits);
        let (posts, items) = (VecDeque::new(), VecDeque::new());
        outboxes.insert(number, Arc::clone(&outbox));
        let (has_finished, was_told_to_leave) = (false, false);
        Self { connection, calls, outbox, outboxes, stop, posts, items, has_finished, was_told_to_leave }
    }

    pub(super) async fn run<H, F>(mut self, handler: Arc<H>)
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // Dropped with this task, which aborts the calls.
        let mut tasks = JoinSet::new();
        let mut is_registered = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut is_registered, true) {
                self.stop.register(self.calls.info.number, cx.waker());
            }
            // The tasks that have ended give their memory back.
            while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
            self.poll(cx, |call| drop(tasks.spawn(handler(call))))
        })
        .await;
        drop(self);
        while tasks.join_next().await.is_some() {}
    }

    /// Serves until the connection has ended, or has nothing to do any more.
    fn poll(&mut self, cx: &mut Context<'_>, mut begin: impl FnMut(Call)) -> Poll<()> {
        self.outbox.set_waker(cx.waker().clone());
        loop {
            let is_stopped = self.stop.is_stopped();
            if (is_stopped || self.stop.is_handed_over()) && self.calls.is_greeted() && !self.was_told_to_leave {
                self.was_told_to_leave = true;
                let leave = Header::Message { kind: Kind::Leave, id: 0 }.encode();
                let _ = self.connection.start(&leave);
            }
            if self.send(cx).is_err() {
                return Poll::Ready(());
            }
            let is_idle = self.calls.held() == 0 && self.items.is_empty() && self.connection.buffered() == 0;
            if self.has_finished && is_idle {
                return Poll::Ready(());
            }
            // A client that takes no answers is not read from.
            if self.has_finished || !self.connection.has_room() {
                return Poll::Pending;
            }
            let mut message = Message::default();
            match self.connection.poll_recv_into(cx, &mut message) {
                // Every request that has arrived by now is answered.
                Poll::Pending if is_stopped && is_idle => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Received::Message)) => {}
                Poll::Ready(Ok(Received::Closed | Received::Empty)) if self.connection.is_hung_up() => {
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(Received::Closed | Received::Empty)) => {
                    self.has_finished = true;
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
            match self.calls.receive(message) {
                // The caller learns that its request was not begun. Cancellations still matter.
                Ok(Step::Begin(ticket, _)) if is_stopped => {
                    self.calls.end(&ticket);
                    let refusal = self.outbox.failure(ticket.id, Cause::Busy, ENDING);
                    let _ = self.connection.start(&refusal);
                }
                Ok(Step::Begin(ticket, request)) => {
                    begin(Call::new(request, ticket, Arc::clone(&self.outbox)));
                }
                Ok(Step::Greet) => {
                    let greeting = Header::Greeting { side: Side::Server, version: VERSION }.encode();
                    let _ = self.connection.start(&greeting);
                }
                Ok(Step::Refuse(id, text)) => {
                    let refusal = self.outbox.failure(id, Cause::Busy, text);
                    let _ = self.connection.start(&refusal);
                }
                Ok(Step::Nothing) => self.outbox.wake_waiting(),
                Err(BadCall(reason)) => {
                    tracing::debug!(reason, "disconnected for a violation of the protocol of calls");
                    // As `calls/serving.rs` does.
                    self.connection.abort_now();
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Sends what handlers have queued, as far as there is room. Fails if the client does not receive any more.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            let mut posts = std::mem::take(&mut self.posts);
            self.outbox.take(&mut posts);
            let has_posts = !posts.is_empty();
            for post in posts.drain(..) {
                match &post.to {
                    To::Caller { is_of_stream: true, .. } => self.items.push_back(post),
                    To::Caller { ticket, .. } => {
                        if !ticket.is_cancelled() {
                            self.connection.start(&post.bytes)?;
                        }
                        self.calls.end(ticket);
                    }
                    To::Client(_) | To::All | To::This if !self.calls.is_greeted() => {}
                    To::Client(_) | To::All | To::This => self.push(&post.bytes)?,
                }
            }
            self.posts = posts;
            let has_sent = self.send_items()?;
            let is_flushed = match self.connection.poll_flush_fed(cx) {
                Poll::Ready(Ok(())) => true,
                // The client may still have sent something, but nothing can be answered.
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => false,
            };
            if has_sent {
                self.outbox.wake_waiting();
            }
            if !has_posts && (!is_flushed || self.items.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Sends a message that answers no call. A client that does not take its messages is disconnected.
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.connection.buffered() > QUEUED_MAX {
            tracing::debug!("disconnected because the client does not take its messages");
            return Err(self.outbox.error(ErrorKind::Busy, "the client does not take its messages"));
        }
        self.connection.start(bytes)
    }

    fn send_items(&mut self) -> Result<bool> {
        let mut has_sent = false;
        while let Some(Post { to: To::Caller { ticket, is_last, .. }, bytes }) = self.items.front() {
            let buffered = self.connection.buffered();
            if !ticket.is_cancelled() {
                if buffered > 0 && buffered + bytes.len() > ITEMS_BUFFERED_MAX {
                    break;
                }
                self.connection.start(bytes)?;
            }
            ticket.client.queued.fetch_sub(bytes.len(), Ordering::Relaxed);
            if *is_last {
                self.calls.end(ticket);
            }
            self.items.pop_front();
            has_sent = true;
        }
        Ok(has_sent)
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.calls.cancel_all();
        self.outbox.end();
        self.stop.unregister(self.calls.info.number);
        self.outboxes.remove(self.calls.info.number);
    }
}
