//! The cost of waiting: a thread that waits wakes up rarely and uses no CPU time.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Child, eventually};

/// The number of times that threads have gone to sleep, and their CPU time.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub sleeps: u64,
    pub ran: Duration,
}

/// Returns the directory of the calling thread in `/proc`.
pub fn this_thread() -> PathBuf {
    Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap())
}

/// Waits until this thread sleeps, so that the next event must wake it.
pub fn until_asleep(task: &Path) {
    eventually("the thread sleeps", || is_in_state(task, 'S'));
}

/// Sends SIGSTOP to a child and waits until all of its threads are stopped.
pub fn stop(child: &Child) {
    child.signal(Signal::STOP);
    eventually("all threads of the child are stopped", || {
        fs::read_dir(format!("/proc/{}/task", child.pid()))
            .unwrap()
            .flatten()
            .all(|task| is_in_state(&task.path(), 'T'))
    });
}

fn is_in_state(task: &Path, state: char) -> bool {
    let stat = fs::read_to_string(task.join("stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().starts_with(state)
}

fn of_task(task: &Path) -> Cost {
    let status = fs::read_to_string(task.join("status")).unwrap_or_default();
    let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    // schedstat: nanoseconds on a CPU, nanoseconds waiting for one, and the number of time slices.
    let schedule = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let ran = schedule.split_ascii_whitespace().next().map_or(0, |ran| ran.parse().unwrap());
    Cost { sleeps: sleeps.map_or(0, |count| count.trim().parse().unwrap()), ran: Duration::from_nanos(ran) }
}

/// Measures a thread for this time.
pub fn of_thread(task: &Path, time: Duration) -> Cost {
    measure(&[task.to_owned()], time)
}

/// Measures all threads of a process for this time.
pub fn of_process(pid: u32, time: Duration) -> Cost {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tasks: Vec<PathBuf> = tasks.map(|entry| entry.unwrap().path()).collect();
    measure(&tasks, time)
}

fn measure(tasks: &[PathBuf], time: Duration) -> Cost {
    let total = || {
        let costs = tasks.iter().map(|task| of_task(task));
        costs.fold((0, Duration::ZERO), |(sleeps, ran), cost| (sleeps + cost.sleeps, ran + cost.ran))
    };
    let begin = Instant::now();
    let before = total();
    // This sleep is the period of the measurement and synchronises nothing.
    thread::sleep(time);
    let after = total();
    let scale = time.as_secs_f64() / begin.elapsed().as_secs_f64();
    Cost { sleeps: ((after.0 - before.0) as f64 * scale) as u64, ran: after.1.saturating_sub(before.1).mul_f64(scale) }
}
