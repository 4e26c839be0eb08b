//! Sessions of calls in a loop of events, which connects and logs in by itself.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::caller::Caller;
use super::line::{Line, User};
use super::session::CallSession;
use super::succession::{Earlier, Turn, gap};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::message::Message;
use crate::session::state::error_of_hook;
use crate::wait::Deadline;
use crate::wait_fd::WaitFd;

/// # A session in a loop of your own
///
/// These functions never block. The program connects by itself, with [`try_dial`](CallSession::try_dial), logs in over
/// the [`Caller`] that this returns, and gives it to [`welcome`](CallSession::welcome). It then makes its calls over
/// this caller, as long as [`is_present`](CallSession::is_present) returns true, in any way that a `Caller` has
/// ([`Caller`](Caller#waiting-in-a-loop-of-your-own)):
///
/// - A call that fails with `Lost` may have been executed. One that fails with `Disconnected` or `Truncated` was not
///   sent: [`leave`](CallSession::leave) the caller, and make the call over the next one. Do the same with a call that
///   fails with `Busy`, if the caller is not present any more.
/// - A caller that is not present any more stays usable for the calls that are open. Drop it after them.
///
/// ```
/// use std::os::fd::AsFd;
///
/// use parlour::{CallSession, Server};
/// use rustix::event::{PollFd, PollFlags, poll};
///
/// # let base = tempfile::tempdir()?;
/// # let name = format!("{}/notes", base.path().display());
/// let server = Server::bind(&name)?;
/// # let shutdown = server.shutdown_handle();
/// let serving = std::thread::spawn(move || server.serve_calls(|call| drop(call.reply("noted"))));
///
/// let session = CallSession::new(&name)?;
/// let caller = loop {
///     if let Some(caller) = session.try_dial()? {
///         break caller;
///     }
///     let dialing = session.dial_fd()?;
///     poll(&mut [PollFd::new(&dialing, PollFlags::IN)], None)?;
/// };
/// session.welcome(Ok(&caller))?;
/// if session.is_present(&caller)? {
///     assert_eq!(caller.call("buy milk")?, b"noted");
/// }
/// # shutdown.shutdown();
/// # serving.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl CallSession {
    /// Advances connecting as far as that is possible without blocking, and returns a caller over a new connection.
    /// Does not call the [function after connecting](CallSession::on_connect). Returns `None` while no connection is
    /// established; wait for [`dial_fd`](CallSession::dial_fd) then.
    ///
    /// # Errors
    ///
    /// - Those of [`connect`](CallSession::connect), without those of the function. The next call goes on, after the
    ///   pause.
    /// - [`ErrorKind::Unsupported`]: the session has a connection, or another thread connects.
    pub fn try_dial(&self) -> Result<Option<Caller>> {
        let mut lines = self.lines()?;
        let failures = lines.failures();
        let Turn::Dial(mut dialer) = lines.turn(failures) else { return Err(self.cannot_dial()) };
        let limits = lines.limits();
        let mut woken = Vec::new();
        let outcome = match dialer.reconnecting.step() {
            Ok(connection) => {
                lines.gave_up(dialer, &mut woken);
                Ok(connection)
            }
            Err(error) => {
                lines.failed(dialer, &error, &mut woken);
                Err(error)
            }
        };
        drop(lines);
        super::session::wake(woken);
        let Some(connection) = outcome? else { return Ok(None) };
        let line = Arc::new(Line::new(connection, limits, User::Session)?);
        Ok(Some(Caller { line }))
    }

    /// Returns a descriptor that is readable when [`try_dial`](CallSession::try_dial) can advance. It covers the pauses
    /// between attempts, too, so that the loop needs no timer. Drop it before the next call of `try_dial`, after which
    /// it does not tell anything. For waiting only.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Io`]: a system call failed.
    /// - [`ErrorKind::Unsupported`]: another thread connects.
    pub fn dial_fd(&self) -> Result<impl AsFd + Send + Sync + use<>> {
        let mut lines = self.lines()?;
        let Some(dialer) = lines.dialer() else { return Err(self.cannot_dial()) };
        WaitFd::new(&dialer.reconnecting.wait_set(Deadline::NEVER)).map_err(|error| dialer.reconnecting.failed(error))
    }

    /// Uses the caller that [`try_dial`](CallSession::try_dial) returned for the calls of this session, or notes that
    /// the program could not log in over it and has dropped it.
    ///
    /// # Errors
    ///
    /// - The error of the program, if it does not mean that the server is not ready, as for
    ///   [`on_connect`](CallSession::on_connect). In either case the next attempt is made after the pause.
    /// - [`ErrorKind::Unsupported`]: the session has a connection, or another thread connects, or this caller is not
    ///   one of `try_dial`.
    pub fn welcome(&self, outcome: io::Result<&Caller>) -> Result<()> {
        let line = match outcome {
            Ok(caller) if !caller.line.is_of_session() => return Err(self.cannot_dial()),
            Ok(caller) => Ok(Arc::clone(&caller.line)),
            Err(error) => Err(error_of_hook(error, self.object())),
        };
        if let Ok(line) = &line {
            line.state()?.exchange.settle();
        }
        let mut lines = self.lines()?;
        let failures = lines.failures();
        let Turn::Dial(mut dialer) = lines.turn(failures) else { return Err(self.cannot_dial()) };
        let mut woken = Vec::new();
        let outcome = match line {
            Ok(line) => {
                lines.connected(dialer, line, &mut woken);
                Ok(())
            }
            Err(error) => match dialer.reconnecting.hook_failed(error) {
                Ok(()) => {
                    lines.gave_up(dialer, &mut woken);
                    Ok(())
                }
                Err(error) => {
                    lines.failed(dialer, &error, &mut woken);
                    Err(error)
                }
            },
        };
        drop(lines);
        super::session::wake(woken);
        outcome
    }

    /// Returns true if the next call belongs to this caller. It does not if its connection has ended, if the server
    /// has asked to leave it, or if the session has left it. The session then has no connection.
    ///
    /// This does not receive: [`Caller::advance`] does, and finds the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn is_present(&self, caller: &Caller) -> Result<bool> {
        if caller.line.is_over()? {
            self.leave(caller)?;
            return Ok(false);
        }
        Ok(self.lines()?.line().is_some_and(|line| Arc::ptr_eq(line, &caller.line)))
    }

    /// Ends the use of this caller for further calls. Does nothing if it is not the present one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NameLost`]: this is a forked child.
    pub fn leave(&self, caller: &Caller) -> Result<()> {
        // The lock is released before it is taken again.
        let number = self.lines()?.numbered(|line| Arc::ptr_eq(line, &caller.line));
        match number {
            Some(number) => self.retire(number, &caller.line),
            None => Ok(()),
        }
    }

    /// Returns the next pushed message that had arrived over a connection that has ended, and `None` after the last.
    /// The messages of the present connection come after these.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`]: as [`next_push`](CallSession::next_push).
    pub fn earlier_push(&self) -> Result<Option<Message>> {
        match self.lines()?.earlier() {
            Some(Earlier::Push(message)) => Ok(Some(message)),
            Some(Earlier::Gap) => Err(gap(self.object())),
            None => Ok(None),
        }
    }

    #[cold]
    fn cannot_dial(&self) -> Error {
        let detail = "the session has a connection, or another thread connects, or this is no new caller of it";
        Error::new(ErrorKind::Unsupported, Operation::Connect, self.object(), detail)
            .next("connect in one thread, while no caller is present")
    }
}
