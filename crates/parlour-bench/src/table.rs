//! Output of the results as tables in the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use parlour_measure::{Placement, Work};

use crate::plan;
use crate::results::{CallsRow, Results, Row};

/// Prints all results, with ratios to the baseline in the cells in which the baseline took part.
pub(crate) fn print(results: &Results, baseline: &str) {
    let Results { machine, date, seed, rounds, turn_ms, clock_ns, .. } = results;
    println!("{}, {} processors, {}, {date}", machine.processor, machine.processors, machine.kernel);
    println!(
        "load {} before, {} after; {rounds} rounds of {turn_ms} ms, --seed {seed}",
        machine.load, results.load_after
    );
    println!(
        "one reading of the clock takes {clock_ns:.0} ns; ratios are medians of ratios to {baseline} within rounds\n"
    );
    let mut cells: Vec<(Work, Placement)> = results.rows.iter().map(|row| (row.work, row.placement)).collect();
    cells.dedup();
    for (work, placement) in cells {
        println!("{}, {placement}", plan::title(work));
        println!("{}\n", cell(results, work, placement, baseline));
    }
    if !results.memory.is_empty() {
        println!("memory of the server for each idle connection\n{}\n", memory(results));
    }
    if !results.idle.is_empty() {
        println!("processor time of an idle connection, as a share of one processor\n{}\n", idle(results));
    }
    if !results.calls.is_empty() {
        println!("system calls of both processes for one operation, counted by strace, which slows the calls down");
        println!("{}\n", calls(results));
    }
    if !results.probes.is_empty() {
        println!("other figures, of each round\n{}\n", probes(results));
    }
    for skipped in &results.skipped {
        println!("not measured: {}: {}", skipped.what, skipped.why);
    }
}

fn cell(results: &Results, work: Work, placement: Placement, baseline: &str) -> Table {
    let mut rows: Vec<&Row> =
        results.rows.iter().filter(|row| row.work == work && row.placement == placement).collect();
    rows.sort_by(|one, other| one.summary.median.total_cmp(&other.summary.median));
    let base = results.row(work, placement, baseline);
    let mut table =
        table(&["contender", "best us", "median us", "p99 us", "per second", "ratio", "cpu us", "allocations"]);
    for row in rows {
        let us = |ns: f64| format!("{:.3}", ns / 1000.0);
        let mean_ns = row.median(|turn| turn.mean_ns);
        table.add_row([
            row.contender.clone(),
            us(row.summary.best),
            us(row.summary.median),
            us(row.summary.p99),
            format!("{:.0}", 1e9 / mean_ns),
            base.map_or_else(String::new, |base| format!("x{:.2}", row.ratio(base, |turn| turn.median_ns))),
            us(row.median(|turn| turn.cpu_ns)),
            match row.turns.iter().any(|turn| turn.allocations.is_none()) {
                true => String::new(),
                false => format!("{:.2}", row.median(|turn| turn.allocations.unwrap_or_default())),
            },
        ]);
    }
    right(table)
}

fn memory(results: &Results) -> Table {
    let mut table = table(&["contender", "connections", "allocated B", "resident B"]);
    for row in &results.memory {
        table.add_row([
            row.contender.clone(),
            row.idle.connections.to_string(),
            row.idle.allocated_each.map_or_else(String::new, |bytes| format!("{bytes:.0}")),
            format!("{:.0}", row.idle.resident_each),
        ]);
    }
    right(table)
}

fn idle(results: &Results) -> Table {
    let mut table = table(&["contender", "share"]);
    for row in &results.idle {
        table.add_row([row.contender.clone(), format!("{:.2} %", row.share * 100.0)]);
    }
    right(table)
}

fn probes(results: &Results) -> Table {
    let mut table = table(&["figure", "contender", "median", "most", "unit"]);
    for row in &results.probes {
        let [median, most] = [row.median(), row.most()].map(|value| format!("{value:.2}"));
        table.add_row([row.title.clone(), row.contender.clone(), median, most, row.unit.clone()]);
    }
    right(table)
}

fn calls(results: &Results) -> Table {
    let mut table = table(&["operation", "contender", "calls", "yields", "names of the calls"]);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(150);
    for CallsRow { work, contender, calls } in &results.calls {
        let mut each: Vec<(&String, &f64)> = calls.0.iter().filter(|(name, _)| *name != "sched_yield").collect();
        each.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let each: Vec<String> = each.iter().map(|(name, count)| format!("{name} {count:.3}")).collect();
        table.add_row([
            plan::title(*work),
            contender.clone(),
            format!("{:.3}", calls.without_yields()),
            format!("{:.3}", calls.0.get("sched_yield").copied().unwrap_or_default()),
            each.join(", "),
        ]);
    }
    table
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

/// Aligns all columns but the first to the right.
fn right(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
