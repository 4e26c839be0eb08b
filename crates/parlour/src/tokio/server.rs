//! A server: a name that is held, and the clients that come.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::connection::{Connection, Unwatched};
use super::registration::registration_error;
use crate::admission::{RefusalReason, ServerStats};
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::options::ServerOptions;
use crate::poller::ShutdownHandle;
use crate::server::Step;
use crate::sys::readiness::{Readiness, Ready};
use crate::transport::Transport;

impl ServerOptions {
    /// Takes the name and listens, for tasks of the tokio runtime that is current. See [`Server::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`bind`](ServerOptions::bind), and [`Unsupported`](ErrorKind::Unsupported) outside of a runtime.
    pub fn bind_tokio(&self, address: impl AsRef<str>) -> Result<Server> {
        Server::from_blocking(self.bind(address)?)
    }
}

/// Holds a name; clients that know the name connect. For tasks; the blocking one is [`crate::Server`].
///
/// Every method takes `&self`, and any number of tasks may accept at once. Dropping the server, like
/// [`close`](Server::close), removes its files and gives the name up; connections that are open go on.
///
/// All work is done inside the accepting calls: handshakes move on, and clients are let in or turned away, while a task is
/// in one of them. So accept in a task of its own, or let [`serve`](Server::serve) do it.
pub struct Server {
    /// (Dropped first: it removes its descriptor from the runtime while it is open.)
    readiness: Readiness,
    blocking: crate::server::Server,
}

impl Server {
    /// Takes over a server of the blocking API, for the runtime that is current.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] outside of a runtime; [`ErrorKind::Io`] when the system cannot watch its descriptor.
    pub fn from_blocking(server: crate::server::Server) -> Result<Self> {
        let readiness = Readiness::register(server.shared_fd(), Interest::READABLE)
            .map_err(|error| registration_error(Operation::Accept, format!("'{}'", server.name()), error))?;
        Ok(Self { readiness, blocking: server })
    }

    /// Takes the name of `address` and listens, with the defaults of [`ServerOptions`]. See [`crate::Server::bind`].
    ///
    /// It looks at directories and makes files, and does not wait for anybody. (Where two servers are started for the same
    /// name at the same moment it may take some milliseconds.)
    ///
    /// # Errors
    ///
    /// Those of [`crate::Server::bind`], and [`ErrorKind::Unsupported`] outside of a runtime.
    #[doc(alias = "new_server")]
    pub fn bind(address: impl AsRef<str>) -> Result<Self> {
        ServerOptions::default().bind_tokio(address)
    }

    /// Waits until a client has connected and was let in. Clients that are refused do not end the wait; see
    /// [`refused`](Server::refused).
    ///
    /// # Errors
    ///
    /// Those of [`crate::Server::accept`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has accepted nobody: who was on the way in goes on with the next call.
    #[doc(alias = "accept_client")]
    pub async fn accept(&self) -> Result<Connection> {
        let mut seen: Option<Ready<'_>> = None;
        loop {
            poll_fn(poll_proceed).await.made_progress();
            match self.blocking.accept_now()? {
                Step::Ready(connection) => {
                    if let Some(connection) = self.watched(connection)? {
                        return Ok(connection);
                    }
                }
                Step::Yield => {}
                Step::Idle => {
                    // What the runtime saw before is over.
                    if let Some(mut ready) = seen.take() {
                        ready.clear_ready();
                    }
                    seen = Some(self.readable().await?);
                }
            }
        }
    }

    /// Waits for the runtime to see that there is something to do, or not, if it has seen that before.
    async fn readable(&self) -> Result<Ready<'_>> {
        let mut readable = pin!(self.readiness.readable());
        let mut has_waited = false;
        let ready = poll_fn(|cx| {
            let ready = readable.as_mut().poll(cx);
            has_waited |= ready.is_pending();
            ready
        })
        .await;
        if has_waited {
            self.blocking.note_queue_drained();
        }
        ready.map_err(|error| Error::io(Operation::Accept, format!("'{}'", self.name()), error))
    }

    /// Accepts a client without waiting.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`]: no client has connected. [`TryRecvError::Failed`] carries the errors of
    /// [`accept`](Server::accept).
    pub fn try_accept(&self) -> Result<Connection, TryRecvError> {
        loop {
            if let Some(connection) = self.watched(self.blocking.try_accept()?)? {
                return Ok(connection);
            }
        }
    }

    /// A client that was let in, for the runtime. One that the system has no room to watch is turned away: the others go on.
    fn watched(&self, connection: crate::connection::Connection) -> Result<Option<Connection>> {
        match Connection::watched(connection) {
            Ok(connection) => Ok(Some(connection)),
            Err(Unwatched { half, error }) if error.kind() == io::ErrorKind::Unsupported => {
                Err(registration_error(Operation::Convert, half.common().object(), error))
            }
            Err(Unwatched { half, error }) => {
                let detail = format!("it cannot be watched: {error}");
                let peer = Some(half.peer().clone());
                self.blocking.admission().refuse(half.transport(), peer, RefusalReason::System, detail);
                Ok(None)
            }
        }
    }

    /// The clients as they come, as a [`Stream`]. Ends at shutdown; any other error is an item, and ends it too.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { server: self, accepting: None, ended: false }
    }

    /// A handle with which any task or thread can make `accept` return.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.blocking.shutdown_handle()
    }

    /// Removes the server's files and gives the name up. Connections that are open go on; clients that were not
    /// accepted yet are disconnected.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] when a file cannot be removed; the name is free all the same.
    #[doc(alias = "destroy_server")]
    pub fn close(self) -> Result<()> {
        self.blocking.close()
    }

    /// The bare name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blocking.name()
    }

    /// The name's directory, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.blocking.path()
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        self.blocking.transports()
    }

    /// Returns the counts of clients: accepted, connected, and refused by reason.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.blocking.stats()
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.blocking.as_fd()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.blocking.fmt(f)
    }
}

/// The clients of a server as they come. See [`Server::incoming`].
///
/// It may be dropped at any time; no client is lost by that.
pub struct Incoming<'a> {
    server: &'a Server,
    accepting: Option<Pin<Box<dyn Future<Output = Result<Connection>> + Send + 'a>>>,
    ended: bool,
}

impl Stream for Incoming<'_> {
    type Item = Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { server, accepting, ended } = self.get_mut();
        if *ended {
            return Poll::Ready(None);
        }
        let accepted = ready!(accepting.get_or_insert_with(|| Box::pin(server.accept())).as_mut().poll(cx));
        *accepting = None;
        Poll::Ready(match accepted {
            Ok(connection) => Some(Ok(connection)),
            Err(error) => {
                *ended = true;
                (error.kind() != ErrorKind::Shutdown).then_some(Err(error))
            }
        })
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("server", self.server).field("ended", &self.ended).finish_non_exhaustive()
    }
}
