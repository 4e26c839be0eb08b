//! Child processes that play a role and never outlive their test.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::base::leaves_files;
use super::{DEADLINE, ROLE, wait};

/// A child process that exchanges lines with the test. It is killed and reaped on drop. It also exits when its stdin
/// reaches end of file, so it exits when the test process is killed.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Bytes that were read from stdout and not returned as lines yet.
    read: Vec<u8>,
    what: String,
}

impl Child {
    /// Starts this executable in a [role](super::roles).
    pub fn spawn<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Self {
        Self::start(&mut Self::command(role, arguments))
    }

    /// Returns the command for [`start`](Self::start), for a child that needs more than arguments.
    pub fn command<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).env(ROLE, role);
        command
    }

    /// Starts any program with stdin and stdout as pipes to this process.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.unwrap_or_else(|error| panic!("start {what}: {error}"));
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take().unwrap());
        Self { process, stdin, stdout, read: Vec::new(), what }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns false if the child has exited.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Writes a line to the child.
    pub fn say(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes bytes to the child.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).unwrap_or_else(|error| panic!("write to {}: {error}", self.what));
    }

    /// Closes the child's stdin, which ends a role.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Returns the next line of the child without its newline. Panics if none arrives before the deadline.
    pub fn line(&mut self) -> String {
        self.next_line().unwrap_or_else(|| {
            let status = self.wait();
            panic!("{} exited ({status}) before it printed the expected line", self.what)
        })
    }

    /// Returns the next line, or `None` at end of file.
    pub fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&c| c == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if self.read_some() == 0 {
                let rest = std::mem::take(&mut self.read);
                return (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned());
            }
        }
    }

    /// Returns all output until end of file.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_some() > 0 {}
        std::mem::take(&mut self.read)
    }

    /// Returns exactly this many bytes of stdout, or fewer at end of file.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.read_some() > 0 {}
        self.read.drain(..count.min(self.read.len())).collect()
    }

    fn read_some(&mut self) -> usize {
        assert!(wait::readable(&self.stdout), "{} printed nothing for {DEADLINE:?}", self.what);
        let mut buffer = [0; 4096];
        let count = self.stdout.read(&mut buffer).unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    /// Panics unless the next line equals `line`.
    pub fn expect(&mut self, line: &str) {
        let said = self.line();
        assert_eq!(said, line, "{}", self.what);
    }

    /// Writes a line and returns the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    pub fn signal(&self, signal: Signal) {
        if signal == Signal::KILL {
            leaves_files();
        }
        // The pid of a child that is not reaped yet cannot be reused.
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) {
        leaves_files();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for the exit of the child. Panics at the deadline.
    pub fn wait(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.process.try_wait() {
            return status;
        }
        match pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty()) {
            Ok(pidfd) => assert!(wait::readable(&pidfd), "{} did not exit within {DEADLINE:?}", self.what),
            // Trials run without this system call, too.
            Err(_) => {
                wait::eventually("the child exits", || self.process.try_wait().is_ok_and(|status| status.is_some()))
            }
        }
        self.process.wait().unwrap()
    }

    /// Closes the child's stdin and waits. Panics unless it exits with success.
    pub fn finish(&mut self) {
        self.end_input();
        let status = self.wait();
        let signal = status.signal().map(|signal| format!(", signal {signal}")).unwrap_or_default();
        assert!(status.success(), "{} exited with {status}{signal}", self.what);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            leaves_files();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
