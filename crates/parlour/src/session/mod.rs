//! Clients that outlive servers.

pub(crate) mod account;
pub(crate) mod dialer;
mod polled;
pub(crate) mod reconnect;
pub(crate) mod reconnecting;
pub(crate) mod schedule;
pub(crate) mod state;

use std::fmt;
use std::io;
use std::time::Duration;

use self::reconnect::Reconnect;
use self::state::{State, end_of_stream, ends_receiving, ends_sending, error_of_hook};
use crate::backend::fault::Fault;
use crate::connection::Connection;
use crate::error::{Error, Operation, Result, TryRecvError, TrySendError};
use crate::message::Message;
use crate::options::ConnectOptions;
use crate::payload::Payload;
use crate::wait::Deadline;

type Hook = Box<dyn FnMut(&mut Connection) -> io::Result<()> + Send>;

/// A client that connects again when its server has gone, and reports what may be lost.
///
/// A session has the calls of a [`Connection`]. Each call connects first if there is no connection, and waits for a
/// server as long as its timeout allows. Creating a session makes no attempt to connect.
///
/// When the server has gone, the next call that uses the connection says so, once, with an error of the kind
/// [`ErrorKind::Lost`](crate::ErrorKind::Lost). Its [`loss`](Error::loss) tells how many messages may be lost. The
/// call after it connects again. The session sends no message twice: the caller decides what to send again.
///
/// ```no_run
/// use parlour::{ErrorKind, Session};
///
/// let mut session = Session::new("notes")?.on_connect(|connection| Ok(connection.send("subscribe")?));
/// loop {
///     match session.recv() {
///         Ok(note) => println!("{note:?}"),
///         Err(error) if error.kind() == ErrorKind::Lost => eprintln!("{error}"),
///         Err(error) => return Err(error),
///     }
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), parlour::Error>(())
/// ```
///
/// # The end of a connection
///
/// A connection of a session has ended when either direction has: the end of the stream, which
/// [`Connection::recv`] returns as `None`, is an error here. The kind of the error is `Lost` if the server closed,
/// died, ended in the middle of a message, or had no place for this client. Otherwise it is the kind that the
/// connection reports, such as `Refused` or `Protocol`. In each case [`Error::loss`] returns `Some`, and the session
/// has no connection until the next call.
///
/// A message is never split over two connections. What was buffered by [`feed`](Session::feed) is lost with the
/// connection and counts as sent. The message of the call that reports the end was not received by the server and does
/// not count. After errors without a loss, such as `TimedOut` or `MessageTooLong` of a send, the connection goes on.
///
/// Over `shm` a send looks for the end of the connection at most once per millisecond; messages that it sent meanwhile
/// count.
///
/// # Reconnecting
///
/// After a connection that brought a message or lived for a second, the first attempt is made after 5 to 10
/// milliseconds. If it fails, the session waits. The pause doubles from failure to failure, and has a random part
/// ([`Reconnect`]). It ends early when a server takes the name (inotify(7)): the next attempt follows after a random
/// time of up to 51 milliseconds, which grows with the number of attempts. Two attempts that reach a server begin at
/// least 50 milliseconds apart, whatever the server does.
///
/// | outcome of an attempt | effect |
/// |---|---|
/// | no server has the name, or it is busy or does not answer | the session tries again |
/// | an unsafe directory among several bases | the session tries again; another user may have created it |
/// | `Denied`, `Refused`, `UnsafeDirectory` of the only base, and all other kinds | the call returns the error |
///
/// After an error that ends a call, the next call tries again, after the pause. The option `timeout` of
/// [`ConnectOptions`] limits each attempt at a server that exists. Its `wait_for_server` has no effect.
///
/// # Fork
///
/// After fork(2) both processes share the connection, as with a [`Connection`]. When it has ended, each connects for
/// itself.
pub struct Session {
    connection: Option<Connection>,
    state: State,
    hook: Option<Hook>,
}

