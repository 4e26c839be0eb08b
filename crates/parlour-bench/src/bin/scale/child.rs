//! A child process that runs this program in one of its roles.

use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A child process that reads commands from stdin, one per line, and answers each with one line on stdout. It exits at
/// the end of stdin. Dropping this handle kills it.
pub(crate) struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Child {
    pub(crate) fn spawn(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().context("taking stdout of the child")?);
        Ok(Self { process, stdin, stdout })
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("stdin of the child is closed")?;
        writeln!(stdin, "{line}").context("a child process ended early")
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "a child process ended early");
        line.pop();
        Ok(line)
    }

    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        self.say(line)?;
        self.line()
    }

    /// Closes stdin, on which the process exits, and waits for its end.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.stdin = None;
        let status = self.process.wait()?;
        ensure!(status.success(), "a child process failed with {status}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both calls fail only if the process has ended, and then nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers each line of stdin until end of file.
pub(crate) fn obey(mut answer: impl FnMut(&str) -> Result<String>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&line?)?);
    }
    Ok(())
}
