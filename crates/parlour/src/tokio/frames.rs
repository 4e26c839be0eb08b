//! `FramePool`: a pool of frames whose owner is a task.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;

use futures_sink::Sink;
use rustix::event::PollFlags;
use tokio::io::Interest;

use super::connection::Connection;
use super::registration::registration_error;
use crate::error::{Error, Operation, Result};
use crate::frames::{Frame, FrameMut, ReaderId};
use crate::sys::readiness::Readiness;
use crate::sys::shared_fd::SharedFd;
use crate::wait::poll_now;

const OBJECT: &str = "a frame pool";

/// A [`frames::FramePool`](crate::frames::FramePool) of a task. See [`crate::frames`].
///
/// Readers need no other type: a [`FrameReader`](crate::frames::FrameReader) never waits. Its message is sent with
/// [`try_send`](Connection::try_send). The first message of a connection always fits.
///
/// # Examples
///
/// ```
/// use parlour::frames::{self, FrameLimits, FrameReader};
/// use parlour::tokio::{Connection, FramePool};
/// use parlour::{ConnectOptions, Transport, TrySendError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (served, client) = ConnectOptions::new().fds_max(2).pair(Transport::Packet)?;
/// let (mut served, mut client) = (Connection::from_blocking(served)?, Connection::from_blocking(client)?);
///
/// let mut reader = FrameReader::attach(&FrameLimits::new(), |payload| match client.try_send(payload) {
///     Ok(()) => Ok(()),
///     Err(TrySendError::Failed(error)) => Err(error),
///     Err(TrySendError::Full(_)) => unreachable!("nothing was sent before"),
/// })?;
/// let mut pool = FramePool::new(frames::FramePool::new(640 * 480)?)?;
/// let attach = served.recv().await?.expect("an attach");
/// let id = pool.get_mut().admit(attach, served.peer())?;
///
/// let mut frame = pool.loan().await?;
/// frame.fill(7);
/// pool.send(id, &frame.freeze(), b"frame 1", &mut served).await?;
/// let received = reader.open(client.recv().await?.expect("a frame"))?;
/// assert_eq!(received.to_vec()?, [7; 640 * 480]);
/// # Ok(())
/// # }
/// ```
pub struct FramePool {
    readiness: Readiness,
    pool: crate::frames::FramePool,
}

impl FramePool {
    /// Registers a pool with the current runtime.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): there is no current runtime.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): no descriptor is available, or the kernel cannot watch it.
    pub fn new(pool: crate::frames::FramePool) -> Result<Self> {
        let watched = |error: io::Error| registration_error(Operation::Register, OBJECT, error);
        let fd = pool.as_fd().try_clone_to_owned().map_err(watched)?;
        let readiness = Readiness::register(Arc::new(SharedFd::new(fd, 1)), Interest::READABLE).map_err(watched)?;
        Ok(Self { readiness, pool })
    }

    /// Returns the pool of the blocking API, to admit and remove readers.
    pub fn get_mut(&mut self) -> &mut crate::frames::FramePool {
        &mut self.pool
    }

    /// Lends a block to be filled, as [`frames::FramePool::loan`](crate::frames::FramePool::loan) does. Waits while
    /// every block is held.
    ///
    /// # Errors
    ///
    /// Those of [`frames::FramePool::loan`](crate::frames::FramePool::loan).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, nothing has happened.
    pub async fn loan(&mut self) -> Result<FrameMut> {
        self.wait_until(crate::frames::FramePool::try_loan).await
    }

    /// Sends a frame over the connection with a reader, as
    /// [`frames::FramePool::send`](crate::frames::FramePool::send) does. Waits while 64 KiB are buffered for the
    /// connection, and, with [`AtShare::Wait`](crate::frames::AtShare::Wait), while the reader holds its share.
    ///
    /// A frame that is sent by value is copied into the buffer of the connection.
    ///
    /// # Errors
    ///
    /// Those of [`frames::FramePool::send`](crate::frames::FramePool::send) and of [`Connection::send`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, the frame is sent or nothing of it is, and
    /// [`messages_taken`](Connection::messages_taken) shows which. A message that was buffered goes out with the next
    /// call that sends or flushes, or while the connection waits in `recv`.
    pub async fn send(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        note: &[u8],
        connection: &mut Connection,
    ) -> Result<()> {
        self.wait_until(|pool| Ok(pool.has_place(reader, frame)?.then_some(()))).await?;
        poll_fn(|cx| Sink::<&[u8]>::poll_ready(Pin::new(connection), cx)).await?;
        self.pool.send(reader, frame, note, |payload| connection.start_payload(&payload))?;
        connection.flush().await
    }

    /// Waits until `look` returns something.
    async fn wait_until<T>(
        &mut self,
        mut look: impl FnMut(&mut crate::frames::FramePool) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            if let Some(found) = look(&mut self.pool)? {
                return Ok(found);
            }
            let ready = self.readiness.readable().await;
            let mut ready = ready.map_err(|error| Error::io(Operation::Loan, OBJECT, error))?;
            if let Some(found) = look(&mut self.pool)? {
                return Ok(found);
            }
            // The pool takes a limited number of events at a time, and the runtime reports only changes.
            if !poll_now(self.pool.as_fd(), PollFlags::IN).contains(PollFlags::IN) {
                ready.clear_ready();
            }
        }
    }
}

impl fmt::Debug for FramePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}
