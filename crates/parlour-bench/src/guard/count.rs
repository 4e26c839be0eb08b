//! Counting the costs of a scenario: by strace, by callgrind, by the scenario's own process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use parlour_measure::why_calls_cannot_be_counted;

use super::figures::Figures;
use super::scenario::{BEGIN, COUNTED, END, SCENARIO, STEPS, Scenario};

/// The tools for counting that work on this machine.
pub(super) struct Tools {
    strace: bool,
    callgrind: bool,
    /// The counts that are not possible on this machine, with the reasons.
    pub(super) missing: Vec<String>,
}

impl Tools {
    pub(super) fn here() -> Self {
        let why_no_calls = why_calls_cannot_be_counted();
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "true"]);
        let valgrind = valgrind.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let callgrind = valgrind.is_ok_and(|status| status.success());
        let mut missing = Vec::new();
        missing.extend(why_no_calls.as_ref().map(|why| format!("system calls are not counted: {why}")));
        if !callgrind {
            missing.push("instructions are not counted: valgrind cannot be run; install it".to_owned());
        }
        Self { strace: why_no_calls.is_none(), callgrind, missing }
    }

    /// Counts the costs of one scenario. Each tool runs the scenario in a process of its own.
    pub(super) fn count(&self, scenario: &Scenario) -> Result<Figures> {
        let directory = tempfile::tempdir()?;
        let name = scenario.name;
        let allocations = allocations(&own(name)?).with_context(|| format!("running {name}"))?;
        let file = directory.path().join("strace");
        let calls = self.strace.then(|| calls(name, &file)).transpose();
        let calls = calls.with_context(|| format!("counting the system calls of {name}"))?;
        let file = directory.path().join("callgrind");
        let instructions = self.callgrind.then(|| instructions(name, &file)).transpose();
        let instructions = instructions.with_context(|| format!("counting the instructions of {name}"))?;
        let each = |count: u64| (count as f64 / STEPS as f64 * 100.0).round() / 100.0;
        Ok(Figures { allocations: each(allocations), calls: calls.map(each), instructions: instructions.map(each) })
    }
}

/// Returns the command line that makes this executable run a scenario.
fn own(name: &str) -> Result<Vec<String>> {
    let this = std::env::current_exe()?.to_str().context("the path of this program is not UTF-8")?.to_owned();
    Ok(vec![this, SCENARIO.to_owned(), name.to_owned()])
}

fn allocations(line: &[String]) -> Result<u64> {
    let output = Command::new(&line[0]).args(&line[1..]).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed with {}: {said}", line.join(" "), output.status);
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the scenario printed no number of allocations")
}

fn calls(name: &str, file: &Path) -> Result<u64> {
    let mut line = ["strace", "-f", "-o"].map(str::to_owned).to_vec();
    line.push(file.display().to_string());
    line.push("--".to_owned());
    line.extend(own(name)?);
    allocations(&line)?;
    calls_between_the_marks(&fs::read_to_string(file)?)
}

/// Returns the number of lines of strace's output between the two marks.
fn calls_between_the_marks(log: &str) -> Result<u64> {
    let mut lines = log.lines().skip_while(|line| !line.contains(BEGIN)).skip(1).peekable();
    ensure!(lines.peek().is_some(), "the output of strace has no mark of the beginning");
    let count = lines.by_ref().take_while(|line| !line.contains(END)).count();
    ensure!(lines.next().is_some(), "the output of strace has no mark of the end");
    Ok(count as u64)
}

fn instructions(name: &str, file: &Path) -> Result<u64> {
    let mut line = ["valgrind", "--quiet", "--tool=callgrind"].map(str::to_owned).to_vec();
    line.push(format!("--toggle-collect={COUNTED}"));
    line.push(format!("--callgrind-out-file={}", file.display()));
    line.extend(own(name)?);
    allocations(&line)?;
    totals(&fs::read_to_string(file)?)
}

/// Returns the sum that callgrind wrote.
fn totals(out: &str) -> Result<u64> {
    let line = out.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    let count: u64 = line.context("callgrind wrote no sum")?.trim().parse()?;
    ensure!(count > 0, "callgrind did not find the function {COUNTED}");
    Ok(count)
}

/// Returns the version of the compiler, or an empty string if `rustc` cannot be started.
pub(super) fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_between_the_marks_are_counted() {
        let log = format!(
            "7 read(3)\n7 statx(AT_FDCWD, \"{BEGIN}\") = -1\n7 sendmsg(3)\n7 recvmsg(4)\n7 statx(AT_FDCWD, \"{END}\") = -1\n7 exit(0)\n"
        );
        assert_eq!(calls_between_the_marks(&log).unwrap(), 2);
        assert!(calls_between_the_marks("7 read(3)\n").is_err());
        assert!(calls_between_the_marks(&log.replace(END, "/x")).is_err());
    }

    #[test]
    fn the_sum_of_callgrind_is_read_and_a_missing_sum_is_an_error() {
        assert_eq!(totals("events: Ir\nfn=(1) a\n1 5\ntotals: 42\n").unwrap(), 42);
        assert!(totals("events: Ir\n").is_err() && totals("summary: 0\n").is_err());
    }
}
