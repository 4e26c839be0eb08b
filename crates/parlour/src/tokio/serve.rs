//! Serving everybody, and ending gracefully.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use super::connection::Connection;
use super::server::Server;
use super::unregistered;
use super::waiting::Waiting;
use crate::error::{Error, ErrorKind, Result};
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
    /// conversations have had their time of grace by then.
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
            unregistered("serve", format!("'{}'", self.name()), error)
        })?;
        let mut served = Served::default();
        let mut conversations = JoinSet::new();
        let accepting = self
            .accept_until(shutdown, &mut served, &mut conversations, |connection, conversations| {
                conversations.spawn_on(handler(connection), &runtime);
            })
            .await;
        // Nobody comes any more: who tries learns at once that there is no server.
        let closing = self.close();
        let deadline = Deadline::after(grace);
        let timer =
            Waiting::until(deadline).map_err(|error| Error::io("end", "the conversations of a server", error))?;
        let mut is_over = pin!(timer.wait());
        while !conversations.is_empty() {
            let next = poll_fn(|cx| match conversations.poll_join_next(cx) {
                Poll::Ready(next) => Poll::Ready(next),
                Poll::Pending => is_over.as_mut().poll(cx).map(|_| None),
            });
            match next.await {
                Some(result) => served.note(result),
                None => break,
            }
        }
        conversations.abort_all();
        while let Some(result) = conversations.join_next().await {
            served.note(result);
        }
        accepting.and(closing).map(|()| served)
    }

    /// Accepts until it is told to stop.
    async fn accept_until(
        &self,
        shutdown: impl Future<Output = ()>,
        served: &mut Served,
        conversations: &mut JoinSet<()>,
        mut begin: impl FnMut(Connection, &mut JoinSet<()>),
    ) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        loop {
            let mut accept = pin!(self.accept());
            let accepted = poll_fn(|cx| {
                while let Poll::Ready(Some(result)) = conversations.poll_join_next(cx) {
                    served.note(result);
                }
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                accept.as_mut().poll(cx).map(Some)
            });
            match accepted.await {
                None => return Ok(()),
                Some(Ok(connection)) => begin(connection, conversations),
                Some(Err(error)) if error.kind() == ErrorKind::Shutdown => return Ok(()),
                Some(Err(error)) => return Err(error),
            }
        }
    }
}
