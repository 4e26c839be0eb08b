//! The texts of the view: lines of a head, a table, and a line of help. Without a terminal.

use std::time::Duration;

use super::model::{Model, View};
use super::reading::Wait;
use super::rows::{ClientRow, NameRow, Rates};
use crate::args::TopOrder;

/// The importance of a text, which a terminal shows by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    /// A graph over time, which a text of one moment does not show.
    Graph,
    Stuck,
    Stopped,
}

/// A line of the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// A column of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Its width in characters on a narrow terminal, and on one of 120 columns or more. A column of the width 0 is not
    /// shown.
    pub(super) widths: [usize; 2],
    pub(super) is_number: bool,
}

/// A row of the table: a text for each column.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) tone: Tone,
}

const fn text(title: &'static str, widths: [usize; 2]) -> Column {
    Column { title, widths, is_number: false }
}

const fn number(title: &'static str, widths: [usize; 2]) -> Column {
    Column { title, widths, is_number: true }
}

/// The title of the column with the graph.
pub(super) const GRAPH: &str = "LAST MINUTE";

/// The width of the graph of one name.
const GRAPH_WIDTH: usize = 50;

/// The last column has the rest of the line.
const OF_NAMES: [Column; 12] = [
    text("NAME", [18, 40]),
    number("PID", [0, 8]),
    number("UP", [0, 6]),
    number("CLIENTS", [7, 7]),
    number("STUCK", [5, 5]),
    number("IN/S", [0, 7]),
    number("OUT/S", [0, 7]),
    number("MSG/S", [6, 7]),
    number("BYTES/S", [7, 7]),
    number("HELD", [6, 7]),
    text(GRAPH, [11, 30]),
    text("STATE", [usize::MAX; 2]),
];

const OF_CLIENTS: [Column; 10] = [
    number("PID", [7, 8]),
    number("UID", [0, 8]),
    text("PROGRAM", [10, 24]),
    text("VIA", [6, 6]),
    number("CONNECTED", [0, 9]),
    number("IN/S", [6, 7]),
    number("OUT/S", [6, 7]),
    number("BYTES/S", [7, 7]),
    number("HELD", [6, 7]),
    text("STATE", [usize::MAX; 2]),
];

/// Returns the columns of the table.
pub(super) fn columns(model: &Model) -> &'static [Column] {
    if model.view == View::Names { &OF_NAMES } else { &OF_CLIENTS }
}

/// Returns the lines above the table.
pub(super) fn head(model: &Model) -> Vec<Line> {
    let mut lines = match &model.view {
        View::Names => head_of_names(model),
        View::Clients(place) => head_of_clients(model, place),
    };
    if let Some(why) = &model.failure {
        lines.push(Line { text: why.clone(), tone: Tone::Stuck });
    }
    lines
}

fn plain(text: String) -> Line {
    Line { text, tone: Tone::Plain }
}

fn head_of_names(model: &Model) -> Vec<Line> {
    let names = model.all_names();
    let count = |of: fn(&NameRow) -> usize| names.iter().map(of).sum::<usize>();
    let (clients, stuck) = (count(|row| row.clients().len()), count(|row| row.stuck().0));
    let title = format!("parlour{}   {} names   {clients} clients   {stuck} stuck", marks(model), names.len());
    let worst = names.iter().max_by_key(|row| row.stuck_for()).filter(|row| row.stuck_for().is_some());
    let worst = worst.map(|row| format!("{}: {}", row.name.name, stuck_line(model, row)));
    vec![Line { text: title, tone: Tone::Title }, Line { text: worst.unwrap_or_default(), tone: Tone::Stuck }]
}

