//! A guard against unnoticed performance regressions that does not depend on time: `parlour-bench guard`.
//!
//! Fixed scenarios ([`scenario`]) have both ends in one thread. Every message is sent before it is received, and
//! neither side yields the processor, so each run makes the same system calls and takes the same steps. System calls
//! (strace), instructions (callgrind) and allocations (the program's allocator) are counted and compared with
//! `guard.json`, which is committed.

mod count;
mod figures;
mod scenario;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::args::Guard;
use figures::{Baseline, Figures};

pub(crate) use scenario::{SCENARIO, run as run_scenario};

/// Returns the path of the committed figures.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.json")
}

/// Counts the costs of all scenarios. Fails if a scenario costs more than was accepted or is unknown; with `--accept`,
/// saves the costs as the accepted ones.
pub(crate) fn run(args: &Guard) -> Result<()> {
    let path = args.figures.clone().unwrap_or_else(committed);
    let tools = count::Tools::here();
    for skipped in &tools.missing {
        println!("skipped: {skipped}");
    }
    let mut counted = Baseline { compiler: count::compiler(), ..Baseline::default() };
    for scenario in scenario::ALL {
        if args.filter.as_ref().is_none_or(|text| scenario.name.contains(text)) {
            counted.scenarios.insert(scenario.name.to_owned(), tools.count(scenario)?);
        }
    }
    if args.accept {
        let baseline = if path.exists() { Baseline::read(&path)? } else { Baseline::default() };
        baseline.with(counted).write(&path)?;
        println!("accepted: {} (commit it and give the reason in the commit message)", path.display());
        return Ok(());
    }
    let baseline = Baseline::read(&path)?;
    if baseline.compiler != counted.compiler {
        println!(
            "skipped: instructions are shown but not compared: they were accepted with {:?}, and this is {:?}",
            baseline.compiler, counted.compiler
        );
    }
    let mut wrong = 0;
    for (name, now) in &counted.scenarios {
        let Some(before) = baseline.scenarios.get(name) else {
            println!("UNKNOWN  {name}: {now}");
            wrong += 1;
            continue;
        };
        let worse = now.worse_than(before, baseline.compiler == counted.compiler);
        let verdict = match (worse.is_empty(), now.better_than(before)) {
            (false, _) => "WORSE",
            (true, true) => "better",
            (true, false) => "ok",
        };
        println!("{verdict:<7}  {name}: {now}{}", before.change(now));
        for reason in &worse {
            println!("         {reason}");
        }
        wrong += usize::from(!worse.is_empty());
    }
    if wrong > 0 {
        bail!(
            "{wrong} scenarios are unknown or cost more than {} allows; if that is intended, accept it: \
             cargo run --release -p parlour-bench -- guard --accept",
            path.display()
        );
    }
    Ok(())
}

/// Formats the figures of one scenario with their units.
impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = vec![format!("{:.2} allocations", self.allocations)];
        parts.extend(self.calls.map(|calls| format!("{calls:.2} system calls")));
        parts.extend(self.instructions.map(|instructions| format!("{instructions:.0} instructions")));
        f.write_str(&parts.join(", "))
    }
}
