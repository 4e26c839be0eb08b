//! Clients that outlive servers, for tasks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::task::coop::poll_proceed;

use super::connection::Connection;
use super::registration::registration_error;
use super::waiting::Waiting;
use crate::backend::fault::Fault;
use crate::error::{Error, Operation, Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::payload::Payload;
use crate::session::reconnect::Reconnect;
use crate::session::state::{State, end_of_stream, ends_receiving, ends_sending, error_of_hook};
use crate::wait::Deadline;

type Welcome = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;
type Hook = Box<dyn FnMut(Connection) -> Welcome + Send>;

/// A client that connects again when its server has gone, and reports what may be lost, for tasks.
///
/// [`crate::Session`] is the blocking one, and has the rules: the end of a connection is reported once, with
/// [`Error::loss`]; the next call connects again; nothing is sent twice by itself. There are no variants with a
/// timeout: wrap a call in `tokio::time::timeout`. Every method is cancel-safe.
///
/// ```no_run
/// use parlour::ErrorKind;
/// use parlour::tokio::Session;
///
/// # async fn example() -> parlour::Result<()> {
/// let mut session = Session::new("notes")?.on_connect(|mut connection| async move {
///     connection.send("subscribe").await?;
///     Ok(connection)
/// });
/// loop {
///     match session.recv().await {
///         Ok(note) => println!("{note:?}"),
///         Err(error) if error.kind() == ErrorKind::Lost => eprintln!("{error}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # }
/// ```
pub struct Session {
    connection: Option<Connection>,
    /// The hook that runs for a new connection. It goes on with the next call if the future of this one is dropped.
    welcome: Option<Welcome>,
    /// The result of [`Connection::messages_taken`] when the hook had ended.
    taken_by_hook: u64,
    state: State,
    hook: Option<Hook>,
}

impl Session {
    /// Creates a session with the server of this name, with the defaults of [`ConnectOptions`] and [`Reconnect`]. Does
    /// not connect.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Session::new`].
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().session_tokio(address, &Reconnect::default())
    }

    /// Sets a function that is called after each connect, including the first one, before the connection is used. It
    /// takes the connection and gives it back. If it fails, it drops the connection. See
    /// [`crate::Session::on_connect`] for the effects of its errors.
    ///
    /// # Cancel safety
    ///
    /// If the future of a call is dropped while the function runs, the next call goes on with it. It is called once for
    /// each connection.
    ///
    /// # Panics
    ///
    /// A panic in the function propagates through the call that connects. The connection is then closed.
    #[must_use]
    pub fn on_connect<F>(mut self, mut hook: impl FnMut(Connection) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<Connection>> + Send + 'static,
    {
        self.hook = Some(Box::new(move |connection| Box::pin(hook(connection))));
        self
    }

    /// Connects if there is no connection. Waits for a server. The other calls do this by themselves.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Session::connect`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the next call goes on where this one ended.
    pub async fn connect(&mut self) -> Result<&Connection> {
        self.ready().await.map(|connection| &*connection)
    }

    /// Returns the connection, if there is one: for its peer, its transport, and
    /// [`messages_taken`](Connection::messages_taken).
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Sends one message as [`Connection::send`] does. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Session::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the message is sent or nothing of it is, as with
    /// [`Connection::send`]. A [`Loss`](crate::Loss) counts it if it was.
    pub fn send<'a>(&'a mut self, payload: impl Into<Payload<'a>>) -> impl Future<Output = Result<()>> + Send {
        let payload = payload.into();
        async move {
            let sent = match self.ready_to_send().await? {
                Ok(connection) => connection.send(payload).await,
                Err(error) => Err(error),
            };
            self.after_send(sent)
        }
    }

    /// Sends one message without waiting, as [`Connection::try_send`] does.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent: the channel is full, or the session has
    /// no connection. It does not connect by itself; call [`connect`](Session::connect). [`TrySendError::Failed`]
    /// carries the errors of [`send`](Session::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        let payload = payload.into();
        let Some(connection) = &mut self.connection else { return Err(TrySendError::Full(payload)) };
        match connection.try_send(payload) {
            Err(TrySendError::Failed(error)) => Ok(self.after_send(Err(error))?),
            other => other,
        }
    }

    /// Buffers a message as [`Connection::feed`] does. Connects first if there is no connection. The message counts as
    /// sent, and is lost with the connection.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Session::send).
    ///
    /// # Cancel safety
    ///
    /// Same as [`send`](Session::send).
    pub fn feed<'a>(&'a mut self, payload: impl Into<Payload<'a>>) -> impl Future<Output = Result<()>> + Send {
        let payload = payload.into();
        async move {
            let fed = match self.ready_to_send().await? {
                Ok(connection) => connection.feed(payload).await,
                Err(error) => Err(error),
            };
            self.after_send(fed)
        }
    }

    /// Writes all buffered messages. Does nothing if there is no connection, because nothing is buffered then.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Session::flush`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, what was not written stays buffered.
    pub async fn flush(&mut self) -> Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let flushed = connection.flush().await;
        self.after_send(flushed)
    }

    /// Receives one message as [`Connection::recv`] does. Connects first if there is no connection. Never returns a
    /// message of an earlier connection.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Session::recv`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing was received. A partially received message is kept. The
    /// end of a connection is reported by the call that completes.
    pub async fn recv(&mut self) -> Result<Message> {
        let received = self.ready().await?.recv().await;
        self.after_recv(received)
    }

    /// Receives one message without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived, or the session has no connection. It does not connect by
    /// itself; call [`connect`](Session::connect). [`TryRecvError::Failed`] carries the errors of
    /// [`recv`](Session::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        let Some(connection) = &mut self.connection else { return Err(TryRecvError::Empty) };
        match connection.try_recv() {
            Err(TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(TryRecvError::Failed(error)) => Ok(self.after_recv(Err(error))?),
            Ok(message) => Ok(self.after_recv(Ok(message))?),
        }
    }

    /// Takes the messages of the server that had arrived when a send found the connection ended. See
    /// [`crate::Session::take_unreceived`].
    pub fn take_unreceived(&mut self) -> Vec<Message> {
        self.state.take_unreceived()
    }

    /// Ends the session and returns its connection, if there is one. See [`crate::Session::into_connection`].
    #[must_use]
    pub fn into_connection(self) -> Option<Connection> {
        self.connection
    }

    /// Writes all buffered messages, and ends the session. Does nothing if there is no connection.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Session::flush).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the session is ended as if it were dropped.
    pub async fn close(mut self) -> Result<()> {
        self.flush().await
    }

    /// Returns the connection for a send, or the error if the server has gone.
    async fn ready_to_send(&mut self) -> Result<Result<&mut Connection>> {
        self.ready().await?;
        let Self { connection: Some(connection), state, .. } = self else {
            return Err(self.state.reconnecting.timed_out());
        };
        Ok(match state.has_hung_up(connection.transport(), connection.recv_fd()) {
            true => Err(connection.common().fault(Operation::Send, Fault::Disconnected)),
            false => Ok(connection),
        })
    }

    /// Converts the outcome of a send, and closes a connection that cannot send any more.
    fn after_send<T>(&mut self, sent: Result<T>) -> Result<T> {
        let Err(error) = sent else { return sent };
        let Some(connection) = &mut self.connection else { return Err(error) };
        if !ends_sending(&error, || connection.blocking_sender().outgoing().refusal().is_some()) {
            return Err(error);
        }
        let unread = self.state.keep_arrived(|| connection.try_recv());
        Err(self.end(error, unread))
    }

    /// Converts the outcome of a receive, and closes a connection that cannot receive any more.
    fn after_recv(&mut self, received: Result<Option<Message>>) -> Result<Message> {
        let Some(connection) = &self.connection else { return Err(self.state.reconnecting.timed_out()) };
        let error = match received {
            Ok(Some(message)) => {
                self.state.account.set_sent(connection.messages_taken() - self.taken_by_hook);
                self.state.account.received();
                return Ok(message);
            }
            Ok(None) => end_of_stream(connection.common()),
            Err(error) => error,
        };
        match ends_receiving(&error) {
            true => Err(self.end(error, false)),
            false => Err(error),
        }
    }

    /// Closes the connection, which has ended because of `cause`, and returns the error that reports it.
    fn end(&mut self, cause: Error, mut unread: bool) -> Error {
        let unwritten = match self.connection.take() {
            Some(mut connection) => {
                self.state.account.set_sent(connection.messages_taken() - self.taken_by_hook);
                let unwritten = connection.try_flush().is_err();
                unread |= connection.blocking_sender().outgoing().has_unread();
                unwritten
            }
            None => false,
        };
        self.state.ended(cause, unread, unwritten)
    }

    /// Connects if there is no connection. Each step changes the state of the session only where it completes.
    async fn ready(&mut self) -> Result<&mut Connection> {
        while self.connection.is_none() {
            // A task that connects in a loop gives way to other tasks.
            poll_fn(poll_proceed).await.made_progress();
            if self.welcome.is_some() {
                match self.welcomed().await {
                    Ok(connection) => self.connected(connection),
                    Err(error) => {
                        let error = error_of_hook(error, self.state.reconnecting.object());
                        self.state.reconnecting.hook_failed(error)?;
                    }
                }
                continue;
            }
            let reconnecting = &mut self.state.reconnecting;
            match reconnecting.step()? {
                Some(connection) => {
                    let connection = Connection::from_blocking(connection)?;
                    match &mut self.hook {
                        Some(hook) => self.welcome = Some(hook(connection)),
                        None => self.connected(connection),
                    }
                }
                None => {
                    let waiting = Waiting::new(&reconnecting.wait_set(Deadline::NEVER))
                        .map_err(|error| registration_error(Operation::Connect, reconnecting.object(), error))?;
                    waiting.wait().await.map_err(|error| reconnecting.failed(error))?;
                }
            }
        }
        self.connection.as_mut().ok_or_else(|| self.state.reconnecting.timed_out())
    }

    /// Waits for the hook. It is dropped if it panics.
    async fn welcomed(&mut self) -> io::Result<Connection> {
        poll_fn(|cx| {
            let Some(mut welcome) = self.welcome.take() else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let outcome = welcome.as_mut().poll(cx);
            if outcome.is_pending() {
                self.welcome = Some(welcome);
            }
            outcome
        })
        .await
    }

    fn connected(&mut self, connection: Connection) {
        self.state.connected();
        self.taken_by_hook = connection.messages_taken();
        self.connection = Some(connection);
    }
}

impl ConnectOptions {
    /// Creates a session for tasks with the server of this name, with these options. Does not connect. See
    /// [`session`](ConnectOptions::session).
    ///
    /// # Errors
    ///
    /// Those of [`session`](ConnectOptions::session).
    pub fn session_tokio(&self, address: impl AsRef<str>, reconnect: &Reconnect) -> Result<Session> {
        let state = State::new(address.as_ref(), self, reconnect)?;
        Ok(Session { connection: None, welcome: None, taken_by_hook: 0, state, hook: None })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.state.reconnecting.object())
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