impl Session {
    /// Creates a session with the server of this name, with the defaults of [`ConnectOptions`] and [`Reconnect`]. Does
    /// not connect.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    pub fn new(address: impl AsRef<str>) -> Result<Self> {
        ConnectOptions::default().session(address, &Reconnect::default())
    }

    /// Sets a function that is called after each connect, including the first one, before the connection is used. It
    /// can log in, or subscribe again. Messages that it sends and receives do not count in a [`Loss`](crate::Loss).
    ///
    /// If it fails, the connection is closed. An error of the kind `Disconnected`, `Truncated`, `TimedOut`, `Busy` or
    /// `NoServer` means that the server is not ready, and the session tries again, after a pause. Any other error is
    /// returned by the call that connected. An `io::Error` of the caller becomes an error of the kind that
    /// [`io::ErrorKind`] suggests, usually [`ErrorKind::Io`](crate::ErrorKind::Io), and is its source.
    ///
    /// The timeout of a call does not interrupt the function. Use the functions with a timeout in it.
    ///
    /// # Panics
    ///
    /// A panic in the function propagates through the call that connects. The connection is then closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use std::time::Duration;
    /// use parlour::Session;
    ///
    /// let session = Session::new("notes")?.on_connect(|connection| {
    ///     connection.send("log in: alice")?;
    ///     match connection.recv_timeout(Duration::from_secs(5))? {
    ///         Some(answer) if answer == b"welcome" => Ok(()),
    ///         _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    ///     }
    /// });
    /// # drop(session);
    /// # Ok::<(), parlour::Error>(())
    /// ```
    #[must_use]
    pub fn on_connect(mut self, hook: impl FnMut(&mut Connection) -> io::Result<()> + Send + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Connects if there is no connection. Waits for a server without a time limit. The other calls do this by
    /// themselves.
    ///
    /// This does not find out whether the server of an existing connection has gone.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::connect`] that waiting does not resolve (see [Reconnecting](Session#reconnecting)), and
    /// those of the hook.
    pub fn connect(&mut self) -> Result<&Connection> {
        self.ready(Deadline::NEVER).map(|connection| &*connection)
    }

    /// Connects as [`connect`](Session::connect) does, and gives up after `timeout`. The next call goes on where this
    /// one ended.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Session::connect), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn connect_timeout(&mut self, timeout: Duration) -> Result<&Connection> {
        self.ready(Deadline::after(timeout)).map(|connection| &*connection)
    }

    /// Returns the connection, if there is one: for its peer, its transport, and its descriptors for poll(2).
    #[must_use]
    pub fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Sends one message as [`Connection::send`] does. Connects first if there is no connection.
    ///
    /// # Errors
    ///
    /// After an error the server does not receive the message.
    ///
    /// - [`ErrorKind::Lost`](crate::ErrorKind::Lost), and any other error with a [`loss`](Error::loss): the connection
    ///   has ended.
    /// - Those of [`connect`](Session::connect).
    /// - Those of [`Connection::send`] after which the connection can be used.
    pub fn send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.send_until(&payload.into(), Deadline::NEVER)
    }

    /// Sends one message as [`send`](Session::send) does, and gives up after `timeout`, which includes connecting.
    /// After `TimedOut` nothing of the message was sent.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Session::send), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn send_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.send_until(&payload.into(), Deadline::after(timeout))
    }

    /// Sends one message without blocking, as [`Connection::try_send`] does. Without a connection, advances connecting
    /// as far as that is possible without waiting; only the [hook](Session::on_connect) may block.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] returns the payload, of which nothing was sent: the channel is full, or the session has
    /// no connection yet. [`TrySendError::Failed`] carries the errors of [`send`](Session::send).
    pub fn try_send<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<(), TrySendError<Payload<'a>>> {
        let payload = payload.into();
        if !self.advance()? {
            return Err(TrySendError::Full(payload));
        }
        self.sending(Deadline::now(), |connection, _| match connection.try_send(payload) {
            Ok(()) => Ok(Ok(())),
            Err(TrySendError::Full(payload)) => Ok(Err(TrySendError::Full(payload))),
            Err(TrySendError::Failed(error)) => Err(error),
        })?
        .inspect(|()| self.state.account.sent())
    }

    /// Buffers a message as [`Connection::feed`] does. Connects first if there is no connection. The message counts as
    /// sent, and is lost with the connection.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Session::send).
    pub fn feed<'a>(&mut self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.feed_until(&payload.into(), Deadline::NEVER)
    }

    /// Buffers a message as [`feed`](Session::feed) does, and gives up after `timeout` when it has to connect or to
    /// write.
    ///
    /// # Errors
    ///
    /// Those of [`send_timeout`](Session::send_timeout).
    pub fn feed_timeout<'a>(&mut self, payload: impl Into<Payload<'a>>, timeout: Duration) -> Result<()> {
        self.feed_until(&payload.into(), Deadline::after(timeout))
    }

    /// Writes all buffered messages. Does nothing if there is no connection, because nothing is buffered then.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Lost`](crate::ErrorKind::Lost), and any other error with a [`loss`](Error::loss): the connection
    ///   has ended.
    /// - Those of [`Connection::flush`] after which the connection can be used.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_until(Deadline::NEVER)
    }

    /// Writes all buffered messages as [`flush`](Session::flush) does, and gives up after `timeout`. What was not
    /// written stays buffered.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Session::flush), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn flush_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.flush_until(Deadline::after(timeout))
    }

    /// Receives one message as [`Connection::recv`] does. Connects first if there is no connection. Never returns a
    /// message of an earlier connection.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Lost`](crate::ErrorKind::Lost), and any other error with a [`loss`](Error::loss): the connection
    ///   has ended, and all messages that had arrived were received.
    /// - Those of [`connect`](Session::connect).
    /// - Those of [`Connection::recv`] after which the connection can be used.
    pub fn recv(&mut self) -> Result<Message> {
        self.recv_until(Deadline::NEVER)
    }

    /// Receives one message as [`recv`](Session::recv) does, and gives up after `timeout`, which includes connecting. A
    /// partially received message is kept for the next call.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Session::recv), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message> {
        self.recv_until(Deadline::after(timeout))
    }

    /// Receives one message without blocking. Without a connection, advances connecting as
    /// [`try_send`](Session::try_send) does.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no whole message has arrived, or the session has no connection yet.
    /// [`TryRecvError::Failed`] carries the errors of [`recv`](Session::recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        if !self.advance()? {
            return Err(TryRecvError::Empty);
        }
        let Some(connection) = &mut self.connection else { return Err(TryRecvError::Empty) };
        match connection.try_recv() {
            Err(TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(TryRecvError::Failed(error)) => Ok(self.after_recv(Err(error))?),
            Ok(message) => Ok(self.after_recv(Ok(message))?),
        }
    }

    /// Takes the messages of the server that had arrived when a send found the connection ended
    /// ([`Loss::unreceived`](crate::Loss::unreceived)): at most 1,024, and no more after 1 MiB. They are kept until the
    /// session connects again, and show which requests were answered.
    pub fn take_unreceived(&mut self) -> Vec<Message> {
        self.state.take_unreceived()
    }

    /// Ends the session and returns its connection, if there is one: to end sending in order ([`Connection::finish`]),
    /// or to split it. Buffered messages stay buffered in it.
    #[must_use]
    pub fn into_connection(self) -> Option<Connection> {
        self.connection
    }

    /// Writes all buffered messages, then closes the connection, also if writing fails. Dropping the session does the
    /// same without blocking. Does nothing if there is no connection.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Session::flush).
    pub fn close(mut self) -> Result<()> {
        self.flush_until(Deadline::NEVER)
    }

    /// Closes the session as [`close`](Session::close) does, and gives up writing after `timeout`. The connection is
    /// closed in any case.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Session::flush), and [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): some messages were
    /// lost.
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        match self.connection.take() {
            Some(mut connection) => {
                let flushed = connection.sender.flush_to_close(deadline);
                self.connection = Some(connection);
                self.after_send(flushed)
            }
            None => Ok(()),
        }
    }

    fn send_until(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        self.ready(deadline)?;
        self.sending(deadline, |connection, deadline| connection.sender.send_until(payload, deadline))?;
        self.state.account.sent();
        Ok(())
    }

    fn feed_until(&mut self, payload: &Payload<'_>, deadline: Deadline) -> Result<()> {
        self.ready(deadline)?;
        self.sending(deadline, |connection, deadline| connection.sender.feed_until(payload, deadline))?;
        self.state.account.sent();
        Ok(())
    }

    fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        match &mut self.connection {
            Some(connection) => {
                let flushed = connection.sender.flush_until(deadline);
                self.after_send(flushed)
            }
            None => Ok(()),
        }
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Message> {
        let connection = self.ready(deadline)?;
        let mut message = Message::default();
        let received = connection.recv_until(&mut message, deadline);
        self.after_recv(received.map(|received| received.then(message)))
    }

    /// Sends over the connection, unless the server has gone.
    fn sending<T>(
        &mut self,
        deadline: Deadline,
        send: impl FnOnce(&mut Connection, Deadline) -> Result<T>,
    ) -> Result<T> {
        let Self { connection: Some(connection), state, .. } = self else {
            return Err(self.state.reconnecting.timed_out());
        };
        let sent = match state.has_hung_up(connection.transport(), connection.recv_fd()) {
            true => Err(connection.common().fault(Operation::Send, Fault::Disconnected)),
            false => send(connection, deadline),
        };
        self.after_send(sent)
    }

    /// Converts the outcome of a send, and closes a connection that cannot send any more.
    fn after_send<T>(&mut self, sent: Result<T>) -> Result<T> {
        let Err(error) = sent else { return sent };
        let Some(connection) = &mut self.connection else { return Err(error) };
        if !ends_sending(&error, || connection.sender.outgoing().refusal().is_some()) {
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
            // A server that ended only the direction to this side may still read.
            Some(mut connection) => {
                let unwritten = connection.try_flush().is_err();
                unread |= connection.sender.outgoing().has_unread();
                unwritten
            }
            None => false,
        };
        self.state.ended(cause, unread, unwritten)
    }

    /// Connects if there is no connection, and waits until the deadline.
    fn ready(&mut self, deadline: Deadline) -> Result<&mut Connection> {
        while !self.advance()? {
            if deadline.is_over() {
                return Err(self.state.reconnecting.timed_out());
            }
            let slept = self.state.reconnecting.wait_set(deadline).sleep();
            slept.map_err(|error| self.state.reconnecting.failed(error))?;
        }
        self.connection.as_mut().ok_or_else(|| self.state.reconnecting.timed_out())
    }

    /// Advances connecting as far as that is possible without waiting. Returns true if there is a connection.
    fn advance(&mut self) -> Result<bool> {
        while self.connection.is_none() {
            let Some(mut connection) = self.state.reconnecting.step()? else { return Ok(false) };
            match self.hook.as_mut().map_or(Ok(()), |hook| hook(&mut connection)) {
                Ok(()) => {
                    self.state.connected();
                    self.connection = Some(connection);
                }
                Err(error) => {
                    let error = error_of_hook(error, connection.common().object().as_str());
                    drop(connection);
                    self.state.reconnecting.hook_failed(error)?;
                }
            }
        }
        Ok(true)
    }
}

impl ConnectOptions {
    /// Creates a session with the server of this name, with these options. Does not connect. See [`Session::new`].
    ///
    /// The options hold for each connection, except for [`wait_for_server`](ConnectOptions::wait_for_server): a session
    /// waits as long as the timeouts of its calls allow.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`](crate::ErrorKind::InvalidName): the address is malformed.
    /// - [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption): a value is outside the range that its setter
    ///   states.
    pub fn session(&self, address: impl AsRef<str>, reconnect: &Reconnect) -> Result<Session> {
        Ok(Session { connection: None, state: State::new(address.as_ref(), self, reconnect)?, hook: None })
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
