//! The task of a caller, which sends and receives for all tasks that call.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::connection::Connection;
use crate::calls::User;
use crate::calls::exchange::{End, Exchange, Limits, Want};
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::message::{Message, Received};
use crate::payload::{Attached, Payload};
use crate::shared_bytes::SharedBytes;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::{ForkMutex, Guard};
use crate::wire::call::{BadCall, Header, Kind, Side, VERSION};

pub(super) const CALL: Operation = Operation::Call;

/// The number of bytes of requests that are queued for the connection before a call waits: as many as it buffers.
pub(super) const QUEUED_MAX: usize = 64 * 1024;

/// The caller, as its task and those who call know it.
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    process: Process,
    state: ForkMutex<State>,
    pub(super) user: User,
}

pub(super) struct State {
    pub(super) exchange: Exchange,
    /// Messages for the task to send.
    queue: VecDeque<Parcel>,
    pub(super) queued: usize,
    /// The waker of the task.
    task: Option<Waker>,
    pub(super) is_closed: bool,
}

/// A message for the task to send.
#[derive(Default)]
pub(super) struct Parcel {
    /// The call whose request this is, or 0.
    pub(super) id: u32,
    pub(super) bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
    blocks: Vec<SharedBytes>,
}

impl Parcel {
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Takes what is attached to a request.
    pub(super) fn attached(request: &Payload<'_>) -> io::Result<Self> {
        let fds = match request.attached() {
            Attached::Fds(fds) | Attached::Reader(fds) => {
                fds.iter().map(|fd| fd.try_clone_to_owned()).collect::<io::Result<_>>()?
            }
            Attached::Nothing | Attached::Shared(_) => Vec::new(),
        };
        let blocks = request.blocks().iter().map(|block| (*block).clone()).collect();
        Ok(Self { fds, blocks, ..Self::default() })
    }

    fn is_plain(&self) -> bool {
        self.fds.is_empty() && self.blocks.is_empty()
    }

    /// Returns the bytes that count for the queue. A message with attachments fills it, because it is sent alone.
    pub(super) fn size(&self) -> usize {
        if self.is_plain() { self.bytes.len() } else { self.bytes.len().max(QUEUED_MAX) }
    }

    /// Calls `work` with the message.
    fn with<T>(&self, work: impl FnOnce(Payload<'_>) -> T) -> T {
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        let blocks: Vec<&SharedBytes> = self.blocks.iter().collect();
        let payload = Payload::new(&self.bytes);
        work(if blocks.is_empty() { payload.fds(&fds) } else { payload.shared(&blocks) })
    }
}

impl State {
    pub(super) fn post(&mut self, parcel: Parcel) {
        self.queued += parcel.size();
        self.queue.push_back(parcel);
    }
}

impl Shared {
    /// Returns a caller that has a greeting to send.
    pub(super) fn new(common: Arc<Common>, limits: Limits, user: User) -> Self {
        let mut state =
            State { exchange: Exchange::new(limits), queue: VecDeque::new(), queued: 0, task: None, is_closed: false };
        state.post(Parcel::plain(Header::Greeting { side: Side::Caller, version: VERSION }.encode().to_vec()));
        Self { common, process: Process::current(), state: ForkMutex::new(state), user }
    }

    pub(super) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    pub(super) fn state(&self) -> Result<Guard<'_, State>> {
        let state = if self.process.is_before_fork() { None } else { self.state.lock() };
        state.ok_or_else(|| {
            let detail = "this is a forked child, and the caller belongs to the parent";
            self.common.error(ErrorKind::NameLost, CALL, detail).next("connect in the child")
        })
    }

    /// Returns true if the next request belongs on another connection: this one has ended, or the server has asked to
    /// leave it.
    pub(super) fn is_over(&self) -> Result<bool> {
        let state = self.state()?;
        Ok(state.exchange.end().is_some() || state.exchange.is_leaving())
    }

