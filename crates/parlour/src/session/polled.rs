//! Connecting in a loop of events, where the hook after connecting is asynchronous, too.

use std::io;
use std::os::fd::AsFd;

use super::Session;
use super::state::error_of_hook;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::wait::Deadline;
use crate::wait_fd::WaitFd;

/// # Connecting in a loop of your own
///
/// [`try_send`](Session::try_send) and [`try_recv`](Session::try_recv) connect without blocking, but nothing tells when
/// to call them again, and the [hook](Session::on_connect) may block. A loop of events therefore connects by itself,
/// while [`connection`](Session::connection) returns `None`: [`try_dial`](Session::try_dial) returns each new
/// connection. The program logs in over it, in its own way, and gives it to [`welcome`](Session::welcome). While there
/// is a connection, wait for its descriptors.
///
/// ```
/// use std::os::fd::AsFd;
///
/// use parlour::{Server, Session};
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// let server = Server::bind(&name)?;
/// # let serving = std::thread::spawn(move || -> parlour::Result<_> { server.accept()?.recv() });
/// let mut session = Session::new(&name)?;
/// while session.connection().is_none() {
///     match session.try_dial()? {
///         Some(connection) => session.welcome(Ok(connection))?,
///         None => {
///             let dialing = session.dial_fd()?;
///             poll(&mut [PollFd::new(&dialing, PollFlags::IN)], None)?;
///         }
///     }
/// }
/// session.send("buy milk")?;
/// # assert_eq!(serving.join().unwrap()?.expect("a message"), b"buy milk");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Session {
    /// Advances connecting as far as that is possible without blocking, and returns a new connection. Does not call the
    /// hook. Returns `None` while no connection is established; wait for [`dial_fd`](Session::dial_fd) then.
    ///
    /// The session has no connection until [`welcome`](Session::welcome) gets this one. Other calls, and this one,
    /// would make another one meanwhile. A connection that is dropped instead is replaced by the next call.
    ///
    /// # Errors
    ///
    /// - Those of [`connect`](Session::connect), without those of the hook. The next call goes on, after the pause.
    /// - [`ErrorKind::Unsupported`]: the session has a connection.
    pub fn try_dial(&mut self) -> Result<Option<Connection>> {
        self.check_disconnected()?;
        self.state.reconnecting.step()
    }

    /// Returns a descriptor that is readable when [`try_dial`](Session::try_dial) can advance. It covers the pauses
    /// between attempts, too, so that the loop needs no timer. Drop it before the next call of `try_dial`, after which
    /// it does not tell anything. For waiting only.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`]: a system call failed.
    pub fn dial_fd(&self) -> Result<impl AsFd + Send + Sync + use<>> {
        let waits = self.state.reconnecting.wait_set(Deadline::NEVER);
        WaitFd::new(&waits).map_err(|error| self.state.reconnecting.failed(error))
    }

    /// Uses the connection that [`try_dial`](Session::try_dial) returned, or notes that the program could not log in
    /// over it and has dropped it. Messages that were sent and received over it do not count in a
    /// [`Loss`](crate::Loss).
    ///
    /// # Errors
    ///
    /// - The error of the program, if it does not mean that the server is not ready, as for a
    ///   [hook](Session::on_connect). In either case the next attempt is made after the pause.
    /// - [`ErrorKind::Unsupported`]: the session has a connection. This one is closed.
    pub fn welcome(&mut self, outcome: io::Result<Connection>) -> Result<()> {
        self.check_disconnected()?;
        match outcome {
            Ok(connection) => {
                self.state.connected();
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) => {
                let error = error_of_hook(error, self.state.reconnecting.object());
                self.state.reconnecting.hook_failed(error)
            }
        }
    }

    fn check_disconnected(&self) -> Result<()> {
        if self.connection.is_none() {
            return Ok(());
        }
        let detail = "the session has a connection";
        let error = Error::new(ErrorKind::Unsupported, Operation::Connect, self.state.reconnecting.object(), detail);
        Err(error.next("use the connection until a call reports its end"))
    }
}
