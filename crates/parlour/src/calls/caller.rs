//! The blocking client: calls to a server over one connection, from any number of threads.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::{End, Exchange, Next, Outcome, Shape, Want};
use super::line::{Line, Opened, Requested, User, Waited};
use super::options::{CallerOptions, CallerStats};
use crate::connection::Connection;
use crate::endpoint::Common;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::message::Message;
use crate::payload::Payload;
use crate::peer::Peer;
use crate::transport::Transport;
use crate::wait::Deadline;
use crate::wire::call::Cause;

const CALL: Operation = Operation::Call;

/// A client that calls a server: it sends requests, and receives the answer to each.
///
/// Each request carries a number, and so does its answer. An answer therefore reaches the call that it belongs to, in
/// whatever order the server answers, and however late. An answer to a call that has timed out is dropped and counted
/// ([`stats`](Caller::stats)).
///
/// Any number of threads may call at the same time, over the one connection. No call delays another. The server must
/// answer calls, with [`Server::serve_calls`](crate::Server::serve_calls) or by the protocol of docs/wire.md. The first
/// call waits until the server has said so; a server that does not is an error of the kind
/// [`Protocol`](ErrorKind::Protocol), and gets no request.
///
/// # Threads
///
/// The library has no thread that receives. One of the threads that wait receives for all of them, and wakes those to
/// whom messages belong. While no thread is in a call, nothing is received; messages wait in the channel.
///
/// # Fork
///
/// In a forked child every call returns [`NameLost`](ErrorKind::NameLost) at once. Dropping the caller there does not
/// affect the parent.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use parlour::calls::Call;
/// use parlour::{Caller, Server};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// // let name = "notes";
/// let server = Server::bind(&name)?;
/// let shutdown = server.shutdown_handle();
/// let serving = std::thread::spawn(move || {
///     server.serve_calls(|call: Call| {
///         let answer = call.to_ascii_uppercase();
///         let _ = call.reply(&answer); // an error means that the caller has gone
///     })
/// });
///
/// let caller = Caller::connect(&name)?;
/// std::thread::scope(|scope| {
///     for text in ["buy milk", "call home"] {
///         let caller = &caller;
///         scope.spawn(move || {
///             let answer = caller.call_timeout(text, Duration::from_secs(5)).unwrap();
///             assert_eq!(answer, text.to_uppercase().as_bytes());
///         });
///     }
/// });
///
/// shutdown.shutdown();
/// serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Caller {
    pub(super) line: Arc<Line>,
}

impl CallerOptions {
    /// Makes calls over this connection. See [`Caller::new`].
    ///
    /// # Errors
    ///
    /// Those of [`Caller::new`].
    pub fn caller(&self, connection: Connection) -> Result<Caller> {
        Ok(Caller { line: Arc::new(Line::new(connection, self.limits(), User::Caller)?) })
    }
}

impl Caller {
    /// Connects to the server at `address`, with the defaults of [`ConnectOptions`](crate::ConnectOptions).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`] and [`new`](Caller::new).
    pub fn connect(address: impl AsRef<str>) -> Result<Self> {
        Self::new(Connection::connect(address)?)
    }

    /// Makes calls over a connection on which nothing was sent, with the defaults of [`CallerOptions`]. Sends a
    /// greeting, and does not wait for that of the server.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`]: the server has ended the connection.
    /// - [`ErrorKind::Io`]: a system call failed. The caller takes one descriptor beside those of the connection.
    pub fn new(connection: Connection) -> Result<Self> {
        CallerOptions::new().caller(connection)
    }

