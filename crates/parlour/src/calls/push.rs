//! Messages of a server of calls that answer no call.

use std::fmt;
use std::sync::Arc;

use super::outbox::{Outbox, Post, To};
#[cfg(feature = "tokio")]
use super::outboxes::Outboxes;
use crate::error::Result;
use crate::payload::Payload;
use crate::wire::call::Kind;

/// Sends messages that answer no call, from any thread or task. The client gets them from
/// [`Caller::next_push`](crate::Caller::next_push).
///
/// A handle can be cloned. Messages are queued, and no function blocks. A client that takes its messages so slowly that
/// more than 1 MiB waits for it is disconnected.
///
/// # Examples
///
/// ```
/// use parlour::calls::CallServer;
/// use parlour::{Caller, Server};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/clock", base.path().display());
/// let server = CallServer::new(Server::bind(&name)?)?;
/// let (pusher, shutdown) = (server.pusher(), server.shutdown_handle());
/// let serving = std::thread::spawn(move || server.serve(|call| drop(call.reply("12:00"))));
///
/// let caller = Caller::connect(&name)?;
/// assert_eq!(caller.call("now")?, b"12:00");
/// pusher.push_all("tick")?;
/// assert_eq!(caller.next_push()?.unwrap(), b"tick");
/// shutdown.shutdown();
/// serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Pusher(Queues);

/// The queues of a server.
#[derive(Clone)]
enum Queues {
    One(Arc<Outbox>),
    /// One for each client.
    #[cfg(feature = "tokio")]
    Many(Arc<Outboxes>),
}

impl Pusher {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Self {
        Self(Queues::One(outbox))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn of_many(outboxes: Arc<Outboxes>) -> Self {
        Self(Queues::Many(outboxes))
    }

    /// Sends one message to the client with this number ([`Call::client`](super::Call::client)). A client that has left
    /// misses it, which is not an error.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Busy`](crate::ErrorKind::Busy): more than 1 MiB of pushed messages waits for the thread that
    ///   serves, or for the task of a client. Nobody gets the message.
    /// - [`ErrorKind::MessageTooLong`](crate::ErrorKind::MessageTooLong): the message, with its header of 8 bytes, is
    ///   longer than the limit.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the payload has descriptors or shared memory.
    /// - [`ErrorKind::Shutdown`](crate::ErrorKind::Shutdown): the server has ended.
    /// - [`ErrorKind::NameLost`](crate::ErrorKind::NameLost): this is a forked child.
    pub fn push<'a>(&self, client: u64, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.post(Some(client), &payload.into())
    }

    /// Sends one message to every client that has greeted.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Pusher::push).
    pub fn push_all<'a>(&self, payload: impl Into<Payload<'a>>) -> Result<()> {
        self.post(None, &payload.into())
    }

    fn post(&self, client: Option<u64>, payload: &Payload<'_>) -> Result<()> {
        match &self.0 {
            Queues::One(outbox) => {
                let bytes = outbox.message(Kind::Push, 0, payload)?;
                outbox.post(Post { to: client.map_or(To::All, To::Client), bytes })
            }
            #[cfg(feature = "tokio")]
            Queues::Many(outboxes) => outboxes.push(client, payload),
        }
    }
}

impl fmt::Debug for Pusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pusher").finish_non_exhaustive()
    }
}
