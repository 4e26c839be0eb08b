//! Counts of system calls per operation, taken with strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The number of system calls of both processes for one operation, by the names of the calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls(pub BTreeMap<String, f64>);

impl Calls {
    /// Returns the total without `sched_yield`. The number of yields depends on how soon the peer answers, and tracing
    /// delays the answer.
    #[must_use]
    pub fn without_yields(&self) -> f64 {
        self.0.iter().filter(|(name, _)| *name != "sched_yield").fold(0.0, |sum, (_, count)| sum + count)
    }

    /// Returns the calls per operation: the calls of `many` beyond those of `few`, divided by the number of additional
    /// operations.
    pub(crate) fn difference(few: &Self, many: &Self, operations: u64) -> Self {
        let added = |(name, many): (&String, &f64)| (name.clone(), many - few.0.get(name).copied().unwrap_or_default());
        // The number of calls for starting and ending a process varies by one or two between runs.
        let counts = many.0.iter().map(added).filter(|(_, count)| *count >= 3.0);
        Self(counts.map(|(name, count)| (name, count / operations as f64)).collect())
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }

    /// Reads a summary that strace wrote.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("reading the summary of strace, {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (name, count) = (words.next()?, words.next()?.parse().ok()?);
            (name != "total").then(|| (name.to_owned(), count))
        };
        let calls: BTreeMap<String, f64> = text.lines().filter_map(line).collect();
        ensure!(!calls.is_empty(), "strace counted no system calls: {text:.200}");
        Ok(Self(calls))
    }
}

/// Wraps a command in strace, which writes its summary to the file `into`.
pub(crate) fn counted(command: &Command, into: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--summary-only", "--summary-columns=name,calls", "--output"]).arg(into);
    strace.arg("--").arg(command.get_program()).args(command.get_args());
    strace
}

/// Returns the reason why system calls cannot be counted on this machine, or `None` if they can.
#[must_use]
pub fn why_calls_cannot_be_counted() -> Option<String> {
    let mut strace = counted(&Command::new("true"), Path::new("/dev/null"));
    match strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("cannot start strace ({error}): install it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
syscall              calls
---------------- ---------
sched_yield            120
sendmsg                203
recvmsg                203
mmap                    14
---------------- ---------
total                  540
";

    #[test]
    fn the_summary_of_strace_is_parsed() {
        let calls = Calls::parse(SAID).unwrap();
        assert_eq!(calls.0.len(), 4);
        assert_eq!((calls.0["sendmsg"], calls.without_yields()), (203., 420.));
        assert!(Calls::parse("strace: attach: Operation not permitted").is_err());
    }

    #[test]
    fn the_system_calls_of_starting_a_process_are_left_out() {
        let few = Calls::parse(SAID).unwrap();
        let many = Calls::parse(&SAID.replace("203", "403").replace("120", "140").replace("14\n", "16\n")).unwrap();
        let each = Calls::difference(&few, &many, 100);
        assert_eq!(each.0.keys().collect::<Vec<_>>(), ["recvmsg", "sched_yield", "sendmsg"]);
        assert_eq!((each.0["sendmsg"], each.0["sched_yield"], each.without_yields()), (2., 0.2, 4.));
    }
}