fn head_of_clients(model: &Model, place: &str) -> Vec<Line> {
    let Some(row) = model.opened() else {
        return vec![Line { text: format!("parlour   {}", crate::output::cell(place)), tone: Tone::Title }];
    };
    let counters = row.counters();
    let (name, marks, state, up) = (&row.name.name, marks(model), &row.name.state, time(counters.uptime));
    let title = format!("{name}{marks}   {state}   up {up}   {}", row.name.server);
    let (stuck, _) = row.stuck();
    let hidden = if counters.unlisted > 0 { format!(", {} not shown", counters.unlisted) } else { String::new() };
    let rate = |of: fn(&Rates) -> f64| or_dash(row.rates.as_ref().map(of));
    // On a narrow terminal the end is cut.
    let totals = format!(
        "{} clients ({stuck} stuck{hidden})  in {}/s  out {}/s  {} bytes/s  {} held  {} accepted, {} refused",
        counters.open,
        rate(|rates| rates.received),
        rate(|rates| rates.sent),
        rate(|rates| rates.bytes),
        short(row.held() as f64),
        counters.accepted,
        counters.refused,
    );
    let graph = row.history.graph(model.now, GRAPH_WIDTH);
    let graph = format!("last minute {graph} max {}/s", short(row.history.max()));
    vec![
        Line { text: title, tone: Tone::Title },
        plain(totals),
        Line { text: graph, tone: Tone::Graph },
        Line { text: stuck_line(model, row), tone: Tone::Stuck },
    ]
}

/// Returns the marks of a view that does not show all, or nothing new.
fn marks(model: &Model) -> String {
    let mut marks = String::new();
    if !model.filter.is_empty() && !model.is_typing {
        marks += &format!("   [filter: {}]", model.filter);
    }
    if model.only_stuck {
        marks += "   [only stuck]";
    }
    if model.is_paused {
        marks += "   [paused]";
    }
    marks
}

/// Returns a line about the client that has been stuck for the longest time, or an empty one.
fn stuck_line(model: &Model, row: &NameRow) -> String {
    let (count, Some(client)) = row.stuck() else { return String::new() };
    let Wait::Stuck { time: since, reason, .. } = &client.wait else { return String::new() };
    let pid = crate::output::or_dash(client.pid);
    let program = model.process(client).map(|process| format!(" ({})", process.program)).unwrap_or_default();
    let program = match &client.origin {
        Some(origin) => format!("{program}, from {origin}"),
        None => program,
    };
    let others = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    format!("stuck for {}: the server {reason}, pid {pid}{program}{others}", time(*since))
}

/// Returns the rows of the table that are on the screen, or all of them.
pub(super) fn rows(model: &Model, all: bool) -> Vec<Row> {
    let (skip, take) = if all { (0, usize::MAX) } else { (model.top, model.page) };
    match model.view {
        View::Names => model.names().into_iter().skip(skip).take(take).map(|row| name_row(row, model.now)).collect(),
        View::Clients(_) => model.clients().iter().skip(skip).take(take).map(client_row).collect(),
    }
}

fn name_row(row: &NameRow, now: f64) -> Row {
    let counters = row.name.counters.as_ref();
    let (stuck, _) = row.stuck();
    let rate = |of: fn(&Rates) -> f64| or_dash(row.rates.as_ref().map(of));
    let count = |value: f64| or_dash(counters.map(|_| value));
    let cells = vec![
        row.name.name.clone(),
        if row.name.pid == 0 { "-".to_owned() } else { row.name.pid.to_string() },
        counters.map_or_else(|| "-".to_owned(), |counters| time(counters.uptime)),
        count(counters.map_or(0, |counters| counters.open) as f64),
        count(stuck as f64),
        rate(|rates| rates.received),
        rate(|rates| rates.sent),
        rate(Rates::messages),
        rate(|rates| rates.bytes),
        count(row.held() as f64),
        row.history.graph(now, 11),
        row.name.state.clone(),
    ];
    let tone = match (stuck, row.name.state.contains("stopped")) {
        (1.., _) => Tone::Stuck,
        (0, true) => Tone::Stopped,
        (0, false) => Tone::Plain,
    };
    Row { cells, tone }
}

/// Returns the program of a client. One of another host has that of its bridge, and is shown with its host.
fn program(row: &ClientRow) -> String {
    let program = row.process.as_ref().map(|process| process.program.clone());
    row.client.origin.clone().or(program).unwrap_or_else(|| "-".to_owned())
}

