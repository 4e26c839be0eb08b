//! The process that runs for a client.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::environment::Environment;
use crate::signals::Stop;

/// How long a program may take to end after SIGTERM.
const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// In what time every program has ended for certain: SIGTERM, SIGKILL, and some time for the kernel.
pub(super) const END_AT_MOST: Duration = Duration::from_secs(5);

/// A running program. Dropping it ends and reaps it.
///
/// It is the leader of a process group of its own, so that a pipeline in a shell is ended as a whole and not only the
/// shell. The signals go to a process that is not reaped yet, so the number cannot be another's by now.
pub(super) struct Program {
    child: Child,
    group: Pid,
    pidfd: OwnedFd,
    reaped: bool,
}

impl Program {
    /// Starts a program; gives it and our ends of its stdout and its stdin.
    pub(super) fn start(
        program: &OsString,
        args: &[OsString],
        environment: Environment,
    ) -> anyhow::Result<(Program, (OwnedFd, OwnedFd))> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        environment.apply(&mut command);
        let shown = program.to_string_lossy();
        let mut child = command.spawn().with_context(|| format!("`{shown}` cannot be started"))?;
        let streams = child.stdout.take().zip(child.stdin.take());
        let group = Pid::from_child(&child);
        let pidfd = match pidfd_open(group, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error).with_context(|| format!("`{shown}` cannot be watched"));
            }
        };
        tracing::info!(pid = child.id(), program = %shown, "program started");
        let program = Program { child, group, pidfd, reaped: false };
        let (stdout, stdin) = streams.with_context(|| format!("`{shown}` has no pipes"))?;
        Ok((program, (stdout.into(), stdin.into())))
    }

    /// Readable when the program is gone.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until the program is gone, the time is over or the stop comes.
    pub(super) fn wait(&self, timeout: Option<Duration>, stop: &Stop) {
        self.poll(timeout, Some(stop));
    }

    /// Ends the program if it is still there, and reaps it.
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
        // It cannot fail for a child of ours that nobody else waits for.
        if let Ok(status) = self.child.wait() {
            tracing::info!(pid = self.child.id(), %status, "program ended");
        }
    }

    fn signal(&self, signal: Signal) {
        // It may have ended just now; it is then reaped all the same.
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether the program is gone after at most this time.
    fn poll(&self, timeout: Option<Duration>, stop: Option<&Stop>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
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
