//! Serving every client in a task, and graceful shutdown.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::PollFlags;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use super::connection::Connection;
use super::registration::registration_error;
use super::server::Server;
use super::waiting::Waiting;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::wait::{Deadline, WaitSet};

/// The numbers of connections that [`Server::serve`] has served, by the way in which their handlers ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections whose handler returned.
    pub finished: u64,
    /// Connections whose handler was still running at the end of the grace period, and was aborted.
    pub ended: u64,
    /// Connections whose handler panicked.
    pub panicked: u64,
}

impl Served {
    fn note(&mut self, result: Result<(), JoinError>) {
        match result {
            Ok(()) => self.finished += 1,
            Err(error) if error.is_panic() => self.panicked += 1,
            Err(_) => self.ended += 1,
        }
    }
}

/// The reason for which no further client is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    Shutdown,
    /// Another process has the name.
    HandedOver,
}

impl Server {
    /// Serves every client in a task of its own, until `shutdown` completes or the
    /// [`shutdown_handle`](Server::shutdown_handle) is used. Then shuts down gracefully: accepts those clients that
    /// have connected by then and no others, releases the name, lets the running handlers go on for the `grace` period,
    /// and aborts those that still run. If another process takes the name over
    /// ([`ServerOptions::hand_over`](crate::ServerOptions::hand_over)), this ends in the same way, and that process
    /// accepts the clients. The handlers then have the time of
    /// [`hand_over_grace`](crate::ServerOptions::hand_over_grace), if that was set. A shutdown meanwhile leaves them
    /// `grace` at most.
    ///
    /// Returns how many handlers returned, were aborted, and panicked.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Server::accept), except [`ErrorKind::Shutdown`] and
    /// [`ErrorKind::HandedOver`]. The handlers have had their grace period by
    /// then, and have ended.
    ///
    /// [`ErrorKind::Io`]: the files of the name cannot be removed. The handlers have had their grace period, too. Or
    /// the kernel has no timer for the grace period; then the handlers were aborted without one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, every handler is aborted immediately.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use parlour::tokio::{Connection, Server};
    ///
    /// #[tokio::main]
    /// async fn main() -> parlour::Result<()> {
    ///     // When `stop` completes, the server accepts no more clients. Open connections have five seconds to finish.
    ///     let stop = std::future::pending();
    ///     Server::bind("echo")?.serve(echo, stop, Duration::from_secs(5)).await?;
    ///     Ok(())
    /// }
    ///
    /// async fn echo(mut client: Connection) {
    ///     while let Ok(Some(message)) = client.recv().await {
    ///         if client.send(&message).await.is_err() {
    ///             break;
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn serve<H, F>(self, handler: H, shutdown: impl Future<Output = ()>, grace: Duration) -> Result<Served>
    where
        H: FnMut(Connection) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        self.serve_until(handler, shutdown, grace, |_| {}).await
    }

    /// Serves as [`serve`](Server::serve) does. Calls `stopping` when no further client is accepted, with the reason.
    /// After a hand-over, calls it again at a shutdown.
    pub(super) async fn serve_until<H, F>(
        self,
        mut handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
        stopping: impl Fn(Stopping),
    ) -> Result<Served>
    where
        H: FnMut(Connection) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Handle::try_current().map_err(|error| {
            let error = io::Error::new(io::ErrorKind::Unsupported, error);
            registration_error(Operation::Serve, format!("'{}'", self.name()), error)
        })?;
        let mut tasks = ConnectionTasks::default();
        let mut begin = |connection| tasks.begin(runtime.spawn(handler(connection)));
        let (mut shutdown, mut is_asked) = (pin!(shutdown), false);
        // The future may be awaited again after it has completed: for the clients that are left after a hand-over that
        // a shutdown interrupted.
        let mut shutdown = poll_fn(move |cx| {
            is_asked = is_asked || shutdown.as_mut().poll(cx).is_ready();
            if is_asked { Poll::Ready(()) } else { Poll::Pending }
        });
        let accepting = match self.accept_until(&mut shutdown, &mut begin).await {
            // No further client can connect. Those that have connected are served, too.
            Ok(Stopping::Shutdown) => {
                self.shutdown_handle().shutdown();
                self.accept_until(pending(), begin).await
            }
            ended => ended,
        };
        stopping(*accepting.as_ref().unwrap_or(&Stopping::Shutdown));
        let (handle, hand_over_grace) = (self.shutdown_handle(), self.hand_over_grace().unwrap_or(grace));
        let closing = self.end().await;
        let waited = match accepting {
            Ok(Stopping::HandedOver) => {
                let until = Deadline::after(hand_over_grace);
                let is_over = Waiting::new(&WaitSet::until(until).and(handle.as_fd(), PollFlags::IN));
                let is_over = async {
                    match is_over {
                        Ok(is_over) => is_over.wait().await,
                        Err(error) => Err(error),
                    }
                };
                let mut is_asked = false;
                let shutdown = async {
                    shutdown.await;
                    is_asked = true;
                    Ok(())
                };
                match tasks.finish_until(first(shutdown, is_over)).await {
                    // A shutdown shortens what is left of the time.
                    Ok(false) if is_asked || handle.is_asked() => {
                        stopping(Stopping::Shutdown);
                        tasks.finish_before(until.or_after(grace)).await
                    }
                    waited => waited,
                }
            }
            _ => tasks.finish_before(Deadline::after(grace)).await,
        };
        // Without a timer this happens immediately. No task outlives this function.
        tasks.abort();
        tasks.finish().await;
        accepting?;
        closing?;
        waited.map_err(|error| Error::io(Operation::Wait, "the tasks of a server", error))?;
        Ok(tasks.served)
    }

    /// Accepts clients until `shutdown` completes or the shutdown handle is used, or until another process has taken
    /// the name over.
    async fn accept_until(
        &self,
        shutdown: impl Future<Output = ()>,
        mut begin: impl FnMut(Connection),
    ) -> Result<Stopping> {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut accept = pin!(self.accept());
            let accepted = poll_fn(|cx| match shutdown.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accept.as_mut().poll(cx).map(Some),
            });
            match accepted.await {
                None => return Ok(Stopping::Shutdown),
                Some(Ok(connection)) => begin(connection),
                Some(Err(error)) if error.kind() == ErrorKind::Shutdown => return Ok(Stopping::Shutdown),
                Some(Err(error)) if error.kind() == ErrorKind::HandedOver => return Ok(Stopping::HandedOver),
                Some(Err(error)) => return Err(error),
            }
        }
    }
}

