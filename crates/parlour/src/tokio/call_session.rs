//! Calls of tasks to servers that come and go.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::poll_proceed;

use super::caller::{CallStream, Caller, Open, OpenCall};
use super::caller_task::State;
use super::connection::Connection;
use super::registration::registration_error;
use super::waiting::Waiting;
use crate::calls::exchange::{Limits, Shape, Want};
use crate::calls::succession::{Earlier, Numbered, Place, Succession, Turn, forked, gap};
use crate::calls::{Begun, CallerOptions, CallerStats, User};
#[cfg(feature = "serde")]
use crate::endpoint::Common;
use crate::error::{ErrorKind, Operation, Result, TryRecvError};
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

type Welcome = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// The function after connecting.
struct Hook {
    function: Box<dyn FnMut(Caller) -> Welcome + Send>,
    /// The connection for which it runs. It goes on with the next call if the future of this one is dropped.
    running: Option<(Arc<Open>, Welcome)>,
}

type Lines = Succession<Arc<Open>, Hook>;

/// A [`Caller`] for tasks that connects again when its server has gone. [`crate::CallSession`] is the blocking one, and
/// has the rules.
///
/// Any number of tasks may call. One of them connects, and the others wait for it. There are no variants with a
/// timeout: wrap a call in `tokio::time::timeout`.
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// use parlour::ErrorKind;
/// use parlour::tokio::CallSession;
/// use tokio::time::timeout;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let notes = CallSession::new("notes")?.on_connect(|caller| async move {
///     caller.call("log in: alice").await?;
///     Ok(())
/// });
/// match timeout(Duration::from_secs(5), notes.call("buy milk")).await? {
///     Ok(answer) => println!("{answer:?}"),
///     Err(error) if error.kind() == ErrorKind::Lost => println!("the server may have noted it"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
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
    /// Creates a session of calls for tasks with the server of this name, with these options. Does not connect. See
    /// [`call_session`](ConnectOptions::call_session).
    ///
    /// # Errors
    ///
    /// Those of [`session`](ConnectOptions::session).
    pub fn call_session_tokio(&self, address: impl AsRef<str>, reconnect: &Reconnect) -> Result<CallSession> {
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
    /// Those of [`crate::CallSession::new`].
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().call_session_tokio(address, &Reconnect::default())
    }

    /// Sets the limits on what is kept for the callers of this session.
    #[must_use]
    pub fn options(self, options: &CallerOptions) -> Self {
        if let Some(mut lines) = self.lines.lock() {
            lines.set_limits(options.limits());
        }
        self
    }

    /// Sets a function that is called after each connect, including the first one, before other calls are made. See
    /// [`crate::CallSession::on_connect`] for the effects of its errors.
    ///
    /// # Cancel safety
    ///
    /// If the future of a call is dropped while the function runs, another call goes on with it. It is called once for
    /// each connection.
    ///
    /// # Panics
    ///
    /// A panic in the function propagates through the call that connects. The connection is then closed.
    #[must_use]
    pub fn on_connect<F>(self, mut hook: impl FnMut(Caller) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        if let Some(mut lines) = self.lines.lock() {
            if let Some(dialer) = lines.dialer() {
                dialer.hook = Some(Hook { function: Box::new(move |caller| Box::pin(hook(caller))), running: None });
            }
        }
        self
    }

    /// Connects if there is no connection. Waits for a server. The other calls do this by themselves.
    ///
    /// # Errors
    ///
    /// Those of [`crate::CallSession::connect`], and [`ErrorKind::Unsupported`] outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, another call goes on where this one ended.
    pub async fn connect(&self) -> Result<()> {
        self.line().await.map(drop)
    }

    /// Sends a request, and returns the answer. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// Those of [`crate::CallSession::call`]. A request that was queued when the server had gone counts as sent.
    ///
    /// # Cancel safety
    ///
    /// That of [`Caller::call`].
    pub async fn call<'a>(&self, request: impl Into<Payload<'a>>) -> Result<Message> {
        let request = request.into();
        loop {
            let call = self.begin(Shape::One, &request).await?;
            let line = Arc::clone(call.line());
            match call.reply().await {
                // The server has not begun the call, and asks this client to leave. The next server gets the request.
                Err(error) if error.kind() == ErrorKind::Busy && line.0.is_over()? => {}
                answered => return answered,
            }
        }
    }

    /// Sends a request, and returns a stream of the answers. See [`crate::CallSession::call_stream`].
    ///
    /// # Errors
    ///
    /// Those of [`call`](CallSession::call) that concern the request. The others are items of the stream.
    ///
    /// # Cancel safety
    ///
    /// That of [`Caller::call`].
    pub async fn call_stream<'a>(&self, request: impl Into<Payload<'a>>) -> Result<CallStream> {
        Ok(self.begin(Shape::Many, &request.into()).await?.into())
    }

    /// Sends a request. Returns a stream of the answers, and the connection for error texts.
    #[cfg(feature = "serde")]
    pub(super) async fn stream(&self, request: &[u8]) -> Result<(CallStream, Arc<Common>)> {
        let call = self.begin(Shape::Many, &request.into()).await?;
        let common = Arc::clone(call.shared().common());
        Ok((call.into(), common))
    }

    /// Returns the length of the longest message, in bytes.
    #[cfg(feature = "serde")]
    pub(super) fn message_max(&self) -> usize {
        self.message_max
    }

    #[cfg(feature = "serde")]
    pub(super) fn object(&self) -> String {
        self.object.clone()
    }

    async fn begin(&self, shape: Shape, request: &Payload<'_>) -> Result<OpenCall> {
        loop {
            let Numbered { number, line } = self.line().await?;
            let error = match OpenCall::begin(Arc::clone(&line), shape, request).await? {
                Begun::Open(call) => return Ok(call),
                Begun::Over(error) => error,
            };
            self.retire(number, &line)?;
            if !may_pass(error.kind()) {
                return Err(error);
            }
        }
    }

    /// Returns the next message that a server has pushed. Connects if there is no connection. See
    /// [`crate::CallSession::next_push`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::CallSession::next_push`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no message is lost, and the end of a connection is reported by
    /// another call.
    pub async fn next_push(&self) -> Result<Message> {
        loop {
            if let Some(pushed) = self.earlier()? {
                return pushed;
            }
            let Numbered { number, line } = self.line().await?;
            let error = match poll_fn(|cx| line.0.poll_until(cx, Want::Push, take_push)).await {
                Ok(Some(Some(message))) => return Ok(message),
                Ok(Some(None) | None) => None,
                Err(error) => Some(error),
            };
            self.retire(number, &line)?;
            match error {
                Some(error) if !may_pass(error.kind()) => return Err(error),
                _ => {}
            }
        }
    }

    /// Returns the next pushed message without waiting. Does not connect by itself.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no pushed message has arrived, or the session has no connection.
    /// [`TryRecvError::Failed`] carries the errors of [`next_push`](CallSession::next_push).
    pub fn try_next_push(&self) -> Result<Message, TryRecvError> {
        loop {
            if let Some(pushed) = self.earlier()? {
                return Ok(pushed?);
            }
            let Some(Numbered { number, line }) = self.lines()?.present() else { return Err(TryRecvError::Empty) };
            let mut nobody = Context::from_waker(Waker::noop());
            let error = match line.0.poll_until(&mut nobody, Want::Push, take_push) {
                Poll::Pending => return Err(TryRecvError::Empty),
                Poll::Ready(Ok(Some(Some(message)))) => return Ok(message),
                Poll::Ready(Ok(Some(None) | None)) => None,
                Poll::Ready(Err(error)) => Some(error),
            };
            self.retire(number, &line)?;
            match error {
                Some(error) if !may_pass(error.kind()) => return Err(error.into()),
                _ => {}
            }
        }
    }

    /// Returns what comes before the pushed messages of the present connection.
    fn earlier(&self) -> Result<Option<Result<Message>>> {
        Ok(self.lines()?.earlier().map(|earlier| match earlier {
            Earlier::Push(message) => Ok(message),
            Earlier::Gap => Err(gap(&self.object)),
        }))
    }

    /// Returns the counts of this session, over all of its connections. They are zeros in a forked child.
    #[must_use]
    pub fn stats(&self) -> CallerStats {
        let Ok(lines) = self.lines() else { return CallerStats::default() };
        lines.stats(|line| Some(CallerStats::of(&line.0.state().ok()?.exchange)))
    }

    /// Returns the identity of the server, or `None` if there is no connection.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        Some(self.lines().ok()?.line()?.0.common().peer.clone())
    }

    /// Returns the transport of the connection, or `None` if there is none.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Some(self.lines().ok()?.line()?.0.common().transport)
    }

    fn lines(&self) -> Result<Guard<'_, Lines>> {
        let lines = if self.process.is_before_fork() { None } else { self.lines.lock() };
        lines.ok_or_else(|| forked(&self.object))
    }

    fn retire(&self, number: u64, line: &Open) -> Result<()> {
        let mut lines = self.lines()?;
        lines.retire(number, || line.0.state().map(|mut state| state.exchange.retire()).unwrap_or_default());
        Ok(())
    }

    /// Returns the present connection. Connects if there is none, or waits for the task that does.
    async fn line(&self) -> Result<Numbered<Arc<Open>>> {
        let failures = self.lines()?.failures();
        let mut waiter = Waiter { session: self, place: None };
        let turn = poll_fn(|cx| waiter.poll(cx, failures)).await;
        drop(waiter);
        match turn? {
            Turn::Ready(line) => Ok(line),
            Turn::Dial(dialer) => {
                let limits = self.lines()?.limits();
                Dialing { session: self, dialer: Some(dialer), limits }.run().await
            }
            Turn::Failed(error) => Err(error),
            Turn::Wait => Err(no_connection(&self.object, None)),
        }
    }
}

