//! How many descriptors a process may have open.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a process has open besides its connections, generously.
const OTHERS: u64 = 64;

/// Raises the limit of this process so that so many connections fit, as far as it may: up to the hard limit, and with the
/// right to do so beyond it.
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
            "{connections} connections take {needed} descriptors, and the hard limit is {maximum}; raise it (ulimit -Hn, \
             LimitNOFILE=, /etc/security/limits.conf), or ask for fewer with --connections"
        )
    })
}

/// How many this process has open.
pub(crate) fn open() -> Result<usize> {
    // One of them is that with which they are counted.
    Ok(fs::read_dir("/proc/self/fd")?.count().saturating_sub(1))
}
