//! The process that runs for a client.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::environment::Environment;
use crate::exit_watch;
use crate::signals::Stop;

/// The time that a program has to exit after SIGTERM, before it gets SIGKILL.
const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// The time within which every program has exited: SIGTERM, SIGKILL, and a margin for the kernel.
pub(super) const END_AT_MOST: Duration = Duration::from_secs(5);

/// A running program. Dropping it ends and reaps it.
///
/// It leads its own process group, so that signals end a whole shell pipeline and not only the shell. Signals are sent
/// only before the process is reaped, so that its id cannot have been reused.
pub(super) struct Program {
    child: Child,
    group: Pid,
    exit: OwnedFd,
    reaped: bool,
}

impl Program {
    /// Starts a program. Returns it with the local ends of its stdout and its stdin.
    pub(super) fn start(
        program: &OsString,
        args: &[OsString],
        environment: Environment,
    ) -> anyhow::Result<(Program, (OwnedFd, OwnedFd))> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        environment.apply(&mut command);
        let shown = program.to_string_lossy();
        let mut child = command.spawn().with_context(|| format!("starting `{shown}`"))?;
        let streams = child.stdout.take().zip(child.stdin.take());
        let group = Pid::from_child(&child);
        let exit = match exit_watch::watch(&child) {
            Ok(exit) => exit,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error).with_context(|| format!("watching for the exit of `{shown}`"));
            }
        };
        tracing::info!(pid = child.id(), program = %shown, "program started");
        let program = Program { child, group, exit, reaped: false };
        let (stdout, stdin) = streams.with_context(|| format!("opening the pipes of `{shown}`"))?;
        Ok((program, (stdout.into(), stdin.into())))
    }

    /// Returns a descriptor that has events when the program has exited.
    pub(super) fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }

    /// Waits until the program has exited, the timeout has expired or `stop` is triggered.
    pub(super) fn wait(&self, timeout: Option<Duration>, stop: &Stop) {
        self.poll(timeout, Some(stop));
    }

    /// Ends the program if it still runs, and reaps it.
    pub(super) fn end(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        if !self.poll(Some(Duration::ZERO), None) {
            self.signal(Signal::TERM);
            if !self.poll(Some(TERM_TO_KILL), None) {
                self.signal(Signal::KILL);
            }
        }
        // This cannot fail, because no other code waits for this child.
        if let Ok(status) = self.child.wait() {
            tracing::info!(pid = self.child.id(), %status, "program ended");
        }
    }

    fn signal(&self, signal: Signal) {
        // The program may have exited in the meantime. It is reaped in either case.
        let _ = kill_process_group(self.group, signal);
    }

    /// Waits as [`wait`](Self::wait) does. Returns true if the program has exited.
    fn poll(&self, timeout: Option<Duration>, stop: Option<&Stop>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let mut fds = vec![PollFd::new(&self.exit, PollFlags::IN)];
            fds.extend(stop.map(|stop| PollFd::new(stop, PollFlags::IN)));
            let left = deadline
                .and_then(|deadline| Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok());
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                _ => return !fds.first().is_none_or(|program| program.revents().is_empty()),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