/// Returns the output of the future that completes first, and drops the other one.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await
}

/// The tasks that serve connections. They are aborted when this value is dropped. A plain list takes an eighth of the
/// memory of a `JoinSet`, and the end of a task need not be noticed immediately.
#[derive(Default)]
struct ConnectionTasks {
    tasks: Vec<JoinHandle<()>>,
    /// The number of tasks at which finished ones are removed. Until then, finished tasks keep their memory.
    look_at: usize,
    served: Served,
}

/// The number of tasks below which finished ones are not removed.
const LOOK_AT_MIN: usize = 64;

impl ConnectionTasks {
    fn begin(&mut self, task: JoinHandle<()>) {
        if self.tasks.len() >= self.look_at {
            self.take_those_done();
            // Keeps the cost per task low, and finished tasks at a fifth of the list at most.
            self.look_at = LOOK_AT_MIN.max(self.tasks.len() + self.tasks.len() / 4);
        }
        self.tasks.push(task);
    }

    fn take_those_done(&mut self) {
        let Self { tasks, served, .. } = self;
        let mut nobody = Context::from_waker(Waker::noop());
        tasks.retain_mut(|task| match task.is_finished().then(|| Pin::new(task).poll(&mut nobody)) {
            Some(Poll::Ready(result)) => {
                served.note(result);
                false
            }
            Some(Poll::Pending) | None => true,
        });
    }

    /// Waits until all tasks have ended. May be called again after its future was dropped.
    async fn finish(&mut self) {
        while let Some(task) = self.tasks.last_mut() {
            let result = task.await;
            self.tasks.pop();
            self.served.note(result);
        }
    }

    /// Waits until all tasks have ended, or until `end` completes. Returns true in the first case.
    async fn finish_until(&mut self, end: impl Future<Output = io::Result<()>>) -> io::Result<bool> {
        let finishing = async {
            self.finish().await;
            Ok(true)
        };
        let end = async {
            end.await?;
            Ok(false)
        };
        first(finishing, end).await
    }

    /// Waits until all tasks have ended, or until the deadline. Returns true in the first case.
    async fn finish_before(&mut self, deadline: Deadline) -> io::Result<bool> {
        let end = Waiting::until(deadline)?;
        self.finish_until(end.wait()).await
    }

    fn abort(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for ConnectionTasks {
    fn drop(&mut self) {
        self.abort();
    }
}
