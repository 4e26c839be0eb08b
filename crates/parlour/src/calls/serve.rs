//! Serving calls in the calling thread, for all clients.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::call::Call;
use super::push::Pusher;
use super::serving::Serving;
use crate::admission::ServerStats;
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::poller::ShutdownHandle;
use crate::server::Server;
use crate::wait::Deadline;

/// The default time that the end waits for calls that are open.
const GRACE_DEFAULT: Duration = Duration::from_secs(5);

impl Server {
    /// Serves calls of all clients in the calling thread, until [`ShutdownHandle::shutdown`] is called. The clients are
    /// [`Caller`](crate::Caller)s.
    ///
    /// `handler` gets each request as a [`Call`]. It can answer at once, or move the call to another thread, which
    /// answers later. While `handler` works, no other client is served, so work that takes long belongs in other
    /// threads.
    ///
    /// This is [`CallServer::serve`] with the defaults of [`CallServer`], which also sends messages that answer no
    /// call.
    ///
    /// # Errors
    ///
    /// Those of [`CallServer::serve`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use parlour::Server;
    ///
    /// fn main() -> parlour::Result<()> {
    ///     Server::bind("upper")?.serve_calls(|call| {
    ///         let answer = call.to_ascii_uppercase();
    ///         let _ = call.reply(&answer); // an error means that nobody waits for the answer
    ///     })
    /// }
    /// ```
    pub fn serve_calls(self, handler: impl FnMut(Call)) -> Result<()> {
        CallServer::new(self)?.serve(handler)
    }
}

/// A server of calls, and its options. Every setter documents its default and its unit.
///
/// ```
/// use std::thread;
///
/// use parlour::calls::CallServer;
/// use parlour::{Caller, Server};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// let server = CallServer::new(Server::bind(&name)?)?.calls_max(16);
/// let (pusher, shutdown) = (server.pusher(), server.shutdown_handle());
/// let serving = thread::spawn(move || {
///     server.serve(|call| {
///         // A thread for each call: a slow one delays no other.
///         thread::spawn(move || call.reply("done"));
///     })
/// });
///
/// let caller = Caller::connect(&name)?;
/// assert_eq!(caller.call("work")?, b"done");
/// pusher.push_all("a note was added")?;
/// assert_eq!(caller.next_push()?.unwrap(), b"a note was added");
/// shutdown.shutdown();
/// serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CallServer {
    serving: Serving,
    grace: Duration,
}

impl CallServer {
    /// Serves calls on this server.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: a descriptor could not be created.
    pub fn new(server: Server) -> Result<Self> {
        Ok(Self { serving: Serving::new(server)?, grace: GRACE_DEFAULT })
    }

    /// Sets the maximum number of calls that one client may have open, and the handler may hold for it. A further
    /// request is answered with [`Busy`](ErrorKind::Busy). Default: 256. At least 1.
    #[must_use]
    pub fn calls_max(mut self, count: usize) -> Self {
        self.serving.limits.calls = count.max(1);
        self
    }

