//! Shared test support: a directory of names for each test, and processes that do not outlive their test.
#![allow(dead_code, reason = "each test file uses a part of this module")]

pub mod own_machine;
mod signals;

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

pub use signals::restore_interrupts;

/// The timeout of every wait. It is longer than any step takes, so that a test that reaches it has failed.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The names of all transports.
pub const TRANSPORTS: [&str; 4] = ["shm", "packet", "unix", "fifo"];

/// A sample text with an empty line, blanks, a tab, letters beyond ASCII and no newline at its end.
pub const TEXT: &str = "A parlour is a room\nset aside for talking.\n\n  Größe, ναός, 家;\ttabs too\nno newline here";

/// A directory of names for one test.
pub struct Home {
    directory: TempDir,
}

impl Home {
    pub fn new() -> Home {
        let directory = tempfile::Builder::new()
            .prefix("parlour-test-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .unwrap();
        Home { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory of a name.
    pub fn name(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Returns a `parlour` command with these arguments that uses the names in this directory. The signals that end it
    /// have their default actions, also where the tests run with some of them ignored.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlour"));
        command.args(args).env("PARLOUR_DIR", self.path()).env_remove("PARLOUR_LOG").env_remove("XDG_RUNTIME_DIR");
        restore_interrupts(&mut command);
        command
    }

    /// Runs `parlour` with an empty stdin, and waits until it exits.
    pub fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, b"")
    }

    /// Runs `parlour` with these bytes on stdin, and waits until it exits.
    pub fn run_with(&self, args: &[&str], stdin: &[u8]) -> Output {
        assert_cmd::Command::from_std(self.command(args)).write_stdin(stdin).timeout(DEADLINE).output().unwrap()
    }

    /// Runs `parlour`, which must succeed, and returns its stdout.
    pub fn stdout(&self, args: &[&str], stdin: &[u8]) -> String {
        let output = self.run_with(args, stdin);
        assert_eq!(output.status.code(), Some(0), "parlour {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Returns what `parlour list --all --json` prints for a name.
    pub fn listed(&self, name: &str) -> serde_json::Value {
        let rows: serde_json::Value = serde_json::from_str(&self.stdout(&["list", "--all", "--json"], b"")).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("{name} is not in {rows}")).clone()
    }

    /// Starts a server and waits until it is ready.
    pub fn serve(&self, args: &[&str]) -> Running {
        self.serve_with(self.command(&[&["serve"], args].concat()))
    }

    /// Starts a server with the given command and waits until it is ready.
    pub fn serve_with(&self, mut command: Command) -> Running {
        let mut server = Running::start(command.stdin(Stdio::null()));
        let ready = server.line();
        assert!(ready.starts_with("ready "), "{ready:?}: {}", server.stderr());
        server.ready = ready;
        server
    }

    /// Starts `parlour` with pipes for all of its streams.
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args).stdin(Stdio::piped()))
    }
}

/// A process that is killed and reaped at the end of its test.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    /// The line that a server printed when it was ready.
    pub ready: String,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { stdin: child.stdin.take(), stdout, child, ready: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line of stdout, without its newline.
    pub fn line(&mut self) -> String {
        let stdout = self.stdout.as_mut().unwrap();
        if stdout.buffer().is_empty() {
            wait_until_readable(stdout.get_ref());
        }
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// Returns true if stdout has a line, or comes to have one within this time.
    pub fn has_line(&mut self, time: Duration) -> bool {
        let stdout = self.stdout.as_mut().unwrap();
        let timeout = Timespec::try_from(time).unwrap();
        !stdout.buffer().is_empty()
            || poll(&mut [PollFd::new(stdout.get_ref(), PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the process has exited.
    pub fn wait(&mut self) -> ExitStatus {
        Running::wait_for(&mut self.child)
    }

    /// Waits until a child has exited.
    pub fn wait_for(child: &mut Child) -> ExitStatus {
        wait_until_readable(pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap());
        child.wait().unwrap()
    }

    /// Returns the rest of stderr. Blocks until the process closes it.
    pub fn stderr(&mut self) -> String {
        let mut bytes = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut bytes).unwrap();
        text(&bytes)
    }

    /// Returns the next line of stderr, without its newline.
    pub fn stderr_line(&mut self) -> String {
        let stderr = self.child.stderr.as_mut().unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        wait_until_readable(&*stderr);
        while stderr.read(&mut byte).unwrap() > 0 && byte != *b"\n" {
            line.push(byte[0]);
        }
        text(&line)
    }

    /// Returns the rest of stdout. Blocks until the process closes it.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stdout.as_mut().unwrap().read_to_end(&mut bytes).unwrap();
        text(&bytes)
    }

    /// Reads stderr until it contains this text.
    pub fn wait_for_stderr(&mut self, part: &str) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut said = Vec::new();
        while !text(&said).contains(part) {
            wait_until_readable(&*stderr);
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "stderr ended: {}", text(&said));
            said.push(byte[0]);
        }
    }

    /// Sends SIGKILL, and waits until the process has exited.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && !self.ready.is_empty()
        {
            // The server gets time to end its programs, some of which ignore their input or SIGTERM. The second signal
            // makes it end open connections without the grace period.
            if let Ok(pidfd) = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) {
                let deadline = Instant::now() + DEADLINE / 2;
                let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
                while Instant::now() < deadline {
                    let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
                    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0) {
                        break;
                    }
                }
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test over all transports at the same time, because most of its time it waits for a timeout.
pub fn at_once_over_each_transport(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for transport in TRANSPORTS {
            let test = &test;
            scope.spawn(move || test(transport));
        }
    });
}

/// A child that is killed and reaped at the end of its test.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a process that is not a child of this one has exited and was reaped.
pub fn wait_until_gone(pid: u32) {
    let deadline = Instant::now() + DEADLINE;
    if let Some(pid) = Pid::from_raw(pid.try_into().unwrap())
        && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
    {
        wait_until_readable(pidfd);
    }
    // The kernel reports the reaping only to the parent, so poll for it.
    let proc = PathBuf::from(format!("/proc/{pid}"));
    while proc.exists() {
        assert!(Instant::now() < deadline, "process {pid} stays a zombie");
        std::thread::yield_now();
    }
}

/// Waits until a descriptor is readable.
pub fn wait_until_readable(fd: impl AsFd) {
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return assert!(ready.unwrap() > 0, "timed out"),
        }
    }
}

/// Decodes bytes, and replaces those that are not UTF-8.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program of the system with this input, and returns its stdout.
pub fn pipe_through(program: &str, args: &[&str], stdin: &[u8]) -> String {
    let output = assert_cmd::Command::new(program).args(args).write_stdin(stdin).timeout(DEADLINE).output().unwrap();
    text(&output.stdout)
}
