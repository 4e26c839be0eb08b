//! Open descriptors of this process, and their limit.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A generous number of descriptors for uses other than connections.
const OTHERS: u64 = 64;

/// Raises the limit of this process on open descriptors to what `connections` need with `each` descriptors. Exceeding
/// the hard limit needs `CAP_SYS_RESOURCE`.
pub(crate) fn make_room_for(connections: usize, each: u64) -> Result<()> {
    let needed = connections as u64 * each + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = maximum.map(|maximum| maximum.max(needed));
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: hard }).with_context(|| {
        let maximum = maximum.unwrap_or(u64::MAX);
        format!(
            "{connections} connections need {needed} descriptors, and the hard limit is {maximum}: raise it (ulimit \
             -Hn, LimitNOFILE=, /etc/security/limits.conf), or set fewer with --connections"
        )
    })
}

/// Returns the number of open descriptors of this process.
pub(crate) fn open() -> Result<usize> {
    // The descriptor of the directory itself is not counted.
    Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}
