//! Child processes that play a role, and never outlive their test.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::base::leaves_files;
use super::{DEADLINE, ROLE, wait};

/// A child process with which the test talks by lines. It is killed and reaped when this is dropped, and it ends by
/// itself when its stdin ends, so that it goes when the test process is killed.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// What was read of stdout and not given out as lines yet.
    read: Vec<u8>,
    what: String,
}

impl Child {
    /// This executable in a [role](super::roles).
    pub fn spawn<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Self {
        Self::start(&mut Self::command(role, arguments))
    }

    /// The command for [`start`](Self::start), for a child that differs in more than its arguments.
    pub fn command<A: AsRef<OsStr>>(role: &str, arguments: &[A]) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).env(ROLE, role);
        command
    }

    /// Any program, with stdin and stdout in our hands.
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take().unwrap());
        Self { process, stdin, stdout, read: Vec::new(), what }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Writes a line to the child.
    pub fn say(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Writes bytes to the child.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input has not ended");
        stdin.write_all(bytes).unwrap_or_else(|error| panic!("{} hears nothing: {error}", self.what));
    }

    /// Ends the child's stdin. A role ends by that.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of the child, without its newline; fails when none comes in time.
    pub fn line(&mut self) -> String {
        self.next_line().unwrap_or_else(|| {
            let status = self.wait();
            panic!("{} ended ({status}) where a line was expected", self.what)
        })
    }

    /// The next line, or `None` at the end of its stdout.
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

    /// All that comes until the end of its stdout.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_some() > 0 {}
        std::mem::take(&mut self.read)
    }

    /// Exactly this many bytes of its stdout, fewer only at its end.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.read_some() > 0 {}
        self.read.drain(..count.min(self.read.len())).collect()
    }

    fn read_some(&mut self) -> usize {
        assert!(wait::readable(&self.stdout), "{} said nothing for {DEADLINE:?}", self.what);
        let mut buffer = [0; 4096];
        let count = self.stdout.read(&mut buffer).unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    /// Fails unless the next line is this one.
    pub fn expect(&mut self, line: &str) {
        let said = self.line();
        assert_eq!(said, line, "{}", self.what);
    }

    /// Says a line and gives the answer.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.line()
    }

    pub fn signal(&self, signal: Signal) {
        if signal == Signal::KILL {
            leaves_files();
        }
        // A child that was not reaped keeps its number, so this is nobody else.
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// SIGKILL, and back when the process is gone.
    pub fn kill(&mut self) {
        leaves_files();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Waits for the end of the child; fails when it does not come in time.
    pub fn wait(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.process.try_wait() {
            return status;
        }
        let pidfd = pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty()).unwrap();
        assert!(wait::readable(&pidfd), "{} did not end within {DEADLINE:?}", self.what);
        self.process.wait().unwrap()
    }

    /// Ends the child's stdin and waits; fails unless it ends well.
    pub fn finish(&mut self) {
        self.end_input();
        let status = self.wait();
        let signal = status.signal().map(|signal| format!(", signal {signal}")).unwrap_or_default();
        assert!(status.success(), "{} ended with {status}{signal}", self.what);
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
