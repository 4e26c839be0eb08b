//! Output of the program: data goes to stdout, everything else to stderr.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use parlour::inspect;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;

use crate::stdio::{self, Stderr};

/// The error of a write to stdout whose reader has closed it.
#[derive(Debug)]
struct StdoutClosed;

impl Display for StdoutClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout was closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Returns the error for a stdout that its reader has closed. The program then ends without a message.
pub(crate) fn stdout_closed() -> anyhow::Error {
    anyhow::Error::new(StdoutClosed)
}

/// Returns true if `error` is [`stdout_closed`].
pub(crate) fn is_stdout_closed(error: &anyhow::Error) -> bool {
    error.is::<StdoutClosed>()
}

/// Ignores [`stdout_closed`], for work that must be completed even if its output is not read.
pub(crate) fn unless_closed(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(error) if is_stdout_closed(&error) => Ok(()),
        printed => printed,
    }
}

/// Writes bytes to stdout unchanged. Every command except `connect` writes its output through this function.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match stdio::write_all(io::stdout().lock(), bytes) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(stdout_closed()),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout")),
    }
}

/// Writes one line to stdout.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a value to stdout as one JSON document. Characters that are not printable are escaped in it.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(printable_json(&serde_json::to_string_pretty(value)?))
}

/// Writes a value as [`json`] does, on one line.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(printable_json(&serde_json::to_string(value)?))
}

fn printable_json(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        // The line breaks are outside of strings, in which the serializer has escaped them.
        if c == '\n' || is_printable(c) {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// A path in JSON: a string, or an array of its bytes if it is not UTF-8. `Display` escapes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum JsonPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl JsonPath {
    pub(crate) fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_owned()),
        }
    }
}

impl Display for JsonPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => inspect::escaped(text).fmt(f),
            Self::Bytes(bytes) => inspect::escaped(OsStr::from_bytes(bytes)).fmt(f),
        }
    }
}

/// Writes a message of one line to stderr, without control characters. A failed write is ignored, because it cannot be
/// reported anywhere.
pub(crate) fn note(text: impl Display) {
    let _ = Stderr.write(format!("parlour: {}\n", cell(text)).as_bytes());
}

/// Prints what the parser of the command line returned: an error to stderr, the help or the version to stdout, with
/// styles on a terminal. A failed write is ignored, because it cannot be reported anywhere.
pub(crate) fn parsed(shown: &clap::Error) {
    let text = shown.render();
    let is_terminal = if shown.use_stderr() { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let no_styles = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    let text = if is_terminal && !no_styles { text.ansi().to_string() } else { text.to_string() };
    let _ = if shown.use_stderr() {
        Stderr.write_all(text.as_bytes())
    } else {
        stdio::write_all(io::stdout(), text.as_bytes())
    };
}

/// Prints a table without borders, as `ps` and `ls -l` do. The columns named in `numbers` are right-aligned.
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

/// Formats text for one line of output: characters that are not printable, which could break the line or control the
/// terminal, are replaced.
pub(crate) fn cell(text: impl Display) -> String {
    text.to_string().chars().map(|c| if is_printable(c) { c } else { '\u{fffd}' }).collect()
}

/// Returns a message as a terminal shows it safely: newlines and tabs stay, and other characters that are not printable
/// are escaped. Another user who controls the message would otherwise control the terminal.
pub(crate) fn for_terminal(message: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(message.len());
    for chunk in message.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if is_printable(c) => text.push(c),
                c => text.push_str(&inspect::escaped(c.encode_utf8(&mut [0; 4])).to_string()),
            }
        }
        text.push_str(&inspect::escaped(OsStr::from_bytes(chunk.invalid())).to_string());
    }
    text.into_bytes()
}

/// Returns a message as text on one line that is safe to print.
pub(crate) fn on_one_line(message: &[u8]) -> String {
    String::from_utf8_lossy(&for_terminal(message)).replace('\n', "\\n").replace('\t', "\\t")
}

/// Returns true if a character stands for itself in the escaped form of a text.
fn is_printable(c: char) -> bool {
    c == '\\' || inspect::escaped(c.encode_utf8(&mut [0; 4])).to_string().starts_with(c)
}

/// Formats a value, or `-` if it is not known.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}

/// Logs events to stderr at the level of `-v` (info), `-vv` (debug), `-vvv` (trace) or `PARLOUR_LOG`, whichever is more
/// verbose.
pub(crate) fn log_to_stderr(verbose: u8) {
    let asked = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let from_environment = std::env::var("PARLOUR_LOG").unwrap_or_default();
    // An empty text would be parsed as the level `error`.
    let environment = match (from_environment.as_str(), from_environment.parse()) {
        ("", _) => LevelFilter::OFF,
        (_, Ok(level)) => level,
        (_, Err(_)) => {
            note(format_args!("PARLOUR_LOG={from_environment} is ignored: use off, error, warn, info, debug or trace"));
            LevelFilter::OFF
        }
    };
    let level = asked.max(environment);
    if level != LevelFilter::OFF {
        tracing_subscriber::fmt().with_max_level(level).with_writer(|| Stderr).init();
    }
}