impl fmt::Debug for CallSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSession").field("server", &self.object).finish_non_exhaustive()
    }
}

/// Takes a pushed message, or `None` from a connection that is to be left.
fn take_push(state: &mut State) -> Option<Option<Message>> {
    match state.exchange.take_push() {
        Some(message) => Some(Some(message)),
        None => state.exchange.is_leaving().then_some(None),
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// A task that waits for the one that connects. If its future is dropped, another one is woken in its place.
struct Waiter<'a> {
    session: &'a CallSession,
    place: Option<Place>,
}

impl Waiter<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, failures: u64) -> Poll<Result<Turn<Arc<Open>, Hook>>> {
        let mut lines = self.session.lines()?;
        if let Some(place) = self.place.take() {
            lines.end_wait(place);
        }
        match lines.turn(failures) {
            Turn::Wait => {
                self.place = Some(lines.wait(cx.waker().clone()));
                Poll::Pending
            }
            turn => Poll::Ready(Ok(turn)),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Ok(mut lines) = self.session.lines() else { return };
        if let Some(place) = self.place.take() {
            lines.end_wait(place);
        }
        let successor = lines.successor();
        drop(lines);
        wake(successor);
    }
}

/// The work of the task that connects. The dialer goes back whatever ends it.
struct Dialing<'a> {
    session: &'a CallSession,
    dialer: Option<Box<Dialer<Hook>>>,
    limits: Limits,
}

