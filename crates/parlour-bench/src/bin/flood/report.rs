//! Output of the table.

use comfy_table::{CellAlignment, Table, presets};
use parlour::Transport;

/// The measurements of the honest client in one configuration.
pub(crate) struct Row {
    pub(crate) transport: Transport,
    pub(crate) flood: &'static str,
    pub(crate) limits: bool,
    pub(crate) tried_per_second: u64,
    /// Calls over a connection that was open before the flood.
    pub(crate) open: Calls,
    /// Calls over a new connection each.
    pub(crate) new: Calls,
}

pub(crate) struct Calls {
    /// The 99th percentile of the successful calls, in nanoseconds.
    pub(crate) p99: u64,
    pub(crate) calls: u64,
    pub(crate) failed: u64,
}

const HEADER: [&str; 8] = [
    "transport",
    "flood",
    "limits",
    "flood (1/s)",
    "calls, open: p99 (ms)",
    "failed",
    "calls, newly connected: p99 (ms)",
    "failed",
];

pub(crate) fn print(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEADER);
    let p99 = |calls: &Calls| match calls.failed == calls.calls {
        true => "-".to_owned(),
        false => format!("{:.2}", calls.p99 as f64 / 1e6),
    };
    let failed = |calls: &Calls| format!("{} of {}", calls.failed, calls.calls);
    for row in rows {
        table.add_row([
            row.transport.to_string(),
            row.flood.to_owned(),
            if row.limits { "on" } else { "off" }.to_owned(),
            row.tried_per_second.to_string(),
            p99(&row.open),
            failed(&row.open),
            p99(&row.new),
            failed(&row.new),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
}
