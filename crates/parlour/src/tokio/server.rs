//! A server that accepts clients in tasks.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::io::Interest;
use tokio::task::coop::poll_proceed;

use super::connection::{Connection, Unwatched};
use super::registration::registration_error;
use super::standby::StandbyTask;
use crate::admission::{Refusal, RefusalReason, ServerStats};
use crate::error::{Error, ErrorKind, Operation, Result, TryRecvError};
use crate::options::ServerOptions;
use crate::poller::ShutdownHandle;
use crate::server::Step;
use crate::sys::readiness::{Readiness, Ready};
use crate::transport::Transport;

impl ServerOptions {
    /// Binds the name and listens, in the current tokio runtime. See [`Server::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`bind`](ServerOptions::bind), and [`Unsupported`](ErrorKind::Unsupported) outside of a runtime.
    pub fn bind_tokio(&self, address: impl AsRef<str>) -> Result<Server> {
        Server::from_blocking(self.bind(address)?)
    }
}

/// A server that holds a name, by which clients connect. [`crate::Server`] is the blocking one.
///
/// Every method takes `&self`, and any number of tasks may accept at once. Dropping the server removes its files and
/// releases the name, as [`close`](Server::close) does. Open connections go on.
///
/// All work is done inside of the accepting calls: handshakes make progress, and clients are admitted or refused, only
/// while a task waits in one of them. Accept in a task of its own, or let [`serve`](Server::serve) do so. Only a
/// hand-over of the name ([`ServerOptions::hand_over`]) needs no task that accepts: the server has a small task for it,
/// which ends with the server.
///
/// In a forked child the server does not work, as [`crate::Server`] states, and neither does the runtime. Dropping the
/// server there does not affect the parent.
pub struct Server {
    /// Declared and dropped first: it deregisters the descriptor while that is open.
    readiness: Readiness,
    standby: Option<StandbyTask>,
    blocking: crate::server::Server,
}

impl Server {
    /// Converts a server of the blocking API, for the current runtime.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`]: there is no current runtime.
    /// - [`ErrorKind::Io`]: the kernel cannot watch the server's descriptor.
    pub fn from_blocking(server: crate::server::Server) -> Result<Self> {
        let failed = |error| registration_error(Operation::Accept, format!("'{}'", server.name()), error);
        let readiness = Readiness::register(server.shared_fd(), Interest::READABLE).map_err(failed)?;
        let standby = StandbyTask::start(Arc::clone(server.admission())).map_err(failed)?;
        Ok(Self { readiness, standby, blocking: server })
    }

    /// Binds the name of `address` and listens, with the defaults of [`ServerOptions`]. See [`crate::Server::bind`].
    ///
    /// The call uses the file system. It usually takes less than a millisecond. It blocks the thread for up to a second
    /// if another server has taken the name at the same moment, or has the name and yields it
    /// ([`ServerOptions::yields`](crate::ServerOptions::yields)). A server that yields in a task of the same thread
    /// cannot answer meanwhile; bind in another thread then.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Server::bind`], and [`ErrorKind::Unsupported`] outside of a runtime.
    #[doc(alias = "new_server")]
    pub fn bind(address: impl AsRef<str>) -> Result<Self> {
        ServerOptions::default().bind_tokio(address)
    }

    /// Accepts a client. Waits until one has connected and was admitted. Clients that are refused do not end the wait;
    /// see [`stats`](Server::stats).
    ///
    /// # Errors
    ///
    /// Those of [`crate::Server::accept`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no client was accepted. Handshakes that have begun go on with the
    /// next call.
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
                    // The readiness that the runtime saw before is over.
                    if let Some(mut ready) = seen.take() {
                        ready.clear_ready();
                    }
                    seen = Some(self.readable().await?);
                }
            }
        }
    }

    /// Waits until the runtime reports readiness. Returns immediately if it has reported that before.
    async fn readable(&self) -> Result<Ready<'_>> {
        self.readiness
            .readable()
            .await
            .map_err(|error| Error::io(Operation::Accept, format!("'{}'", self.name()), error))
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

    /// Registers an admitted client with the runtime. Refuses the client if the kernel has no resources to watch it;
    /// the other ones are not affected.
    fn watched(&self, connection: crate::connection::Connection) -> Result<Option<Connection>> {
        match Connection::watched(connection) {
            Ok(connection) => Ok(Some(connection)),
            Err(Unwatched { half, error }) if error.kind() == io::ErrorKind::Unsupported => {
                Err(registration_error(Operation::Register, half.common().object(), error))
            }
            Err(Unwatched { half, error }) => {
                let detail = format!("the kernel cannot watch its descriptor: {error}");
                let peer = Some(half.peer().clone());
                self.blocking.admission().refuse(half.transport(), peer, RefusalReason::System, detail);
                Ok(None)
            }
        }
    }

    /// Returns a [`Stream`] of accepted connections. After a shutdown, it ends when the clients that had connected
    /// before were accepted, and after a hand-over it ends, too. Any other error is an item, and ends it too.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { server: self, accepting: None, ended: false }
    }

    pub(super) fn hand_over_grace(&self) -> Option<Duration> {
        self.blocking.hand_over_grace()
    }

    /// Returns a handle with which any task or thread can make [`accept`](Server::accept) return.
    #[must_use]
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.blocking.shutdown_handle()
    }

    /// Removes the server's files and releases the name. Open connections go on. Clients that were not accepted yet are
    /// disconnected; [`crate::Server::close`] states how to accept them first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: a file cannot be removed. The name is released all the same.
    #[doc(alias = "destroy_server")]
    pub fn close(self) -> Result<()> {
        self.blocking.close()
    }

    /// Closes the server as [`close`](Server::close) does. Its tasks have ended when the future completes.
    pub(super) async fn end(self) -> Result<()> {
        let Self { readiness: _readiness, standby, blocking } = self;
        let closed = blocking.close();
        if let Some(standby) = standby {
            standby.end().await;
        }
        closed
    }

    pub(super) fn message_max(&self) -> usize {
        self.blocking.message_max()
    }

    /// Returns the name without directory and transport.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blocking.name()
    }

    /// Returns the directory of the name, in which clients find the server.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.blocking.path()
    }

    /// Returns the transports that this server offers, best first.
    #[must_use]
    pub fn transports(&self) -> &[Transport] {
        self.blocking.transports()
    }

    /// Returns the oldest refusal that no earlier call returned, or `None`. Does not wait. See
    /// [`crate::Server::next_refusal`].
    #[must_use]
    pub fn next_refusal(&self) -> Option<Refusal> {
        self.blocking.next_refusal()
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

/// A stream of accepted connections. See [`Server::incoming`].
///
/// Dropping it at any time loses no client.
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
                let is_end = matches!(error.kind(), ErrorKind::Shutdown | ErrorKind::HandedOver);
                (!is_end).then_some(Err(error))
            }
        })
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("server", self.server).field("ended", &self.ended).finish_non_exhaustive()
    }
}
