//! A child process that runs this executable in one of its roles.

use std::io::{ErrorKind, Read, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A child process that reads commands from stdin, one per line, and answers each with one line on stdout. Dropping
/// this handle kills the process.
pub(crate) struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Bytes that were read from stdout and not yet returned by `line`.
    begun: Vec<u8>,
    what: &'static str,
}

impl Child {
    pub(crate) fn spawn(what: &'static str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("taking stdout of the child")?;
        Ok(Self { process, stdin, stdout, begun: Vec::new(), what })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin of the child is closed")?;
        writeln!(stdin, "{line}").with_context(|| format!("the {} ended early", self.what))
    }

    /// Waits for the next line of stdout, for at most `wait_limit`, and returns it.
    pub(crate) fn line(&mut self, wait_limit: Duration) -> Result<String> {
        let deadline = Instant::now() + wait_limit;
        loop {
            if let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.begun, rest);
                line.pop();
                return Ok(String::from_utf8(line)?);
            }
            match self.read_more(deadline)? {
                None => bail!("the {} printed no line for {wait_limit:?}", self.what),
                Some(0) => bail!("the {} ended early, {}", self.what, self.process.wait()?),
                Some(_) => {}
            }
        }
    }

    /// Reads the available bytes of stdout and returns their number, which is 0 at end of file. Returns `None` if
    /// nothing arrives before the deadline.
    fn read_more(&mut self, deadline: Instant) -> Result<Option<usize>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec::try_from(left)?)) {
                Ok(0) => return Ok(None),
                Err(Errno::INTR) => continue,
                outcome => outcome?,
            };
            let mut bytes = [0; 65536];
            match self.stdout.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => {
                    let count = outcome?;
                    self.begun.extend_from_slice(&bytes[..count]);
                    return Ok(Some(count));
                }
            }
        }
    }

    /// Closes stdin, on which the process exits, and waits for its end. Discards its remaining output.
    pub(crate) fn finish(mut self, wait_limit: Duration) -> Result<()> {
        self.stdin = None;
        let deadline = Instant::now() + wait_limit;
        while self.read_more(deadline)?.with_context(|| format!("the {} did not exit by itself", self.what))? > 0 {}
        let status = self.process.wait()?;
        ensure!(status.success(), "the {} failed with {status}", self.what);
        Ok(())
    }

    pub(crate) fn ask(&mut self, line: &str, wait_limit: Duration) -> Result<String> {
        self.say(line)?;
        self.line(wait_limit)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both calls fail only if the process has ended, and then nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
