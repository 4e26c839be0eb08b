//! Checks the limits of the system.

use rustix::process::{Resource, getrlimit};

use super::check::{Check, Verdict};

/// The minimum limit on descriptors. With less, a server with a few hundred clients runs out of descriptors.
const DESCRIPTORS_MIN: u64 = 1024;

/// The backlog that the library passes to `listen(2)`.
const BACKLOG: u64 = 4096;

/// The number of pages in the buffers of a client over `fifo`: two FIFOs with 16 pages each.
const PAGES_PER_FIFO_CLIENT: u64 = 2 * 16;

pub(super) fn checks() -> Vec<Check> {
    vec![descriptors(), pipe_pages(), inotify_instances(), backlog()]
}

fn descriptors() -> Check {
    const CHECK: &str = "open files (RLIMIT_NOFILE)";
    let limit = getrlimit(Resource::Nofile);
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let found = format!("{}, hard limit {}", shown(limit.current), shown(limit.maximum));
    if limit.current.is_none_or(|current| current >= DESCRIPTORS_MIN) {
        return Check::ok(CHECK, found);
    }
    let mend = format!(
        "run ulimit -n {}, or set LimitNOFILE= in the service; each client takes one descriptor on unix and two on fifo",
        limit.maximum.map_or(65_536, |maximum| maximum.min(65_536))
    );
    Check::but(Verdict::Problem, CHECK, found, mend)
}

fn pipe_pages() -> Check {
    const CHECK: &str = "fs.pipe-user-pages-soft";
    match setting("/proc/sys/fs/pipe-user-pages-soft") {
        Ok(0) => Check::ok(CHECK, "0, no limit"),
        Ok(pages) => {
            let found =
                format!("{pages}, enough for {} clients on fifo with full buffers", pages / PAGES_PER_FIFO_CLIENT);
            if pages >= 128 * PAGES_PER_FIFO_CLIENT {
                return Check::ok(CHECK, found);
            }
            let mend = "run sysctl -w fs.pipe-user-pages-soft=16384; beyond the limit a FIFO holds one or two pages and is slow";
            Check::but(Verdict::Note, CHECK, found, mend)
        }
        Err(why) => Check::but(Verdict::Note, CHECK, why, "mount /proc, so that this can be checked"),
    }
}

fn inotify_instances() -> Check {
    const CHECK: &str = "fs.inotify.max_user_instances";
    match setting("/proc/sys/fs/inotify/max_user_instances") {
        Ok(instances) if instances >= 16 => Check::ok(CHECK, instances.to_string()),
        Ok(instances) => Check::but(
            Verdict::Problem,
            CHECK,
            instances.to_string(),
            "run sysctl -w fs.inotify.max_user_instances=128; each client that waits for a server takes one instance",
        ),
        Err(why) => Check::but(Verdict::Note, CHECK, why, "mount /proc, so that this can be checked"),
    }
}

fn backlog() -> Check {
    const CHECK: &str = "net.core.somaxconn";
    match setting("/proc/sys/net/core/somaxconn") {
        Ok(length) if length >= BACKLOG => Check::ok(CHECK, length.to_string()),
        Ok(length) => Check::but(
            Verdict::Note,
            CHECK,
            format!("{length}, so that {length} clients may wait to be accepted instead of {BACKLOG}"),
            format!("run sysctl -w net.core.somaxconn={BACKLOG}; a client that finds the queue full tries again"),
        ),
        Err(why) => Check::but(Verdict::Note, CHECK, why, "mount /proc, so that this can be checked"),
    }
}

/// Reads a number from a file in `/proc/sys`.
fn setting(path: &str) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path} contains `{}`, which is not a number", text.trim()))
}
