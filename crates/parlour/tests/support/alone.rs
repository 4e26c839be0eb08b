//! Runs each trial in its own process and checks that the process leaks nothing.
//!
//! Trials run in parallel. Within one process, a leaked descriptor, thread, mapping or child could not be attributed
//! to a trial. One process per trial costs some milliseconds, less than most trials take, and makes all of these
//! countable without code in the tests. It also isolates the trials: a trial that hangs, dies or changes process state
//! does not affect others.
//!
//! Leaks are checked from the inside, by a [`Baseline`], and from the outside, by the parent: everything that the
//! trial starts stays in the process group of the trial, which must be empty at the end, even of orphans. Files are
//! checked when a [`Base`](super::Base) is dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal};

use super::baseline::Baseline;
use super::own_machine;
use super::wait::{eventually_some, readable_within, within};

/// The environment variable with the name of the one trial that this process runs.
const TRIAL: &str = "PARLOUR_TEST_TRIAL";

/// The environment variable with the path of a file to which the durations of the trials are appended.
const TIMES: &str = "PARLOUR_TEST_TIMES";

/// The time that a process may take to start and to exit, in addition to the time of its trial.
const AROUND: Duration = Duration::from_secs(40);

/// The trial of this process.
struct Found {
    deadline: Duration,
    on_own_machine: bool,
    test: Box<dyn FnOnce() + Send>,
}

static FOUND: Mutex<Option<Found>> = Mutex::new(None);

type Ending = Box<dyn FnOnce() + Send>;

/// The actions for the end of the trial. `None` in a process that does not run a trial.
static ENDINGS: Mutex<Option<Vec<Ending>>> = Mutex::new(None);

/// Returns the name of the trial that this process runs, if it runs one.
pub fn wanted() -> Option<String> {
    std::env::var(TRIAL).ok()
}

/// Returns the command that runs the trial with this name of this executable, as a user does.
pub fn run_of(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name]).env_remove(TRIAL);
    command
}

/// Runs `ending` when the test has succeeded, before the process is compared with its baseline, in reverse order of
/// registration. In a process that plays a role and runs no trial, runs it immediately.
pub fn at_end(ending: impl FnOnce() + Send + 'static) {
    {
        if let Some(endings) = &mut *ENDINGS.lock().unwrap() {
            return endings.push(Box::new(ending));
        }
    }
    ending();
}

/// Runs the registered actions.
fn end() {
    // An action may register another one.
    loop {
        let ending = ENDINGS.lock().unwrap().as_mut().and_then(Vec::pop);
        let Some(ending) = ending else { return };
        ending();
    }
}

/// Creates a trial that runs in its own process, with this environment in addition, and on its
/// [own machine](super::own_machine) if that is true.
pub fn trial(
    deadline: Duration,
    on_own_machine: bool,
    name: String,
    environment: Vec<(&'static str, OsString)>,
    test: impl FnOnce() + Send + 'static,
) -> Trial {
    match wanted() {
        None => Trial::test(name.clone(), move || start_with(&name, deadline, &environment).map_err(Into::into)),
        Some(wanted) => {
            if wanted == name {
                let before = FOUND.lock().unwrap().replace(Found { deadline, on_own_machine, test: Box::new(test) });
                assert!(before.is_none(), "two trials have the name {name}");
            }
            Trial::test(name, || unreachable!("the trial runs in its own process"))
        }
    }
}

/// The `main` of a process that runs one trial.
pub fn play(name: &str, trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    drop(trials());
    let found = FOUND.lock().unwrap().take();
    let found = found.unwrap_or_else(|| panic!("no trial has the name {name}"));
    let Found { deadline, on_own_machine, test } = found;
    if on_own_machine {
        own_machine::enter().unwrap();
    }
    let before = Baseline::take();
    *ENDINGS.lock().unwrap() = Some(Vec::new());
    let outcome = within(deadline, name, test)
        .and_then(|()| within(AROUND, "the end of the trial", end))
        .and_then(|()| before.wait_until_restored(process::id()));
    let Err(wrong) = outcome else { return ExitCode::SUCCESS };
    // Drops the directories that the actions would have checked.
    drop(ENDINGS.lock().unwrap().take());
    // Exits without joining threads, because one may hang.
    let _ = std::io::stderr().write_all(wrong.as_bytes());
    process::exit(1)
}

/// Runs the trial with this name in its own process. An error describes the failure.
pub fn start(name: &str, deadline: Duration) -> Result<(), String> {
    start_with(name, deadline, &[])
}

fn start_with(name: &str, deadline: Duration, environment: &[(&'static str, OsString)]) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    // The output goes to a file. A pipe would reach end of file only when all leaked processes have exited.
    let mut said = tempfile::tempfile().map_err(|error| failed("create a file for stderr", error))?;
    let stderr: File = said.try_clone().map_err(|error| failed("create a file for stderr", error))?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    own_machine::hide_names(&mut command);
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    command.env(TRIAL, name).stdin(Stdio::null()).stderr(stderr).process_group(0);
    let begin = Instant::now();
    let mut child = command.spawn().map_err(|error| failed("start the process of the trial", error))?;
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let ended = readable_within(pidfd, deadline + AROUND);
    if !ended {
        child.kill().unwrap();
    }
    record(name, begin.elapsed(), pid);
    let status = child.wait().unwrap();
    let mut wrong = String::new();
    if !ended {
        wrong = format!("the process did not exit within {:?}; ", deadline + AROUND);
    } else if !status.success() {
        wrong = format!("{status}; ");
    } else if eventually_some(|| group(pid).is_empty().then_some(())).is_none() {
        wrong = format!("the trial left processes: {:?}; ", group(pid));
    }
    // Removes the processes that a failed trial left.
    let _ = kill_process_group(pid, Signal::KILL);
    let mut text = Vec::new();
    said.rewind()
        .and_then(|()| said.read_to_end(&mut text))
        .map_err(|error| failed("read the file for stderr", error))?;
    let text = String::from_utf8_lossy(&text);
    match wrong.is_empty() {
        true => {
            eprint!("{text}");
            Ok(())
        }
        false => Err(format!("{wrong}{text}")),
    }
}

/// Appends the duration of this trial and its processor time to the file of [`TIMES`], in seconds. The difference is
/// the time that the trial waited, for the processor too. The process has ended and was not waited for.
fn record(name: &str, duration: Duration, pid: Pid) {
    let Some(times) = std::env::var_os(TIMES) else { return };
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The 14th to 17th fields: the time in user space and in the kernel, of the process and of its children.
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux reports 100 ticks per second on every machine.
    let busy = ticks as f64 / 100.0;
    let line = format!("{:.2} {busy:.2} {name}\n", duration.as_secs_f64());
    let file = File::options().append(true).create(true).open(times);
    file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
}

/// Returns the names of the processes in this process group, from `/proc`. Zombies are omitted.
fn group(leader: Pid) -> Vec<String> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name is in parentheses and may contain any character. The state, the parent and the group follow it.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').take(3).collect();
        if fields[0] != "Z" && fields[2].parse() == Ok(leader.as_raw_nonzero().get()) {
            members.push(stat.split_once(") ").map_or("?", |(name, _)| name).to_owned() + ")");
        }
    }
    members
}
