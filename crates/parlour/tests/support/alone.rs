//! Each trial in a process of its own, which holds at the end what it held at the beginning.
//!
//! Trials run side by side, so within one process nobody could say whose a descriptor, a thread, a mapping or a child is.
//! A process for each costs some milliseconds, less than what most trials take, and makes all of them countable, with no
//! word in the tests themselves. It also keeps the trials from each other: one that hangs, dies or changes its process
//! takes no other with it.
//!
//! What must be as before is counted from the inside ([`Baseline`]), and by who started the process: all that the trial
//! starts stays in the process group of the trial, in which nobody may be left, also if its parent has gone. The files are
//! looked at when a [`Base`](super::Base) goes.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{self, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, set_parent_process_death_signal};

use super::baseline::Baseline;
use super::wait::{eventually_some, readable_within, within};

/// The environment variable that makes a process of this executable run the one trial of that name.
const TRIAL: &str = "PARLOUR_TEST_TRIAL";

/// How long a process may take to come up and to end, besides what its trial takes.
const AROUND: Duration = Duration::from_secs(40);

/// A trial of this process, once it is found.
struct Found {
    deadline: Duration,
    test: Box<dyn FnOnce() + Send>,
}

static FOUND: Mutex<Option<Found>> = Mutex::new(None);

type Ending = Box<dyn FnOnce() + Send>;

/// Only in the process of a trial.
static ENDINGS: Mutex<Option<Vec<Ending>>> = Mutex::new(None);

/// The name of the trial that this process is for, if it is for one.
pub fn wanted() -> Option<String> {
    std::env::var(TRIAL).ok()
}

/// Does this when the test has succeeded, before the process is compared with what it was, the last first; or at once in a
/// process that is for no trial, but plays a role of one.
pub fn at_end(ending: impl FnOnce() + Send + 'static) {
    {
        if let Some(endings) = &mut *ENDINGS.lock().unwrap() {
            return endings.push(Box::new(ending));
        }
    }
    ending();
}

/// What was left for the end.
fn end() {
    // One may leave more to do.
    loop {
        let ending = ENDINGS.lock().unwrap().as_mut().and_then(Vec::pop);
        let Some(ending) = ending else { return };
        ending();
    }
}

/// A trial that runs in a process of its own.
pub fn trial(deadline: Duration, name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    match wanted() {
        None => Trial::test(name.clone(), move || start(&name, deadline).map_err(Into::into)),
        Some(wanted) => {
            if wanted == name {
                let before = FOUND.lock().unwrap().replace(Found { deadline, test: Box::new(test) });
                assert!(before.is_none(), "two trials have the name {name}");
            }
            Trial::test(name, || unreachable!("its process runs it"))
        }
    }
}

/// The `main` of a process that is for one trial.
pub fn play(name: &str, trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    drop(trials());
    let found = FOUND.lock().unwrap().take();
    let Found { deadline, test } = found.unwrap_or_else(|| panic!("there is no trial {name}"));
    let before = Baseline::take();
    *ENDINGS.lock().unwrap() = Some(Vec::new());
    let outcome = within(deadline, name, test)
        .and_then(|()| within(AROUND, "the end of the trial", end))
        .and_then(|()| before.wait_until_restored(process::id()));
    let Err(wrong) = outcome else { return ExitCode::SUCCESS };
    // With the directories that they would have looked at.
    drop(ENDINGS.lock().unwrap().take());
    // What hangs must not keep the process.
    let _ = std::io::stderr().write_all(wrong.as_bytes());
    process::exit(1)
}

/// Runs the trial of this name in a process of its own. An error is what is wrong.
pub fn start(name: &str, deadline: Duration) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    // Not a pipe, whose end would wait for everybody who has it.
    let mut said = tempfile::tempfile().map_err(|error| failed("a file for what is said", error))?;
    let stderr: File = said.try_clone().map_err(|error| failed("a file for what is said", error))?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(TRIAL, name).stdin(Stdio::null()).stderr(stderr).process_group(0);
    let mut child = command.spawn().map_err(|error| failed("the process of the trial", error))?;
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let ended = readable_within(pidfd, deadline + AROUND);
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let mut wrong = String::new();
    if !ended {
        wrong = format!("its process has not ended after {:?}; ", deadline + AROUND);
    } else if !status.success() {
        wrong = format!("{status}; ");
    } else if eventually_some(|| group(pid).is_empty().then_some(())).is_none() {
        wrong = format!("processes of the trial are left: {:?}; ", group(pid));
    }
    // Whatever a failed trial leaves goes with it.
    let _ = kill_process_group(pid, Signal::KILL);
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).map_err(|error| failed("what was said", error))?;
    let text = String::from_utf8_lossy(&text);
    match wrong.is_empty() {
        true => {
            eprint!("{text}");
            Ok(())
        }
        false => Err(format!("{wrong}{text}")),
    }
}

/// Who runs in the process group of this process, as `/proc` shows them; those who have ended and that nobody has fetched
/// do not run.
fn group(leader: Pid) -> Vec<String> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold anything; behind it come the state, the parent and the group.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').take(3).collect();
        if fields[0] != "Z" && fields[2].parse() == Ok(leader.as_raw_nonzero().get()) {
            members.push(stat.split_once(") ").map_or("?", |(name, _)| name).to_owned() + ")");
        }
    }
    members
}