    /// Sends a request, and returns the answer. Blocks until it arrives.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::CallFailed`]: the server answered with an error, or dropped the call. The text is that of the
    ///   server ([`Error::failure`]).
    /// - [`ErrorKind::Busy`]: the server has as many open calls of this client, or as many bytes of their requests, as
    ///   it allows, or it is ending. It did not begin this one. Call again later.
    /// - [`ErrorKind::MessageTooLong`]: the request, with its header of 8 bytes, is longer than the limit.
    /// - [`ErrorKind::Disconnected`], [`ErrorKind::Truncated`]: the connection has ended. The server may have executed
    ///   the call.
    /// - [`ErrorKind::Protocol`]: the peer does not answer calls, or violated the protocol. Every later call returns
    ///   this error.
    /// - [`ErrorKind::Unsupported`]: the server answered with several messages. Use
    ///   [`call_stream`](Caller::call_stream). Or the transport does not carry what is attached to the request.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    /// - [`ErrorKind::Refused`], [`ErrorKind::Io`]: as for [`Connection::recv`].
    pub fn call<'a>(&self, request: impl Into<Payload<'a>>) -> Result<Message> {
        self.call_until(&request.into(), Deadline::NEVER)
    }

    /// Sends a request, and returns the answer. Gives up after `timeout`.
    ///
    /// The time includes the wait for the channel to take the request. The server is then told that the answer is not
    /// wanted any more. An answer that arrives nevertheless is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Caller::call), and [`ErrorKind::TimedOut`]. The server may have executed the call. The text
    /// says so if no request was sent.
    pub fn call_timeout<'a>(&self, request: impl Into<Payload<'a>>, timeout: Duration) -> Result<Message> {
        self.call_until(&request.into(), Deadline::after(timeout))
    }

    fn call_until(&self, request: &Payload<'_>, deadline: Deadline) -> Result<Message> {
        OpenCall::begin(&*self.line, Shape::One, request, deadline)?.opened()?.reply(deadline)
    }

    /// Sends a request, and returns an iterator over the answers of the server. Blocks until the request is sent.
    ///
    /// A server that gives one answer gives a stream of one item.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Caller::call) that concern the request. The others are items of the stream.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let caller = parlour::Caller::connect("notes")?;
    /// for note in caller.call_stream("list")? {
    ///     println!("{}", String::from_utf8_lossy(&note?));
    /// }
    /// # Ok::<(), parlour::Error>(())
    /// ```
    pub fn call_stream<'a>(&self, request: impl Into<Payload<'a>>) -> Result<CallStream> {
        self.stream_until(&request.into(), Deadline::NEVER)
    }

    /// Sends a request as [`call_stream`](Caller::call_stream) does, and gives up sending after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`call_stream`](Caller::call_stream), and [`ErrorKind::TimedOut`]: nothing was sent.
    pub fn call_stream_timeout<'a>(&self, request: impl Into<Payload<'a>>, timeout: Duration) -> Result<CallStream> {
        self.stream_until(&request.into(), Deadline::after(timeout))
    }

    fn stream_until(&self, request: &Payload<'_>, deadline: Deadline) -> Result<CallStream> {
        Ok(OpenCall::begin(Arc::clone(&self.line), Shape::Many, request, deadline)?.opened()?.into())
    }

    /// Returns the next message that the server has pushed, which answers no call. Blocks until there is one. Returns
    /// `None` when the server has ended the connection.
    ///
    /// Pushed messages that arrive during calls are kept, up to a limit
    /// ([`push_buffer_max`](CallerOptions::push_buffer_max)).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`], [`ErrorKind::Protocol`] and [`ErrorKind::NameLost`] as for
    /// [`call`](Caller::call).
    pub fn next_push(&self) -> Result<Option<Message>> {
        self.push_until(Deadline::NEVER)
    }

    /// Returns the next pushed message as [`next_push`](Caller::next_push) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`next_push`](Caller::next_push), and [`ErrorKind::TimedOut`].
    pub fn next_push_timeout(&self, timeout: Duration) -> Result<Option<Message>> {
        self.push_until(Deadline::after(timeout))
    }

    /// Returns the next pushed message as [`next_push`](Caller::next_push) does, without blocking.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no pushed message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`next_push`](Caller::next_push).
    pub fn try_next_push(&self) -> Result<Option<Message>, TryRecvError> {
        self.push_until(Deadline::now()).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => TryRecvError::Empty,
            _ => TryRecvError::Failed(error),
        })
    }

    fn push_until(&self, deadline: Deadline) -> Result<Option<Message>> {
        self.line.check_process()?;
        match self.line.wait(Want::Push, deadline, false, Exchange::take_push)? {
            Waited::Ready(message) => Ok(Some(message)),
            Waited::Closed => Ok(None),
            Waited::TimedOut => {
                let detail = "no pushed message arrived before the deadline";
                Err(self.line.common().error(ErrorKind::TimedOut, Operation::Receive, detail))
            }
        }
    }

    /// Returns the counts of this caller. They are zeros in a forked child.
    #[must_use]
    pub fn stats(&self) -> CallerStats {
        let Ok(state) = self.line.check_process().and_then(|()| self.line.state()) else {
            return CallerStats::default();
        };
        CallerStats::of(&state.exchange)
    }

    /// Returns the identity of the server.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.line.common().peer
    }

    /// Returns the transport of the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.line.common().transport
    }

    #[cfg(feature = "serde")]
    pub(super) fn common(&self) -> &Common {
        self.line.common()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.common().debug(f, "Caller")
    }
}

