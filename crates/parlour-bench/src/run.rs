//! A run of the benchmark: rounds of turns.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use parlour_measure::{
    Amount, Chance, Contender, Measured, Placement, Runner, Summary, Turn, Work, clock_cost_ns,
    why_calls_cannot_be_counted,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::{Args, ROLE};
use crate::machine::{self, Machine};
use crate::plan::{self, Cell, Count, label};
use crate::probe::Probe;
use crate::results::{About, CallsRow, IdleRow, MemoryRow, ProbeRow, Results, Row, Skipped, TurnRow};
use crate::table;

/// Measures what the arguments select, prints the results, and saves them if `--json` is given.
pub(crate) fn run(args: &Args, contenders: &[Box<dyn Contender>], probes: &[Box<dyn Probe + '_>]) -> Result<()> {
    let results = Run::new(args, contenders, probes)?.measure()?;
    table::print(&results, &args.baseline);
    if let Some(path) = &args.json {
        let text = serde_json::to_string(&results)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

pub(crate) fn list(contenders: &[Box<dyn Contender>]) {
    for contender in contenders {
        println!("{} ({}): {}", contender.name(), contender.version(), contender.advice());
    }
}

/// The time after which a quick run begins no further round, so that it ends soon on a slow machine, too.
const QUICK_LAST_ROUND_BEGINS: Duration = Duration::from_secs(30);

struct Run<'a> {
    args: &'a Args,
    runner: Runner<'a>,
    cells: Vec<Cell>,
    counts: Vec<(Count, String)>,
    probes: Vec<&'a dyn Probe>,
    /// The contenders that only probes measure.
    of_probes: Vec<About>,
    progress: ProgressBar,
    stop: Arc<AtomicBool>,
    results: Results,
}

/// The turns of each contender in each cell, with their rounds.
type Turns = HashMap<(Work, Placement, String), Vec<(u32, Measured)>>;

impl<'a> Run<'a> {
    fn new(args: &'a Args, contenders: &'a [Box<dyn Contender>], probes: &'a [Box<dyn Probe + 'a>]) -> Result<Self> {
        // A signal only sets a flag, so the directory of a turn is removed before this process ends. The processes of
        // the turn end with it.
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("catching signals")?;
        }
        let runner = Runner::new(contenders, &[ROLE])?;
        let all = plan::cells(args, contenders).into_iter();
        let (cells, unplaced): (Vec<Cell>, Vec<Cell>) = all.partition(|cell| runner.can_place(cell.placement));
        let counts = plan::counts(args, contenders);
        let probes = plan::probes(args, probes);
        ensure!(
            !cells.is_empty() || !counts.is_empty() || !probes.is_empty(),
            "nothing to measure: choose contenders from --list and other values from --help"
        );
        let turns = cells.iter().map(|cell| cell.contenders.len()).sum::<usize>() + probes.len();
        let turns = turns * args.rounds() as usize;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let why = "this machine has too few processors";
        let skipped = unplaced.iter().map(|cell| Skipped::new(format!("{}/{}", cell.work, cell.placement), why));
        let results = Results {
            machine: Machine::this(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            seed: args.seed.unwrap_or(since_epoch.as_millis() as u64),
            rounds: args.rounds(),
            turn_ms: args.turn_ms(),
            clock_ns: clock_cost_ns(),
            skipped: skipped.collect(),
            ..Results::default()
        };
        Ok(Self {
            args,
            runner,
            progress: progress(turns + counts.len()),
            cells,
            counts,
            probes,
            of_probes: Vec::new(),
            stop,
            results,
        })
    }

    fn measure(mut self) -> Result<Results> {
        let turns = self.rounds()?;
        for cell in &self.cells {
            for contender in &cell.contenders {
                if let Some(turns) = turns.get(&(cell.work, cell.placement, contender.clone())) {
                    self.results.rows.push(row(cell, contender, turns));
                }
            }
        }
        self.probe()?;
        self.count()?;
        self.progress.finish_and_clear();
        let Results { rows, memory, idle, calls, probes, .. } = &self.results;
        let names = rows.iter().map(|row| &row.contender).chain(memory.iter().map(|row| &row.contender));
        let names = names.chain(idle.iter().map(|row| &row.contender)).chain(calls.iter().map(|row| &row.contender));
        let names = names.chain(probes.iter().map(|row| &row.contender));
        let names: Vec<&str> = names.map(String::as_str).collect();
        let all = self.runner.contenders().iter().filter(|contender| names.contains(&contender.name()));
        self.results.contenders = all.map(|contender| About::of(&**contender)).collect();
        for about in self.of_probes {
            if !self.results.contenders.iter().any(|known| known.name == about.name) {
                self.results.contenders.push(about);
            }
        }
        self.results.load_after = machine::load();
        Ok(self.results)
    }

    fn rounds(&mut self) -> Result<Turns> {
        let mut chance = Chance::new(self.results.seed);
        let mut cells = self.cells.clone();
        let mut turns = Turns::new();
        let begin = Instant::now();
        for round in 1..=self.args.rounds() {
            if self.args.quick && round > 1 && begin.elapsed() > QUICK_LAST_ROUND_BEGINS {
                let why = "this machine is busy or slow, and --quick has a limit of one minute";
                self.results.skipped.push(Skipped::new(format!("rounds from {round} on"), why));
                break;
            }
            self.results.rounds = round;
            chance.shuffle(&mut cells);
            for cell in &mut cells {
                let Cell { work, placement, .. } = *cell;
                chance.shuffle(&mut cell.contenders);
                for contender in std::mem::take(&mut cell.contenders) {
                    let turn = Turn { work, amount: Amount::Ms(self.args.turn_ms()) };
                    let label = label(work, placement, &contender);
                    let measured = self.step(&label, |runner| runner.turn(&contender, turn, placement))?;
                    // A contender that failed in a cell takes no further turn in it.
                    if let Some(measured) = measured {
                        turns.entry((work, placement, contender.clone())).or_default().push((round, measured));
                        cell.contenders.push(contender);
                    }
                }
            }
        }
        Ok(turns)
    }

    /// Takes each figure once in each round.
    fn probe(&mut self) -> Result<()> {
        let mut chance = Chance::new(self.results.seed);
        let mut probes = std::mem::take(&mut self.probes);
        for _ in 0..self.args.rounds() {
            chance.shuffle(&mut probes);
            // The contenders of one figure take turns close to each other.
            probes.sort_by(|one, other| one.name().cmp(other.name()));
            let mut left = Vec::new();
            for probe in std::mem::take(&mut probes) {
                // A probe that failed is not tried again.
                if let Some(value) = self.step(&plan::probe_label(probe), |_| probe.measure())? {
                    record(&mut self.results.probes, probe, value);
                    let (name, version) = (probe.contender().to_owned(), probe.version());
                    if !version.is_empty() && !self.of_probes.iter().any(|about| about.name == name) {
                        self.of_probes.push(About { name, version, advice: probe.advice().to_owned() });
                    }
                    left.push(probe);
                }
            }
            probes = left;
        }
        self.results.probes.sort_by(|one, other| (&one.name, &one.contender).cmp(&(&other.name, &other.contender)));
        Ok(())
    }

    /// Makes the measurements that do not depend on time.
    fn count(&mut self) -> Result<()> {
        if let Some(why) = why_calls_cannot_be_counted() {
            let all = self.counts.len();
            self.counts.retain(|(count, _)| !matches!(count, Count::Calls(..)));
            if self.counts.len() < all {
                self.results.skipped.push(Skipped::new("system calls for each message", why));
            }
        }
        for (count, contender) in self.counts.clone() {
            let label = format!("{}/{contender}", count.label());
            match count {
                Count::Memory(connections) => {
                    if let Some(idle) = self.step(&label, |runner| runner.idle(&contender, connections))? {
                        self.results.memory.push(MemoryRow { contender, idle });
                    }
                }
                Count::Idle => {
                    if let Some(share) = self.step(&label, |runner| runner.idle_share(&contender))? {
                        self.results.idle.push(IdleRow { contender, share });
                    }
                }
                Count::Calls(work, more) => {
                    if let Some(calls) = self.step(&label, |runner| runner.calls(&contender, work, more))? {
                        self.results.calls.push(CallsRow { work, contender, calls });
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs one measurement. If it fails, records the reason and returns `None`. The progress bar is drawn before and
    /// after the measurement; during the measurement this process sleeps.
    fn step<T>(&mut self, label: &str, act: impl FnOnce(&Runner<'a>) -> Result<T>) -> Result<Option<T>> {
        self.progress.set_message(label.to_owned());
        let outcome = act(&self.runner);
        self.progress.inc(1);
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(error) => {
                self.results.skipped.push(Skipped::new(label, format!("{error:#}")));
                Ok(None)
            }
        }
    }
}

fn record(rows: &mut Vec<ProbeRow>, probe: &dyn Probe, value: f64) {
    let is_of = |row: &&mut ProbeRow| row.name == probe.name() && row.contender == probe.contender();
    match rows.iter_mut().find(is_of) {
        Some(row) => row.values.push(value),
        None => rows.push(ProbeRow {
            name: probe.name().to_owned(),
            title: probe.title().to_owned(),
            contender: probe.contender().to_owned(),
            unit: probe.unit().to_owned(),
            values: vec![value],
        }),
    }
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
    // The template is a valid constant. Should it be rejected, the bar keeps its default style.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
