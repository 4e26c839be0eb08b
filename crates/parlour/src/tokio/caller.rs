//! Calls to a server over one connection, from any number of tasks.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use tokio::runtime::Handle;

use super::caller_task::{CALL, Driver, Parcel, QUEUED_MAX, Shared, State, wake_task};
use super::connection::Connection;
use super::registration::registration_error;
use crate::calls::exchange::{Exchange, Limits, Next, Outcome, Shape, Want};
use crate::calls::{Begun, CallerOptions, CallerStats, User, failed, lost};
#[cfg(feature = "serde")]
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Result, TryRecvError};
use crate::message::Message;
use crate::payload::Payload;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wire::call::{HEADER_LEN, Header, Kind};

/// A client that calls a server, for tasks. [`crate::Caller`] is the blocking one, and has the guarantees.
///
/// Any number of tasks may call at the same time. One task, which [`new`](Caller::new) spawns, sends and receives for
/// all. It ends with the caller and its streams.
///
/// There are no variants with a timeout: wrap a call in `tokio::time::timeout`. Dropping the future of a call tells the
/// server that the answer is not wanted any more.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use parlour::tokio::Caller;
/// use tokio::time::timeout;
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let caller = Caller::connect("notes").await?;
///     let (one, other) = tokio::join!(caller.call("one"), caller.call("other"));
///     println!("{:?} {:?}", one?, other?);
///     println!("{:?}", timeout(Duration::from_secs(1), caller.call("slow")).await??);
///     Ok(())
/// }
/// ```
pub struct Caller {
    pub(super) line: Arc<Open>,
}

/// The callers' and streams' side of the state. The task ends when it is dropped.
pub(super) struct Open(pub(super) Arc<Shared>);

impl CallerOptions {
    /// Makes calls over this connection, for tasks. See [`Caller::new`].
    ///
    /// # Errors
    ///
    /// Those of [`Caller::new`].
    pub fn caller_tokio(&self, connection: Connection) -> Result<Caller> {
        Ok(Caller { line: Open::new(connection, self.limits(), User::Caller)? })
    }
}

impl Open {
    /// Spawns the task that sends and receives over this connection.
    pub(super) fn new(connection: Connection, limits: Limits, user: User) -> Result<Arc<Self>> {
        let common = connection.shared_common();
        let runtime = Handle::try_current().map_err(|error| {
            let error = io::Error::new(io::ErrorKind::Unsupported, error);
            registration_error(CALL, common.object(), error)
        })?;
        let shared = Arc::new(Shared::new(common, limits, user));
        runtime.spawn(Driver::new(Arc::clone(&shared), connection));
        Ok(Arc::new(Self(shared)))
    }
}

impl Caller {
    /// Connects to the server at `address`, with the defaults of [`ConnectOptions`](crate::ConnectOptions).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`] and [`new`](Caller::new).
    ///
    /// # Cancel safety
    ///
    /// That of [`Connection::connect`].
    pub async fn connect(address: impl AsRef<str>) -> Result<Self> {
        Self::new(Connection::connect(address).await?)
    }

    /// Makes calls over a connection on which nothing was sent, with the defaults of [`CallerOptions`]. Spawns a task
    /// on the current runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`]: there is no current runtime.
    pub fn new(connection: Connection) -> Result<Self> {
        CallerOptions::new().caller_tokio(connection)
    }

    /// Sends a request, and returns the answer. See [`crate::Caller::call`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Caller::call`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the request was sent or not, as a whole. If it was, the server is
    /// told that the answer is not wanted. An answer that arrives nevertheless is dropped.
    pub async fn call<'a>(&self, request: impl Into<Payload<'a>>) -> Result<Message> {
        OpenCall::begin(Arc::clone(&self.line), Shape::One, &request.into()).await?.opened()?.reply().await
    }

    /// Sends a request, and returns a stream of the answers. See [`crate::Caller::call_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](Caller::call) that concern the request. The others are items of the stream.
    ///
    /// # Cancel safety
    ///
    /// That of [`call`](Caller::call).
    pub async fn call_stream<'a>(&self, request: impl Into<Payload<'a>>) -> Result<CallStream> {
        Ok(OpenCall::begin(Arc::clone(&self.line), Shape::Many, &request.into()).await?.opened()?.into())
    }

    /// Returns the next message that the server has pushed, or `None` when the server has ended the connection. See
    /// [`crate::Caller::next_push`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Caller::next_push`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no message is lost.
    pub async fn next_push(&self) -> Result<Option<Message>> {
        let shared = self.shared();
        poll_fn(|cx| shared.poll_until(cx, Want::Push, |state| state.exchange.take_push())).await
    }

    /// Returns the next pushed message without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no pushed message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`next_push`](Caller::next_push).
    pub fn try_next_push(&self) -> Result<Option<Message>, TryRecvError> {
        let shared = self.shared();
        let mut nobody = Context::from_waker(Waker::noop());
        match shared.poll_until(&mut nobody, Want::Push, |state| state.exchange.take_push()) {
            Poll::Ready(result) => Ok(result?),
            Poll::Pending => Err(TryRecvError::Empty),
        }
    }

    /// Returns the counts of this caller. They are zeros in a forked child.
    #[must_use]
    pub fn stats(&self) -> CallerStats {
        self.shared().state().map_or_else(|_| CallerStats::default(), |state| CallerStats::of(&state.exchange))
    }

    /// Returns the identity of the server.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.shared().common.peer
    }

    /// Returns the transport of the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.shared().common.transport
    }

    #[cfg(feature = "serde")]
    pub(super) fn common(&self) -> &Arc<Common> {
        &self.shared().common
    }

    fn shared(&self) -> &Shared {
        &self.line.0
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().common.debug(f, "Caller")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state() {
            state.is_closed = true;
            wake_task(state);
        }
    }
}