/// The answers of a server to one request. See [`Caller::call_stream`].
///
/// The iterator blocks for each answer. It ends after the last one, or after an error. It keeps the connection open.
///
/// Dropping it before its end tells the server that no more answers are wanted, and never blocks.
pub struct CallStream {
    /// `None` after the end.
    pub(super) call: Option<OpenCall<Arc<Line>>>,
}

impl CallStream {
    /// Returns the next answer, or `None` after the last one. Gives up after `timeout`. The stream goes on after that.
    ///
    /// # Errors
    ///
    /// Those of [`Caller::call`], and:
    ///
    /// - [`ErrorKind::TimedOut`]: no answer arrived. A later call returns it.
    /// - [`ErrorKind::Busy`]: more answers have arrived than are kept
    ///   ([`stream_buffer_max`](CallerOptions::stream_buffer_max)). The stream has ended.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Message>> {
        self.next_until(Deadline::after(timeout))
    }

    fn next_until(&mut self, deadline: Deadline) -> Result<Option<Message>> {
        let Some(call) = &self.call else { return Ok(None) };
        let next = call.wait(deadline, Exchange::take_next);
        match next {
            Ok(Next::Item(message)) => return Ok(Some(message)),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(error),
            _ => {}
        }
        let ended = self.call.take();
        match (next, ended) {
            (Ok(Next::Over(Outcome::End)), _) | (_, None) => Ok(None),
            (Ok(Next::Item(message)), _) => Ok(Some(message)),
            (Ok(Next::Over(outcome)), Some(call)) => Err(failed(outcome, call.line.common())),
            (Err(error), _) => Err(error),
        }
    }
}

impl Iterator for CallStream {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(Deadline::NEVER).transpose()
    }
}

impl std::iter::FusedIterator for CallStream {}

impl fmt::Debug for CallStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallStream").field("has_ended", &self.call.is_none()).finish_non_exhaustive()
    }
}

impl From<OpenCall<Arc<Line>>> for CallStream {
    fn from(call: OpenCall<Arc<Line>>) -> Self {
        Self { call: Some(call) }
    }
}

/// The result of opening a call.
pub(crate) enum Begun<C> {
    Open(C),
    /// Nothing was sent, because the connection has ended, or the server has asked a session to leave it.
    Over(Error),
}

impl<C> Begun<C> {
    pub(crate) fn opened(self) -> Result<C> {
        match self {
            Self::Open(call) => Ok(call),
            Self::Over(error) => Err(error),
        }
    }
}

/// A call that is open. Dropping it before its end tells the server that the answer is not wanted, without blocking.
pub(super) struct OpenCall<L: Deref<Target = Line>> {
    line: L,
    id: u32,
    is_sent: bool,
    /// The exchange does not know the call any more.
    is_over: bool,
    /// This thread receives for all from the beginning of the call, and until [`reply`](Self::reply) ends.
    leads: bool,
}

impl<L: Deref<Target = Line>> OpenCall<L> {
    /// Opens a call, and sends its request.
    pub(super) fn begin(line: L, shape: Shape, request: &Payload<'_>, deadline: Deadline) -> Result<Begun<Self>> {
        line.check_process()?;
        let mut state = line.state()?;
        match state.exchange.end() {
            None => {}
            Some(End::Closed) => {
                drop(state);
                return Ok(Begun::Over(line.closed()));
            }
            Some(End::Failed(error)) => return Ok(Begun::Over(error.again())),
        }
        let id = state.exchange.begin(shape);
        let opened = Opened { is_greeted: state.exchange.is_greeted(), rooms: state.exchange.rooms() };
        // The one answer is awaited next, so the thread that waits need not be found with another lock.
        let leads = shape == Shape::One && opened.is_greeted && state.lead();
        drop(state);
        let mut call = Self { line, id, is_sent: false, is_over: false, leads };
        let requested = match leads.then(|| call.line.try_send_request(id, request)) {
            Some(Ok(true)) => Ok(Requested::Sent),
            Some(Ok(false)) => {
                // Another thread may receive while this one waits for room.
                call.leads = false;
                call.line.resign();
                call.line.send_request(id, request, opened, deadline)
            }
            Some(Err(error)) => Err(error),
            None => call.line.send_request(id, request, opened, deadline),
        };
        match requested {
            Ok(Requested::Sent) => {
                call.is_sent = true;
                Ok(Begun::Open(call))
            }
            Ok(Requested::Leaving) => Ok(Begun::Over(call.line.closed())),
            Ok(Requested::TimedOut) => {
                let detail =
                    "the channel was full, or the server did not greet, until the deadline; no request was sent";
                Err(call.line.common().error(ErrorKind::TimedOut, CALL, detail).next("call again, or allow more time"))
            }
            // Sending fails before receiving does if the server has just gone.
            Err(error) if error.kind() == ErrorKind::Disconnected || call.line.is_over()? => Ok(Begun::Over(error)),
            Err(error) => Err(error),
        }
    }

