//! The tables of results in a report.

use std::collections::BTreeSet;

use parlour_measure::{Placement, Size, Work};

use super::document::{Document, Table};
use crate::plan;
use crate::results::{CallsRow, Results, Row};

/// The baselines of the ratios in the tables. The first one that took part in a cell counts.
const BASELINES: [&str; 3] = ["raw-stream", "raw-epoll", "tcp-relay"];

/// Returns the title of a run.
pub(super) fn title(run: &Results) -> String {
    run.date.clone()
}

/// Adds the machine, the time and the contenders of each run.
pub(super) fn runs(document: &mut Document, runs: &[Results]) {
    for run in runs {
        let machine = &run.machine;
        document.text(format!(
            "**{}**: {}, {} processors, {} MiB of memory, {}. Load averages {} at the start, {} at the end. {} rounds, \
             turns of {} ms, seed {}. One reading of the clock takes {:.0} ns and is part of every sample.",
            title(run),
            machine.processor,
            machine.processors,
            machine.memory_mib,
            machine.kernel,
            machine.load,
            run.load_after,
            run.rounds,
            run.turn_ms,
            run.seed,
            run.clock_ns
        ));
    }
    let mut table = Table::new(3, &["contender", "version", "configuration, and where it is advised"]);
    let mut names = BTreeSet::new();
    for about in runs.iter().flat_map(|run| &run.contenders) {
        if names.insert(&about.name) {
            table.row([about.name.clone(), about.version.clone(), about.advice.clone()]);
        }
    }
    table.details = Some("The contenders, their versions and their configurations".to_owned());
    document.table(table);
}

/// Adds all tables of a run.
pub(super) fn blocks(document: &mut Document, run: &Results) {
    by_size(document, run, "Round trips", |work| matches!(work, Work::RoundTrip { .. }));
    by_size(document, run, "Messages one way", |work| matches!(work, Work::Stream { .. }));
    for (title, is) in [
        ("Connect, verify, one round trip, close", (|work| matches!(work, Work::Connect { .. })) as fn(Work) -> bool),
        ("A thousand clients in ping-pong with one thread", |work| matches!(work, Work::Crowd { .. })),
        ("Calls of several threads over one connection", |work| matches!(work, Work::Calls { .. })),
    ] {
        if run.rows.iter().any(|row| is(row.work)) {
            document.heading(3, title);
            let mut table = detailed_table();
            details(&mut table, run, is);
            document.table(table);
        }
    }
    memory(document, run);
    idle(document, run);
    calls(document, run);
    probes(document, run);
    if !run.skipped.is_empty() {
        document.heading(3, "Not measured");
        let mut table = Table::new(2, &["measurement", "reason"]);
        for skipped in &run.skipped {
            table.row([skipped.what.clone(), skipped.why.clone()]);
        }
        document.table(table);
    }
}

/// Adds a table for each placement, with a column for each size, and one table of all details.
fn by_size(document: &mut Document, run: &Results, title: &str, is: fn(Work) -> bool) {
    let works: BTreeSet<Work> = run.rows.iter().map(|row| row.work).filter(|work| is(*work)).collect();
    if works.is_empty() {
        return;
    }
    document.heading(3, title);
    document.text(
        "The median time of one operation in microseconds, and the median of its ratios to `raw-stream` within rounds.",
    );
    for placement in Placement::ALL {
        let rows: Vec<&Row> = run.rows.iter().filter(|row| is(row.work) && row.placement == placement).collect();
        let mut header = vec![format!("{placement}")];
        header.extend(works.iter().map(|work| plan::size(Size(work.size()))));
        let mut table = Table { header, text_columns: 1, ..Table::default() };
        for contender in in_order(&rows) {
            let cell = |work: &Work| match run.row(*work, placement, contender) {
                Some(row) => format!("{} {}", us(row.summary.median), ratio(run, row)),
                None => "-".to_owned(),
            };
            table.row(std::iter::once(contender.to_owned()).chain(works.iter().map(cell)));
        }
        document.table(table);
    }
    let mut table = detailed_table();
    table.details = Some(format!("{title}: best, median, p99, processor time, allocations"));
    details(&mut table, run, is);
    document.table(table);
}

/// Returns the contenders of these rows, each once, ordered by their times in the first kind of work.
fn in_order<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|one, other| one.work.cmp(&other.work).then(one.summary.median.total_cmp(&other.summary.median)));
    let mut names: Vec<&str> = Vec::new();
    for row in sorted {
        if !names.contains(&row.contender.as_str()) {
            names.push(&row.contender);
        }
    }
    names
}

