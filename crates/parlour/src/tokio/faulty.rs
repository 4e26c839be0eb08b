//! A peer that misbehaves, for tests of tasks.

use std::fmt;
use std::time::Duration;

use super::connection::Connection;
use super::registration::registration_error;
use super::waiting::Waiting;
use crate::error::{Error, Operation, Result, TrySendError};
use crate::message::Message;
use crate::testing::faults::{Faults, ended};
use crate::wait::Deadline;

/// The object of errors of waiting.
const DELAY: &str = "the delay of a faulty peer";

/// A connection whose own side misbehaves, for tests of tasks on the other side.
///
/// It is [`testing::Faulty`](crate::testing::Faulty) with `async` functions: the same seed gives the same faults. The
/// runtime needs no timers. Dropping it ends the connection.
///
/// # Cancel safety
///
/// If the future of a call is dropped before it completes, a part of a message may have been sent, which is one more
/// fault, and a message that has arrived may be lost. End the connection then.
///
/// # Examples
///
/// The code under test must answer, however slowly and in whichever pieces a request arrives, and must go on when its
/// client ends within a message:
///
/// ```
/// use std::time::Duration;
///
/// use parlour::tokio::{Connection, Faulty};
/// use parlour::{ErrorKind, Transport};
///
/// async fn serve(mut client: Connection) -> parlour::Result<()> {
///     while let Some(request) = client.recv().await? {
///         client.send(&request).await?;
///     }
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> parlour::Result<()> {
/// for seed in 0..10 {
///     let (client, served) = Connection::pair(Transport::Unix)?;
///     let serving = tokio::spawn(serve(served));
///     let mut client = Faulty::new(client, seed).delay(Duration::from_millis(1)).in_pieces();
///     client.send("a request").await?;
///     assert_eq!(client.recv().await?.unwrap(), b"a request");
///     client.end_within("another request").await?;
///     assert_eq!(serving.await.unwrap().unwrap_err().kind(), ErrorKind::Truncated, "seed {seed}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct Faulty {
    /// `None` once the faults have ended it.
    connection: Option<Connection>,
    faults: Faults,
}

impl Faulty {
    /// Wraps a connection. Without further faults it behaves well.
    #[must_use]
    pub fn new(connection: Connection, seed: u64) -> Self {
        Self { connection: Some(connection), faults: Faults::new(seed) }
    }

    /// Waits for a time from 0 to `max` before each message that is sent or received, and before each piece.
    #[must_use]
    pub fn delay(mut self, max: Duration) -> Self {
        self.faults.delay_max = max;
        self
    }

    /// Sends each message in pieces, so that the peer receives a part first: the length alone, or a part of the length.
    /// A piece has up to 32 KiB.
    #[must_use]
    pub fn in_pieces(mut self) -> Self {
        self.faults.is_in_pieces = true;
        self
    }

    /// Ends the connection after this number of messages, sent and received together. With 0 it ends now.
    #[must_use]
    pub fn end_after(mut self, messages: u64) -> Self {
        self.faults.left = Some(messages);
        self.end_if_due();
        self
    }

    /// Sends one message. Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::send`], and [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) after
    /// [`end_after`](Self::end_after) has ended the connection.
    pub async fn send(&mut self, message: impl AsRef<[u8]>) -> Result<()> {
        let message = message.as_ref();
        self.wait().await?;
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        if self.faults.is_in_pieces && message.len() <= connection.capabilities().message_max {
            for piece in self.faults.pieces(connection.transport(), message)? {
                self.wait().await?;
                self.forge(piece).await?;
            }
        } else {
            connection.send(message).await?;
        }
        self.count();
        Ok(())
    }

    /// Receives one message. Returns `None` at the end of the stream, and after [`end_after`](Self::end_after) has
    /// ended the connection.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::recv`].
    pub async fn recv(&mut self) -> Result<Option<Message>> {
        self.wait().await?;
        let Some(connection) = &mut self.connection else { return Ok(None) };
        let received = connection.recv().await?;
        if received.is_some() {
            self.count();
        }
        Ok(received)
    }

    /// Sends copies of this message until the channel takes no more, and returns their number. A peer that waits until
    /// it can send, and does not receive meanwhile, then waits for ever.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::try_send`].
    pub fn fill(&mut self, message: impl AsRef<[u8]>) -> Result<u64> {
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let mut sent = 0;
        loop {
            match connection.try_send(message.as_ref()) {
                Ok(()) => sent += 1,
                Err(TrySendError::Full(_)) => return Ok(sent),
                Err(TrySendError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Sends a part of this message, and ends the connection: the peer receives the error
    /// [`Truncated`](crate::ErrorKind::Truncated). The seed determines the length of the part. It may be a part of the
    /// length alone, and is never the whole message.
    ///
    /// # Errors
    ///
    /// Those of [`forge`](Self::forge).
    pub async fn end_within(mut self, message: impl AsRef<[u8]>) -> Result<()> {
        self.wait().await?;
        let connection = self.connection.as_ref().ok_or_else(ended)?;
        let beginning = self.faults.beginning(connection.transport(), message.as_ref())?;
        self.forge(beginning).await
    }

    /// Writes bytes to the peer as they are, without a frame. See
    /// [`testing::Faulty::forge`](crate::testing::Faulty::forge). Waits while the channel is full.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected): the peer does not receive any more, or the
    ///   connection was ended.
    /// - [`ErrorKind::Protocol`](crate::ErrorKind::Protocol): the peer violated the protocol (`shm`).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): a system call failed; over `packet`, for example, because the
    ///   datagram is too long.
    pub async fn forge(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.connection.as_mut().ok_or_else(ended)?.forge(bytes.as_ref()).await
    }

    /// Writes up to 64 bytes that follow from the seed, as [`forge`](Self::forge) does, and returns them. The peer gets
    /// messages, an error, or waits for the rest of a message.
    ///
    /// # Errors
    ///
    /// Those of [`forge`](Self::forge).
    pub async fn forge_junk(&mut self) -> Result<Vec<u8>> {
        let junk = self.faults.junk();
        self.forge(&junk).await?;
        Ok(junk)
    }

    /// Returns true if [`end_after`](Self::end_after) has ended the connection.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.connection.is_none()
    }

    /// Returns the connection without its faults, or `None` if they have ended it.
    #[must_use]
    pub fn into_inner(self) -> Option<Connection> {
        self.connection
    }

    async fn wait(&mut self) -> Result<()> {
        let Some(time) = self.faults.delay() else { return Ok(()) };
        let waiting =
            Waiting::until(Deadline::after(time)).map_err(|error| registration_error(Operation::Wait, DELAY, error))?;
        waiting.wait().await.map_err(|error| Error::io(Operation::Wait, DELAY, error))
    }

    fn count(&mut self) {
        self.faults.count();
        self.end_if_due();
    }

    fn end_if_due(&mut self) {
        if self.faults.is_over() {
            self.connection = None;
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("connection", &self.connection).field("faults", &self.faults).finish()
    }
}