    /// Returns a call whose request was sent.
    pub(super) fn sent(line: L, id: u32) -> Self {
        Self { line, id, is_sent: true, is_over: false, leads: false }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the connection of the call.
    pub(super) fn line(&self) -> &L {
        &self.line
    }

    /// Waits for the one answer.
    pub(super) fn reply(mut self, deadline: Deadline) -> Result<Message> {
        let outcome = match std::mem::take(&mut self.leads) {
            true => {
                let take = |exchange: &mut Exchange| exchange.take(self.id);
                self.ended(self.line.lead(Want::Answer(self.id), deadline, true, take))?
            }
            false => self.wait(deadline, Exchange::take)?,
        };
        self.is_over = true;
        match outcome {
            Outcome::Reply(message) => Ok(message),
            outcome => Err(failed(outcome, self.line.common())),
        }
    }

    /// Waits until `take` returns something of this call.
    fn wait<T>(&self, deadline: Deadline, take: fn(&mut Exchange, u32) -> Option<T>) -> Result<T> {
        self.line.check_process()?;
        self.ended(self.line.wait(Want::Answer(self.id), deadline, true, |exchange| take(exchange, self.id)))
    }

    /// Returns what was waited for.
    fn ended<T>(&self, waited: Result<Waited<T>>) -> Result<T> {
        match waited.map_err(|error| self.line.lost(error))? {
            Waited::Ready(value) => Ok(value),
            Waited::Closed => Err(self.line.lost(self.line.closed())),
            Waited::TimedOut => {
                let detail = "no answer arrived before the deadline; the server may have executed the call";
                Err(self.line.common().error(ErrorKind::TimedOut, CALL, detail).next("allow more time"))
            }
        }
    }
}

impl<L: Deref<Target = Line>> Drop for OpenCall<L> {
    fn drop(&mut self) {
        if self.leads {
            self.line.resign();
        }
        if self.is_over || self.line.check_process().is_err() {
            return;
        }
        let Ok(mut state) = self.line.state() else { return };
        let is_open = state.exchange.abandon(self.id);
        drop(state);
        if is_open && self.is_sent {
            self.line.cancel(self.id);
        }
    }
}

/// Returns the error of a call that has ended without the answer that was expected.
pub(crate) fn failed(outcome: Outcome, common: &Common) -> Error {
    let error = |kind, detail: &'static str| common.error(kind, CALL, detail);
    match outcome {
        Outcome::Failed(failure) => {
            let (kind, text) = match failure.cause {
                Cause::Busy => (ErrorKind::Busy, "the server has too many open calls of this client"),
                Cause::Unanswered => (ErrorKind::CallFailed, "the server dropped the call"),
                Cause::Handler => (ErrorKind::CallFailed, "the server gave no reason"),
            };
            let error = match failure.text.is_empty() {
                true => error(kind, text),
                false => common.error(kind, CALL, failure.text),
            };
            if kind == ErrorKind::Busy { error.next("call again later") } else { error }
        }
        Outcome::TooMany => error(ErrorKind::Busy, "more answers have arrived than are kept, and the call was ended")
            .next("take the answers sooner, or raise stream_buffer_max"),
        #[cfg(feature = "tokio")]
        Outcome::NotSent(error) => error,
        Outcome::NotOne | Outcome::Reply(_) | Outcome::End => {
            error(ErrorKind::Unsupported, "the server does not answer this request with one message")
                .next("use call_stream")
        }
    }
}
