//! A run: rounds of turns.

use std::collections::HashMap;
use std::fs;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use parlour_measure::{Amount, Chance, Contender, Measured, Placement, Runner, Summary, Turn, clock_cost_ns};

use crate::args::Args;
use crate::machine::{self, Machine};
use crate::plan::{self, Cell, label};
use crate::results::{About, IdleRow, Results, Row, Skipped, TurnRow};
use crate::{ROLE, table};

/// Does what the arguments ask for.
pub(crate) fn run(args: &Args, contenders: &[Box<dyn Contender>]) -> Result<()> {
    if args.list {
        return list(contenders);
    }
    let results = measure(args, contenders)?;
    table::print(&results, &args.baseline);
    if let Some(path) = &args.json {
        let text = serde_json::to_string(&results)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("written to {}", path.display());
    }
    Ok(())
}

fn list(contenders: &[Box<dyn Contender>]) -> Result<()> {
    for contender in contenders {
        println!("{} ({}): {}", contender.name(), contender.version(), contender.advice());
    }
    Ok(())
}

fn measure(args: &Args, contenders: &[Box<dyn Contender>]) -> Result<Results> {
    let runner = Runner::new(contenders, &[ROLE])?;
    let (cells, unplaced): (Vec<Cell>, Vec<Cell>) =
        plan::cells(args, contenders).into_iter().partition(|cell| runner.can_place(cell.placement));
    let idle = plan::idle(args, contenders);
    ensure!(
        !cells.is_empty() || !idle.is_empty(),
        "there is nothing to measure: --list shows the contenders, --help what else can be chosen"
    );
    let seed = args.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    });
    let mut results = Results {
        machine: Machine::this(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        seed,
        rounds: args.rounds(),
        turn_ms: args.turn_ms(),
        clock_ns: clock_cost_ns(),
        ..Results::default()
    };
    results.skipped = unplaced
        .iter()
        .map(|cell| Skipped {
            what: format!("{}/{}", cell.work, cell.placement),
            why: "this machine has not enough processors".to_owned(),
        })
        .collect();
    let turns: usize = cells.iter().map(|cell| cell.contenders.len()).sum::<usize>() * args.rounds() as usize;
    let progress = progress(turns + idle.len());
    let measured = rounds(args, &runner, &cells, seed, &mut results.skipped, &progress);
    for cell in &cells {
        for contender in &cell.contenders {
            if let Some(turns) = measured.get(&(cell.work, cell.placement, contender.clone())) {
                results.rows.push(row(cell, contender, turns));
            }
        }
    }
    for contender in idle {
        progress.set_message(format!("memory/{contender}"));
        match runner.idle(&contender, plan::idle_connections(args)) {
            Ok(idle) => results.idle.push(IdleRow { contender, idle }),
            Err(error) => {
                results.skipped.push(Skipped { what: format!("memory/{contender}"), why: format!("{error:#}") });
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let is_in = |name: &str| {
        results.rows.iter().any(|row| row.contender == name) || results.idle.iter().any(|row| row.contender == name)
    };
    results.contenders = contenders
        .iter()
        .filter(|contender| is_in(contender.name()))
        .map(|contender| About {
            name: contender.name().to_owned(),
            version: contender.version(),
            advice: contender.advice().to_owned(),
        })
        .collect();
    results.load_after = machine::load();
    Ok(results)
}

/// The turns of each contender in each cell, with their rounds.
type Turns = HashMap<(parlour_measure::Work, Placement, String), Vec<(u32, Measured)>>;

fn rounds(
    args: &Args,
    runner: &Runner<'_>,
    cells: &[Cell],
    seed: u64,
    skipped: &mut Vec<Skipped>,
    progress: &ProgressBar,
) -> Turns {
    let mut chance = Chance::new(seed);
    let mut cells = cells.to_vec();
    let mut measured = Turns::new();
    for round in 1..=args.rounds() {
        chance.shuffle(&mut cells);
        for cell in &mut cells {
            let Cell { work, placement, .. } = *cell;
            chance.shuffle(&mut cell.contenders);
            cell.contenders.retain(|contender| {
                let label = label(work, placement, contender);
                // Drawn between turns only: while one is on, this process sleeps.
                progress.set_message(label.clone());
                let turn = Turn { work, amount: Amount::Ms(args.turn_ms()) };
                let outcome = runner.turn(contender, turn, placement);
                progress.inc(1);
                match outcome {
                    Ok(turn) => {
                        measured.entry((work, placement, contender.clone())).or_default().push((round, turn));
                        true
                    }
                    // It need not try again.
                    Err(error) => {
                        skipped.push(Skipped { what: label, why: format!("{error:#}") });
                        false
                    }
                }
            });
        }
    }
    measured
}

fn row(cell: &Cell, contender: &str, turns: &[(u32, Measured)]) -> Row {
    let all: Vec<Measured> = turns.iter().map(|(_, turn)| turn.clone()).collect();
    Row {
        work: cell.work,
        placement: cell.placement,
        contender: contender.to_owned(),
        summary: Summary::of(&all),
        turns: turns.iter().map(|(round, turn)| TurnRow::of(*round, turn)).collect(),
    }
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    // The template is ours, and right; without it the bar looks otherwise.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
