//! Output of the table.

use std::time::Duration;

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use parlour::Transport;

/// The measurements of one server with its connections.
pub(crate) struct Row {
    pub(crate) transport: Transport,
    pub(crate) server: &'static str,
    pub(crate) connections: usize,
    /// The time until all clients were connected.
    pub(crate) connect: Duration,
    /// The time in which all clients sent a message and then received their answers.
    pub(crate) together: Duration,
    /// The time in which all clients made a round trip, in each process one client after the other.
    pub(crate) in_turn: Duration,
    pub(crate) allocated_each: f64,
    pub(crate) resident_each: f64,
    pub(crate) descriptors: usize,
}

const HEADER: [&str; 10] = [
    "transport",
    "server",
    "connections",
    "all connected (s)",
    "all echo at once (s)",
    "all echo in turn (s)",
    "round trips/s",
    "allocated/idle (B)",
    "resident/idle (B)",
    "descriptors",
];

pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEADER);
    for row in rows {
        table.add_row([
            row.transport.to_string(),
            row.server.to_owned(),
            row.connections.to_string(),
            format!("{:.3}", row.connect.as_secs_f64()),
            format!("{:.3}", row.together.as_secs_f64()),
            format!("{:.3}", row.in_turn.as_secs_f64()),
            format!("{:.0}", row.connections as f64 / row.in_turn.as_secs_f64()),
            format!("{:.0}", row.allocated_each),
            format!("{:.0}", row.resident_each),
            row.descriptors.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}

/// Fails if an idle connection takes more memory than `memory_max` bytes.
pub(crate) fn check(rows: &[Row], memory_max: Option<usize>) -> Result<()> {
    let Some(memory_max) = memory_max else { return Ok(()) };
    for row in rows {
        let Row { transport, server, allocated_each, .. } = row;
        ensure!(
            *allocated_each <= memory_max as f64,
            "an idle connection over {transport} takes {allocated_each:.0} bytes in the {server} server, more than the \
             limit of {memory_max}"
        );
    }
    Ok(())
}
