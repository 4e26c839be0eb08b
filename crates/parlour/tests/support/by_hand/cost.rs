//! What waiting costs: a thread that waits wakes up rarely and uses no time.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Child, eventually};

/// How often threads have gone to sleep, and how long they have run.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub sleeps: u64,
    pub ran: Duration,
}

/// The calling thread, as `/proc` knows it.
pub fn this_thread() -> PathBuf {
    Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap())
}

/// Waits until this thread sleeps, so that what comes next must wake it.
pub fn until_asleep(task: &Path) {
    eventually("the thread sleeps", || is_in_state(task, 'S'));
}

/// Stops a child, and comes back when all of its threads stand still.
pub fn stop(child: &Child) {
    child.signal(Signal::STOP);
    eventually("the child stands still", || {
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
    // Nanoseconds on a processor, nanoseconds waiting for one, and time slices.
    let schedule = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let ran = schedule.split_ascii_whitespace().next().map_or(0, |ran| ran.parse().unwrap());
    Cost { sleeps: sleeps.map_or(0, |count| count.trim().parse().unwrap()), ran: Duration::from_nanos(ran) }
}

/// What a thread did in this time.
pub fn of_thread(task: &Path, time: Duration) -> Cost {
    measure(&[task.to_owned()], time)
}

/// What the threads of a process did in this time.
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
    // This is what is measured, and nothing is synchronised by it.
    thread::sleep(time);
    let after = total();
    let scale = time.as_secs_f64() / begin.elapsed().as_secs_f64();
    Cost { sleeps: ((after.0 - before.0) as f64 * scale) as u64, ran: after.1.saturating_sub(before.1).mul_f64(scale) }
}