/// The answers of a server to one request, for tasks. See [`Caller::call_stream`].
///
/// It is a [`Stream`] of the answers, which ends after the last one, or after an error. It keeps the connection open.
/// Dropping it before its end tells the server that no more answers are wanted.
pub struct CallStream {
    /// `None` after the end.
    call: Option<OpenCall>,
}

impl CallStream {
    /// Returns the next answer, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::call`], and [`ErrorKind::Busy`]: more answers have arrived than are kept
    /// ([`stream_buffer_max`](CallerOptions::stream_buffer_max)). The stream has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no answer is lost.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        let Some(call) = &self.call else { return Poll::Ready(None) };
        let item = match ready!(call.poll(cx, Exchange::take_next)) {
            Ok(Next::Item(message)) => return Poll::Ready(Some(Ok(message))),
            Ok(Next::Over(Outcome::End)) => None,
            Ok(Next::Over(outcome)) => Some(Err(call.failed(outcome))),
            Err(error) => Some(Err(error)),
        };
        self.call = None;
        Poll::Ready(item)
    }
}

impl Stream for CallStream {
    type Item = Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl fmt::Debug for CallStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream").field("has_ended", &self.call.is_none()).finish_non_exhaustive()
    }
}

impl From<OpenCall> for CallStream {
    fn from(call: OpenCall) -> Self {
        Self { call: Some(call) }
    }
}

/// A call that is open. Dropping it before its end tells the server that the answer is not wanted.
pub(super) struct OpenCall {
    line: Arc<Open>,
    id: u32,
    is_sent: bool,
}

impl OpenCall {
    /// Opens a call, and queues its request once the server has greeted and there is room.
    pub(super) async fn begin(line: Arc<Open>, shape: Shape, request: &Payload<'_>) -> Result<Begun<Self>> {
        let shared = &line.0;
        let length = HEADER_LEN + request.len();
        if length > shared.common.message_max {
            let detail =
                format!("the request has {length} bytes with its header and {} are allowed", shared.common.message_max);
            return Err(shared
                .common
                .error(ErrorKind::MessageTooLong, CALL, detail)
                .next("split the request, or raise message_max on both sides"));
        }
        let is_greeted = |state: &mut State| state.exchange.is_greeted().then_some(());
        match poll_fn(|cx| shared.poll_until(cx, Want::Greeting, is_greeted)).await {
            Ok(Some(())) => {}
            Ok(None) => return Ok(Begun::Over(shared.closed())),
            Err(error) => return Ok(Begun::Over(error)),
        }
        let mut parcel = Parcel::attached(request).map_err(|error| shared.common.io(CALL, error))?;
        let size = parcel.size().max(length);
        let id = poll_fn(|cx| {
            shared.poll_until(cx, Want::Room, |state| {
                if shared.user == User::Session && state.exchange.is_leaving() {
                    return Some(None);
                }
                if state.exchange.end().is_some() || (state.queued > 0 && state.queued + size > QUEUED_MAX) {
                    return None;
                }
                let id = state.exchange.begin(shape);
                let mut bytes = Vec::with_capacity(length);
                bytes.extend_from_slice(&Header::Message { kind: Kind::Request, id }.encode());
                request.parts().iter().for_each(|part| bytes.extend_from_slice(part));
                (parcel.id, parcel.bytes) = (id, bytes);
                state.post(std::mem::take(&mut parcel));
                Some(Some(id))
            })
        });
        let id = match id.await {
            Ok(Some(Some(id))) => id,
            Ok(Some(None) | None) => return Ok(Begun::Over(shared.closed())),
            Err(error) => return Ok(Begun::Over(error)),
        };
        let call = Self { line, id, is_sent: true };
        wake_task(call.shared().state()?);
        Ok(Begun::Open(call))
    }

    /// Waits for the one answer.
    pub(super) async fn reply(self) -> Result<Message> {
        match poll_fn(|cx| self.poll(cx, Exchange::take)).await? {
            Outcome::Reply(message) => Ok(message),
            outcome => Err(self.failed(outcome)),
        }
    }

    /// Returns the error of a call that has ended without the answer that was expected.
    fn failed(&self, outcome: Outcome) -> Error {
        match (self.shared().user, outcome) {
            // The task may have sent a part of the request.
            (User::Session, Outcome::NotSent(error)) => lost(error),
            (_, outcome) => failed(outcome, self.shared().common()),
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.line.0
    }

    /// Returns the connection of the call.
    pub(super) fn line(&self) -> &Arc<Open> {
        &self.line
    }

    fn poll<T>(&self, cx: &mut Context<'_>, take: fn(&mut Exchange, u32) -> Option<T>) -> Poll<Result<T>> {
        let polled = self.shared().poll_until(cx, Want::Answer(self.id), |state| take(&mut state.exchange, self.id));
        polled.map(|value| value.and_then(|value| value.ok_or_else(|| self.shared().closed()))).map_err(|error| {
            match self.shared().user {
                User::Caller => error,
                User::Session => lost(error),
            }
        })
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let Ok(mut state) = self.shared().state() else { return };
        if state.exchange.abandon(self.id) && self.is_sent {
            let cancel = Header::Message { kind: Kind::Cancel, id: self.id }.encode().to_vec();
            state.post(Parcel::plain(cancel));
            wake_task(state);
        }
    }
}
