//! `parlour doctor`: checks everything on which parlour depends, and prints how to fix problems.

mod bases;
mod check;
mod kernel;
mod limits;
mod trial;

use crate::args::Doctor;
use crate::exit::{self, Failure};
use crate::output;
use check::{Check, Verdict};

pub(super) fn run(args: &Doctor) -> anyhow::Result<()> {
    let mut checks = bases::checks();
    checks.extend(limits::checks());
    checks.extend(kernel::checks());
    checks.extend(trial::checks()?);

    output::unless_closed(if args.json { output::json(&checks) } else { print(&checks) })?;
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    match (count(Verdict::Unsafe), count(Verdict::Problem)) {
        (0, 0) => Ok(()),
        (0, problems) => Err(Failure::new(exit::OTHER, format!("problems found: {problems}")).into()),
        (dangers, problems) => {
            let message = format!("unsafe directories found: {dangers}, other problems: {problems}");
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
        output::line("\nTo fix:")?;
    }
    for (check, mend) in mends {
        output::line(format_args!("  {}: {}", output::cell(check), output::cell(mend)))?;
    }
    Ok(())
}