impl Dialing<'_> {
    async fn run(mut self) -> Result<Numbered<Arc<Open>>> {
        let connected = self.connect().await;
        let Some(dialer) = self.dialer.take() else { return Err(no_connection(&self.session.object, None)) };
        let mut woken = Vec::new();
        let mut lines = self.session.lines()?;
        let outcome = match connected {
            Ok(line) => Ok(lines.connected(dialer, line, &mut woken)),
            Err(error) => {
                lines.failed(dialer, &error, &mut woken);
                Err(error)
            }
        };
        drop(lines);
        wake(woken);
        outcome
    }

    async fn connect(&mut self) -> Result<Arc<Open>> {
        let Some(Dialer { reconnecting, hook, .. }) = self.dialer.as_deref_mut() else {
            return Err(no_connection(&self.session.object, None));
        };
        loop {
            // A task that connects in a loop gives way to other tasks.
            poll_fn(poll_proceed).await.made_progress();
            if let Some(hook) = hook.as_mut().filter(|hook| hook.running.is_some()) {
                match poll_fn(|cx| hook.poll(cx)).await {
                    Ok(line) => return settled(line),
                    Err(error) => reconnecting.hook_failed(error_of_hook(error, &self.session.object))?,
                }
                continue;
            }
            match reconnecting.step()? {
                Some(connection) => {
                    let line = Open::new(Connection::from_blocking(connection)?, self.limits, User::Session)?;
                    match hook {
                        Some(hook) => {
                            let caller = Caller { line: Arc::clone(&line) };
                            hook.running = Some((line, (hook.function)(caller)));
                        }
                        None => return settled(line),
                    }
                }
                None => {
                    let waiting = Waiting::new(&reconnecting.wait_set(Deadline::NEVER))
                        .map_err(|error| registration_error(Operation::Connect, reconnecting.object(), error))?;
                    waiting.wait().await.map_err(|error| reconnecting.failed(error))?;
                }
            }
        }
    }
}

fn settled(line: Arc<Open>) -> Result<Arc<Open>> {
    line.0.state()?.exchange.settle();
    Ok(line)
}

impl Hook {
    /// Polls the future that runs. It is dropped if it panics.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<Open>>> {
        let Some((line, mut welcome)) = self.running.take() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match welcome.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|()| line)),
            Poll::Pending => {
                self.running = Some((line, welcome));
                Poll::Pending
            }
        }
    }
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
