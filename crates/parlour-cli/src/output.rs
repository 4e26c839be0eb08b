//! Data goes to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

/// Nobody reads our stdout any more.
#[derive(Debug)]
struct StdoutClosed;

impl Display for StdoutClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// The error that stands for "nobody reads our stdout any more"; the program then ends quietly.
pub(crate) fn stdout_closed() -> anyhow::Error {
    anyhow::Error::new(StdoutClosed)
}

/// Whether this is [`stdout_closed`].
pub(crate) fn is_stdout_closed(error: &anyhow::Error) -> bool {
    error.is::<StdoutClosed>()
}

/// For what must be done to its end even when nobody reads our stdout any more.
pub(crate) fn unless_closed(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(error) if is_stdout_closed(&error) => Ok(()),
        printed => printed,
    }
}

/// Writes bytes to stdout as they are.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(stdout_closed()),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout")),
    }
}

/// Writes one line to stdout and flushes it.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a value to stdout as one JSON document.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Says something on stderr. There is nothing to be done when even that fails.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "parlour: {text}");
}

/// A table without borders, as `ps` and `ls -l` print it; numbers stand to the right in the columns named.
pub(crate) fn table(header: &[&str], numbers: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    for (column, title) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if numbers.contains(title) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(table.trim_fmt())
}

/// Text for a table's cell, in which nothing may break the line or drive the terminal.
pub(crate) fn cell(text: impl Display) -> String {
    text.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What is shown where nothing is known.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}

/// Sends the library's events to stderr when asked for by `-v` (info), `-vv` (debug), `-vvv` (trace), or by
/// `PARLOUR_LOG`, whichever says more.
pub(crate) fn log_to_stderr(verbose: u8) {
    let asked = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let from_environment = std::env::var("PARLOUR_LOG").unwrap_or_default();
    let environment = from_environment.parse().unwrap_or_else(|_| {
        if !from_environment.is_empty() {
            note(format_args!(
                "PARLOUR_LOG={from_environment} is none of off, error, warn, info, debug, trace; it is ignored"
            ));
        }
        LevelFilter::OFF
    });
    let level = asked.max(environment);
    if level != LevelFilter::OFF {
        tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).init();
    }
}
