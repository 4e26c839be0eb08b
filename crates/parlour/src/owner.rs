//! The owner record, which a live server writes into its `lock` file.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::escape::{escaped, printable};
use crate::shm::stats::Place;
use crate::transport::Transport;

/// The version of the wire formats and of the record.
const PROTOCOL: u32 = 1;

/// The maximum length of a record, in bytes. A reader reads no more.
pub(crate) const RECORD_LEN_MAX: usize = 8192;

/// The owner record of a name, which the holder wrote when it took the name.
///
/// It is information for people. The lock decides whether the holder is alive, and the kernel decides about
/// permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The process id, in the PID namespace of the holder.
    pub pid: u32,
    /// The effective user id, in the user namespace of the holder.
    pub uid: u32,
    /// The path of the holder's executable, or `unknown`. U+FFFD replaces characters that are not printable, also in a
    /// record that another user wrote.
    pub program: PathBuf,
    /// The time at which the name was taken. Its resolution is one second.
    pub since: SystemTime,
    /// The transports on offer, best first. A reader omits those that its version does not know.
    pub transports: Vec<Transport>,
    /// The version of the protocol that the holder speaks.
    pub protocol: u32,
    /// The maximum length of a message that the holder receives, in bytes; `None` if the record does not state it.
    pub message_max: Option<usize>,
    /// True if the holder yields the name to any other server of its user
    /// ([`yields`](crate::ServerOptions::yields)).
    pub yields: bool,
    /// The start time of the process in clock ticks since the boot, field 22 of proc_pid_stat(5); 0 if unknown.
    /// Together with `pid` and `boot_id` it identifies one process for ever.
    pub start_time: u64,
    /// The id of the boot that `start_time` counts from, `/proc/sys/kernel/random/boot_id`; empty if unknown.
    pub boot_id: String,
    /// The inode of the PID namespace that `pid` belongs to; 0 if unknown.
    pub(crate) pid_namespace: u64,
    /// The place of the server's counters, if it has some.
    pub(crate) stats: Option<Place>,
}

impl Owner {
    /// Returns the record of this process. Values that `/proc` does not provide are left unknown.
    pub(crate) fn current(transports: &[Transport], message_max: usize, stats: Option<Place>) -> Self {
        let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
        Self {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("unknown")),
            since: SystemTime::now(),
            transports: transports.to_vec(),
            protocol: PROTOCOL,
            message_max: Some(message_max),
            yields: false,
            start_time: start_time(&stat).unwrap_or(0),
            boot_id: current_boot_id(),
            pid_namespace: pid_namespace(),
            stats,
        }
    }

    /// Returns true if the process of this record is stopped, by a signal (`SIGSTOP`, Ctrl-Z) or by a debugger. A
    /// stopped server keeps its name, and clients wait for it. Returns false if the process runs. Returns `None` if
    /// that is not known: `/proc` does not show the process, or shows a process with this id that is another one.
    ///
    /// The process is recognised by its start time and the id of the boot. A process in another PID or time namespace
    /// is not recognised.
    ///
    /// # Platform
    ///
    /// Linux, with `/proc`.
    #[must_use]
    pub fn is_stopped(&self) -> Option<bool> {
        if self.start_time == 0 || self.boot_id.is_empty() || self.boot_id != current_boot_id() {
            return None;
        }
        // One read shows the state and the start time of the same process.
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        if start_time(&stat) != Some(self.start_time) {
            return None;
        }
        match stat_field(&stat, 3)? {
            // A zombie, and a process that is being removed: they hold nothing any more.
            "Z" | "X" | "x" => None,
            state => Some(matches!(state, "T" | "t")),
        }
    }

    /// Returns true if the process of this record no longer exists. Returns false if that is not known, as for a
    /// process in another PID namespace. The lock decides whether the name is held; this function only detects a record
    /// whose process is not the holder any more.
    pub(crate) fn has_ended(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| !self.has_other_pids()) else { return false };
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        // The process id may belong to another process by now, which started at another time.
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        self.pid_namespace != 0
            && start_time(&stat).is_some_and(|start| self.start_time != 0 && self.start_time != start)
    }

    /// Returns true if the process id of this record is one of another PID namespace.
    pub(crate) fn has_other_pids(&self) -> bool {
        self.pid_namespace != 0 && self.pid_namespace != pid_namespace()
    }

    /// Returns the text of the record: one `key value` pair in each line, between a first and a last line that make an
    /// incomplete record detectable.
    pub(crate) fn encode(&self) -> String {
        let transports: Vec<_> = self.transports.iter().map(ToString::to_string).collect();
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        // The path is for people. A line break in it must not begin a line of the record.
        let program = printable(&self.program.to_string_lossy());
        let message_max = self.message_max.map_or(String::new(), |bytes| format!("message_max {bytes}\n"));
        let stats =
            self.stats.map_or(String::new(), |Place { fd, device, inode }| format!("stats {fd} {device}:{inode}\n"));
        let yields = if self.yields { "yields 1\n" } else { "" };
        format!(
            "parlour{}\npid {}\nstart {}\nboot {}\npidns {}\nuid {}\ntransports {}\n{message_max}{yields}{stats}since {}\n\
             program {}\nend\n",
            self.protocol,
            self.pid,
            self.start_time,
            self.boot_id,
            self.pid_namespace,
            self.uid,
            transports.join(","),
            since,
            program,
        )
    }

    /// Parses a record. Returns `None` if it is incomplete. Ignores unknown keys, which a later version may add.
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(record).ok()?;
        let mut lines = text.strip_suffix("\nend\n")?.lines();
        let protocol = lines.next()?.strip_prefix("parlour")?.parse().ok()?;
        let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(' ')).collect();
        let field = |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let since = Duration::from_secs(field("since")?.parse().ok()?);
        Some(Self {
            pid: field("pid")?.parse().ok()?,
            uid: field("uid")?.parse().ok()?,
            // Another user may have written the record, and readers print it.
            program: PathBuf::from(printable(field("program")?)),
            since: SystemTime::UNIX_EPOCH.checked_add(since)?,
            // This version could not use a transport that it does not know.
            transports: field("transports")?.split(',').filter_map(|name| name.parse().ok()).collect(),
            protocol,
            // Records of earlier versions do not have it.
            message_max: field("message_max").and_then(|bytes| bytes.parse().ok()),
            // Only servers that yield write it.
            yields: field("yields") == Some("1"),
            start_time: field("start")?.parse().ok()?,
            boot_id: printable(field("boot")?),
            // Earlier versions do not write it.
            pid_namespace: field("pidns").and_then(|number| number.parse().ok()).unwrap_or(0),
            stats: field("stats").and_then(parse_place),
        })
    }
}

