//! The blocking client of calls that outlives its servers.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use super::caller::{Begun, CallStream, Caller, OpenCall};
use super::exchange::{Exchange, Limits, Shape, Want};
use super::line::{Line, User, Waited};
use super::options::{CallerOptions, CallerStats};
use super::park::waker_of_this_thread;
use super::succession::{Earlier, Numbered, Succession, Turn, forked, gap};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::payload::Payload;
use crate::peer::Peer;
use crate::session::dialer::Dialer;
use crate::session::reconnect::Reconnect;
use crate::session::reconnecting::{Reconnecting, may_pass, no_connection};
use crate::session::state::error_of_hook;
use crate::sys::fork::Process;
use crate::sys::fork_mutex::{ForkMutex, Guard};
use crate::transport::Transport;
use crate::wait::Deadline;

pub(super) type Hook = Box<dyn FnMut(&Caller) -> io::Result<()> + Send>;
pub(super) type Lines = Succession<Arc<Line>, Hook>;

/// A [`Caller`] that connects again when its server has gone.
///
/// It has the calls of a `Caller`, for any number of threads. Each connects first if there is no connection: one thread
/// connects, and the others wait for it, each up to its own deadline. Creating a session makes no attempt to connect,
/// so a client may start before its server.
///
/// # The end of a server
///
/// - A call whose request was sent, and not answered when the connection ended, returns an error of the kind
///   [`Lost`](ErrorKind::Lost). The server may have executed it. Make it again only if that does no harm, or ask the
///   next server.
/// - A call whose request was not sent yet goes on with the next server, within its timeout. No request is sent twice.
/// - [`next_push`](CallSession::next_push) returns `Lost` once for each connection that has ended, after the messages
///   that had arrived, because the client may have missed some. Then it goes on with the next server.
/// - A server that has handed its name over ([`ServerOptions::take_over`](crate::ServerOptions::take_over)) tells its
///   clients. It answers the open calls, further calls go to the server that has the name, and no call fails.
///
/// After each connect the function that [`on_connect`](CallSession::on_connect) sets is called, to log in, or to
/// subscribe again. [`Session`](crate::Session#reconnecting) describes when the session tries to connect, and which
/// errors end a call because waiting does not resolve them.
///
/// # Fork
///
/// In a forked child every call returns [`NameLost`](ErrorKind::NameLost) at once. Dropping the session there does not
/// affect the parent.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use parlour::{CallSession, Server};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// // let name = "notes";
/// let serve = |number: u32| {
///     let server = Server::bind(&name).unwrap();
///     let shutdown = server.shutdown_handle();
///     let answer = move |call: parlour::calls::Call| drop(call.reply(&number.to_string()));
///     (shutdown, std::thread::spawn(move || server.serve_calls(answer)))
/// };
///
/// let session = CallSession::new(&name)?;
/// for number in 1..=2 {
///     let (shutdown, serving) = serve(number);
///     let answer = session.call_timeout("who is there?", Duration::from_secs(5))?;
///     assert_eq!(answer, number.to_string().as_bytes());
///     shutdown.shutdown();
///     serving.join().unwrap()?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CallSession {
    process: Process,
    /// The name in quotes, for error texts.
    object: String,
    #[cfg(feature = "serde")]
    message_max: usize,
    lines: ForkMutex<Lines>,
}

impl ConnectOptions {
    /// Creates a session of calls with the server of this name, with these options. Does not connect. See
    /// [`CallSession::new`].
    ///
    /// The options hold for each connection, except for [`wait_for_server`](ConnectOptions::wait_for_server): a session
    /// waits as long as the timeouts of its calls allow.
    ///
    /// # Errors
    ///
    /// Those of [`session`](ConnectOptions::session).
    pub fn call_session(&self, address: impl AsRef<str>, reconnect: &Reconnect) -> Result<CallSession> {
        let reconnecting = Reconnecting::new(address.as_ref(), self, reconnect)?;
        Ok(CallSession {
            process: Process::current(),
            object: reconnecting.object().to_owned(),
            #[cfg(feature = "serde")]
            message_max: self.message_max,
            lines: ForkMutex::new(Succession::new(Box::new(Dialer::new(reconnecting)), CallerOptions::new().limits())),
        })
    }
}