    /// Polls until `ready` returns a value. Returns `None` at the end of the connection.
    pub(super) fn poll_until<T>(
        &self,
        cx: &mut Context<'_>,
        want: Want,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Poll<Result<Option<T>>> {
        let mut state = self.state()?;
        if let Some(value) = ready(&mut state) {
            return Poll::Ready(Ok(Some(value)));
        }
        match state.exchange.end() {
            Some(End::Closed) => return Poll::Ready(Ok(None)),
            Some(End::Failed(error)) => return Poll::Ready(Err(error.again())),
            None => {}
        }
        state.exchange.wait_for(want, cx.waker());
        Poll::Pending
    }

    pub(super) fn closed(&self) -> Error {
        self.common
            .error(ErrorKind::Disconnected, CALL, "the server has ended the connection")
            .next("connect again; the server may have executed calls that it did not answer")
    }
}

/// Wakes the task.
pub(super) fn wake_task(mut state: Guard<'_, State>) {
    let task = state.task.take();
    drop(state);
    if let Some(task) = task {
        task.wake();
    }
}

/// The task that sends and receives.
pub(super) struct Driver {
    shared: Arc<Shared>,
    connection: Connection,
    /// The message with attachments that is being sent.
    sending: Option<Parcel>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, connection: Connection) -> Self {
        Self { shared, connection, sending: None }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, connection, sending } = self.get_mut();
        let polled = poll_driver(shared, connection, sending, cx);
        if polled.is_ready() {
            // Whatever has ended the task, nobody waits for it.
            let mut woken = Vec::new();
            if let Ok(mut state) = shared.state() {
                state.exchange.finish(End::Closed, &mut woken);
            }
            woken.into_iter().for_each(Waker::wake);
        }
        polled
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The runtime is shutting down, or the task has ended before.
        let mut woken = Vec::new();
        if let Ok(mut state) = self.shared.state() {
            state.exchange.finish(End::Closed, &mut woken);
        }
        woken.into_iter().for_each(Waker::wake);
    }
}

fn poll_driver(
    shared: &Shared,
    connection: &mut Connection,
    sending: &mut Option<Parcel>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut woken = Vec::new();
    let mut end = None;
    let is_closed = loop {
        let Ok(mut state) = shared.state() else { return Poll::Ready(()) };
        if state.task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        let is_closed = state.is_closed;
        let mut has_fed = false;
        while sending.is_none() && connection.has_room() {
            let Some(parcel) = state.queue.pop_front() else { break };
            state.queued -= parcel.size();
            has_fed = true;
            if parcel.is_plain() {
                // The length was checked. Another error shows when the buffer is written.
                let _ = connection.start(&parcel.bytes);
            } else {
                *sending = Some(parcel);
            }
        }
        if has_fed {
            state.exchange.note_room(&mut woken);
        }
        let is_empty = state.queue.is_empty();
        drop(state);
        // An error of sending does not keep this side from receiving.
        let is_flushed = connection.poll_flush_fed(cx).is_ready();
        if !is_flushed {
            break is_closed;
        }
        if let Some(parcel) = sending {
            let Poll::Ready(sent) = parcel.with(|payload| connection.poll_send(cx, payload)) else { break is_closed };
            if let (Err(error), Ok(mut state)) = (sent, shared.state()) {
                state.exchange.reject(parcel.id, error, &mut woken);
            }
            *sending = None;
        } else if is_empty {
            break is_closed;
        }
    };
    loop {
        let mut message = Message::default();
        let polled = connection.poll_recv_into(cx, &mut message);
        let Ok(mut state) = shared.state() else { return Poll::Ready(()) };
        match polled {
            Poll::Pending => break,
            Poll::Ready(Ok(Received::Message)) => {
                if let Err(BadCall(reason)) = state.exchange.receive(message, &mut woken) {
                    let error = shared.common.error(ErrorKind::Protocol, CALL, reason);
                    end = Some(End::Failed(error.next("check that the server answers calls (Server::serve_calls)")));
                }
            }
            Poll::Ready(Ok(Received::Closed | Received::Empty)) => end = Some(End::Closed),
            Poll::Ready(Err(error)) => end = Some(End::Failed(error)),
        }
        for id in state.exchange.take_to_cancel() {
            let cancel = Header::Message { kind: Kind::Cancel, id }.encode().to_vec();
            state.post(Parcel::plain(cancel));
            // Sent with the next poll.
            cx.waker().wake_by_ref();
        }
        if let Some(end) = end.take() {
            state.exchange.finish(end, &mut woken);
            drop(state);
            woken.into_iter().for_each(Waker::wake);
            return Poll::Ready(());
        }
    }
    woken.into_iter().for_each(Waker::wake);
    if is_closed { Poll::Ready(()) } else { Poll::Pending }
}
