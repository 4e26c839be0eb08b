//! Serving calls: a task for each client, and one for each call.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::call_task::{ClientTask, QUEUED_MAX, Stop};
use super::connection::Connection;
use super::serve::Served;
use super::server::Server;
use crate::calls::Pusher;
use crate::calls::outbox::{Outbox, Queued, Waiter};
use crate::calls::outboxes::Outboxes;
use crate::calls::served::CallLimits;
use crate::error::Result;
use crate::message::Message;
use crate::payload::Payload;

/// A request of a client, which a task answers. [`crate::calls::Call`] is that of the blocking API.
///
/// Dereferences to that, with the request, the peer and [`is_cancelled`](crate::calls::Call::is_cancelled). Of its
/// functions, those that wait block the thread: tasks use [`item`](Call::item) and [`cancelled`](Call::cancelled). A
/// call that is dropped without an answer is answered with an error.
pub struct Call(crate::calls::Call);

impl Call {
    /// Takes the request out of the call, with its descriptors. An empty one stays.
    #[must_use]
    pub fn take_request(&mut self) -> Message {
        self.0.take_request()
    }

    /// Completes when nobody waits for the answer any more: the call has timed out or was dropped, or the client has
    /// gone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`](crate::ErrorKind::NameLost): this is a forked child.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use parlour::tokio::Call;
    ///
    /// # async fn search(_text: &[u8]) -> String { String::new() }
    /// async fn find(call: Call) {
    ///     tokio::select! {
    ///         found = search(&call) => drop(call.reply(&found)),
    ///         _ = call.cancelled() => {} // the search is dropped, and the call with it
    ///     }
    /// }
    /// ```
    pub async fn cancelled(&self) -> Result<()> {
        poll_fn(|cx| self.0.poll_cancelled(cx)).await
    }

