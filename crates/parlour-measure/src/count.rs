//! The resources that a process uses: processor time, memory, descriptors.

use std::fs;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The counters of a program whose allocator counts.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// Returns the number of allocations and reallocations so far.
    pub count: fn() -> u64,
    /// Returns the number of bytes that are allocated now.
    pub bytes: fn() -> u64,
    /// Excludes further allocations of the calling thread from `count`.
    pub leave_out: fn(),
}

static ALLOCATOR: OnceLock<Allocator> = OnceLock::new();

/// Registers the counters of this program's allocator. Without a registration, allocations are not counted.
pub fn allocator(allocator: Allocator) {
    // A second registration is ignored: a program has only one allocator.
    let _ = ALLOCATOR.set(allocator);
}

pub(crate) fn allocations() -> Option<u64> {
    ALLOCATOR.get().map(|allocator| (allocator.count)())
}

pub(crate) fn allocated_bytes() -> Option<u64> {
    ALLOCATOR.get().map(|allocator| (allocator.bytes)())
}

pub(crate) fn leave_this_thread_out() {
    if let Some(allocator) = ALLOCATOR.get() {
        (allocator.leave_out)();
    }
}

/// Returns the processor time of this process (clock_gettime(2), `CLOCK_PROCESS_CPUTIME_ID`).
pub(crate) fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns the processor time of another process: the sum over its threads that have not ended. The figure is exact
/// while the threads sleep.
///
/// # Errors
///
/// Returns an error if the process does not exist, or /proc does not provide the figure.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            // The thread has ended since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let first = text.split(' ').next().unwrap_or_default();
        sum += first.parse::<u64>().with_context(|| format!("in {}", path.display()))?;
    }
    Ok(sum)
}

/// Returns the page faults of a process since its start (`minflt` and `majflt` in /proc/PID/stat).
///
/// # Errors
///
/// Returns an error if the process does not exist, or /proc does not provide the figure.
pub fn page_faults(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program, in parentheses, may contain spaces. Behind it follow the fields from the third on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| {
        let text = fields.get(number - 3).context("/proc/PID/stat is too short")?;
        text.parse::<u64>().context("a field of /proc/PID/stat is not a number")
    };
    Ok(field(10)? + field(12)?)
}

/// Returns the resident anonymous memory of this process, in bytes (`RssAnon` in /proc/self/status).
///
/// # Errors
///
/// Returns an error if /proc does not provide the figure.
pub fn resident_bytes() -> Result<u64> {
    resident_bytes_of(std::process::id())
}

/// Returns the resident anonymous memory of a process, in bytes (`RssAnon` in /proc/PID/status).
///
/// # Errors
///
/// Returns an error if the process does not exist, or /proc does not provide the figure.
pub fn resident_bytes_of(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let line = line.with_context(|| format!("no RssAnon in /proc/{pid}/status"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("RssAnon is not a number")?;
    Ok(kib * 1024)
}

/// Raises the limit on open descriptors for this many connections: to two descriptors each or, if the system does not
/// allow that many, to one each.
pub(crate) fn make_room_for(connections: usize) -> Result<()> {
    let others = 64;
    raise(connections as u64 * 2 + others).or_else(|_| raise(connections as u64 + others)).with_context(|| {
        format!("{connections} connections need as many descriptors: raise the hard limit (ulimit -Hn, LimitNOFILE=)")
    })
}

fn raise(needed: u64) -> rustix::io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: hard })
}