fn detailed_table() -> Table {
    let header =
        ["cell", "contender", "best µs", "median µs", "p99 µs", "per second", "ratio", "processor µs", "allocations"];
    Table::new(2, &header)
}

fn details(table: &mut Table, run: &Results, is: fn(Work) -> bool) {
    let mut rows: Vec<&Row> = run.rows.iter().filter(|row| is(row.work)).collect();
    rows.sort_by(|one, other| {
        let cell = |row: &Row| (row.work, row.placement);
        cell(one).cmp(&cell(other)).then(one.summary.median.total_cmp(&other.summary.median))
    });
    for row in rows {
        let allocations = row.median(|turn| turn.allocations.unwrap_or(f64::NAN));
        table.row([
            format!("{}, {}", plan::title(row.work), row.placement),
            row.contender.clone(),
            us(row.summary.best),
            us(row.summary.median),
            us(row.summary.p99),
            format!("{:.0}", 1e9 / row.median(|turn| turn.mean_ns)),
            ratio(run, row),
            us(row.median(|turn| turn.cpu_ns)),
            if allocations.is_nan() { "-".to_owned() } else { format!("{allocations:.2}") },
        ]);
    }
}

fn memory(document: &mut Document, run: &Results) {
    let mut table = Table::new(1, &["contender", "connections", "allocated for each, B", "resident for each, B"]);
    for row in &run.memory {
        table.row([
            row.contender.clone(),
            row.idle.connections.to_string(),
            row.idle.allocated_each.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
            format!("{:.0}", row.idle.resident_each),
        ]);
    }
    if !table.rows.is_empty() {
        document.heading(3, "Memory of a server for idle connections");
        document.text(
            "Memory in user space: allocated memory as the allocator counts it, and resident anonymous memory as the \
             kernel counts it.",
        );
    }
    document.table(table);
}

fn idle(document: &mut Document, run: &Results) {
    let mut table = Table::new(1, &["contender", "share of one processor"]);
    for row in &run.idle {
        table.row([row.contender.clone(), format!("{:.2} %", row.share * 100.0)]);
    }
    if !table.rows.is_empty() {
        document.heading(3, "Processor time of an idle connection");
    }
    document.table(table);
}

fn calls(document: &mut Document, run: &Results) {
    let mut table = Table::new(2, &["operation", "contender", "calls", "sched_yield", "most frequent"]);
    for CallsRow { work, contender, calls } in &run.calls {
        let mut each: Vec<(&String, &f64)> = calls.0.iter().filter(|(name, _)| *name != "sched_yield").collect();
        each.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let each: Vec<String> = each.iter().take(4).map(|(name, count)| format!("{name} {count:.2}")).collect();
        table.row([
            plan::title(*work),
            contender.clone(),
            format!("{:.2}", calls.without_yields()),
            format!("{:.2}", calls.0.get("sched_yield").copied().unwrap_or_default()),
            each.join(", "),
        ]);
    }
    if !table.rows.is_empty() {
        document.heading(3, "System calls for one operation");
        document.text(
            "The calls of both processes that additional operations cause, counted by strace. Tracing slows the calls \
             down, and a side that polls before it sleeps then polls more often. The yields and the polls between them \
             are therefore an upper bound.",
        );
        table.details = Some("System calls".to_owned());
    }
    document.table(table);
}

fn probes(document: &mut Document, run: &Results) {
    let mut table = Table::new(2, &["figure", "contender", "median", "least", "most", "unit"]);
    for row in &run.probes {
        let least = row.values.iter().copied().fold(f64::NAN, f64::min);
        let [median, least, most] = [row.median(), least, row.most()].map(|value| format!("{value:.2}"));
        table.row([row.title.clone(), row.contender.clone(), median, least, most, row.unit.clone()]);
    }
    if !table.rows.is_empty() {
        document.heading(3, "Faults, and other figures");
        document.text("Each figure is measured once in each round.");
    }
    document.table(table);
}

fn ratio(run: &Results, row: &Row) -> String {
    let base = BASELINES.iter().find_map(|baseline| run.row(row.work, row.placement, baseline));
    base.map_or_else(String::new, |base| format!("x{:.2}", row.ratio(base, |turn| turn.median_ns)))
}

/// Formats nanoseconds as microseconds, with three significant digits.
fn us(ns: f64) -> String {
    let us = ns / 1000.0;
    match us {
        _ if us >= 100.0 => format!("{us:.0}"),
        _ if us >= 10.0 => format!("{us:.1}"),
        _ if us >= 1.0 => format!("{us:.2}"),
        _ => format!("{us:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        assert_eq!([19.0, 1_234.0, 12_345.0, 1_234_567.0].map(us), ["0.019", "1.23", "12.3", "1235"]);
    }
}
