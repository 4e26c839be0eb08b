//! A snapshot of the resources of a process, to detect leaks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::wait::eventually_some;

/// The descriptors, threads, children, and mappings of files and shared memory of one process.
///
/// Each trial has its [own process](super::alone), which is compared at the end. A trial can also compare snapshots
/// itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Number and target of each open descriptor, as `/proc` shows it.
    pub descriptors: BTreeMap<i32, PathBuf>,
    pub threads: usize,
    pub children: Vec<u32>,
    /// The number of mappings of each file and of shared memory. Other mappings belong to the allocator and to stacks
    /// of threads, which the C library caches.
    pub maps: BTreeMap<String, usize>,
}

impl Baseline {
    /// Takes a snapshot of this process.
    pub fn take() -> Self {
        Self::of(std::process::id())
    }

    /// Takes a snapshot of another process of this user.
    pub fn of(pid: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(process.join("fd")).unwrap().flatten() {
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            // The descriptor of this listing is either closed by now or refers to the listing.
            match fs::read_link(entry.path()) {
                Ok(target) if !is_listing(&target, pid) => drop(descriptors.insert(number, target)),
                _ => {}
            }
        }
        let tasks: Vec<_> = fs::read_dir(process.join("task")).unwrap().flatten().collect();
        let children = tasks
            .iter()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .flat_map(|list| list.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
            .collect();
        let mut maps = BTreeMap::new();
        for line in fs::read_to_string(process.join("maps")).unwrap().lines() {
            if let Some(what) = mapped(line) {
                *maps.entry(what).or_default() += 1;
            }
        }
        Self { descriptors, threads: tasks.len(), children, maps }
    }

    /// Waits until the process holds the resources of this snapshot. Panics with the difference if that does not
    /// happen before the deadline. Descriptors are compared by their targets, not by their numbers.
    #[track_caller]
    pub fn assert_restored(&self, pid: u32) {
        self.wait_until_restored(pid).unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    /// Like [`assert_restored`](Self::assert_restored), but returns the difference as an error.
    pub fn wait_until_restored(&self, pid: u32) -> Result<(), String> {
        let mut now = Self::of(pid);
        let restored = eventually_some(|| {
            now = Self::of(pid);
            now.is_like(self).then_some(())
        });
        restored.ok_or_else(|| format!("the resources of process {pid} differ\nbefore: {self:#?}\nnow: {now:#?}"))
    }

    /// Returns true if both snapshots have the same resources.
    pub fn is_like(&self, other: &Self) -> bool {
        self.kinds() == other.kinds()
            && self.threads == other.threads
            && self.children == other.children
            && self.maps == other.maps
    }

    /// Counts the descriptors of each kind: a path, or `socket:`, `pipe:`, `anon_inode:[eventpoll]`.
    fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for target in self.descriptors.values() {
            let text = target.to_string_lossy();
            let kind = match text.split_once(":[") {
                Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
                // The name of a deleted file was unique, so it is not compared.
                _ if text.ends_with(" (deleted)") => "deleted".to_owned(),
                _ => text.into_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }
}

/// Returns true for the descriptor of `/proc/PID/fd` itself, which is open during the listing.
fn is_listing(target: &Path, pid: u32) -> bool {
    target == Path::new(&format!("/proc/{pid}/fd"))
}

/// Returns the file or shared memory that a line of `/proc/PID/maps` maps. The name of a deleted file was unique, so
/// it is not returned.
fn mapped(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let shared = words.nth(1)?.ends_with('s');
    let name = words.skip(3).collect::<Vec<_>>().join(" ");
    match name.strip_suffix(" (deleted)") {
        Some(memory) if memory.starts_with("/memfd:") => Some(memory.to_owned()),
        Some(_) => Some("deleted".to_owned()),
        None => (shared || name.starts_with('/')).then_some(name),
    }
}
