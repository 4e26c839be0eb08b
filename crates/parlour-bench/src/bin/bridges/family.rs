//! Child processes, with the processes that these start.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};

/// The argument that makes this program execute the program that follows.
pub(crate) const EXEC: &str = "--exec";

/// Executes a program, which the kernel kills when the process that has started it ends. Raises its limit on open
/// descriptors.
pub(crate) fn exec(arguments: &[String]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let [program, rest @ ..] = arguments else { bail!("no program to execute") };
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("executing {program}"))
}

/// A process with its descendants. Dropping it kills all of them.
#[derive(Debug)]
pub(crate) struct Family(Child);

impl Family {
    /// Starts a program. Its output goes to a file.
    pub(crate) fn start(command: &[&str], variable: Option<(&str, &Path)>, log: &Path) -> Result<Self> {
        let mut this = Command::new(std::env::current_exe()?);
        this.arg(EXEC).args(command).envs(variable);
        let log = fs::File::options().create(true).append(true).open(log)?;
        this.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(this.spawn().with_context(|| format!("starting {command:?}"))?))
    }

    /// Returns true if the process has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Returns the process and its descendants, each parent before its children.
    pub(crate) fn members(&self) -> Vec<u32> {
        let mut members = vec![self.0.id()];
        let mut next = 0;
        while let Some(&member) = members.get(next) {
            members.extend(children(member));
            next += 1;
        }
        members
    }

    /// Sends a signal to all of them.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.members() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // One that has ended needs no signal.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Returns the resident anonymous memory of all of them, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.members() {
            sum += parlour_bench::resident_bytes_of(pid)?;
        }
        Ok(sum)
    }
}

/// Returns the children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

impl Drop for Family {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}
