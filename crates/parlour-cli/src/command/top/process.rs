//! The name and the state of a process, from proc_pid_stat(5).

use parlour::inspect;

/// A process as a row shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// The name of its program, in printable characters. The process chooses it.
    pub(super) program: String,
    pub(super) is_stopped: bool,
}

/// Returns what the system says about a process, or `None` if there is none.
pub(super) fn read(pid: u32) -> Option<Process> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `PID (PROGRAM) STATE ...`. The name of the program may contain anything, also parentheses.
fn parse(stat: &[u8]) -> Option<Process> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let from = stat.iter().position(|byte| *byte == b'(')? + 1;
    let to = stat.iter().rposition(|byte| *byte == b')')?;
    let program = stat.get(from..to)?;
    let state = stat.get(to + 2)?;
    Some(Process {
        program: inspect::escaped(OsStr::from_bytes(program)).to_string(),
        is_stopped: matches!(state, b'T' | b't'),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_name_of_a_program_may_contain_anything() {
        let process = parse(b"12 (a) R (\x1b[31m) T 1 12 12").unwrap();
        assert_eq!(process, Process { program: r"a) R (\x1b[31m".to_owned(), is_stopped: true });
        assert!(!parse(b"1 (cat) S 0").unwrap().is_stopped);
        for bad in [&b""[..], b"1 (cat)", b"1 )cat( S", b"1 cat S"] {
            assert_eq!(parse(bad), None);
        }
        assert!(!read(std::process::id()).unwrap().program.is_empty());
    }
}
