//! Starts and controls the processes of the demo.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::event::Event;
use super::scene::Scene;
use crate::exit_watch;
use crate::lines::{Framing, Splitter};

/// The timeout of every step whose duration does not depend on the length of the text.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// A child process that reports [`Event`]s. Dropping it kills and reaps it.
pub(super) struct Worker<'a> {
    who: String,
    child: Reaped,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    lines: Splitter,
    scene: &'a Scene,
}

/// A child process that does not outlive its handle.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both calls fail only if the child was reaped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Worker<'a> {
    /// Starts a server of the address, and waits until it is ready.
    pub(super) fn server(scene: &'a Scene, address: &str) -> anyhow::Result<Worker<'a>> {
        let mut server = Worker::start(scene, &format!("server of {address}"), &["demo-server", address])?;
        match server.event(SOON)? {
            Event::Ready => Ok(server),
            event => bail!("the {} sent the unexpected event {event:?}", server.who),
        }
    }

    /// Starts a client of the address, which sends nothing before [`begin`](Self::begin).
    pub(super) fn client(scene: &'a Scene, address: &str, endless: bool) -> anyhow::Result<Worker<'a>> {
        let text = scene.text().to_string_lossy();
        let mut args = vec!["demo-client", address, &text];
        args.extend(endless.then_some("--endless"));
        Worker::start(scene, &format!("client of {address}"), &args)
    }

    fn start(scene: &'a Scene, who: &str, args: &[&str]) -> anyhow::Result<Worker<'a>> {
        let mut command = scene.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Reaped(command.spawn().with_context(|| format!("starting the {who}"))?);
        let (stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
        let stdout = stdout.with_context(|| format!("the {who} has no stdout"))?;
        let lines = Splitter::new(Framing::Lines, 1);
        Ok(Worker { who: format!("{who}, pid {}", child.0.id()), child, stdin, stdout, lines, scene })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Returns a description of the process for error texts.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// Waits for the next event.
    pub(super) fn event(&mut self, timeout: Duration) -> anyhow::Result<Event> {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(line) = self.lines.peek() {
                let event =
                    serde_json::from_slice(line).with_context(|| format!("parsing an event of the {}", self.who));
                self.lines.consume();
                return event;
            }
            wait_for(&self.stdout, deadline, self.scene).with_context(|| format!("waiting for the {}", self.who))?;
            match self.stdout.read(&mut buffer).with_context(|| format!("reading from the {}", self.who))? {
                0 => bail!("the {} exited early: {}", self.who, self.child.0.wait()?),
                count => self.lines.push(&buffer[..count]),
            }
        }
    }

    /// Tells a connected client to begin.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let stdin = self.stdin.as_mut().with_context(|| format!("the {} has begun already", self.who))?;
        stdin.write_all(b"\n").with_context(|| format!("telling the {} to begin", self.who))
    }

    /// Sends SIGKILL, and waits until the process has exited.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.0.kill().and_then(|()| self.child.0.wait()).with_context(|| format!("killing the {}", self.who))?;
        Ok(())
    }

    /// Closes the stdin of the process, and waits until it exits.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        self.stdin = None;
        let status = wait_for_exit(&mut self.child.0, SOON, self.scene)
            .with_context(|| format!("waiting for the {} to exit", self.who))?;
        if !status.success() {
            bail!("the {} failed: {status}", self.who);
        }
        Ok(())
    }
}

/// The exit code and output of a command of this program.
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs this program with other arguments, and waits until it exits.
pub(super) fn run(scene: &Scene, args: &[&str]) -> anyhow::Result<Outcome> {
    let shown = format!("parlour {}", args.join(" "));
    // Unnamed files are used instead of pipes, so that reading needs no second thread.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut command = scene.command();
    command.args(args).stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = Reaped(command.spawn().with_context(|| format!("starting `{shown}`"))?);
    let status = wait_for_exit(&mut child.0, SOON, scene).with_context(|| format!("waiting for `{shown}`"))?;
    Ok(Outcome { code: status.code(), stdout: contents(&mut stdout)?, stderr: contents(&mut stderr)? })
}

fn contents(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn wait_for_exit(child: &mut Child, timeout: Duration, scene: &Scene) -> anyhow::Result<ExitStatus> {
    let exit = exit_watch::watch(child)?;
    wait_for(&exit, Instant::now() + timeout, scene)?;
    Ok(child.wait()?)
}

/// Waits until a descriptor is readable.
///
/// # Errors
///
/// The deadline passed, or the demo was interrupted.
fn wait_for(fd: &impl AsFd, deadline: Instant, scene: &Scene) -> anyhow::Result<()> {
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        let mut fds = [PollFd::new(fd, PollFlags::IN), PollFd::new(scene.stop(), PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) => bail!("timed out"),
            Ok(_) => {}
        }
        if !fds[1].revents().is_empty() {
            bail!("interrupted");
        }
        return Ok(());
    }
}
