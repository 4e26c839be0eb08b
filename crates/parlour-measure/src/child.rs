//! A process of this executable in one of its roles.

use std::io::{ErrorKind, Read, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// It is told what to do by lines, and answers each with one. It is killed when this is dropped.
pub(crate) struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What has come of the next line.
    begun: Vec<u8>,
    what: &'static str,
}

impl Child {
    pub(crate) fn spawn(what: &'static str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().context("its stdout")?;
        Ok(Self { process, stdin, stdout, begun: Vec::new(), what })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin has ended")?;
        writeln!(stdin, "{line}").with_context(|| format!("the {} has ended early", self.what))
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
                let rest = self.begun.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.begun, rest);
                line.pop();
                return Ok(String::from_utf8(line)?);
            }
            match self.read_more(deadline)? {
                None => bail!("the {} has said nothing for {patience:?}", self.what),
                Some(0) => bail!("the {} has ended early, {}", self.what, self.process.wait()?),
                Some(_) => {}
            }
        }
    }

    /// Reads what there is of its stdout, 0 bytes at the end; `None` when there is nothing until the deadline.
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

    /// Has it end by itself, which it does when its stdin ends. What else it prints until then is of no interest.
    pub(crate) fn finish(mut self, patience: Duration) -> Result<()> {
        self.stdin = None;
        let deadline = Instant::now() + patience;
        while self.read_more(deadline)?.with_context(|| format!("the {} does not end by itself", self.what))? > 0 {}
        let status = self.process.wait()?;
        ensure!(status.success(), "the {} has ended with {status}", self.what);
        Ok(())
    }

    pub(crate) fn ask(&mut self, line: &str, patience: Duration) -> Result<String> {
        self.say(line)?;
        self.line(patience)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it has ended, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