/// Parses the place of the counters.
fn parse_place(text: &str) -> Option<Place> {
    let (fd, file) = text.split_once(' ')?;
    let (device, inode) = file.split_once(':')?;
    let fd = fd.parse().ok().filter(|fd| *fd >= 0)?;
    Some(Place { fd, device: device.parse().ok()?, inode: inode.parse().ok()? })
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, uid {}, {}", self.pid, self.uid, escaped(&self.program))?;
        // `humantime` refuses years after 9999, which a hostile record may contain.
        let seconds = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        const YEAR_10000: u64 = 253_402_300_800;
        if seconds < YEAR_10000 {
            write!(f, ", since {}", humantime::format_rfc3339_seconds(self.since))?;
        }
        Ok(())
    }
}

/// Returns the inode of the PID namespace of this process (namespaces(7)), or 0 if `/proc` does not provide it.
fn pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// Returns the id of the current boot, or an empty text if it is unknown.
fn current_boot_id() -> String {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot_id.trim().to_owned()
}

/// Returns the start time of a process, in clock ticks since the boot.
fn start_time(stat: &[u8]) -> Option<u64> {
    stat_field(stat, 22)?.parse().ok()
}

/// Returns a field of proc_pid_stat(5), by its number there, which is at least 3. The second field is the name of the
/// program in parentheses and may contain any byte, so fields are counted from the last parenthesis.
fn stat_field(stat: &[u8], number: usize) -> Option<&str> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let after_name = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACE: Place = Place { fd: 7, device: 1, inode: 4711 };

    #[test]
    fn a_record_reads_back() {
        let mut owner = Owner::current(&[Transport::Unix, Transport::Fifo], 4096, Some(PLACE));
        owner.since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert!(owner.start_time > 0 && !owner.boot_id.is_empty(), "{owner:?}");
        assert_eq!(Owner::parse(owner.encode().as_bytes()), Some(owner.clone()));
        assert!(owner.to_string().ends_with("since 2023-11-14T22:13:20Z"), "{owner}");
    }

    #[test]
    fn a_record_without_a_limit_reads_back_without_one() {
        let owner = Owner { message_max: None, ..Owner::current(&[], 4096, None) };
        let record = owner.encode();
        assert!(!record.contains("message_max"), "{record}");
        assert_eq!(Owner::parse(record.as_bytes()).unwrap().message_max, None);
    }

    #[test]
    fn only_a_server_that_yields_says_so() {
        let owner = Owner::current(&[], 4096, None);
        assert!(!owner.encode().contains("yields"));
        let owner = Owner { yields: true, ..owner };
        let record = owner.encode();
        assert!(record.contains("\nyields 1\n") && Owner::parse(record.as_bytes()).unwrap().yields, "{record}");
        for other in ["yields 0", "yields 11", "yields true", "yield 1"] {
            assert!(!Owner::parse(record.replace("yields 1", other).as_bytes()).unwrap().yields, "{other}");
        }
    }

    #[test]
    fn every_incomplete_record_is_detected() {
        let record = Owner::current(&[Transport::Unix], 4096, None).encode();
        for length in 0..record.len() {
            assert_eq!(Owner::parse(&record.as_bytes()[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_line_break_in_the_program_does_not_begin_a_line() {
        let mut owner = Owner::current(&[], 4096, None);
        owner.program = PathBuf::from("/bin/a\npid 1\nend\n");
        let read = Owner::parse(owner.encode().as_bytes()).unwrap();
        assert_eq!(read.pid, owner.pid);
    }

    #[test]
    fn a_record_of_another_user_is_printed_without_its_terminal_escapes() {
        let record = Owner::current(&[], 0, None).encode();
        let program = record.lines().find(|line| line.starts_with("program ")).unwrap();
        let hostile = record
            .replace(program, "program /bin/\u{1b}]0;X\u{7}\u{9b}2J\u{202e}\\x\u{2028}")
            .replace("boot ", "boot \u{1b}[2J");
        let owner = Owner::parse(hostile.as_bytes()).unwrap();
        let replaced = "/bin/\u{fffd}]0;X\u{fffd}\u{fffd}2J\u{fffd}\\x\u{fffd}";
        assert_eq!(owner.program.to_str(), Some(replaced));
        assert!(owner.boot_id.starts_with("\u{fffd}[2J"), "{owner:?}");
        assert!(owner.to_string().contains(&replaced.replace('\\', "\\\\")), "{owner}");
    }

    #[test]
    fn a_process_has_ended_if_its_number_is_free_or_another_processes_in_the_same_namespace() {
        let owner = Owner::current(&[], 0, None);
        assert!(owner.pid_namespace > 0 && !owner.has_ended());
        let later = |owner: &Owner| Owner { start_time: owner.start_time + 1, ..owner.clone() };
        assert!(later(&owner).has_ended(), "another process had the number");
        assert!(!later(&Owner { pid_namespace: 0, ..owner.clone() }).has_ended());
        let gone = Owner { pid: i32::MAX as u32, ..owner.clone() };
        assert!(gone.has_ended());
        assert!(Owner { pid_namespace: 0, ..gone.clone() }.has_ended());
        assert!(!Owner { pid_namespace: 1, ..gone }.has_ended(), "the process is not visible");
        assert!(!Owner { pid: 0, ..owner }.has_ended());
    }

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        for name in [&b"a) b) c (d"[..], b"\xff\xfe", b"x\n) S 1 2"] {
            let stat = [b"12 (", name, b") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20\n"].concat();
            assert_eq!(start_time(&stat), Some(4711));
            assert_eq!(stat_field(&stat, 3), Some("S"));
        }
        assert_eq!(start_time(b""), None);
        assert_eq!(start_time(b"12 (a"), None);
    }

    #[test]
    fn another_process_with_the_id_of_the_record_is_not_taken_for_the_holder() {
        let owner = Owner::current(&[], 4096, None);
        assert_eq!(owner.is_stopped(), Some(false));
        for other in [
            Owner { start_time: owner.start_time + 1, ..owner.clone() },
            Owner { start_time: 0, ..owner.clone() },
            Owner { boot_id: String::new(), ..owner.clone() },
            Owner { boot_id: "another boot".to_owned(), ..owner.clone() },
            Owner { pid: 0, ..owner.clone() },
            Owner { pid: u32::MAX, ..owner.clone() },
        ] {
            assert_eq!(other.is_stopped(), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_records_never_panic(
            record in concat!(
                "(parlour1\n)?((pid|uid|since|start|boot|transports|message_max|yields|program) ?[0-9]{0,25}\n){0,9}",
                "(end\n)?"
            )
        ) {
            if let Some(owner) = Owner::parse(record.as_bytes()) {
                let _ = owner.to_string();
                let _ = owner.is_stopped();
            }
        }
    }
}
