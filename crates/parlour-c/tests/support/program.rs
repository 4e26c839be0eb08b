//! Running programs, which must succeed in time.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use super::build;
use super::{built, home};

/// The time after which a test fails. It is long enough for a very busy machine.
pub const DEADLINE: Duration = Duration::from_secs(110);

/// Waits for a child. Kills it after the deadline.
pub fn finish(mut child: Child, what: &str) -> Output {
    let began = Instant::now();
    let mut pause = Duration::from_millis(1);
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > DEADLINE {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("{what} did not end before the deadline: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

/// Runs a command, which must succeed, and returns its output.
pub fn succeed(command: &mut Command) -> String {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let output = finish(child.unwrap_or_else(|error| panic!("{command:?}: {error}")), &format!("{command:?}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Returns a command that runs a program under valgrind. An error or a leak makes it fail.
pub fn under_valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--fair-sched=try"])
        // Memory that is reachable at the end belongs to a table. Memory that is possibly lost is an error.
        .args(["--errors-for-leak-kinds=definite,indirect,possible", "--show-leak-kinds=definite,indirect,possible"])
        // A thread that is alive when the process ends keeps a stack that the C library allocated.
        .arg(format!("--suppressions={}", home().join("tests/c/valgrind.supp").display()))
        .arg(program)
        .env("LIGHT", "1");
    command
}

/// Returns true if the tests can use the program `parlour`. The archive of this crate does not contain its sources.
pub fn has_parlour() -> bool {
    home().join("../parlour-cli/src").is_dir() || build::has("parlour")
}

/// Returns the program `parlour`, built from the current sources, or the one on the path if there are no sources.
pub fn parlour() -> &'static Path {
    static PARLOUR: OnceLock<PathBuf> = OnceLock::new();
    PARLOUR.get_or_init(|| {
        if !home().join("../parlour-cli/src").is_dir() {
            return PathBuf::from("parlour");
        }
        let program = built().join("parlour");
        let newest = ["parlour", "parlour-cli"].iter().map(|name| newest_in(&home().join("..").join(name).join("src")));
        let made = std::fs::metadata(&program).and_then(|file| file.modified());
        if !made.is_ok_and(|made| newest.max().is_some_and(|newest| made > newest)) {
            let profile = match built().file_name().unwrap().to_str().unwrap() {
                "debug" => "dev".to_owned(),
                profile => profile.to_owned(),
            };
            let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            command.args(["build", "--quiet", "--locked", "--package", "parlour-cli", "--profile", &profile]);
            build::run(command.arg("--target-dir").arg(built().parent().unwrap()).current_dir(home()));
        }
        program
    })
}

fn newest_in(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest_in(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A program in the background. Dropping it kills the program.
pub struct Background {
    child: Option<Child>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Background {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child: Some(child), lines }
    }

    /// Waits for a line of output with this beginning.
    pub fn expect(&mut self, beginning: &str) {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if line.starts_with(beginning) {
                return;
            }
            line.clear();
        }
        panic!("the program ended without the output {beginning}");
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        build::run(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]));
    }

    /// Waits for the program, which must succeed, and returns the rest of its output.
    pub fn finish(mut self) -> String {
        let child = self.child.take().unwrap();
        let output = finish(child, "the program in the background");
        assert!(output.status.success(), "{}", output.status);
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
