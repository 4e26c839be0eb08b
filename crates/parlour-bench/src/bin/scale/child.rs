//! A process of this program in one of its roles.

use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// It is told what to do by lines, and answers each with one. It ends when its stdin does, and is killed when this is dropped.
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
        let stdout = BufReader::new(process.stdout.take().context("its stdout")?);
        Ok(Self { process, stdin, stdout })
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin has ended")?;
        writeln!(stdin, "{line}").context("a process has ended early")
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "a process has ended early");
        line.pop();
        Ok(line)
    }

    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        self.say(line)?;
        self.line()
    }

    /// Has it end by itself.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.stdin = None;
        let status = self.process.wait()?;
        ensure!(status.success(), "a process has ended with {status}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it has ended, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers each line of stdin, until there are no more.
pub(crate) fn obey(mut answer: impl FnMut(&str) -> Result<String>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&line?)?);
    }
    Ok(())
}