impl CallSession {
    /// Creates a session of calls with the server of this name, with the defaults of [`ConnectOptions`] and
    /// [`Reconnect`]. Does not connect.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`]: the address is malformed.
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().call_session(address, &Reconnect::default())
    }

    /// Sets the limits on what is kept for the callers of this session.
    #[must_use]
    pub fn options(self, options: &CallerOptions) -> Self {
        if let Some(mut lines) = self.lines.lock() {
            lines.set_limits(options.limits());
        }
        self
    }

    /// Sets a function that is called after each connect, including the first one, before other calls are made. It can
    /// log in, or subscribe again, with the [`Caller`] that it gets. It must not use the session, which waits for it.
    ///
    /// If it fails, the connection is closed. An error of the kind `Disconnected`, `Truncated`, `Lost`, `TimedOut`,
    /// `Busy` or `NoServer` means that the server is not ready, and the session tries again, after a pause. Any other
    /// error, such as [`CallFailed`](ErrorKind::CallFailed), is returned by the calls that wait for the connection. An
    /// `io::Error` of the caller becomes an error of the kind that [`io::ErrorKind`] suggests, and is its source.
    ///
    /// The function runs in one of the threads that call. The timeouts of calls do not interrupt it: use
    /// [`call_timeout`](Caller::call_timeout) in it.
    ///
    /// # Panics
    ///
    /// A panic in the function propagates through the call that connects. The connection is then closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use parlour::CallSession;
    ///
    /// let notes = CallSession::new("notes")?.on_connect(|caller| {
    ///     caller.call_timeout("log in: alice", Duration::from_secs(5))?;
    ///     Ok(())
    /// });
    /// # drop(notes);
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[must_use]
    pub fn on_connect(self, hook: impl FnMut(&Caller) -> io::Result<()> + Send + 'static) -> Self {
        if let Some(mut lines) = self.lines.lock() {
            if let Some(dialer) = lines.dialer() {
                dialer.hook = Some(Box::new(hook));
            }
        }
        self
    }

    /// Connects if there is no connection. Waits for a server without a time limit. The other calls do this by
    /// themselves.
    ///
    /// # Errors
    ///
    /// Those of [`Session::connect`](crate::Session::connect), and those of the function after connecting.
    pub fn connect(&self) -> Result<()> {
        self.line(Deadline::NEVER).map(drop)
    }

    /// Connects as [`connect`](CallSession::connect) does, and gives up after `timeout`. The next call goes on where
    /// this one ended.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](CallSession::connect), and [`ErrorKind::TimedOut`].
    pub fn connect_timeout(&self, timeout: Duration) -> Result<()> {
        self.line(Deadline::after(timeout)).map(drop)
    }

    /// Sends a request, and returns the answer. Blocks until it arrives. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Lost`]: the server has gone. It may have executed the call. The next call connects again. If the
    ///   server is ending and has not begun the call, the next server gets the request instead.
    /// - Those of [`connect`](CallSession::connect).
    /// - Those of [`Caller::call`], except `Disconnected` and `Truncated`.
    pub fn call<'a>(&self, request: impl Into<Payload<'a>>) -> Result<Message> {
        self.call_until(&request.into(), Deadline::NEVER)
    }

    /// Sends a request, and returns the answer. Gives up after `timeout`, which includes connecting.
    ///
    /// # Errors
    ///
    /// Those of [`call`](CallSession::call), and [`ErrorKind::TimedOut`]. The text says whether the server may have
    /// executed the call.
    pub fn call_timeout<'a>(&self, request: impl Into<Payload<'a>>, timeout: Duration) -> Result<Message> {
        self.call_until(&request.into(), Deadline::after(timeout))
    }

    fn call_until(&self, request: &Payload<'_>, deadline: Deadline) -> Result<Message> {
        loop {
            let call = self.begin(Shape::One, request, deadline)?;
            let line = Arc::clone(call.line());
            match call.reply(deadline) {
                // The server has not begun the call, and asks this client to leave. The next server gets the request.
                Err(error) if error.kind() == ErrorKind::Busy && line.is_over()? => {}
                answered => return answered,
            }
        }
    }

    /// Sends a request, and returns an iterator over the answers of the server. Blocks until the request is sent.
    ///
    /// If the server goes before the last answer, the last item is an error of the kind [`Lost`](ErrorKind::Lost).
    ///
    /// # Errors
    ///
    /// Those of [`call`](CallSession::call) that concern the request. The others are items of the stream.
    pub fn call_stream<'a>(&self, request: impl Into<Payload<'a>>) -> Result<CallStream> {
        Ok(self.begin(Shape::Many, &request.into(), Deadline::NEVER)?.into())
    }

    /// Sends a request as [`call_stream`](CallSession::call_stream) does, and gives up sending after `timeout`, which
    /// includes connecting.
    ///
    /// # Errors
    ///
    /// Those of [`call_stream`](CallSession::call_stream), and [`ErrorKind::TimedOut`]: nothing was sent.
    pub fn call_stream_timeout<'a>(&self, request: impl Into<Payload<'a>>, timeout: Duration) -> Result<CallStream> {
        Ok(self.begin(Shape::Many, &request.into(), Deadline::after(timeout))?.into())
    }

    /// Opens a call over the present connection, or over the next one if that has ended before the request was sent.
    fn begin(&self, shape: Shape, request: &Payload<'_>, deadline: Deadline) -> Result<OpenCall<Arc<Line>>> {
        loop {
            let Numbered { number, line } = self.line(deadline)?;
            line.look_around()?;
            let error = match line.is_over()? {
                true => None,
                false => match OpenCall::begin(Arc::clone(&line), shape, request, deadline)? {
                    Begun::Open(call) => return Ok(call),
                    Begun::Over(error) => Some(error),
                },
            };
            self.retire(number, &line)?;
            match error {
                Some(error) if !may_pass(error.kind()) => return Err(error),
                _ => {}
            }
        }
    }

    /// Returns the next message that a server has pushed. Blocks until there is one. Connects if there is no
    /// connection.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Lost`]: a connection has ended, and pushed messages may have been missed. This is returned once
    ///   for each connection, after the messages that had arrived over it. A program that follows a state asks for it
    ///   again. If nobody takes messages while several connections end, those between the first and the last are
    ///   reported together.
    /// - Those of [`connect`](CallSession::connect).
    /// - [`ErrorKind::Protocol`]: the server does not answer calls, or violated the protocol.
    pub fn next_push(&self) -> Result<Message> {
        self.push_until(Deadline::NEVER)
    }

    /// Returns the next pushed message as [`next_push`](CallSession::next_push) does, and gives up after `timeout`,
    /// which includes connecting.
    ///
    /// # Errors
    ///
    /// Those of [`next_push`](CallSession::next_push), and [`ErrorKind::TimedOut`].
    pub fn next_push_timeout(&self, timeout: Duration) -> Result<Message> {
        self.push_until(Deadline::after(timeout))
    }

    /// Returns the next pushed message as [`next_push`](CallSession::next_push) does, without blocking. Without a
    /// connection, advances connecting as far as that is possible without waiting; only the function
    /// [after connecting](CallSession::on_connect) may block.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no pushed message has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`next_push`](CallSession::next_push).
    pub fn try_next_push(&self) -> Result<Message, TryRecvError> {
        self.push_until(Deadline::now()).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => TryRecvError::Empty,
            _ => TryRecvError::Failed(error),
        })
    }

    fn push_until(&self, deadline: Deadline) -> Result<Message> {
        loop {
            match self.lines()?.earlier() {
                Some(Earlier::Push(message)) => return Ok(message),
                Some(Earlier::Gap) => return Err(gap(&self.object)),
                None => {}
            }
            let Numbered { number, line } = self.line(deadline)?;
            // A connection that is left may have messages.
            let take = |exchange: &mut Exchange| match exchange.take_push() {
                Some(message) => Some(Some(message)),
                None => exchange.is_leaving().then_some(None),
            };
            let error = match line.wait(Want::Push, deadline, false, take) {
                Ok(Waited::Ready(Some(message))) => return Ok(message),
                Ok(Waited::TimedOut) => {
                    let detail = "no pushed message arrived before the deadline";
                    return Err(Error::new(ErrorKind::TimedOut, Operation::Receive, self.object.as_str(), detail));
                }
                Ok(Waited::Ready(None) | Waited::Closed) => None,
                Err(error) => Some(error),
            };
            self.retire(number, &line)?;
            match error {
                Some(error) if !may_pass(error.kind()) => return Err(error),
                _ => {}
            }
        }
    }

    /// Returns the counts of this session, over all of its connections. They are zeros in a forked child.
    #[must_use]
    pub fn stats(&self) -> CallerStats {
        let Ok(lines) = self.lines() else { return CallerStats::default() };
        lines.stats(|line| Some(CallerStats::of(&line.state().ok()?.exchange)))
    }

    /// Returns the identity of the server, or `None` if there is no connection.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        Some(self.lines().ok()?.line()?.common().peer.clone())
    }

    /// Returns the transport of the connection, or `None` if there is none.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Some(self.lines().ok()?.line()?.common().transport)
    }

    /// Returns the length of the longest message, in bytes.
    #[cfg(feature = "serde")]
    pub(super) fn message_max(&self) -> usize {
        self.message_max
    }

    pub(super) fn object(&self) -> &str {
        &self.object
    }

    pub(super) fn lines(&self) -> Result<Guard<'_, Lines>> {
        let lines = if self.process.is_before_fork() { None } else { self.lines.lock() };
        lines.ok_or_else(|| forked(&self.object))
    }

    pub(super) fn retire(&self, number: u64, line: &Line) -> Result<()> {
        let mut lines = self.lines()?;
        lines.retire(number, || line.state().map(|mut state| state.exchange.retire()).unwrap_or_default());
        Ok(())
    }

    /// Returns the present connection. Connects if there is none, or waits for the thread that does.
    fn line(&self, deadline: Deadline) -> Result<Numbered<Arc<Line>>> {
        let failures = self.lines()?.failures();
        let mut place = None;
        loop {
            let mut lines = self.lines()?;
            if let Some(place) = place.take() {
                lines.end_wait(place);
            }
            match lines.turn(failures) {
                Turn::Ready(line) => return Ok(line),
                Turn::Dial(dialer) => {
                    let limits = lines.limits();
                    drop(lines);
                    let dialing = Dialing { session: self, dialer: Some(dialer), limits };
                    return dialing.run(deadline);
                }
                Turn::Failed(error) => {
                    wake(lines.successor());
                    return Err(error);
                }
                Turn::Wait if deadline.is_over() => return Err(no_connection(&self.object, None)),
                Turn::Wait => place = Some(lines.wait(waker_of_this_thread())),
            }
            drop(lines);
            match deadline.left() {
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }
}

impl fmt::Debug for CallSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSession").field("server", &self.object).finish_non_exhaustive()
    }
}

pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The work of the thread that connects. The dialer goes back whatever ends it.
struct Dialing<'a> {
    session: &'a CallSession,
    dialer: Option<Box<Dialer<Hook>>>,
    limits: Limits,
}

impl Dialing<'_> {
    fn run(mut self, deadline: Deadline) -> Result<Numbered<Arc<Line>>> {
        let connected = self.connect(deadline);
        let Some(dialer) = self.dialer.take() else { return Err(no_connection(&self.session.object, None)) };
        let mut woken = Vec::new();
        let mut lines = self.session.lines()?;
        let outcome = match connected {
            Ok(line) => Ok(lines.connected(dialer, line, &mut woken)),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                lines.gave_up(dialer, &mut woken);
                Err(error)
            }
            Err(error) => {
                lines.failed(dialer, &error, &mut woken);
                Err(error)
            }
        };
        drop(lines);
        wake(woken);
        outcome
    }

    fn connect(&mut self, deadline: Deadline) -> Result<Arc<Line>> {
        let Some(Dialer { reconnecting, hook, .. }) = self.dialer.as_deref_mut() else {
            return Err(no_connection(&self.session.object, None));
        };
        loop {
            match reconnecting.step()? {
                Some(connection) => match welcome(connection, self.limits, hook) {
                    Ok(line) => return Ok(line),
                    Err(error) => reconnecting.hook_failed(error)?,
                },
                None if deadline.is_over() => return Err(reconnecting.timed_out()),
                None => {
                    let slept = reconnecting.wait_set(deadline).sleep();
                    slept.map_err(|error| reconnecting.failed(error))?;
                }
            }
        }
    }
}

/// Greets the server, and calls the hook.
fn welcome(connection: Connection, limits: Limits, hook: &mut Option<Hook>) -> Result<Arc<Line>> {
    let line = Arc::new(Line::new(connection, limits, User::Session)?);
    if let Some(hook) = hook {
        let caller = Caller { line: Arc::clone(&line) };
        hook(&caller).map_err(|error| error_of_hook(error, line.common().object().as_str()))?;
    }
    line.state()?.exchange.settle();
    Ok(line)
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        let Some(dialer) = self.dialer.take() else { return };
        let mut woken = Vec::new();
        if let Ok(mut lines) = self.session.lines() {
            lines.gave_up(dialer, &mut woken);
        }
        wake(woken);
    }
}
