//! Serving everybody, and ending gracefully.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

use super::connection::Connection;
use super::registration::registration_error;
use super::server::Server;
use super::waiting::Waiting;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::wait::Deadline;

/// How the conversations of a server ended. See [`Server::serve`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// They came to their end.
    pub finished: u64,
    /// They were still under way when the time of grace was over, and were ended.
    pub ended: u64,
    /// Their handler panicked.
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

impl Server {
    /// Serves every client in a task of its own, until `shutdown` completes or the
    /// [`shutdown_handle`](Server::shutdown_handle) is used. Then it ends gracefully: it gives the name up and accepts
    /// nobody any more, lets the conversations that are under way go on for `grace`, and ends those that are left.
    ///
    /// The outcome says how many came to their end and how many were ended.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Server::accept) but `Shutdown`, and [`ErrorKind::Io`] when the name's files cannot be removed. The
    /// conversations have had their time of grace by then, and are over. [`ErrorKind::Io`] also when the system has no timer
    /// for that time: then they were ended without it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes it ends every conversation at once.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use parlour::tokio::Server;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> parlour::Result<()> {
    /// # async fn asked_to_stop() {}
    /// let served = Server::bind("echo")?
    ///     .serve(
    ///         |mut connection| async move {
    ///             while let Ok(Some(message)) = connection.recv().await {
    ///                 if connection.send(&message).await.is_err() {
    ///                     break;
    ///                 }
    ///             }
    ///         },
    ///         asked_to_stop(),
    ///         Duration::from_secs(5),
    ///     )
    ///     .await?;
    /// println!("{} finished, {} were ended", served.finished, served.ended);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn serve<H, F>(
        self,
        mut handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
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
        let begin = |connection| tasks.begin(runtime.spawn(handler(connection)));
        let accepting = self.accept_until(shutdown, begin).await;
        // Nobody comes any more: who tries learns at once that there is no server.
        let closing = self.close();
        let grace = Waiting::until(Deadline::after(grace));
        if let Ok(grace) = &grace {
            let (mut finishing, mut is_over) = (pin!(tasks.finish()), pin!(grace.wait()));
            poll_fn(|cx| match finishing.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => is_over.as_mut().poll(cx).map(drop),
            })
            .await;
        }
        // (At once where the time cannot be measured. Whatever happens, none outlives this.)
        tasks.abort();
        tasks.finish().await;
        accepting.and(closing)?;
        grace.map_err(|error| Error::io(Operation::Wait, "the tasks of a server", error))?;
        Ok(tasks.served)
    }

    /// Accepts until it is told to stop.
    async fn accept_until(&self, shutdown: impl Future<Output = ()>, mut begin: impl FnMut(Connection)) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut accept = pin!(self.accept());
            let accepted = poll_fn(|cx| match shutdown.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accept.as_mut().poll(cx).map(Some),
            });
            match accepted.await {
                None => return Ok(()),
                Some(Ok(connection)) => begin(connection),
                Some(Err(error)) if error.kind() == ErrorKind::Shutdown => return Ok(()),
                Some(Err(error)) => return Err(error),
            }
        }
    }
}

/// The tasks that serve, ended when this is dropped. A plain list takes an eighth of the memory of a `JoinSet`, and nobody
/// needs to know at once that a task is done.
#[derive(Default)]
struct ConnectionTasks {
    tasks: Vec<JoinHandle<()>>,
    /// At how many to look which are done. Until then those keep their memory.
    look_at: usize,
    served: Served,
}

/// How many tasks are kept before anybody looks.
const LOOK_AT_MIN: usize = 64;

impl ConnectionTasks {
    fn begin(&mut self, task: JoinHandle<()>) {
        if self.tasks.len() >= self.look_at {
            self.take_those_done();
            // So that looking costs little for each task, and those that are done are a fifth at most.
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

    /// Waits until all are done. When its future is dropped it can be called again.
    async fn finish(&mut self) {
        while let Some(task) = self.tasks.last_mut() {
            let result = task.await;
            self.tasks.pop();
            self.served.note(result);
        }
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
