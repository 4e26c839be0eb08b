//! The process that runs for a client.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::{Pid, Rlimit, Signal, kill_process_group, test_kill_process_group};

use super::environment::Environment;
use crate::exit::{self, Failure};
use crate::exit_watch;
use crate::signals::Stop;
use crate::sys;

/// The time that a program has to exit after SIGTERM, before it gets SIGKILL.
const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// The pause between two looks at the processes that a program has left in its group.
const GROUP_INTERVAL: Duration = Duration::from_millis(20);

/// The time within which every program has exited: SIGTERM, SIGKILL, and a margin for the kernel.
pub(super) const END_AT_MOST: Duration = Duration::from_secs(5);

/// The directories in which a program is searched if `PATH` is not set, as in execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Checks that a program exists and that this process may execute it, so that a server does not report that it is ready
/// when no client can be served.
pub(super) fn check(program: &OsStr) -> anyhow::Result<()> {
    let problem = match candidates(program).iter().map(|path| check_file(path)).reduce(better) {
        Some(Ok(())) => return Ok(()),
        Some(Err(Errno::NOENT)) | None => "no such program; give its path, or correct PATH".to_owned(),
        Some(Err(Errno::ACCESS)) => "it is not an executable file; make it executable (chmod +x)".to_owned(),
        Some(Err(error)) => error.to_string(),
    };
    Err(Failure::new(exit::USAGE, format!("starting `{}`: {problem}", program.to_string_lossy())).into())
}

/// Returns the paths at which a program is searched: itself if it contains a slash, otherwise one in each directory of
/// PATH.
fn candidates(program: &OsStr) -> Vec<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') || program.is_empty() {
        return vec![program.into()];
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path).map(|directory| directory.join(program)).collect()
}

fn check_file(path: &Path) -> rustix::io::Result<()> {
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    match path.is_dir() {
        true => Err(Errno::ACCESS),
        false => Ok(()),
    }
}

/// Returns the result that tells more: success, then any other problem than a missing file.
fn better(one: rustix::io::Result<()>, other: rustix::io::Result<()>) -> rustix::io::Result<()> {
    if one.is_ok() || matches!(other, Err(Errno::NOENT | Errno::NOTDIR)) { one } else { other }
}

/// A running program. Dropping it ends and reaps it.
///
/// It leads its own process group, so that signals end a whole shell pipeline and not only the shell. When the program
/// has ended, the processes that it left in its group are ended as well: nobody would count them or end them when the
/// server stops. A process that is to stay longer leaves the group, as daemons do (setsid(1)).
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
        descriptors: Option<Rlimit>,
    ) -> anyhow::Result<(Program, (OwnedFd, OwnedFd))> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        environment.apply(&mut command);
        if let Some(limit) = descriptors {
            sys::limit_descriptors_of(&mut command, limit);
        }
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

    /// Ends the program if it still runs, and the rest of its process group, and reaps it.
    pub(super) fn end(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        // The id of the group cannot be reused: until the program is reaped, it belongs to the program.
        self.signal(Signal::TERM);
        let kill_at = Instant::now() + TERM_TO_KILL;
        if !self.poll(Some(TERM_TO_KILL), None) {
            self.signal(Signal::KILL);
        }
        // This cannot fail, because no other code waits for this child.
        if let Ok(status) = self.child.wait() {
            tracing::info!(pid = self.child.id(), %status, "program ended");
        }
        // From here on the id belongs to the rest of the group. An id is reused only after all others, which takes
        // longer than one interval.
        while test_kill_process_group(self.group).is_ok() {
            if Instant::now() >= kill_at {
                self.signal(Signal::KILL);
                break;
            }
            std::thread::sleep(GROUP_INTERVAL);
        }
    }

    fn signal(&self, signal: Signal) {
        // All processes of the group may have exited in the meantime.
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