fn client_row(row: &ClientRow) -> Row {
    let client = &row.client;
    let rate = |of: fn(&Rates) -> f64| or_dash(row.rates.as_ref().map(of));
    let is_stopped = row.is_stopped();
    let waits = match &client.wait {
        Wait::Stuck { time: since, in_short, .. } => format!("stuck {}, {in_short}", time(*since)),
        Wait::Idle(since) => format!("idle {}", time(*since)),
        Wait::None => "active".to_owned(),
    };
    let cells = vec![
        crate::output::or_dash(client.pid),
        crate::output::or_dash(client.uid),
        program(row),
        client.transport.clone(),
        time(client.connected),
        rate(|rates| rates.received),
        rate(|rates| rates.sent),
        rate(|rates| rates.bytes),
        short(client.held as f64),
        if is_stopped { format!("stopped, {waits}") } else { waits },
    ];
    let tone = match (&client.wait, is_stopped) {
        (Wait::Stuck { .. }, _) => Tone::Stuck,
        (_, true) => Tone::Stopped,
        _ => Tone::Plain,
    };
    Row { cells, tone }
}

/// Returns the line of help below the table.
pub(super) fn help(model: &Model) -> String {
    if model.is_typing {
        return format!("filter: {}_   (Enter keeps it, Esc clears it)", model.filter);
    }
    let order = format!("s sort: {}", order_name(next(model)));
    match model.view {
        View::Names => format!("q quit  Enter open  / filter  t stuck  {order}  r reverse  space pause"),
        View::Clients(_) => format!("q quit  Esc back  / filter  t stuck  {order}  r reverse  space pause"),
    }
}

/// Returns the order after the present one.
fn next(model: &Model) -> TopOrder {
    let orders = model.orders();
    let at = orders.iter().position(|order| *order == model.order).map_or(0, |at| at + 1);
    orders[at % orders.len()]
}

/// Returns the title of the column by which the rows are sorted.
pub(super) fn sorted_by(model: &Model) -> &'static str {
    match (model.order, &model.view) {
        (TopOrder::Stuck, View::Names) => "STUCK",
        (TopOrder::Stuck, View::Clients(_)) => "STATE",
        (TopOrder::Messages, View::Names) => "MSG/S",
        (TopOrder::Messages, View::Clients(_)) => "IN/S",
        (TopOrder::Bytes, _) => "BYTES/S",
        (TopOrder::Held, _) => "HELD",
        (TopOrder::Clients, _) => "CLIENTS",
        (TopOrder::Name, _) => "NAME",
        (TopOrder::Age, _) => "CONNECTED",
        (TopOrder::Pid, _) => "PID",
    }
}

fn order_name(order: TopOrder) -> &'static str {
    match order {
        TopOrder::Stuck => "stuck",
        TopOrder::Messages => "messages",
        TopOrder::Bytes => "bytes",
        TopOrder::Held => "held",
        TopOrder::Clients => "clients",
        TopOrder::Name => "name",
        TopOrder::Age => "age",
        TopOrder::Pid => "pid",
    }
}

fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), short)
}

/// Formats a number in up to four characters: three digits and the letter of a power of 1000.
pub(super) fn short(value: f64) -> String {
    let mut value = value;
    for unit in ["", "k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            let is_whole = unit.is_empty() && value.fract() == 0.0;
            return if value < 9.95 && !is_whole { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.0}Z")
}

/// Formats a time by its two largest units, without fractions of a second.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_up_to_four_characters() {
        let expected = [
            (0.0, "0"),
            (3.0, "3"),
            (0.5, "0.5"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (12_345.0, "12k"),
            (4_194_304.0, "4.2M"),
            (u64::MAX as f64, "18E"),
        ];
        for (value, text) in expected {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn times_have_up_to_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m01s"), (7_260, "2h01m"), (180_000, "2d02h")] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