    /// Answers with one message. Does not wait. See [`crate::calls::Call::reply`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::calls::Call::reply`].
    pub fn reply<'a>(self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.0.reply(payload)
    }

    /// Answers with one value.
    #[cfg(feature = "serde")]
    pub(super) fn reply_value<S: serde::Serialize + ?Sized>(
        self,
        codec: crate::typed::codec::Codec,
        answer: &S,
    ) -> Result<()> {
        self.0.reply_value(codec, answer)
    }

    /// Answers with one of several messages. Waits if too many bytes are queued for the client.
    ///
    /// # Errors
    ///
    /// Those of [`crate::calls::Call::reply`]. After `MessageTooLong` and `Unsupported` the call is still open.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the message was not sent.
    pub async fn item<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<()> {
        let mut post = Some(self.0.item_post(&payload.into())?);
        poll_fn(|cx| match self.0.try_post(&mut post, Waiter::Polls, cx.waker()) {
            Ok(Queued::Yes) => Poll::Ready(Ok(())),
            Ok(Queued::Full) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }

    /// Ends the answers that [`item`](Call::item) has sent. Does not wait.
    ///
    /// # Errors
    ///
    /// Those of [`crate::calls::Call::reply`].
    pub fn end(self) -> Result<()> {
        self.0.end()
    }

    /// Answers with an error. Does not wait. See [`crate::calls::Call::fail`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::calls::Call::reply`].
    pub fn fail(self, text: impl AsRef<str>) -> Result<()> {
        self.0.fail(text)
    }
}

impl Deref for Call {
    type Target = crate::calls::Call;

    fn deref(&self) -> &crate::calls::Call {
        &self.0
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Server {
    /// Serves calls of every client, with a task for each client and one for each call, so that a slow call delays no
    /// other. Ends as [`serve`](Server::serve) does: when `shutdown` completes or the
    /// [`shutdown_handle`](Server::shutdown_handle) is used, no request is begun any more, and further ones are
    /// answered with [`Busy`](crate::ErrorKind::Busy). The calls that are open have the `grace` period to be answered.
    /// Then their tasks are aborted.
    ///
    /// If another process takes the name over, the clients that are connected are served for the `grace` period, or
    /// until they leave. A [`CallSession`](super::CallSession) goes to the next server at once.
    ///
    /// This is [`CallServer::serve`] with the defaults of [`CallServer`], which also sends messages that answer no
    /// call. Returns how the tasks of the clients have ended.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Server::serve).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, every task is aborted immediately.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::future::pending;
    /// use std::time::Duration;
    ///
    /// use parlour::tokio::{Call, Server};
    ///
    /// #[tokio::main]
    /// async fn main() -> parlour::Result<()> {
    ///     Server::bind("upper")?.serve_calls(upper, pending(), Duration::from_secs(5)).await?;
    ///     Ok(())
    /// }
    ///
    /// async fn upper(call: Call) {
    ///     let answer = call.to_ascii_uppercase();
    ///     let _ = call.reply(&answer); // an error means that nobody waits for the answer
    /// }
    /// ```
    pub async fn serve_calls<H, F>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
        grace: Duration,
    ) -> Result<Served>
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        CallServer::new(self).serve(handler, shutdown, grace).await
    }
}

/// A server of calls for tasks, and its options. [`crate::calls::CallServer`] is the blocking one. Every setter
/// documents its default and its unit.
///
/// ```
/// use std::future::pending;
/// use std::time::Duration;
///
/// use parlour::tokio::{Call, CallServer, Caller, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/clock", base.path().display());
/// // let name = "clock";
/// let server = CallServer::new(Server::bind(&name)?).calls_max(16);
/// let pusher = server.pusher();
/// let answer = |call: Call| async move { drop(call.reply("12:00")) };
/// let serving = tokio::spawn(server.serve(answer, pending(), Duration::from_secs(5)));
///
/// let caller = Caller::connect(&name).await?;
/// assert_eq!(caller.call("now").await?, b"12:00");
/// pusher.push_all("tick")?;
/// assert_eq!(caller.next_push().await?.unwrap(), b"tick");
/// # serving.abort();
/// # Ok(())
/// # }
/// ```
pub struct CallServer {
    server: Server,
    display_name: Arc<str>,
    limits: CallLimits,
    outboxes: Ending,
}

impl CallServer {
    /// Serves calls on this server.
    #[must_use]
    pub fn new(server: Server) -> Self {
        let display_name: Arc<str> = format!("'{}'", server.name()).into();
        let common = Outbox::new(Arc::clone(&display_name), server.message_max(), QUEUED_MAX);
        Self { server, display_name, limits: CallLimits::default(), outboxes: Ending(Arc::new(Outboxes::new(common))) }
    }

    /// Sets the maximum number of calls that one client may have open, and the handlers may hold for it. A further
    /// request is answered with [`Busy`](crate::ErrorKind::Busy). Default: 256. At least 1.
    #[must_use]
    pub fn calls_max(mut self, count: usize) -> Self {
        self.limits.calls = count.max(1);
        self
    }

    /// Sets the maximum number of bytes of the requests of one client that are open, and that the handlers hold. A
    /// further request is answered with [`Busy`](crate::ErrorKind::Busy). A client without another call may send the
    /// longest message. Default: 16 MiB.
    #[must_use]
    pub fn request_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Returns a handle that sends messages that answer no call. Its functions do not wait, and any task or thread may
    /// call them. They return [`Shutdown`](crate::ErrorKind::Shutdown) after the end of [`serve`](CallServer::serve).
    #[must_use]
    pub fn pusher(&self) -> Pusher {
        Pusher::of_many(Arc::clone(&self.outboxes.0))
    }

    /// Returns the server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Serves calls of every client. See [`Server::serve_calls`].
    ///
    /// # Errors
    ///
    /// Those of [`Server::serve`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, every task is aborted immediately.
    pub async fn serve<H, F>(self, handler: H, shutdown: impl Future<Output = ()>, grace: Duration) -> Result<Served>
    where
        H: Fn(Call) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { server, display_name, limits, outboxes } = self;
        let (handler, stop) = (Arc::new(move |call| handler(Call(call))), Arc::new(Stop::default()));
        let numbers = AtomicU64::new(0);
        let serve = |connection: Connection| {
            let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
            let (name, stop, outboxes) = (Arc::clone(&display_name), Arc::clone(&stop), Arc::clone(&outboxes.0));
            ClientTask::new(connection, number, name, limits, stop, outboxes).run(Arc::clone(&handler))
        };
        server.serve_until(serve, shutdown, grace, |reason| stop.stop(reason)).await
    }
}

impl fmt::Debug for CallServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallServer").field("name", &self.display_name).finish_non_exhaustive()
    }
}

/// Ends the pushers, whatever ends the server.
struct Ending(Arc<Outboxes>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}