    /// Sets the maximum number of bytes of the requests of one client that are open, and that the handler holds. A
    /// further request is answered with [`Busy`](ErrorKind::Busy). A client without another call may send the longest
    /// message. Default: 16 MiB.
    #[must_use]
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.serving.limits.bytes = bytes;
        self
    }

    /// Sets the time that [`serve`](CallServer::serve) and [`close`](CallServer::close) wait for calls that other
    /// threads hold. Default: 5 seconds.
    #[must_use]
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Returns a handle with which any thread can end [`serve`](CallServer::serve).
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.serving.hub.shutdown_handle()
    }

    /// Returns a handle with which any thread can send messages that answer no call.
    #[must_use]
    pub fn pusher(&self) -> Pusher {
        Pusher::new(Arc::clone(&self.serving.outbox))
    }

    /// Returns the name that the server holds.
    #[must_use]
    pub fn name(&self) -> &str {
        self.serving.hub.name()
    }

    /// Returns the directory of the name.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.serving.hub.path()
    }

    /// Returns the counts of clients: accepted, connected, and refused.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.serving.hub.stats()
    }

    /// Serves calls of all clients in the calling thread, until [`ShutdownHandle::shutdown`] is called.
    ///
    /// After the shutdown no client can connect and no request is begun. Requests that have arrived or still arrive are
    /// answered with [`Busy`](ErrorKind::Busy). A [`CallSession`](crate::CallSession) makes them to the next server,
    /// except those of streams. The function waits for the calls that other threads hold, for up to
    /// [`grace`](CallServer::grace), writes their answers, ends all connections, and returns `Ok`.
    ///
    /// After a hand-over ([`ServerOptions::hand_over`](crate::ServerOptions::hand_over)) the clients that are connected
    /// are served until they leave, for up to
    /// [`hand_over_grace`](crate::ServerOptions::hand_over_grace). A [`CallSession`](crate::CallSession) goes to the
    /// next server at once. Then the function returns `Ok`, too.
    ///
    /// A client that violates the protocol is disconnected. So is one that does not call but sends other messages. It
    /// gets no answer.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so new clients do not find it. The
    ///   function has ended as after a shutdown. In a forked child it returns this error at once.
    /// - [`ErrorKind::Io`]: a system call failed.
    /// - [`ErrorKind::TimedOut`]: some answers could not be written at the end, and are lost.
    pub fn serve(mut self, mut handler: impl FnMut(Call)) -> Result<()> {
        self.serving.outbox.set_server(thread::current().id());
        let ended = loop {
            match self.serving.call_until(Deadline::NEVER) {
                Ok(Some(call)) => handler(call),
                Ok(None) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let grace = if ended.is_ok() { self.grace } else { Duration::ZERO };
        ended.and(self.serving.end(grace, None))
    }

    /// Waits for the next request of any client, and returns it. This is [`serve`](CallServer::serve) for a program
    /// with a loop of its own.
    ///
    /// The server works only inside this function: it admits clients, and it sends the answers. An answer that this
    /// thread gives is sent by the next call of this function, one of another thread as soon as this function waits.
    /// The thread that has called this function last counts as the thread that serves ([`Call::item`]).
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Shutdown`]: the [`shutdown_handle`](CallServer::shutdown_handle) was used. No request is begun
    ///   any more. [`close`](CallServer::close) waits for the calls that other threads hold.
    /// - [`ErrorKind::HandedOver`]: another process has taken the name over, and every client has left, or 30 seconds
    ///   have passed.
    /// - [`ErrorKind::NameLost`]: the server's files were removed or replaced, so new clients do not find it. This is
    ///   returned once, and the clients that are connected can still be served. In a forked child every call returns
    ///   this error.
    /// - [`ErrorKind::Io`]: a system call failed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use parlour::calls::CallServer;
    /// use parlour::{Caller, ErrorKind, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/notes", base.path().display());
    /// let mut server = CallServer::new(Server::bind(&name)?)?;
    /// let shutdown = server.shutdown_handle();
    /// let calling = std::thread::spawn(move || {
    ///     let answer = Caller::connect(&name)?.call("buy milk");
    ///     shutdown.shutdown();
    ///     answer
    /// });
    ///
    /// let ended = loop {
    ///     match server.next_call_timeout(Duration::from_secs(1)) {
    ///         Ok(call) => drop(call.reply("noted")),
    ///         Err(error) if error.kind() == ErrorKind::TimedOut => println!("nothing to do"),
    ///         Err(error) => break error,
    ///     }
    /// };
    /// assert_eq!(ended.kind(), ErrorKind::Shutdown);
    /// server.close()?;
    /// assert_eq!(calling.join().unwrap()?, b"noted");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_call(&mut self) -> Result<Call> {
        self.serving.outbox.set_server(thread::current().id());
        loop {
            if let Some(call) = self.serving.call_until(Deadline::NEVER)? {
                return Ok(call);
            }
        }
    }

    /// Returns the next request as [`next_call`](CallServer::next_call) does, and gives up after `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`next_call`](CallServer::next_call), and [`ErrorKind::TimedOut`].
    pub fn next_call_timeout(&mut self, timeout: Duration) -> Result<Call> {
        self.serving.outbox.set_server(thread::current().id());
        self.serving.call_until(Deadline::after(timeout))?.ok_or_else(|| {
            let detail = "no request arrived before the deadline";
            Error::new(ErrorKind::TimedOut, Operation::NextEvent, self.serving.outbox.server(), detail)
        })
    }

    /// Returns the next request as [`next_call`](CallServer::next_call) does, without blocking. A program that waits
    /// for the descriptor of this server calls this first, until it returns `Empty`, because it also sends the answers.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no request has arrived. [`TryRecvError::Failed`] carries the errors of
    /// [`next_call`](CallServer::next_call).
    pub fn try_next_call(&mut self) -> Result<Call, TryRecvError> {
        self.serving.outbox.set_server(thread::current().id());
        self.serving.call_until(Deadline::now())?.ok_or(TryRecvError::Empty)
    }

    /// Ends the server: no request is begun any more. Waits for the calls that other threads hold, for up to
    /// [`grace`](CallServer::grace), writes their answers, and ends all connections. Calls that this thread holds must
    /// be answered or dropped before, because nobody else can.
    ///
    /// Dropping the server ends it without waiting. Open calls are cancelled then, and answers may be lost.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::TimedOut`]: some answers could not be written, and are lost.
    /// - [`ErrorKind::Io`]: a file of the server could not be removed, or waiting failed. The name is free.
    /// - [`ErrorKind::NameLost`]: this is a forked child.
    pub fn close(self) -> Result<()> {
        self.serving.end(self.grace, None)
    }

    /// Ends the server as [`close`](CallServer::close) does. The calls of other threads and the writing of the answers
    /// have `timeout` together.
    ///
    /// # Errors
    ///
    /// Those of [`close`](CallServer::close).
    pub fn close_timeout(self, timeout: Duration) -> Result<()> {
        self.serving.end(timeout, Some(Deadline::after(timeout)))
    }

    /// Does what [`close_timeout`](CallServer::close_timeout) does, and keeps the server, its calls, and the answers
    /// that were not written. Calls that were cancelled are not awaited.
    ///
    /// For a program that ends the wait for a reason of its own, for example a signal, or that waits in a loop of
    /// events: it calls this again as long as the error is `TimedOut`, and then drops the server. With a timeout of 0
    /// the call does not block, and the descriptor of the server is readable when there is more to do. The first call
    /// releases the name. After it [`next_call`](CallServer::next_call) returns `Shutdown`.
    ///
    /// # Errors
    ///
    /// Those of [`close`](CallServer::close). After `TimedOut` nothing is lost yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use parlour::calls::CallServer;
    /// use parlour::{ErrorKind, Server};
    ///
    /// # let base = tempfile::tempdir()?;
    /// # let name = format!("{}/notes", base.path().display());
    /// # let is_interrupted = || false;
    /// let mut server = CallServer::new(Server::bind(&name)?)?;
    /// while let Err(error) = server.end_timeout(Duration::from_millis(50)) {
    ///     if error.kind() != ErrorKind::TimedOut || is_interrupted() {
    ///         return Err(error.into());
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn end_timeout(&mut self, timeout: Duration) -> Result<()> {
        self.serving.end_until(Deadline::after(timeout))
    }
}

impl AsFd for CallServer {
    /// Returns a descriptor that is readable when [`try_next_call`](CallServer::try_next_call) has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.serving.hub.as_fd()
    }
}

impl fmt::Debug for CallServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallServer").field("hub", &self.serving.hub).finish_non_exhaustive()
    }
}
