//! `parlour doctor`: looks at everything that parlour stands on, and says how to mend what is wrong.

mod bases;
mod kernel;
mod limits;
mod trial;

use serde::Serialize;

use crate::args::Doctor;
use crate::exit::{self, Failure};
use crate::output;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but something is slower, smaller or missing.
    Note,
    /// It must be mended.
    Problem,
    /// A directory that nobody may use as it is.
    Unsafe,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "PROBLEM",
            Verdict::Unsafe => "UNSAFE",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Check {
        Check { check: check.into(), verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    fn but(verdict: Verdict, check: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Check {
        Check { check: check.into(), verdict, found: found.into(), mend: Some(mend.into()) }
    }
}

pub(super) fn run(args: &Doctor) -> anyhow::Result<()> {
    let mut checks = bases::checks();
    checks.extend(limits::checks());
    checks.extend(kernel::checks());
    checks.extend(trial::checks());

    output::unless_closed(if args.json { output::json(&checks) } else { print(&checks) })?;
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    match (count(Verdict::Unsafe), count(Verdict::Problem)) {
        (0, 0) => Ok(()),
        (0, problems) => Err(Failure::new(exit::OTHER, format!("{problems} to be mended")).into()),
        (dangers, problems) => {
            let message = format!("{dangers} unsafe, {problems} more to be mended");
            Err(Failure::new(exit::UNSAFE_DIRECTORY, message).into())
        }
    }
}

fn print(checks: &[Check]) -> anyhow::Result<()> {
    let rows = checks
        .iter()
        .map(|check| vec![check.verdict.word().to_owned(), output::cell(&check.check), output::cell(&check.found)]);
    output::table(&["", "CHECK", "FOUND"], &[], rows.collect())?;
    let mends: Vec<_> = checks.iter().filter_map(|check| Some((check.check.as_str(), check.mend.as_ref()?))).collect();
    if !mends.is_empty() {
        output::line("\nTo mend:")?;
    }
    for (check, mend) in mends {
        output::line(format_args!("  {}: {}", output::cell(check), output::cell(mend)))?;
    }
    Ok(())
}
